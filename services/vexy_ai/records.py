"""Make a record of each entry: a note about an item, or what a window keeps of a bar or a probe. Pure.

Anyone can write to a stream, so an entry that is not a valid bar or probe is an `UnusableError`, and trying
again would not help. `settle.lua` writes the records; the content of a window is parsed here when it is read
back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from marketswarm.agent import InputStream
from marketswarm.bus.stored_values import MAX_EPOCH_SEC, parse_count, parse_number, parse_object
from marketswarm.bus.stream import is_entry_id
from marketswarm.channels.text import printable_line, truncate
from marketswarm.text import parse_digits
from services.market.entries import parse_bar
from services.market.fields import EntryError
from services.market.records import Bar
from services.market.separate import is_separate, read_separate
from services.vexy_ai.notes import Fields, Lexicon, make_note, note_identity
from services.vexy_ai.settings import StreamKind

NAME_LIMIT: Final = 100
WORD_LIMIT: Final = 100
MAX_COUNT_DIGITS: Final = 15
MAX_PRICE: Final = 1e18
HISTORY_SEC: Final = 3600.0
_AS_OF_NOW: Final = frozenset({b"ws", b"replay"})
"""What massive calls the ways of its stream and of its recordings. Other bars may come long after."""


class UnusableError(Exception):
    """An entry can't become a record; `str()` is the reason."""


def observe_bar(fields: Fields) -> tuple[Bar, bytes]:
    """Return a bar, and its start and prices as a JSON object. Raises UnusableError."""
    try:
        bar = parse_bar(read_separate(fields)[0] if is_separate(fields) else fields)
    except EntryError as error:
        raise UnusableError(f"not a bar: {error}") from None
    found = {"start": bar.start_ms, "open": bar.open, "high": bar.high, "low": bar.low, "close": bar.close}
    if min(found.values()) <= 0:
        raise UnusableError("not a bar: a price or its time is not above 0")
    return bar, orjson.dumps(found)


def is_history(bar: Bar, source: bytes | None, wall: float) -> bool:
    """Return True if a bar began over HISTORY_SEC before `wall` (epoch seconds), and no stream brought it.

    Such a bar is of a first load, or a correction. A recording of massive is of another time, and is treated
    as if it were now.
    """
    return source not in _AS_OF_NOW and bar.start_ms / 1000 < wall - HISTORY_SEC


def parse_probe(fields: Fields) -> tuple[str, bytes]:
    """Return a probe's target, and its result as a JSON object `{ok, why}`. Raises UnusableError."""
    target = truncate(_text(fields, b"target"), NAME_LIMIT, len)
    ok = fields.get(b"ok")
    if not target or ok not in (b"0", b"1"):
        raise UnusableError("not a probe: no target, or ok is neither 0 nor 1")
    words = [_text(fields, name) for name in (b"stage", b"error")] if ok == b"0" else []
    why = truncate(" ".join(filter(None, words)), WORD_LIMIT, len)
    return target, orjson.dumps({"ok": ok == b"1", "why": why})


@dataclass(frozen=True, slots=True)
class PriceMove:
    """Hold how a symbol moved in a window: from the open of its first bar to the close of its last one.

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
        return 100 * (self.close / self.open - 1)


@dataclass(frozen=True, slots=True)
class ProbeOutage:
    """Count the failed probes of a target in a window; `why` is the reason of the last failure."""

    target: str
    failed: int
    probes: int
    why: str


@dataclass(frozen=True, slots=True)
class WindowContent:
    """Hold the content of a window; `first` and `last` are the stream ids of its notes, or empty."""

    notes: int
    first: str
    last: str
    moves: tuple[PriceMove, ...] = ()
    outages: tuple[ProbeOutage, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.notes or self.moves or self.outages)


def parse_window(fields: Mapping[bytes, bytes]) -> WindowContent:
    """Return a window's content from its fields `n`, `first`, `last`, `bar <symbol>` and `probe <target>`.

    Leave out invalid fields, and targets without a failed probe.
    """
    moves, outages = list[PriceMove | None](), list[ProbeOutage | None]()
    for name, value in sorted(fields.items()):
        kind, _, subject = name.decode("utf-8", "replace").partition(" ")
        if kind == "bar":
            moves.append(_parse_move(subject, parse_object(value)))
        elif kind == "probe":
            outages.append(_parse_outage(subject, parse_object(value)))
    first, last = fields.get(b"first", b""), fields.get(b"last", b"")
    found = is_entry_id(first) and is_entry_id(last)
    return WindowContent(
        notes=parse_digits(fields.get(b"n"), MAX_COUNT_DIGITS) or 0,
        first=first.decode() if found else "",
        last=last.decode() if found else "",
        moves=tuple(move for move in moves if move is not None),
        outages=tuple(outage for outage in outages if outage is not None and outage.failed),
    )


def _parse_move(symbol: str, stored: Mapping[str, Any]) -> PriceMove | None:
    prices = {
        name: parse_number(stored.get(name), 0.0, MAX_PRICE) for name in ("open", "close", "high", "low")
    }
    valid = {name: price for name, price in prices.items() if price}
    since, until = (parse_number(stored.get(name), 0.0, 1000 * MAX_EPOCH_SEC) for name in ("start", "last"))
    bars = parse_count(stored.get("n"))
    if valid.keys() != prices.keys() or since is None or until is None or bars is None:
        return None
    return PriceMove(symbol, **valid, bars=bars, since=since / 1000, until=until / 1000)


def _parse_outage(target: str, stored: Mapping[str, Any]) -> ProbeOutage | None:
    failed, probes, why = parse_count(stored.get("failed")), parse_count(stored.get("n")), stored.get("why")
    if failed is None or probes is None or not isinstance(why, str):
        return None
    return ProbeOutage(target, failed, probes, why[:WORD_LIMIT])


def _text(fields: Fields, name: bytes) -> str:
    return " ".join(printable_line(fields.get(name, b"")[:1000].decode("utf-8", "replace")).split())


@dataclass(frozen=True, slots=True)
class Record:
    """Hold the data to write for an entry: a note, an observation of a bar or a probe, or nothing.

    `subject` is the identity of the item, the symbol of the bar or the target of the probe; `content` are the
    note's fields as a JSON array, or the observation as a JSON object.
    """

    entry: bytes
    kind: Literal["note", "bar", "probe", "none"]
    subject: str
    content: bytes


def make_record(stream: InputStream, entry: bytes, fields: Fields, lexicon: Lexicon, wall: float) -> Record:
    """Return the record of an entry; `wall` is now, in epoch seconds. Raises UnusableError.

    A bar that is history, played from a recording, not a minute or of one source for itself gets a record of
    kind `none`.
    """
    match stream.kind:
        case StreamKind.BARS:
            bar, kept = observe_bar(fields)
            # windows count minutes of today
            is_minute = fields.get(b"timeframe", b"1m") == b"1m" and fields.get(b"replay") != b"1"
            is_news = is_minute and not is_separate(fields)
            is_counted = is_news and not is_history(bar, fields.get(b"source"), wall)
            return Record(entry, "bar" if is_counted else "none", bar.symbol, kept)
        case StreamKind.PROBES:
            return Record(entry, "probe", *parse_probe(fields))
        case _:
            note = make_note(entry.decode(), fields, lexicon, wall)
            content = orjson.dumps([text for pair in note.items() for text in pair])
            return Record(entry, "note", note_identity(stream.key, entry.decode(), fields), content)
