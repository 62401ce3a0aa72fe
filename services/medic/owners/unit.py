"""Parse what systemd says of a unit, which is not trusted. Pure.

These are the answer to `ListUnitsByPatterns`, and a few properties of the interfaces
`org.freedesktop.systemd1.Unit` and `.Service`.
"""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from marketswarm.bus.stored_values import parse_count
from services.medic.facts import ProcessFacts
from services.medic.owners.owner import UnusableAnswerError

MAX_UNITS: Final = 500
"""The most units that one pattern may find."""
LISTED: Final = "a(ssssssouso)"
"""The type of a list of units, in D-Bus' words."""
PLACE: Final = "%s"
"""What stands for the service in the name of a unit."""
UNIT_PATTERN: Final = r"^[A-Za-z0-9:_.@-]{0,100}%s[A-Za-z0-9:_.@-]{0,100}\.service$"
"""What a pattern of names is: no character of it means anything but itself where units are matched."""
PROPERTIES: Final[Mapping[str, tuple[str, str]]] = {
    "InvocationID": ("Unit", "ay"),
    "NRestarts": ("Service", "u"),
    "MainPID": ("Service", "u"),
    "ExecMainCode": ("Service", "i"),
    "ExecMainStatus": ("Service", "i"),
    "Result": ("Service", "s"),
    "ExecMainStartTimestampMonotonic": ("Service", "t"),
}
"""The properties that are read, with interface and type: not all, since the environment is one of them."""
OOM_KILL: Final = "oom-kill"
RESULTS: Final = frozenset({
    "success",
    "resources",
    "protocol",
    "timeout",
    "exit-code",
    "signal",
    "core-dump",
    "watchdog",
    "start-limit-hit",
    OOM_KILL,
    "exec-condition",
})  # fmt: skip
"""How a service ended, in systemd's words."""
_PLAIN: Final = frozenset({"success", "exit-code", "signal", OOM_KILL})
"""The results of which the exit code, and `is_oom_killed`, say all."""
_STARTS: Final = frozenset({"start", "restart"})
"""What systemd is about to do with a unit that does not run: the second half of a restart is a `start`, which
waits for what the unit comes after."""
_EXITED: Final = 1
_KILLED: Final = frozenset({2, 3})  # by a signal, and with a core dump
_INVOCATION: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_MAX_EXIT_CODE: Final = 255
_MAX_SIGNAL: Final = 64
_MAX_PID: Final = 2**22


class ActiveState(StrEnum):
    """The state of a unit, in systemd's words."""

    ACTIVE = "active"
    RELOADING = "reloading"
    REFRESHING = "refreshing"
    ACTIVATING = "activating"  # it starts, or waits for its restart
    DEACTIVATING = "deactivating"
    INACTIVE = "inactive"
    FAILED = "failed"
    MAINTENANCE = "maintenance"


_RUNNING: Final = frozenset({ActiveState.ACTIVE, ActiveState.RELOADING, ActiveState.REFRESHING})
_BETWEEN: Final = frozenset({ActiveState.ACTIVATING, ActiveState.DEACTIVATING})


@dataclass(frozen=True, slots=True)
class ListedUnit:
    """A unit as a list shows it. `job` is what systemd is about to do with it, such as `restart`."""

    svc: str
    path: str
    state: ActiveState | None
    sub: str
    job: str
    is_masked: bool

    @property
    def runs(self) -> bool:
        """Whether the unit runs, and nothing is about to be done with it."""
        return self.state in _RUNNING and self.job in ("", "reload") and not self.is_masked


@dataclass(frozen=True, slots=True)
class InspectedUnit:
    """What the properties of a unit say. `identity` is its invocation: another one after each start.

    `started_sec` is when its main process began, by the monotonic clock of the machine.
    """

    identity: str
    restarts: int
    pid: int | None
    exit_code: int | None
    result: str
    started_sec: float

    def make_facts(self, listed: ListedUnit, now_sec: float) -> ProcessFacts:
        """Return what the medic decides on, `now_sec` by the monotonic clock.

        A unit that systemd is about to start or to end is left to it. One that ended and that it does not
        start again was stopped: by a person, or by the unit's own settings. Neither is undone.
        """
        ended = listed.state not in _RUNNING
        is_begun = listed.job in _STARTS if ended else not listed.runs
        is_waiting = listed.state in _BETWEEN or (is_begun and not listed.is_masked)
        return ProcessFacts(
            self.identity,
            is_waiting=is_waiting,
            is_stopped=not is_waiting and not listed.runs,
            age_sec=max(0.0, now_sec - self.started_sec) if self.started_sec else 0.0,
            exit_code=self.exit_code if ended else None,
            is_oom_killed=self.result == OOM_KILL,
            end_reason="" if not ended or self.result in _PLAIN else self.result,
        )


def make_unit_name(pattern: str, svc: str) -> str:
    return pattern.replace(PLACE, svc)


def parse_units(kind: str, body: Sequence[Any], services: Container[str], pattern: str) -> list[ListedUnit]:
    """Return the units that are named as these services. Raises UnusableAnswerError.

    `kind` is the type of the answer, in D-Bus' words; the library has checked that the body has it.
    """
    if kind != LISTED:
        raise UnusableAnswerError("no list of units")
    before, after = pattern.split(PLACE)
    found = list[ListedUnit]()
    for name, _, load, active, sub, _, path, _, job, _ in body[0]:
        svc = name.removeprefix(before).removesuffix(after)
        if svc not in services or name != make_unit_name(pattern, svc):
            continue
        state = next((each for each in ActiveState if each == active), None)
        found.append(ListedUnit(svc, path, state, sub, job, load == "masked"))
    if len(found) > MAX_UNITS:
        raise UnusableAnswerError(f"more than {MAX_UNITS} units")
    if len({each.svc for each in found}) < len(found):
        raise UnusableAnswerError("a unit twice")
    return found


def parse_properties(said: Mapping[str, tuple[str, Any]]) -> InspectedUnit | None:
    """Return what the properties say, each with its type; None of a unit that was not started here yet.

    Raises UnusableAnswerError.
    """
    for name, (_, kind) in PROPERTIES.items():
        if said[name][0] != kind:
            raise UnusableAnswerError(f"{name} is not of the type {kind}")
    value = {name: each for name, (_, each) in said.items()}
    identity = bytes(value["InvocationID"]).hex()
    if not identity:
        return None
    if not _INVOCATION.fullmatch(identity):
        raise UnusableAnswerError("an invalid invocation")
    restarts, pid, result = parse_count(value["NRestarts"]), value["MainPID"], value["Result"]
    if restarts is None or pid > _MAX_PID or result not in RESULTS:
        raise UnusableAnswerError("a count, a pid or a result that can't be used")
    exit_code = _parse_end(value["ExecMainCode"], value["ExecMainStatus"])
    started_sec = value["ExecMainStartTimestampMonotonic"] / 1e6
    return InspectedUnit(identity, restarts, pid or None, exit_code, result, started_sec)


def _parse_end(code: int, status: int) -> int | None:
    """Return the exit code as a shell shows it, 137 for SIGKILL; None of what has not ended.

    Raises UnusableAnswerError.
    """
    if code == _EXITED and 0 <= status <= _MAX_EXIT_CODE:
        return status
    if code in _KILLED and 0 < status <= _MAX_SIGNAL:
        return 128 + status
    if code == 0:
        return None
    raise UnusableAnswerError("an end that can't be used")
