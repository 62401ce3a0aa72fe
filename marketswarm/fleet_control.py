"""Ask the embedded fleet of this machine, by its control socket: what runs, and to stop, start or restart it.

Each connection carries one line each way: the request `{"do":"stop","svc":"rss_agg"}`, and the answer
`{"done":true,"said":"rss_agg stopped in 0.2 s"}`. Only the user who runs the fleet may open the socket. The
fleet's end of it is `marketswarm/fleet/control.py`.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson

from marketswarm.bus.stored_values import get_list, get_object, parse_count, parse_duration, parse_text

_ANSWER_WITHIN_SEC: Final = 15.0
_MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
_MAX_NAME: Final = 100


class NoFleetError(Exception):
    """The fleet did not answer, or not as it should; the message is the error of the connection."""


class RestartAnswer(StrEnum):
    """The outcome of a request to restart. `changed` means that the process is not the one that was meant."""

    DONE = "done"
    CHANGED = "changed"
    REFUSED = "refused"


class ProcessState(StrEnum):
    """The state of a process. `waiting` means the back-off before a restart."""

    RUNNING = "running"
    WAITING = "waiting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class FleetProcess:
    """One process of the fleet: `rss_agg/2` is the second of the service `rss_agg`.

    `identity` is another one after each start. `is_wanted` is False once an operator has stopped it.
    `age_sec` is the time since its last start, `restarts` how often it was started again. `pid` is None while
    it does not run, and of a fleet that does not say it. `is_restarting` is True from when a restart was
    accepted until the next start begins; None of a fleet that does not say it.
    """

    name: str
    state: ProcessState
    is_wanted: bool
    identity: str
    age_sec: float
    restarts: int
    pid: int | None = None
    is_restarting: bool | None = None

    @property
    def svc(self) -> str:
        return self.name.partition("/")[0]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "state": self.state,
            "wanted": self.is_wanted,
            "identity": self.identity,
            "age_sec": round(self.age_sec, 3),
            "restarts": self.restarts,
            "pid": self.pid,
            "restarting": self.is_restarting,
        }


def send_request(address: str, action: str, svc: str) -> tuple[bool, str]:
    """Send a request; return whether it was done, and a sentence for the user.

    `action` is `stop`, `start` or `kill`, `svc` a service or one process of it: `rss_agg/2`. Raises
    NoFleetError if the fleet at `address` does not answer within 15 s.
    """
    answer = _ask(address, {"do": action, "svc": svc})
    return bool(answer.get("done")), str(answer.get("said"))


def request_restart(
    address: str, name: str, identity: str, until: float | None = None
) -> tuple[RestartAnswer, str]:
    """Ask to restart one process, if it still has this identity; return what was done, and a sentence.

    `until` is when the request ends, by the clock of leases (`marketswarm.agent.lease.clock`): the fleet
    refuses one that arrives later. Raises NoFleetError as above: then the process may have been restarted.
    """
    limit = {} if until is None else {"until": until}
    answer = _ask(address, {"do": "restart", "svc": name, "identity": identity, **limit})
    result = answer.get("result")
    found = next((each for each in RestartAnswer if each == result), RestartAnswer.REFUSED)
    return found, str(answer.get("said"))


def read_processes(address: str) -> tuple[FleetProcess, ...]:
    """Return the agents of the fleet; one that can't be parsed is left out. Raises NoFleetError as above."""
    found = _ask(address, {"do": "state", "svc": ""}).get("processes")
    parsed = (_parse_process(get_object(each)) for each in get_list(found))
    return tuple(each for each in parsed if each is not None)


def _parse_process(found: Mapping[str, Any]) -> FleetProcess | None:
    state = next((each for each in ProcessState if each == found.get("state")), None)
    name, identity = parse_text(found.get("name"), _MAX_NAME), parse_text(found.get("identity"), _MAX_NAME)
    age_sec = parse_duration(found.get("age_sec"))
    restarts, is_wanted = parse_count(found.get("restarts")), found.get("wanted")
    if name is None or state is None or identity is None or age_sec is None or restarts is None:
        return None
    if type(is_wanted) is not bool:
        return None
    pid, is_restarting = parse_count(found.get("pid")), found.get("restarting")
    is_restarting = is_restarting if type(is_restarting) is bool else None
    return FleetProcess(name, state, is_wanted, identity, age_sec, restarts, pid, is_restarting)


def _ask(address: str, request: Mapping[str, str | float]) -> dict[str, Any]:
    """Send a request to the control socket and return the answer. Raise NoFleetError without a usable one."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_WITHIN_SEC)
        try:
            connection.connect(address)
            connection.sendall(orjson.dumps(request) + b"\n")
            with connection.makefile("rb") as lines:
                answer = orjson.loads(lines.readline(_MAX_ANSWER_BYTES))
        except (OSError, orjson.JSONDecodeError) as error:
            raise NoFleetError(str(error)) from error
    if not isinstance(answer, dict):
        raise NoFleetError("its answer is not an object")
    return answer
