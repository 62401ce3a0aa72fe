"""Parse what a container engine answers, which is not trusted. Pure.

The answers are those of the Docker Engine API to `GET /containers/json`, `GET /containers/{id}/json`, `GET
/containers/{id}/stats` and `GET /containers/{id}/logs`. Of the second one, which has the environment of the
container in it, nothing is kept but what is named here. The last one has a time before each line. Of a
container without a terminal it comes in frames: eight bytes, with the number of the stream and the length,
and then the text.
"""

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import orjson

from marketswarm.bus.stored_values import parse_count, parse_epoch, parse_text
from services.medic.facts import ProcessFacts
from services.medic.owners.log_source import LogEntry
from services.medic.owners.owner import UnusableAnswerError

MAX_CONTAINERS: Final = 500
"""The most containers that an engine may list for one fleet."""
SERVICE_LABEL: Final = "marketswarm.service"
"""The label with the service that a container runs."""
AGENT_LABEL: Final = "marketswarm.agent"
"""`true` for a container that runs the agent that its name in Compose says."""
COMPOSE_PROJECT: Final = "com.docker.compose.project"
COMPOSE_SERVICE: Final = "com.docker.compose.service"
COMPOSE_ONE_OFF: Final = "com.docker.compose.oneoff"
_WATCHING: Final = re.compile(r"(?:^|\s)-m (?:healer|sentinel|notifier|bootstrap|services\.medic)(?![\w])")
"""What the command of a container has that runs what watches the fleet, or seeds it, whatever its name is."""
_ID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_IDENTITY: Final = re.compile(rf"({_ID.pattern})@({_MOMENT.pattern})", re.ASCII)
_HEAD_BYTES: Final = 8
_STREAMS: Final = frozenset({0, 1, 2})
"""Stdin, stdout and stderr; 3 is an error of the engine itself."""
_STAMP: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?(Z|[+-]\d\d:\d\d) ")
_MAX_NAME: Final = 100
_MAX_STATUS: Final = 200
_MAX_COMMAND: Final = 1000
_MAX_EXIT_CODE: Final = 2**32 - 1
_MAX_AMOUNT: Final = 2**64 - 1
_CACHES: Final = ("total_inactive_file", "inactive_file")
"""What the kernel takes back first when memory is short: of control groups version 1, and version 2."""


class ContainerState(StrEnum):
    """The state of a container, in the engine's words."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"  # the engine pauses before it starts it again
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


_WAITING: Final = frozenset({ContainerState.CREATED, ContainerState.RESTARTING})


@dataclass(frozen=True, slots=True)
class ListedContainer:
    """A container as a list shows it. `status` is for people, such as `Up 3 minutes`.

    `is_agent` says whether its labels make it an agent that may be restarted; None if only its name in
    Compose says which service it is.
    """

    id: str
    svc: str
    state: ContainerState | None
    status: str
    is_agent: bool | None = None


@dataclass(frozen=True, slots=True)
class InspectedContainer:
    """A container as the engine knows it. `started_at` is the engine's text, `started` its epoch seconds.

    `has_terminal` says that its log comes as it is, and not in frames. `age_sec` is the time since its start
    when it was inspected.
    """

    id: str
    state: ContainerState
    started_at: str
    started: float
    restarts: int
    exit_code: int
    is_oom_killed: bool
    has_terminal: bool
    age_sec: float = 0.0

    @property
    def identity(self) -> str:
        """The start of this container: another one after each."""
        return f"{self.id}@{self.started_at}"

    def make_facts(self, age_sec: float) -> ProcessFacts:
        """Return what the medic decides on.

        One that ended and that the engine does not start again was stopped, as far as the engine says: it
        keeps no record of who ended it.
        """
        is_waiting, runs = self.state in _WAITING, self.state is ContainerState.RUNNING
        return ProcessFacts(
            self.identity,
            is_waiting=is_waiting,
            is_stopped=not is_waiting and not runs,
            age_sec=age_sec,
            exit_code=None if runs or self.state is ContainerState.CREATED else self.exit_code,
            is_oom_killed=self.is_oom_killed,
        )


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """What a container takes. A value is None if the engine does not say it, as of one that has just ended.

    `memory_bytes` is what counts against the limit, less the files that the kernel would drop first: that is
    what `docker stats` shows. `limit_bytes` is 0 without a limit. `cpu_ns` is the time of processors so far.
    """

    memory_bytes: int | None
    limit_bytes: int
    cpu_ns: int | None

    def find_memory_percent(self, machine_bytes: int) -> float | None:
        """Return the memory in percent of the limit, which is never more than that of the machine."""
        limit = min(self.limit_bytes or machine_bytes, machine_bytes)
        return None if self.memory_bytes is None or limit <= 0 else 100.0 * self.memory_bytes / limit


def parse_identity(identity: str) -> str | None:
    """Return the id of the container whose start this names; None if it names none."""
    found = _IDENTITY.fullmatch(identity)
    return None if found is None else found[1]


def parse_listing(body: bytes, services: Container[str], project: str | None) -> list[ListedContainer]:
    """Return the containers that are labelled as these services; one that was run by hand is left out.

    With a project, only its containers count, whatever the engine, or a proxy before it, made of the filter.
    Raises UnusableAnswerError, also if one entry can't be used: it may be that of any service.
    """
    found = _parse_json(body)
    if not isinstance(found, list):
        raise UnusableAnswerError("no list")
    if len(found) > MAX_CONTAINERS:
        raise UnusableAnswerError(f"more than {MAX_CONTAINERS} containers")
    entries = (_parse_listed(each, project) for each in found)
    listed = [each for each in entries if each is not None and each.svc in services]
    if len({each.id for each in listed}) < len(listed):
        raise UnusableAnswerError("an id twice")
    return listed


def _parse_listed(entry: Any, project: str | None) -> ListedContainer | None:
    labels = entry.get("Labels") if isinstance(entry, dict) else None
    found = entry.get("Id") if isinstance(labels, dict) else None
    if not isinstance(labels, dict) or type(found) is not str or not _ID.fullmatch(found):
        raise UnusableAnswerError("an entry without an id or labels")
    if project is not None and labels.get(COMPOSE_PROJECT) != project:
        return None
    named = labels.get(SERVICE_LABEL) or (None if project is None else labels.get(COMPOSE_SERVICE))
    svc = parse_text(named, _MAX_NAME)
    if svc is None or labels.get(COMPOSE_ONE_OFF) == "True":
        return None
    status = parse_text(entry.get("Status"), _MAX_STATUS) or ""
    return ListedContainer(found, svc, _parse_state(entry.get("State")), status, _is_agent(entry, labels))


def _is_agent(entry: Mapping[str, Any], labels: Mapping[str, Any]) -> bool | None:
    command = entry.get("Command")
    if type(command) is str and _WATCHING.search(command[:_MAX_COMMAND]):
        return False
    if AGENT_LABEL in labels:
        return bool(labels[AGENT_LABEL] == "true")
    return True if labels.get(SERVICE_LABEL) else None


def parse_inspected(body: bytes, container_id: str) -> InspectedContainer:
    """Return the container with this id. Raises UnusableAnswerError."""
    found = _parse_json(body)
    if not isinstance(found, dict) or found.get("Id") != container_id:
        raise UnusableAnswerError("another container")
    said = found.get("State")
    if not isinstance(said, dict):
        raise UnusableAnswerError("no state")
    state, restarts = _parse_state(said.get("Status")), parse_count(found.get("RestartCount"))
    exit_code, is_oom_killed = parse_count(said.get("ExitCode")), said.get("OOMKilled")
    started_at = said.get("StartedAt")
    if state is None or restarts is None or exit_code is None or exit_code > _MAX_EXIT_CODE:
        raise UnusableAnswerError("a state, a count or an exit code that can't be used")
    if type(is_oom_killed) is not bool or type(started_at) is not str or not _MOMENT.fullmatch(started_at):
        raise UnusableAnswerError("a start or an OOM kill that can't be used")
    started, config = _parse_moment(started_at), found.get("Config")
    has_terminal = isinstance(config, dict) and config.get("Tty") is True
    return InspectedContainer(
        container_id, state, started_at, started, restarts, exit_code, is_oom_killed, has_terminal
    )


def parse_usage(body: bytes, container_id: str) -> ContainerUsage:
    """Return what the container with this id takes. Raises UnusableAnswerError."""
    found = _parse_json(body)
    if not isinstance(found, dict) or found.get("id", container_id) not in (container_id, ""):
        raise UnusableAnswerError("another container")
    memory, cpu = found.get("memory_stats"), found.get("cpu_stats")
    if not isinstance(memory, dict) or not isinstance(cpu, dict):
        raise UnusableAnswerError("no memory or processor time")
    details, times = memory.get("stats", {}), cpu.get("cpu_usage", {})
    if not isinstance(details, dict) or not isinstance(times, dict):
        raise UnusableAnswerError("details of memory or processor time that can't be used")
    usage, limit = _parse_amount(memory.get("usage")), _parse_amount(memory.get("limit"))
    cache = next((_parse_amount(details[name]) or 0 for name in _CACHES if name in details), 0)
    if usage is not None and cache < usage:
        usage -= cache
    # of one that does not run, an engine says 0 or nothing
    return ContainerUsage(usage or None, limit or 0, _parse_amount(times.get("total_usage")) or None)


def _parse_amount(value: Any) -> int | None:
    """Return a number of bytes or nanoseconds. Raises UnusableAnswerError if it is not one."""
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= _MAX_AMOUNT:
        raise UnusableAnswerError("an amount that can't be used")
    return value


def find_complaint(body: bytes) -> str:
    """Return what an engine says of a request that it did not follow; empty if it says nothing."""
    try:
        found = _parse_json(body)
    except UnusableAnswerError:
        return ""
    return str(found["message"]) if isinstance(found, dict) and type(found.get("message")) is str else ""


def make_filters(project: str | None) -> str:
    """Return the filters of a list, as JSON: the containers of one project, or those that name a service."""
    label = SERVICE_LABEL if project is None else f"{COMPOSE_PROJECT}={project}"
    return orjson.dumps({"label": [label]}).decode()


def _parse_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UnusableAnswerError("no JSON") from None


def _parse_state(value: Any) -> ContainerState | None:
    return next((each for each in ContainerState if each == value), None)


def _parse_moment(text: str) -> float:
    """Return the epoch seconds of a moment; 0 for one that never came: `0001-01-01T00:00:00Z`."""
    try:
        return parse_epoch(datetime.fromisoformat(text).timestamp()) or 0.0
    except (ValueError, OverflowError):
        raise UnusableAnswerError("an invalid time") from None


def parse_log(body: bytes, *, has_terminal: bool) -> list[LogEntry]:
    """Return the entries of an answer with times. Raises UnusableAnswerError."""
    texts = [body] if has_terminal else _split_frames(body)
    return [_parse_line(line) for text in texts for line in text.split(b"\n") if line]


def _split_frames(body: bytes) -> Iterator[bytes]:
    """Yield the text of each frame. Its end is the end of a line: a longer one comes in several frames."""
    at = 0
    while at < len(body):
        head = body[at : at + _HEAD_BYTES]
        end = at + _HEAD_BYTES + int.from_bytes(head[4:], "big")
        if len(head) < _HEAD_BYTES or head[0] not in _STREAMS or any(head[1:4]) or end > len(body):
            raise UnusableAnswerError("a log that is not in frames")
        yield body[at + _HEAD_BYTES : end]
        at = end


def _parse_line(line: bytes) -> LogEntry:
    """Return the entry of a line, whose key is the line with its time. Raises UnusableAnswerError."""
    stamp = _STAMP.match(line)
    if stamp is None:
        raise UnusableAnswerError("a line of a log without a time")
    return LogEntry(line, _parse_moment((stamp[1] + stamp[2]).decode()), line[stamp.end() :])
