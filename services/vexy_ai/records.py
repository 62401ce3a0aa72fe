"""Make a record of each entry: a note of an item, or what a window keeps of a bar or a probe. Pure.

Anyone can write to a stream: an entry that is no bar or no probe is `UnusableError`, since it will not become
one by trying again. `settle.lua` writes the records; a window as it was kept is read back here.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from marketswarm.channels.text import printable_line, truncate
from services.vexy_ai.notes import Fields, Lexicon, make_note, note_identity, parse_number
from services.vexy_ai.sources import Kind, Source

SYMBOL: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9.:/_-]{0,29}")
NAME_LIMIT: Final = 100
WORD_LIMIT: Final = 100
ENTRY_ID: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
LONGEST_COUNT: Final = 15
HISTORY_SEC: Final = 3600.0


class UnusableError(Exception):
    """No record can be made of an entry; `str()` says why."""


def parse_bar(fields: Fields) -> tuple[str, bytes]:
    """Return the symbol of a bar, and what the window keeps of it as JSON. Raises UnusableError."""
    symbol = fields.get(b"sym", b"")
    if not SYMBOL.fullmatch(symbol):
        raise UnusableError("not a bar: sym is no symbol")
    found: dict[str, float] = {}
    for name in ("start", "open", "high", "low", "close"):
        try:
            found[name] = parse_number(fields.get(name.encode(), b""))
        except ValueError as error:
            raise UnusableError(f"not a bar: {name} {error}") from None
    if min(found.values()) <= 0:
        raise UnusableError("not a bar: a price or its time is not above 0")
    return symbol.decode(), orjson.dumps(found)


def is_history(fields: Fields, wall: float) -> bool:
    """Return True if a bar fills a gap in the past and is no news; `wall` is in epoch seconds."""
    if fields.get(b"source") != b"rest":
        return False  # a recording is of another time, and is told as if it were now
    return parse_number(fields.get(b"start", b"")) / 1000 < wall - HISTORY_SEC


def parse_probe(fields: Fields) -> tuple[str, bytes]:
    """Return the target of a probe, and what the window keeps of it as JSON. Raises UnusableError."""
    target = truncate(_plain(fields, b"target"), NAME_LIMIT, len)
    ok = fields.get(b"ok")
    if not target or ok not in (b"0", b"1"):
        raise UnusableError("not a probe: no target, or ok is neither 0 nor 1")
    words = [_plain(fields, name) for name in (b"stage", b"error")] if ok == b"0" else []
    why = truncate(" ".join(filter(None, words)), WORD_LIMIT, len)
    return target, orjson.dumps({"ok": ok == b"1", "why": why})


@dataclass(frozen=True, slots=True)
class PriceMove:
    """The move of a symbol in a window: from its first bar's open to its last bar's close.

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
        """Return the change in per cent."""
        return 100 * (self.close / self.open - 1)


@dataclass(frozen=True, slots=True)
class Outage:
    """A target that failed some probes of a window; `why` is the last reason."""

    target: str
    failed: int
    probes: int
    why: str


@dataclass(frozen=True, slots=True)
class WindowContent:
    """What a window holds besides the notes themselves; `notes` is how many it was given."""

    notes: int
    first: str
    last: str
    moves: tuple[PriceMove, ...] = ()
    losses: tuple[Outage, ...] = ()

    def __bool__(self) -> bool:
        """Return True if there is anything to report; that all probes succeeded is nothing."""
        return bool(self.notes or self.moves or self.losses)


def parse_window(fields: Mapping[bytes, bytes]) -> WindowContent:
    """Return a window from its stored fields: `n`, `first`, `last`, `bar <symbol>`, `probe <target>`.

    Fields that can't be used are left out.
    """
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
    return WindowContent(
        notes=int(count) if count.isdigit() and len(count) <= LONGEST_COUNT else 0,
        first=first if found else "",
        last=last if found else "",
        moves=tuple(moves),
        losses=tuple(loss for loss in losses if loss.failed),
    )


def _move(symbol: str, kept: Mapping[str, Any]) -> PriceMove:
    prices = {name: float(kept[name]) for name in ("open", "close", "high", "low")}
    if not min(prices.values()) > 0:
        raise ValueError("no price")
    since, until = (float(kept[name]) / 1000 for name in ("start", "last"))
    return PriceMove(symbol, **prices, bars=int(kept["n"]), since=since, until=until)


def _loss(target: str, kept: Mapping[str, Any]) -> Outage:
    return Outage(target, int(kept["failed"]), int(kept["n"]), str(kept["why"])[:WORD_LIMIT])


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _plain(fields: Fields, name: bytes) -> str:
    return " ".join(printable_line(fields.get(name, b"")[:1000].decode("utf-8", "replace")).split())


@dataclass(frozen=True, slots=True)
class Record:
    """What is written for an entry: a note, an observation, or nothing.

    `whose` is the item, symbol or target.
    """

    entry: bytes
    what: Literal["note", "bar", "probe", "none"]
    whose: str
    rest: bytes


def make_record(source: Source, entry: bytes, fields: Fields, lexicon: Lexicon, wall: float) -> Record:
    """Return the record of an entry.

    Raises UnusableError for a bar or probe that is none; any item is one.
    """
    match source.kind:
        case Kind.BARS:
            symbol, kept = parse_bar(fields)
            return Record(entry, "none" if is_history(fields, wall) else "bar", symbol, kept)
        case Kind.PROBES:
            return Record(entry, "probe", *parse_probe(fields))
        case Kind.ITEMS:
            said = make_note(entry.decode(), fields, lexicon, wall)
            rest = orjson.dumps([text for pair in said.items() for text in pair])
            return Record(entry, "note", note_identity(source.key, entry.decode(), fields), rest)
