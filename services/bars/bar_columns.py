"""Hold the bars of one series as columns, with the sums that run through them, and pack them. Pure.

What TA-Lib reads must be columns of floats, each in one piece of memory. OBV and the session's VWAP are sums
over all bars before, also over those that were dropped long ago: they stand beside each bar.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
import orjson
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from services.market.fields import MAX_MS, MIN_MS
from services.market.records import PERIODS, Bar
from services.market.sessions import OutsideCalendarError, Session, TradingDay

Array = np.ndarray[Any, np.dtype[np.float64]]
Starts = np.ndarray[Any, np.dtype[np.int64]]

HIGH, LOW, CLOSE, VOLUME, PRICE, OBV, TURNOVER, TRADED = range(8)
"""The rows of columns. `PRICE` is what a bar counts by in VWAP; the last three are sums."""
ROW_COUNT: Final = 8
INPUTS: Final = {"high": HIGH, "low": LOW, "close": CLOSE, "volume": VOLUME}
"""The rows that TA-Lib reads, by its names for them and in its order."""

_FORMAT: Final = 1
_MAX_CHECKPOINT: Final = 4_000_000
_MAX_BARS: Final = 20_000


class CheckpointError(ValueError):
    """A checkpoint is not one of this kind of series, or is damaged."""


Number = Annotated[float, BeforeValidator(lambda number: math.nan if number is None else number)]
"""A number; NaN is null in JSON."""
Row = tuple[int, Annotated[tuple[Number, ...], Field(min_length=ROW_COUNT, max_length=ROW_COUNT)]]
"""A bar's start, and its number in each row."""


class Seam(NamedTuple):
    """Say where a block of bars begins, and which bar its sums continue from.

    `before` is the bar before the block; None if the series begins with it.
    """

    start_ms: int
    before: Row | None


@dataclass(slots=True)
class CheckpointHeader:
    """Hold the first line of a checkpoint, which is this as JSON."""

    format: int
    timeframe: str
    block: int
    count: Annotated[int, Field(ge=0, le=_MAX_BARS)]
    seams: list[tuple[int, Row | None]]


_HEADER: Final = TypeAdapter(CheckpointHeader)


class BarColumns:
    """Hold bars of one timeframe as columns, in order, and the sums that run through them."""

    __slots__ = ("_day", "_is_daily", "_session", "count", "rows", "starts", "timeframe")

    def __init__(self, timeframe: str, session: Session) -> None:
        self.timeframe = timeframe
        self._session = session
        self._is_daily = timeframe == "1d" or timeframe in PERIODS
        self._day: TradingDay | None = None
        self.count = 0
        self.starts: Starts = np.empty(64, dtype=np.int64)
        self.rows: Array = np.empty((ROW_COUNT, len(self.starts)))

    def find(self, start_ms: int) -> int:
        """Return the position of the first bar that begins then or later; `count` if there is none."""
        last = self.count - 1
        if last >= 0 and start_ms >= self.starts[last]:  # the newest bar, which is still forming
            return last if start_ms == self.starts[last] else self.count
        return int(self.starts[: self.count].searchsorted(start_ms))

    def insert(self, position: int, bar: Bar) -> None:
        """Put a bar at this position and move later ones on; the sums are yet to be filled."""
        if self.count == len(self.starts):
            self.starts = np.concatenate([self.starts, np.empty_like(self.starts)])
            self.rows = np.concatenate([self.rows, np.empty_like(self.rows)], axis=1)
        if position < self.count:
            self.starts[position + 1 : self.count + 1] = self.starts[position : self.count].copy()
            self.rows[:, position + 1 : self.count + 1] = self.rows[:, position : self.count].copy()
        self.count += 1
        self.write(position, bar)

    def write(self, position: int, bar: Bar) -> None:
        """Write a bar's own columns; the sums are yet to be filled."""
        self.starts[position] = bar.start_ms
        self.rows[: PRICE + 1, position] = _read_columns(bar)

    def write_newest(self, bar: Bar) -> list[float]:
        """Write the columns and sums of the newest bar, which begins when `bar` does; return its rows."""
        position = self.count - 1
        columns = _read_columns(bar)
        before_ms, before, *sums = self._read_before(position)
        row = [*columns, *self._add_bar(bar.start_ms, columns[CLOSE:], before_ms, before, sums)]
        self.rows[:, position] = row
        return row

    def holds(self, position: int, bar: Bar) -> bool:
        return bool(
            self.starts[position] == bar.start_ms
            and np.array_equal(self.rows[: PRICE + 1, position], _read_columns(bar), equal_nan=True)
        )

    def drop(self, number: int) -> None:
        if number:
            kept = slice(number, self.count)
            self.count -= number
            if len(self.starts) > 4 * self.count:  # a long history leaves no memory behind
                self.starts, self.rows = self.starts[kept].copy(), self.rows[:, kept].copy()
                return
            self.starts[: self.count] = self.starts[kept].copy()
            self.rows[:, : self.count] = self.rows[:, kept].copy()

    def read(self, position: int) -> Row:
        return int(self.starts[position]), tuple(self.rows[:, position].tolist())

    def replace_all(self, bars: Sequence[Bar], before: Row | None) -> None:
        """Hold these bars instead, in order; their sums continue from the bar before them, if it exists."""
        self.count = len(bars) + 1
        self.starts = np.empty(self.count, dtype=np.int64)
        self.rows = np.empty((ROW_COUNT, self.count))
        for position, bar in enumerate(bars, 1):
            self.write(position, bar)
        if before is not None:
            self.starts[0], self.rows[:, 0] = before
            self.fill_sums(1)
        self.drop(1)
        if before is None:
            self.fill_sums(0)

    def fill_sums(self, position: int) -> None:
        """Compute the sums of the bars from this position on, from those of the bar before.

        OBV is summed as by TA-Lib: it begins with the first volume, again after a bar that has none. TA-Lib's
        function takes ten times as long for the newest bar alone, which is the usual case.
        """
        before_ms, before, *sums = self._read_before(position)
        if position == self.count - 1:  # most often; arrays of one number take longer
            start_ms, bar = int(self.starts[position]), self.rows[CLOSE : PRICE + 1, position].tolist()
            self.rows[OBV:, position] = self._add_bar(start_ms, bar, before_ms, before, sums)
            return
        starts = self.starts[position : self.count].tolist()
        found = []
        for start_ms, bar in zip(
            starts, self.rows[CLOSE : PRICE + 1, position : self.count].T.tolist(), strict=True
        ):
            sums = self._add_bar(start_ms, bar, before_ms, before, sums)
            found.append(sums)
            before_ms, before = start_ms, bar[0]
        self.rows[OBV:, position : self.count] = np.array(found).reshape(-1, ROW_COUNT - OBV).T

    def _add_bar(
        self,
        start_ms: int,
        bar: Sequence[float],
        before_ms: int | None,
        before: float,
        sums: Sequence[float],
    ) -> list[float]:
        """Return the sums at a bar (its close, volume and price) from the close and the sums before it."""
        obv, turnover, traded = sums
        close, volume, price = bar
        if math.isnan(obv) or math.isnan(volume):
            obv = volume
        elif close != before:
            obv += volume if close > before else -volume
        if (begun := self._begin_session(start_ms, before_ms)) is not None:
            traded = turnover = begun
        return [obv, turnover + volume * price, traded + volume]

    def read_vwap(self, begin: int, end: int) -> Array:
        """Return the VWAP of these bars; NaN where nothing was traded, or a volume is unknown."""
        traded = self.rows[TRADED, begin:end]
        return self.rows[TURNOVER, begin:end] / np.where(traded > 0, traded, math.nan)

    def _read_before(self, position: int) -> tuple[int | None, float, float, float, float]:
        """Return the start, the close and the sums of the bar before this position; without one, NaN."""
        if not position:
            return None, math.nan, math.nan, math.nan, math.nan
        row = self.rows[:, position - 1].tolist()
        return int(self.starts[position - 1]), row[CLOSE], row[OBV], row[TURNOVER], row[TRADED]

    def _begin_session(self, start_ms: int, before_ms: int | None) -> float | None:
        """Return what was traded before the bar: 0, NaN (unknown), or None if the sum continues."""
        if self._is_daily:
            return 0.0
        day = self._day
        if day is None or not day.open_ms <= start_ms < day.close_ms:
            day = self._day = self._find_day(start_ms)
        if day is None:
            return math.nan
        if before_ms is None:
            # the first bar ever: unless it opens the session, what was traded before it is unknown
            return 0.0 if start_ms == day.open_ms else math.nan
        return 0.0 if before_ms < day.open_ms else None

    def _find_day(self, at_ms: int) -> TradingDay | None:
        try:
            return self._session.find_day(at_ms)
        except OutsideCalendarError:
            return None

    def pack(self, block: int, seams: Sequence[Seam]) -> bytes:
        """Return the bars as a line of JSON and their columns; `block` is written down to be compared."""
        header = CheckpointHeader(
            _FORMAT, self.timeframe, block, self.count, [(each.start_ms, each.before) for each in seams]
        )
        starts = np.diff(self.starts[: self.count], prepend=0).astype("<i8")
        rows = self.rows[:, : self.count].astype("<f8")
        return orjson.dumps(header) + b"\n" + zlib.compress(starts.tobytes() + rows.tobytes(), 1)

    def unpack(self, packed: bytes, block: int) -> list[Seam]:
        """Replace all bars by packed ones; return their seams. Raise CheckpointError, changing nothing."""
        line, _, columns = packed[:_MAX_CHECKPOINT].partition(b"\n")
        count, seams = _parse_header(line, self.timeframe, block)
        starts, rows = _parse_columns(columns, count)
        self.count = count
        self.starts = np.empty(max(64, 2 * count), dtype=np.int64)
        self.rows = np.empty((ROW_COUNT, len(self.starts)))
        self.starts[:count] = starts
        self.rows[:, :count] = rows
        return seams


def apply_to_runs(function: Callable[..., Array], columns: Sequence[Array], **options: float) -> Array:
    """Return a function's values over each run of bars that have a volume, which is the last column."""
    gaps = np.isnan(columns[-1])
    if not gaps.any():
        return function(*columns, **options)
    found = np.full(len(gaps), math.nan)
    edges = [-1, *np.flatnonzero(gaps).tolist(), len(gaps)]
    for before, after in pairwise(edges):
        if after - before > 1:
            run = slice(before + 1, after)
            found[run] = function(*[column[run] for column in columns], **options)
    return found


def _read_columns(bar: Bar) -> tuple[float, float, float, float, float]:
    volume = math.nan if bar.volume is None else bar.volume
    price = (bar.high + bar.low + bar.close) / 3 if bar.vwap is None else bar.vwap
    return bar.high, bar.low, bar.close, volume, price


def _parse_header(line: bytes, timeframe: str, block: int) -> tuple[int, list[Seam]]:
    """Return the number of bars and the seams. Raise CheckpointError for another kind of series."""
    try:
        header = _HEADER.validate_json(line)
    except ValidationError:
        raise CheckpointError("a damaged checkpoint: an unreadable seam or number of bars") from None
    if (header.format, header.timeframe, header.block) != (_FORMAT, timeframe, block):
        raise CheckpointError(f"a checkpoint of another series than {timeframe} in blocks of {block}")
    return header.count, [Seam(*each) for each in header.seams]


def _parse_columns(packed: bytes, count: int) -> tuple[Starts, Array]:
    """Return the starts and the rows. Raise CheckpointError if there are more or fewer bars than `count`."""
    size = 8 * count * (1 + ROW_COUNT)
    unpacker = zlib.decompressobj()
    try:
        columns = unpacker.decompress(packed, size + 1)
    except zlib.error:
        raise CheckpointError("a damaged checkpoint: its columns can't be unpacked") from None
    if len(columns) != size or not unpacker.eof:
        raise CheckpointError("a damaged checkpoint: not as long as it says")
    starts: Starts = np.cumsum(np.frombuffer(columns, "<i8", count))
    rows: Array = np.frombuffer(columns, "<f8", offset=8 * count).reshape(ROW_COUNT, count)
    in_order = not count or (starts[0] >= MIN_MS and starts[-1] <= MAX_MS and (np.diff(starts) > 0).all())
    if not in_order or not np.isfinite(rows[:VOLUME]).all():
        raise CheckpointError("a damaged checkpoint: bars that can't be")
    return starts, rows
