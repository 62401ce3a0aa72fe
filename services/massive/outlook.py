"""How a target is doing, over single results: up, down, and what is told of the change between. Pure.

So many failures in a row make it down, so many successes up again. What is known of a target is one value, an
`Outlook`, kept on the bus and shared by all instances: whoever probes goes on where the last one stopped, so
that neither a restart nor a second massive tells anything twice. Times are epoch seconds, by the wall clock:
they must mean something to the next process. Not here: keeping and telling (`telling.py`).
"""

import re
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
class Sight:
    """One result as it counts here: the `n`th of the process `boot`; `error` is None when all was well."""

    boot: str
    n: int
    ts: float
    error: str | None


@dataclass(frozen=True, slots=True)
class Patience:
    """`down_after` failures in a row, `up_after` successes; `tells`: whether people are to hear of it."""

    down_after: int
    up_after: int
    tells: bool = True


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of one target.

    `fails` and `oks` are the results in a row that speak against the verdict. `since` is the first failure of
    that row, or of the outage; `back` the first success after it. `error` is the word of the last failure
    before it was down. `told` is the id of the miss on the log, while it is open, and `ts` that of the last
    event. `seen` has for each of the last processes the `n` of its last sight that changed this.
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
        """As JSON."""
        return orjson.dumps(self)


NOTHING: Final = Outlook()
_ODD: Final = re.compile(r"[^A-Za-z0-9_.-]")
_OUTLOOK: Final[TypeAdapter[Outlook]] = TypeAdapter(Outlook)


def parse_outlook(raw: bytes | None) -> Outlook:
    """Reads one back; what nobody can read is as good as nothing."""
    try:
        return NOTHING if raw is None else _OUTLOOK.validate_json(raw)
    except ValidationError:
        return NOTHING


def judged(name: str, known: Outlook, sight: Sight, patience: Patience) -> tuple[Outlook, Event | None]:
    """What is known after one more result (the same value if that is nothing new), and what is to be told."""
    if sight.n <= known.seen.get(sight.boot, 0):
        return known, None  # it was taken before, and the answer to that was lost
    after, event = _moved(name, known, sight, patience)
    if after == known:
        return known, None
    others = [(boot, n) for boot, n in known.seen.items() if boot != sight.boot]
    seen = dict([*others, (sight.boot, sight.n)][-BOOTS_AT_MOST:])
    return replace(after, seen=seen, ts=known.ts if event is None else event.ts), event


def unwatched(name: str, known: Outlook, now: float) -> Event | None:
    """What closes an outage that was told, when nobody looks any more; None when there is none."""
    return _event(Kind.PROBE_UNWATCHED, name, known, now) if known.told else None


def _moved(name: str, known: Outlook, sight: Sight, patience: Patience) -> tuple[Outlook, Event | None]:
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


def _while_down(name: str, known: Outlook, sight: Sight, patience: Patience) -> tuple[Outlook, Event | None]:
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
    return Outlook("up", seen=known.seen), event


def _lost(name: str, known: Outlook, sight: Sight, patience: Patience) -> tuple[Outlook, Event | None]:
    """It is down; told it is once, be it that somebody wants to hear of it only now."""
    if known.told or not patience.tells:
        return known, None
    late_sec = None if known.since is None else max(0.0, sight.ts - known.since)
    event = _event(Kind.PROBE_MISS, name, known, sight.ts, late_sec=late_sec, reason=known.error)
    return replace(known, told=event.id), event


def _event(kind: Kind, name: str, known: Outlook, now: float, **more: Any) -> Event:
    # readers go by the order of times: by a clock that was set back no end is to be older than its beginning
    ts = max(round(now, 3), round(known.ts + TICK_SEC, 3))
    ident = identify(kind, f"{SVC}:{_plain(name)}", ts)
    return Event(kind, f"{SVC}/{name}", ts, ident, SVC, since=known.since, **more)


def _plain(name: str) -> str:
    """A name as it may stand in an id, which headers and keys have to carry; no two become the same."""
    plain = _ODD.sub("_", name)
    return plain if plain == name else f"{plain}-{sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"
