"""Read a recording of a market: what was known when. Pure, apart from reading its file.

A recording is JSON lines, compressed with gzip; docs/services/replay.md has every field. Its first line
says where it comes from, and which reels it has: a reel is a stretch of time in which some symbols play.
Each further line is a record, with the names of fields that the entries of streams have, and is known from
its `known` on; a bar without one is known at its end. A line that is not a record is counted and left out:
one line must not silence a market.
"""

import gzip
import hashlib
import io
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from services.market.actions import find_action_fault, find_day_ms
from services.market.fields import MAX_MS, MAX_NUMBER, MIN_MS, SYMBOL
from services.market.records import (
    TIMEFRAME_SEC,
    ActionKind,
    AssetClass,
    Bar,
    CorporateAction,
    Observation,
    Quote,
    Record,
    RecordKind,
    VolumeKind,
)
from services.sources.catalog.answer import Misfit
from services.sources.catalog.source import FilePart
from services.sources.replay.frames import convert_frames

MAX_FILE_BYTES: Final = 64_000_000
MAX_BYTES: Final = 256_000_000
"""The longest recording, decompressed."""
MAX_LINE_BYTES: Final = 4096
MAX_HEADER_BYTES: Final = 1_000_000
MAX_ROWS: Final = 1_000_000
MAX_MISFITS: Final = 100

Number = Annotated[float, Field(allow_inf_nan=False, ge=-MAX_NUMBER, le=MAX_NUMBER)]
Time = Annotated[int, Field(ge=MIN_MS, le=MAX_MS)]
Symbol = Annotated[str, Field(pattern=f"^(?:{SYMBOL.pattern})$")]
Name = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")]
Text = Annotated[str, Field(max_length=200)]


class RecordingError(Exception):
    """A file can't be played as a recording; the message says why, and what to do."""


class Origin(FilePart):
    """Say where a part of a recording comes from, and what its licence allows."""

    what: Text
    repository: Text
    commit: Text = ""
    licence: Text


class Reel(FilePart):
    """Define a stretch of time in which some symbols play.

    What was known before `play_from` is history, and there at once. At `to` the reel stops.
    """

    name: Name
    title: Text = ""
    start: Annotated[AwareDatetime, Field(alias="from")]
    play_from: AwareDatetime
    to: AwareDatetime
    symbols: Annotated[frozenset[Symbol], Field(min_length=1, max_length=10_000)]


class Header(FilePart):
    """Read the first line of a recording."""

    format: Literal["marketswarm-recording"]
    version: Literal[1]
    name: Name
    origins: Annotated[tuple[Origin, ...], Field(min_length=1, max_length=100)]
    zone: Literal["UTC"]
    volume_kinds: Mapping[AssetClass, VolumeKind] = {}
    """Whose trades the volume of its bars counts, where that is known."""
    reels: Annotated[tuple[Reel, ...], Field(min_length=1, max_length=100)]


class _Row(FilePart):
    sym: Symbol
    asset: AssetClass
    known: Time | None = None


class _BarRow(_Row):
    """A bar; `bid` and `ask` are those at its end, and make a quote."""

    kind: Literal["bars"]
    timeframe: str
    start: Time
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number | None = None
    vwap: Number | None = None
    trades: int | None = None
    bid: Number | None = None
    ask: Number | None = None


class _QuoteRow(_Row):
    kind: Literal["quotes"]
    at: Time
    price: Number
    bid: Number | None = None
    ask: Number | None = None
    volume: Number | None = None
    open_interest: Number | None = None
    implied_volatility: Number | None = None


class _ObservationRow(_Row):
    kind: Literal["observations"]
    start: Time
    value: Number


class _ActionRow(_Row):
    """A corporate action, known from the midnight of UTC of its day on unless it says otherwise."""

    kind: Literal["actions"]
    action: ActionKind
    ex_day: date
    ratio: Number | None = None
    amount: Number | None = None
    new_symbol: Symbol | None = None

    @property
    def start(self) -> int:
        return find_day_ms(self.ex_day)

    @property
    def record(self) -> CorporateAction:
        return CorporateAction(self.sym, self.action, self.ex_day, self.ratio, self.amount, self.new_symbol)


_AnyRow = _BarRow | _QuoteRow | _ObservationRow | _ActionRow
_ROW: Final[TypeAdapter[_AnyRow]] = TypeAdapter(Annotated[_AnyRow, Field(discriminator="kind")])


class SeriesKey(NamedTuple):
    """Name a series of a recording; `timeframe` is that of bars, of actions their own kind, otherwise empty.

    So a split and a dividend of one day are not a record and its correction.
    """

    kind: RecordKind
    symbol: str
    asset: AssetClass
    timeframe: str = ""


@dataclass(slots=True)
class _Series:
    """Hold the lines of a series as they stand in the file, by their start and the time when they were known.

    Records are parsed on demand, so that a recording takes about as much memory as its text.
    """

    starts: "array[int]" = field(default_factory=lambda: array("q"))
    known: "array[int]" = field(default_factory=lambda: array("q"))
    lines: list[bytes] = field(default_factory=list)

    def sort(self) -> None:
        """Sort the lines by start, and those of one start by when they were known."""
        order = sorted(range(len(self.lines)), key=lambda place: (self.starts[place], self.known[place]))
        self.starts = array("q", (self.starts[place] for place in order))
        self.known = array("q", (self.known[place] for place in order))
        self.lines = [self.lines[place] for place in order]


_NOTHING: Final = _Series()


@dataclass(frozen=True, slots=True)
class Recording:
    """Hold a recording.

    Attributes:
        digest: the SHA-256 of its file, as hexadecimal digits.
        rows: how many records it has.
        bad_rows: how many lines are not records.
        misfits: the first hundred of those.
    """

    header: Header
    digest: str
    rows: int
    bad_rows: int
    misfits: tuple[Misfit, ...]
    _series: dict[SeriesKey, _Series] = field(repr=False)

    def find_reel(self, symbol: str) -> Reel | None:
        return next((reel for reel in self.header.reels if symbol in reel.symbols), None)

    def list_series(self) -> list[SeriesKey]:
        return sorted(self._series)

    def has_series(self, key: SeriesKey) -> bool:
        return key in self._series

    def find_lines(self, key: SeriesKey, start_ms: int, end_ms: int, clock_ms: int) -> list[bytes]:
        """Return the lines of records from `start_ms` up to `end_ms`, as they were known at `clock_ms`.

        They are in the order of time. Of two for one start the one that was known last counts.
        """
        series = self._series.get(key, _NOTHING)
        found: dict[int, bytes] = {}
        for place in range(bisect_left(series.starts, start_ms), bisect_left(series.starts, end_ms)):
            if series.known[place] <= clock_ms:
                found[series.starts[place]] = series.lines[place]
        return list(found.values())

    def find_last_line(self, key: SeriesKey, clock_ms: int) -> bytes | None:
        """Return the line of the latest record that was known at `clock_ms`; None if there is none."""
        series = self._series.get(key, _NOTHING)
        for place in range(bisect_left(series.starts, clock_ms + 1) - 1, -1, -1):
            if series.known[place] <= clock_ms:
                return series.lines[place]
        return None


def to_ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def read_recording(path: Path) -> Recording:
    """Read a recording. Raise RecordingError if the file is not a recording, or can't be read completely."""
    try:
        if not path.is_file():
            raise RecordingError(f"{path}: no such file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RecordingError(f"{path}: more than {MAX_FILE_BYTES} bytes")
        raw = path.read_bytes()
        lines = (
            gzip.GzipFile(fileobj=io.BytesIO(raw))
            if path.suffix == ".gz"
            else io.BytesIO(convert_frames(raw))
        )
        return _Reader(lines, hashlib.sha256(raw).hexdigest()).read()
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror or 'no gzip file'}") from None
    except (EOFError, zlib.error):
        raise RecordingError(f"{path}: the file is cut off or damaged; copy it again") from None


def parse_line(line: bytes) -> Record:
    """Return the record of a line. Raise ValueError if the line is not a record."""
    row = _ROW.validate_json(line)
    if isinstance(row, _BarRow):
        prices = (row.open, row.high, row.low, row.close)
        return Bar(row.sym, row.timeframe, row.start, *prices, row.volume, row.vwap, row.trades)
    if isinstance(row, _QuoteRow):
        numbers = (row.bid, row.ask, row.volume, row.open_interest, row.implied_volatility)
        return Quote(row.sym, row.at, row.price, *numbers)
    if isinstance(row, _ActionRow):
        return row.record
    return Observation(row.sym, row.start, row.value)


def parse_line_as_quote(line: bytes) -> Quote:
    """Return the quote of a line: its own, or the one at the end of a bar. Raise ValueError for others."""
    row = _ROW.validate_json(line)
    if isinstance(row, _BarRow):
        return Quote(row.sym, _known_ms(row), row.close, row.bid, row.ask)
    record = parse_line(line)
    if not isinstance(record, Quote):
        raise ValueError("no quote")  # noqa: TRY004 - a value that was read, not a type in the code
    return record


class _Reader:
    """Read the lines of one file; `digest` is that of the whole file."""

    def __init__(self, lines: io.BufferedIOBase, digest: str) -> None:
        self._stream, self._digest = lines, digest
        self._bytes = self._rows = self._bad_rows = 0
        self._misfits: list[Misfit] = []
        self._series: dict[SeriesKey, _Series] = {}
        self._reel_of: dict[str, Reel] = {}

    def read(self) -> Recording:
        """Return the recording. Raise RecordingError, or what `gzip` raises for a damaged file."""
        header = self._read_header()
        for reel in header.reels:
            self._reel_of |= dict.fromkeys(reel.symbols, reel)
        for number, line in self._read_lines():
            misfit = self._add_row(number, line)
            if misfit is not None:
                self._bad_rows += 1
                if len(self._misfits) < MAX_MISFITS:
                    self._misfits.append(misfit)
        if not self._rows:
            raise RecordingError(f"{header.name}: no line is a record")
        for series in self._series.values():
            series.sort()
        return Recording(header, self._digest, self._rows, self._bad_rows, tuple(self._misfits), self._series)

    def _read_header(self) -> Header:
        """Return the header. Raise RecordingError if it is not valid."""
        line = self._stream.readline(MAX_HEADER_BYTES + 1)
        self._bytes += len(line)
        try:
            header = Header.model_validate_json(line)
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"])) or "JSON"
            raise RecordingError(f"the first line is not the header of a recording: {where}") from None
        _require_order(header.reels)
        return header

    def _read_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the number and the text of each further line. Raise RecordingError if there are too many."""
        number, is_rest = 1, False
        while line := self._stream.readline(MAX_LINE_BYTES + 1):
            self._bytes += len(line)
            if self._bytes > MAX_BYTES or number > MAX_ROWS:
                raise RecordingError(f"more than {MAX_BYTES} bytes or {MAX_ROWS} lines, decompressed")
            if not is_rest:
                number += 1
                yield number, line
            # what is left of a line that is too long is not a line of its own
            is_rest = not line.endswith(b"\n")

    def _add_row(self, number: int, line: bytes) -> Misfit | None:
        """Add the record of a line; return what is wrong with the line if it is not a record."""
        if len(line) > MAX_LINE_BYTES:
            return Misfit(number, "", f"more than {MAX_LINE_BYTES} bytes")
        try:
            row = _ROW.validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            return Misfit(number, ".".join(map(str, first["loc"][1:])), first["type"])
        timeframe = row.timeframe if isinstance(row, _BarRow) else ""
        if isinstance(row, _BarRow) and timeframe not in TIMEFRAME_SEC:
            return Misfit(number, "timeframe", "unknown")
        if isinstance(row, _ActionRow):
            timeframe = row.action.value
            if (fault := find_action_fault(row.record)) is not None:
                return Misfit(number, *fault.split(": ", 1))
        reel, known = self._reel_of.get(row.sym), _known_ms(row)
        if reel is None:
            return Misfit(number, "sym", "in no reel")
        if known > to_ms(reel.to):
            return Misfit(number, "known", "after the end of its reel")
        start = row.at if isinstance(row, _QuoteRow) else row.start
        if known < start:
            return Misfit(number, "known", "before the record")
        series = self._series.setdefault(
            SeriesKey(RecordKind(row.kind), row.sym, row.asset, timeframe), _Series()
        )
        series.starts.append(start)
        series.known.append(known)
        series.lines.append(line.rstrip(b"\r\n"))
        self._rows += 1
        return None


def _known_ms(row: _AnyRow) -> int:
    if row.known is not None:
        return row.known
    if isinstance(row, _BarRow):
        return row.start + 1000 * TIMEFRAME_SEC[row.timeframe]
    return row.at if isinstance(row, _QuoteRow) else row.start


def _require_order(reels: Sequence[Reel]) -> None:
    """Raise RecordingError if a reel plays backwards, or a symbol or a name is in two reels."""
    for reel in reels:
        if not reel.start <= reel.play_from < reel.to:
            raise RecordingError(f"reel {reel.name}: from, play_from and to are not in this order")
    symbols = [symbol for reel in reels for symbol in reel.symbols]
    if len(set(symbols)) < len(symbols) or len({reel.name for reel in reels}) < len(reels):
        raise RecordingError("a symbol or a name is in two reels")
