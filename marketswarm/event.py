"""Encode and parse alert events: the JSON on the channel `healer:alerts` and in `health:<svc>`. Pure.

The keys of the original events come first and in their order. Keys that were added later follow, so a
subscriber that knows only the original ones still works.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from operator import attrgetter
from typing import Any, Final

import orjson

from marketswarm.text import extract_line

MAX_EVENT_BYTES: Final = 16384

UNWATCHED_REASON: Final = "unwatched"
"""The reason of the ok of a bus that was lost and that the truth no longer names: it closes the miss."""
_ORIGINAL: Final = ("type", "svc", "late_sec", "age_sec", "timeout_sec", "ts")
_ADDED: Final = (
    *("id", "reason", "down_sec", "since", "by", "gap_sec", "restarted", "host", "exit_code", "down_since"),
    *("severity", "detail", "host_up"),
)
_NUMBERS: Final = frozenset(
    {"late_sec", "age_sec", "timeout_sec", "ts", "down_sec", "since", "gap_sec", "down_since"}
)
_BOOLEANS: Final = frozenset({"restarted"})
_WHOLE_NUMBERS: Final = frozenset({"exit_code", "host_up"})
_NAMES: Final = (*_ORIGINAL, *_ADDED)
_get_values: Final = attrgetter(*_NAMES)


class Kind(StrEnum):
    """The types of events."""

    HEARTBEAT_MISS = "heartbeat_miss"
    HEARTBEAT_OK = "heartbeat_ok"
    HEARTBEAT_UNWATCHED = "heartbeat_unwatched"
    HEALER_MISS = "healer_miss"
    HEALER_OK = "healer_ok"
    BUS_MISS = "bus_miss"
    BUS_OK = "bus_ok"
    TRUTH_DRIFT = "truth_drift"
    TRUTH_OK = "truth_ok"
    HEARTBEAT_GAP = "heartbeat_gap"
    PROBE_MISS = "probe_miss"
    PROBE_OK = "probe_ok"
    PROBE_UNWATCHED = "probe_unwatched"
    SOURCE_MISS = "source_miss"
    SOURCE_OK = "source_ok"
    SOURCE_UNWATCHED = "source_unwatched"
    MONITOR_MISS = "monitor_miss"
    MONITOR_OK = "monitor_ok"
    MONITOR_UNWATCHED = "monitor_unwatched"
    SIGNALS_MISS = "signals_miss"
    SIGNALS_OK = "signals_ok"
    SIGNALS_UNWATCHED = "signals_unwatched"
    REACH_GAP = "reach_gap"
    WATCH_MISS = "watch_miss"
    WATCH_OK = "watch_ok"
    WATCH_UNWATCHED = "watch_unwatched"

    @property
    def is_bad(self) -> bool | None:
        """True if such an event begins a problem, False if it ends one, None for a note."""
        return {"miss": True, "drift": True, "ok": False}.get(self.rpartition("_")[2])


class Severity(StrEnum):
    """The urgency of an event or a message."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Event:
    """One alert event. `*_sec` are durations in seconds; `ts`, `since` and `down_since` are epoch seconds.

    `id` is the same wherever and however often this event is written. `host` is the machine that the
    service's last beat came from; `exit_code` is that of a command that failed (`reason` is `failed` then).
    `since` is the last beat before the event; `down_since` is when the outage began, if not with that beat.
    `severity` is how urgent it is, if its writer knows. `detail` is what the report of a failure said,
    or what else its writer knows: foreign text on one line, as `extract_line` returns it. `host_up`, of a
    service that fell silent, is how many others are up whose beats came from `host`; None if the service runs
    on several hosts.
    """

    type: Kind
    svc: str
    ts: float
    id: str
    by: str
    late_sec: float | None = None
    timeout_sec: float | None = None
    age_sec: float | None = None
    reason: str | None = None
    down_sec: float | None = None
    since: float | None = None
    gap_sec: float | None = None
    restarted: bool | None = None
    host: str | None = None
    exit_code: int | None = None
    down_since: float | None = None
    severity: str | None = None
    detail: str | None = None
    host_up: int | None = None

    def outage_start(self) -> float:
        """Return when the outage of this event began, in epoch seconds; the same for a miss and its ok."""
        if self.type is Kind.WATCH_MISS:
            return self.ts  # its `since` is the last beat that was heard before
        if self.down_since is not None:
            return self.down_since
        return self.ts - max(0.0, self.down_sec or self.late_sec or 0.0) if self.since is None else self.since


@dataclass(frozen=True, slots=True)
class MalformedEvent:
    """Bytes that are not an event; `reason` says why in one word."""

    reason: str


_KINDS: Final = {kind.value: kind for kind in Kind}


def make_event_id(kind: Kind, svc: str, ts: float) -> str:
    """Return the id of an event: its type, its service and its time in milliseconds.

    It has only characters that a mail's Message-ID and an HTTP header may have.
    """
    return f"{kind}.{svc}.{round(ts * 1000)}"


def make_event_object(values: Iterable[Any]) -> dict[str, Any]:
    """Return the JSON object of an event from all its values, in the order of its keys.

    Those that are None are left out, and times are rounded to milliseconds.
    """
    # only the numbers of _NUMBERS may be floats
    return {
        name: round(value, 3) if type(value) is float else value
        for name, value in zip(_NAMES, values, strict=True)
        if value is not None
    }


def encode_event(event: Event) -> bytes:
    """Return an event as JSON."""
    return dump_compact(make_event_object(_get_values(event)))


def dump_compact(document: Any) -> bytes:
    """Return JSON to be kept: it takes as much memory as it is long.

    What `orjson.dumps` returns takes 4 KiB, however short it is (orjson 3.13).
    """
    return bytes(memoryview(orjson.dumps(document)))


def parse_event(raw: bytes) -> Event | MalformedEvent:
    """Parse the JSON of an event, or return why it is not an event.

    Newer writers may add keys, which are ignored. A missing `id` is made by `make_event_id`; a missing `by`
    becomes `unknown`.
    """
    if len(raw) > MAX_EVENT_BYTES:
        return MalformedEvent("too_long")
    try:
        document: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return MalformedEvent("not_json")
    return parse_event_object(document) if type(document) is dict else MalformedEvent("not_an_object")


def parse_event_object(document: Mapping[str, Any]) -> Event | MalformedEvent:
    known: dict[str, Any] = {name: document[name] for name in _NAMES if document.get(name) is not None}
    wrong = next((name for name, value in known.items() if not _has_right_type(name, value)), None)
    if wrong is not None:
        return MalformedEvent(f"bad_{wrong}")
    if not {"type", "svc", "ts"} <= known.keys():
        return MalformedEvent("incomplete")
    kind = _KINDS.get(known.pop("type"))
    if kind is None:
        return MalformedEvent("unknown_type")
    known.setdefault("id", make_event_id(kind, known["svc"], known["ts"]))
    known.setdefault("by", "unknown")
    if "detail" in known:
        known["detail"] = extract_line(known["detail"])
    return Event(kind, **known)


def _has_right_type(name: str, value: Any) -> bool:
    if name in _NUMBERS:
        return type(value) in (int, float) and isfinite(value * 1000)
    if name in _BOOLEANS:
        return type(value) is bool
    return type(value) is (int if name in _WHOLE_NUMBERS else str)
