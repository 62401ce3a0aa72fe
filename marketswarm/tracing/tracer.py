"""The steps of an alert's way, and their trace and span ids.

An event's trace has an id that is computed from the event's id, and so has the trace's first span. So the
healer and the notifier agree on them, and nothing has to be passed along with an event.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

from marketswarm.event import Event, parse_event

MAX_EVENTS: Final = 128
"""The most events of a message that its span names: the limit of links that the specification sets."""

Attribute = str | int | float | bool
Role = Literal["internal", "producer", "client"]


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One step on an alert's way, which becomes a span. Times are epoch seconds.

    `trace_keys` are the ids of the events concerned: the first decides the trace, the others are links. A
    step that `is_first` is the first span of its trace; each other one is a child of that span. `role` is
    the kind of the span. `error` is the reason of a failure in a word or number.
    """

    name: str
    trace_keys: tuple[str, ...]
    started_at: float
    ended_at: float
    attributes: Mapping[str, Attribute | None] = field(default_factory=dict)
    role: Role = "internal"
    error: str | None = None
    is_first: bool = False


class Tracer(Protocol):
    """What records the steps of one process."""

    def has_room(self) -> bool:
        """Return True if a step may be recorded now; otherwise count one as dropped: do not make it."""

    def record(self, step: TraceStep) -> None:
        """Take a step for export, without waiting; drop it if there are too many."""

    def close(self) -> None:
        """Export what is left, within a second or so."""


def show_endpoint(endpoint: str) -> str:
    """Return the host and the port of a URL, which may be shown."""
    parts = urlsplit(endpoint)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def compute_trace_id(key: str) -> int:
    """Return the id of the trace of an event, 128 bits and never 0, from the event's id."""
    return int.from_bytes(_digest(key)[:16]) or 1


def compute_first_span_id(key: str) -> int:
    """Return the id of the first span of an event's trace, 64 bits and never 0, from the event's id."""
    return int.from_bytes(_digest(key)[16:24]) or 1


def _digest(key: str) -> bytes:
    """Return the hash of an event's id; the prefix keeps it apart from hashes made for other purposes."""
    return sha256(b"marketswarm.trace:" + key.encode("utf-8", "surrogatepass")).digest()


def read_event_ids(raw: Iterable[bytes]) -> list[str]:
    """Return ids, each once, the first 128 at most; skip what is not an event."""
    found: dict[str, None] = {}
    for each in raw:
        event = parse_event(each)
        if isinstance(event, Event):
            found[event.id] = None
        if len(found) == MAX_EVENTS:
            break
    return list(found)
