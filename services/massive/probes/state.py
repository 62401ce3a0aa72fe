"""The state of each target over its results: up or down, and the events when that changes. Pure.

A target is down after so many failures in a row, and up after so many successes. Its state is one value, an
`TargetState`, stored on the bus and shared by all instances, so that neither a restart nor a second massive
reports anything twice. Times are in epoch seconds, since they must mean something to the next process.

Results that the bus has not taken yet wait in a `Backlog`: bounded, in order. Of a long row of equal results
only its beginning and its end are kept, since what is between decides nothing.
"""

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final, Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from marketswarm.event import Event, Kind, identify

SVC: Final = "massive"
BOOTS_AT_MOST: Final = 4
TICK_SEC: Final = 0.001

Verdict = Literal["unknown", "up", "down"]


@dataclass(frozen=True, slots=True)
class ProbeOutcome:
    """One result: the `n`th of the process `boot`; `error` is None if the probe succeeded."""

    boot: str
    n: int
    ts: float
    error: str | None


@dataclass(frozen=True, slots=True)
class Patience:
    """How many failures in a row make a target down, and successes up; `tells`: whether that is an alert."""

    down_after: int
    up_after: int
    tells: bool = True


@dataclass(frozen=True, slots=True)
class TargetState:
    """The state of one target.

    Args:
        verdict: unknown, up or down.
        fails: the failures in a row since the target was up.
        oks: the successes in a row since it was down.
        since: the first failure of the row, or of the outage.
        back: the first success after it.
        error: the error of the last failure before the target was down.
        told: the id of the miss on the log while it is open, else empty.
        ts: when the last event was.
        seen: for each of the last processes, the `n` of its last result that changed this state.
    """

    verdict: Verdict = "unknown"
    fails: int = 0
    oks: int = 0
    since: float | None = None
    back: float | None = None
    error: str | None = None
    told: str = ""
    ts: float = 0.0
    seen: dict[str, int] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the state as JSON."""
        return orjson.dumps(self)


NOTHING: Final = TargetState()
_ODD: Final = re.compile(r"[^A-Za-z0-9_.-]")
_OUTLOOK: Final[TypeAdapter[TargetState]] = TypeAdapter(TargetState)


def parse_state(raw: bytes | None) -> TargetState:
    """Return the state in stored bytes; `NOTHING` itself if there are none or they can't be read."""
    try:
        return NOTHING if raw is None else _OUTLOOK.validate_json(raw)
    except ValidationError:
        return NOTHING


def apply_outcome(
    name: str, known: TargetState, sight: ProbeOutcome, patience: Patience
) -> tuple[TargetState, Event | None]:
    """Return the state after one more result, and the event that follows, if any.

    The same value is returned if the result changes nothing.
    """
    if sight.n <= known.seen.get(sight.boot, 0):
        return known, None  # it was taken before, and the answer to that was lost
    after, event = _moved(name, known, sight, patience)
    if after == known:
        return known, None
    others = [(boot, n) for boot, n in known.seen.items() if boot != sight.boot]
    seen = dict([*others, (sight.boot, sight.n)][-BOOTS_AT_MOST:])
    return replace(after, seen=seen, ts=known.ts if event is None else event.ts), event


def close_outage(name: str, known: TargetState, now: float) -> Event | None:
    """Return the event that closes a reported outage of a target that is no longer probed.

    None if there is none.
    """
    return _event(Kind.PROBE_UNWATCHED, name, known, now) if known.told else None


def _moved(
    name: str, known: TargetState, sight: ProbeOutcome, patience: Patience
) -> tuple[TargetState, Event | None]:
    if known.verdict == "down":
        return _while_down(name, known, sight, patience)
    if sight.error is None:
        return replace(known, verdict="up", fails=0, since=None, error=None), None
    fails = known.fails + 1
    since = sight.ts if known.since is None else known.since
    after = replace(known, fails=fails, since=since, error=sight.error)
    if fails < patience.down_after:
        return after, None
    return _lost(name, replace(after, verdict="down", fails=0), sight, patience)


def _while_down(
    name: str, known: TargetState, sight: ProbeOutcome, patience: Patience
) -> tuple[TargetState, Event | None]:
    if sight.error is not None:
        return _lost(name, replace(known, oks=0, back=None), sight, patience)
    oks = known.oks + 1
    back = sight.ts if known.back is None else known.back
    if oks < patience.up_after:
        return replace(known, oks=oks, back=back), None
    event = None
    if known.told:
        down_sec = None if known.since is None else max(0.0, back - known.since)
        event = _event(Kind.PROBE_OK, name, known, sight.ts, down_sec=down_sec)
    return TargetState("up", seen=known.seen), event


def _lost(
    name: str, known: TargetState, sight: ProbeOutcome, patience: Patience
) -> tuple[TargetState, Event | None]:
    """Return the state of a target that is down, with the miss unless it was already reported."""
    if known.told or not patience.tells:
        return known, None
    late_sec = None if known.since is None else max(0.0, sight.ts - known.since)
    event = _event(Kind.PROBE_MISS, name, known, sight.ts, late_sec=late_sec, reason=known.error)
    return replace(known, told=event.id), event


def _event(kind: Kind, name: str, known: TargetState, now: float, **more: Any) -> Event:
    # readers go by the order of times: by a clock that was set back no end is to be older than its beginning
    ts = max(round(now, 3), round(known.ts + TICK_SEC, 3))
    ident = identify(kind, f"{SVC}:{_plain(name)}", ts)
    return Event(kind, f"{SVC}/{name}", ts, ident, SVC, since=known.since, **more)


def _plain(name: str) -> str:
    """Return a name with only characters that an id may have; different names never become the same."""
    plain = _ODD.sub("_", name)
    return plain if plain == name else f"{plain}-{sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


ROWS_AT_MOST: Final = 100
"""Rows of the same, of one target; beyond that the oldest go."""

Named = tuple[str, ProbeOutcome]


class Backlog:
    """Results that wait, by target. `whole` is how many equal results in a row can matter."""

    def __init__(self, whole: int) -> None:
        self.whole = whole
        self._size = 0
        self._rows: dict[str, deque[list[ProbeOutcome]]] = {}

    def __len__(self) -> int:
        return self._size

    def put(self, name: str, sight: ProbeOutcome) -> None:
        """Add a result; it must be newer than those before it."""
        rows = self._rows.setdefault(name, deque())
        if rows and len(rows[-1]) > self.whole and _alike(rows[-1][-1], sight):
            rows[-1][-1] = sight
            return
        self._size += 1
        if rows and _alike(rows[-1][-1], sight):
            rows[-1].append(sight)
        else:
            rows.append([sight])
        if len(rows) > ROWS_AT_MOST:
            self._size -= len(rows.popleft())

    def first(self, count: int) -> list[Named]:
        """Return the oldest results, of all targets together."""
        every = ((name, sight) for name, rows in self._rows.items() for row in rows for sight in row)
        return sorted(every, key=lambda each: each[1].n)[:count]

    def done(self, taken: Iterable[Named]) -> None:
        """Remove results that are in the stored state now."""
        for name, sight in taken:
            rows = self._rows.get(name)
            row = rows[0] if rows else None
            if rows is None or row is None or sight not in row:
                continue
            row.remove(sight)
            self._size -= 1
            if not row:
                rows.popleft()
            if not rows:
                del self._rows[name]

    def forget(self, name: str) -> None:
        """Remove all results of a target."""
        self._size -= sum(map(len, self._rows.pop(name, ())))


def _alike(one: ProbeOutcome, other: ProbeOutcome) -> bool:
    return (one.error is None) == (other.error is None)
