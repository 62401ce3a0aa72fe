"""What bars and probes come to in the window that they fall into. Pure; an entry is what someone put there.

An entry that is no bar or no probe is `Unusable`, with the reason: it will not become one by trying again.

What is made of an entry, whatever its kind: what `settle.lua` will put down. Pure but for the lexicon.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from marketswarm.channels.text import cut, plain
from services.vexy_ai.notes import Fields, Lexicon, identity, note, number
from services.vexy_ai.sources import Kind, Source

SYMBOL: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9.:/_-]{0,29}")
NAME_LIMIT: Final = 100
WORD_LIMIT: Final = 100
ENTRY_ID: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
LONGEST_COUNT: Final = 15
HISTORY_SEC: Final = 3600.0


class Unusable(Exception):  # noqa: N818 - a finding, not an accident
    """An entry that nothing can be made of, and why."""


def bar_in(fields: Fields) -> tuple[str, bytes]:
    """The symbol of a bar, and what the window keeps of it, as JSON. Raises Unusable."""
    symbol = fields.get(b"sym", b"")
    if not SYMBOL.fullmatch(symbol):
        raise Unusable("not a bar: sym is no symbol")
    found: dict[str, float] = {}
    for name in ("start", "open", "high", "low", "close"):
        try:
            found[name] = number(fields.get(name.encode(), b""))
        except ValueError as error:
            raise Unusable(f"not a bar: {name} {error}") from None
    if min(found.values()) <= 0:
        raise Unusable("not a bar: a price or its time is not above 0")
    return symbol.decode(), orjson.dumps(found)


def is_history(fields: Fields, wall: float) -> bool:
    """Whether a bar fills a gap in the past, and is no news any more; `wall` is in epoch seconds."""
    if fields.get(b"source") != b"rest":
        return False  # a recording is of another time, and is told as if it were now
    return number(fields.get(b"start", b"")) / 1000 < wall - HISTORY_SEC


def probe_in(fields: Fields) -> tuple[str, bytes]:
    """The target of a probe, and what the window keeps of it, as JSON. Raises Unusable."""
    target = cut(_plain(fields, b"target"), NAME_LIMIT, len)
    ok = fields.get(b"ok")
    if not target or ok not in (b"0", b"1"):
        raise Unusable("not a probe: no target, or ok is neither 0 nor 1")
    words = [_plain(fields, name) for name in (b"stage", b"error")] if ok == b"0" else []
    why = cut(" ".join(filter(None, words)), WORD_LIMIT, len)
    return target, orjson.dumps({"ok": ok == b"1", "why": why})


@dataclass(frozen=True, slots=True)
class Move:
    """What a symbol did in a window: from its first bar's open to its last one's close.

    `since` and `until` are when these two bars begin, in epoch seconds.
    """

    symbol: str
    open: float
    close: float
    high: float
    low: float
    bars: int
    since: float = 0.0
    until: float = 0.0

    @property
    def change(self) -> float:
        """Per cent."""
        return 100 * (self.close / self.open - 1)


@dataclass(frozen=True, slots=True)
class Loss:
    """A target that did not answer every probe of a window; `why` is the last reason."""

    target: str
    failed: int
    probes: int
    why: str


@dataclass(frozen=True, slots=True)
class Observed:
    """What a window holds besides notes; `notes` says how many it was given."""

    notes: int
    first: str
    last: str
    moves: tuple[Move, ...] = ()
    losses: tuple[Loss, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to tell: that all probes went well is nothing."""
        return bool(self.notes or self.moves or self.losses)


def observed(fields: Mapping[bytes, bytes]) -> Observed:
    """A window as it was kept: `n`, `first`, `last`, `bar <symbol>`, `probe <target>`; odd ones go."""
    moves, losses = [], []
    for name, value in sorted(fields.items()):
        what, _, of = name.decode("utf-8", "replace").partition(" ")
        with contextlib.suppress(KeyError, TypeError, ValueError):
            if what == "bar":
                moves.append(_move(of, _object(value)))
            elif what == "probe":
                losses.append(_loss(of, _object(value)))
    count = fields.get(b"n", b"")
    first, last = (fields.get(name, b"").decode("ascii", "replace") for name in (b"first", b"last"))
    found = all(map(ENTRY_ID.fullmatch, (first, last)))
    return Observed(
        notes=int(count) if count.isdigit() and len(count) <= LONGEST_COUNT else 0,
        first=first if found else "",
        last=last if found else "",
        moves=tuple(moves),
        losses=tuple(loss for loss in losses if loss.failed),
    )


def _move(symbol: str, kept: Mapping[str, Any]) -> Move:
    prices = {name: float(kept[name]) for name in ("open", "close", "high", "low")}
    if not min(prices.values()) > 0:
        raise ValueError("no price")
    since, until = (float(kept[name]) / 1000 for name in ("start", "last"))
    return Move(symbol, **prices, bars=int(kept["n"]), since=since, until=until)


def _loss(target: str, kept: Mapping[str, Any]) -> Loss:
    return Loss(target, int(kept["failed"]), int(kept["n"]), str(kept["why"])[:WORD_LIMIT])


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _plain(fields: Fields, name: bytes) -> str:
    return " ".join(plain(fields.get(name, b"")[:1000].decode("utf-8", "replace")).split())


@dataclass(frozen=True, slots=True)
class Made:
    """What became of an entry: a note, something to observe, or nothing.

    `whose` names item, symbol or target.
    """

    entry: bytes
    what: Literal["note", "bar", "probe", "none"]
    whose: str
    rest: bytes


def make(source: Source, entry: bytes, fields: Fields, lexicon: Lexicon, wall: float) -> Made:
    """What becomes of an entry. Raises Unusable for a bar or a probe that is none; any item is one."""
    match source.kind:
        case Kind.BARS:
            symbol, kept = bar_in(fields)
            return Made(entry, "none" if is_history(fields, wall) else "bar", symbol, kept)
        case Kind.PROBES:
            return Made(entry, "probe", *probe_in(fields))
        case Kind.ITEMS:
            said = note(entry.decode(), fields, lexicon, wall)
            rest = orjson.dumps([text for pair in said.items() for text in pair])
            return Made(entry, "note", identity(source.key, entry.decode(), fields), rest)
