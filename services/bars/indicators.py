"""Compute thirteen indicators of a series of bars by TA-Lib, bar by bar or all at once, bit for bit. Pure.

TA-Lib does the arithmetic: its streams for the newest bar, its functions for many. Here is decided only over
which bars it runs, and that is a matter of counting:

- Bars are counted from the first one that the series ever had, in blocks of `BLOCK_BARS`.
- A value is what TA-Lib says of its bar over all bars since the beginning of the *previous* block. So 400 to
  799 bars stand before each value; where a series is younger than two blocks, all that it has.
- An average that never forgets (Wilder's, an EMA) keeps less than 1e-11 of its seed after 400 bars: where a
  block begins can't be seen. OBV is a running total, and continues from block to block.

So a series holds a bounded number of bars, is the same after a restart to the last bit, and a correction
changes only the rest of its block and the next one (and OBV from there on). Of the blocks that it dropped it
keeps the seams, with which it can take in an older correction as long as the bars are kept.

A value is None until it is warm. What needs a volume is None for a bar without one, and restarts after it.
docs/services/features.md says in words what each indicator is. The seed of an average is TA-Lib's: the plain
mean of its first values.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

import numpy as np
import talib
from talib import stream

from services.bars.bar_columns import (
    INPUTS,
    OBV,
    TRADED,
    TURNOVER,
    VOLUME,
    Array,
    BarColumns,
    Seam,
    apply_to_runs,
)
from services.market.fields import MAX_MS, MAX_NUMBER, MIN_MS
from services.market.records import Bar
from services.market.sessions import Session

Values = dict[str, float | None]
Change = tuple[int, Values]
"""A bar, by its start in epoch milliseconds, and its values now."""
BLOCK_BARS: Final = 400
"""The bars of a block: more than a day of New York's minutes, which can all be corrected."""


SEAMS: Final = 20
"""The dropped blocks whose seams are kept: 8000 bars, more than five days of minutes."""


@dataclass(frozen=True, slots=True)
class Indicator:
    """Describe an indicator.

    Attributes:
        outputs: the names of its values, in the order in which TA-Lib returns them.
        function: TA-Lib's name of it; empty for what is summed here.
        rows: the rows of the table that it reads, in TA-Lib's order.
        pick: takes these rows out of those of one bar.
        warm_bars: how many bars it needs for its first value.
    """

    name: str
    outputs: tuple[str, ...]
    function: str
    rows: tuple[int, ...]
    options: Mapping[str, float]
    warm_bars: int
    pick: Callable[[Sequence[float]], Sequence[float]] = field(init=False, compare=False)
    needs_volume: bool = field(init=False)

    def __post_init__(self) -> None:
        """Prepare what every bar of every series asks for. The rows of an indicator stand side by side."""
        object.__setattr__(self, "pick", itemgetter(slice(self.rows[0], self.rows[-1] + 1)))
        object.__setattr__(self, "needs_volume", VOLUME in self.rows)


def _describe(outputs: str, function: str, inputs: str, warm_bars: int, **options: float) -> Indicator:
    """Return an indicator; its name is TA-Lib's in small letters."""
    rows = tuple(INPUTS[name] for name in inputs.split())
    return Indicator(function.lower(), tuple(outputs.split()), function, rows, options, warm_bars)


_LIST: Final = (
    _describe("sma_20", "SMA", "close", 20, timeperiod=20),
    _describe("ema_20", "EMA", "close", 20, timeperiod=20),
    _describe("rsi_14", "RSI", "close", 15, timeperiod=14),
    _describe(
        "macd macd_signal macd_hist", "MACD", "close", 34, fastperiod=12, slowperiod=26, signalperiod=9
    ),
    _describe("bb_upper bb_middle bb_lower", "BBANDS", "close", 20, timeperiod=20, nbdevup=2.0, nbdevdn=2.0),
    _describe("atr_14", "ATR", "high low close", 15, timeperiod=14),
    _describe(
        "stoch_k stoch_d", "STOCH", "high low close", 18, fastk_period=14, slowk_period=3, slowd_period=3
    ),
    _describe("adx_14", "ADX", "high low close", 28, timeperiod=14),
    _describe("cci_20", "CCI", "high low close", 20, timeperiod=20),
    _describe("obv", "OBV", "close volume", 1),
    _describe("mfi_14", "MFI", "high low close volume", 15, timeperiod=14),
    Indicator("vwap", ("vwap",), "", tuple(INPUTS.values()), {}, 1),
    _describe("willr_14", "WILLR", "high low close", 14, timeperiod=14),
)

INDICATORS: Final[Mapping[str, Indicator]] = {entry.name: entry for entry in _LIST}
"""The thirteen indicators by the name that the truth gives them."""


def select_indicators(names: Collection[str]) -> tuple[Indicator, ...]:
    """Return the indicators of these names; raise ValueError if one is unknown, or none is named."""
    unknown = sorted(set(names) - INDICATORS.keys())
    if unknown or not names:
        raise ValueError(f"no indicator {unknown[0] if unknown else ''!r}; there are {', '.join(INDICATORS)}")
    return tuple(indicator for name, indicator in INDICATORS.items() if name in names)


class TooOldError(ValueError):
    """A corrected bar is older than what the series can compute again."""


class IndicatorSeries:
    """Compute the indicators of one symbol's bars of one timeframe, as they come.

    The newest bar may still be forming: revise it as often as it changes. Older bars can be corrected, and
    missing ones inserted, as far back as the beginning of the previous block, which is 400 to 799 bars; and
    by `recompute` as far back as there are seams, and bars of the two blocks before.
    """

    __slots__ = ("_block", "_handles", "_held", "_indicators", "_names", "_seams")

    def __init__(
        self, timeframe: str, session: Session, names: Collection[str], block: int = BLOCK_BARS
    ) -> None:
        self._block = block
        self._indicators = select_indicators(names)
        self._names = [name for indicator in self._indicators for name in indicator.outputs]
        self._held = BarColumns(timeframe, session)
        self._handles: dict[str, Any] = {}
        """TA-Lib's streams, each fed with all bars of the window but the newest."""
        self._seams: list[Seam] = []
        """Those of the last dropped blocks, and of the oldest one held, in order; empty if none was."""

    def __len__(self) -> int:
        return self._held.count

    @property
    def last_ms(self) -> int | None:
        """The start of the newest bar, in epoch milliseconds."""
        return int(self._held.starts[self._held.count - 1]) if self._held.count else None

    def put(self, bar: Bar) -> list[Change]:
        """Append, revise or insert a bar, and return it and all later ones; nothing if it is known as it is.

        Raises:
            TooOldError: the bar is older than the previous block.
            ValueError: the bar is of another timeframe, or has a number that isn't finite.
        """
        if self.last_ms is None or bar.start_ms > self.last_ms:
            return [(bar.start_ms, self.append(bar))]
        position = self._held.find(bar.start_ms)
        return [] if self._held.holds(position, bar) else self.revise(bar)

    def append(self, bar: Bar) -> Values:
        """Add a bar that is newer than all, and return its values. Raise ValueError if it is not newer."""
        held, last_ms = self._held, self.last_ms
        _check_bar(bar, held.timeframe)
        if last_ms is not None and bar.start_ms <= last_ms:
            raise ValueError(f"{bar.timeframe}: the bar is no newer than the last one; revise it")
        self._advance()
        held.insert(held.count, bar)
        return self._read_newest(held.write_newest(bar))

    def revise(self, bar: Bar) -> list[Change]:
        """Replace a bar, or insert one that was missing, and return it and all later ones with their values.

        Raises:
            TooOldError: the bar is older than the previous block.
            ValueError: the bar is newer than all, of another timeframe, or has a number that isn't finite.
        """
        _check_bar(bar, self._held.timeframe)
        held = self._held
        position = held.find(bar.start_ms)
        if position == held.count:
            raise ValueError(f"{bar.timeframe}: the bar is newer than all; append it")
        if position < self._find_anchor(held.count - 1):
            raise TooOldError(
                f"{bar.timeframe}: only the last {self._block} bars and a few more can be corrected"
            )
        if int(held.starts[position]) != bar.start_ms:
            held.insert(position, bar)
        elif position == held.count - 1:  # most often
            return [(bar.start_ms, self._read_newest(held.write_newest(bar)))]
        else:
            held.write(position, bar)
        held.fill_sums(position)
        self._handles.clear()
        return _compute_blocks(held, self._indicators, self._block, position)

    def recompute(self, start_ms: int, list_since: Callable[[int], Sequence[Bar]]) -> list[Change]:
        """Take in all bars that changed since a start that is too old for `revise`.

        Return the bar with that start and all later ones with their values.

        Args:
            start_ms: the start of the oldest bar that was corrected or inserted.
            list_since: returns all bars that begin at a time or later, in order, as they are now.

        Raises:
            TooOldError: the seams or the bars do not reach back so far. Nothing is changed.
            ValueError: a bar is of another timeframe, or has a number that isn't finite. Nothing is changed.
        """
        seams = self._list_seams()
        # the block before the block of the bar
        begin = bisect_right(seams, start_ms, key=lambda seam: seam.start_ms) - 2
        if begin < 0 and not (seams and seams[0].before is None):
            raise TooOldError(f"{self._held.timeframe}: what was before this bar is unknown")
        begin = max(begin, 0)
        since_ms = min(seams[begin].start_ms, start_ms)
        bars = list_since(since_ms)
        if not bars or bars[0].start_ms != since_ms:
            raise TooOldError(f"{self._held.timeframe}: the bars before this one are not kept any more")
        for bar in bars:
            _check_bar(bar, self._held.timeframe)
        before = seams[begin].before
        self._held.replace_all(bars, before)
        self._seams = [] if before is None else seams[: begin + 1]
        self._handles.clear()
        changes = _compute_blocks(self._held, self._indicators, self._block, self._held.find(start_ms))
        self._drop_before(self._held.count - 1)
        return changes

    def extend(self, bars: Iterable[Bar]) -> None:
        """Add bars of the past, each newer than the one before, without computing their values."""
        held = self._held
        begin = held.count
        for bar in bars:
            _check_bar(bar, self._held.timeframe)
            if self.last_ms is not None and bar.start_ms <= self.last_ms:
                raise ValueError(f"{bar.timeframe}: bars of the past are not in order")
            held.insert(held.count, bar)
        held.fill_sums(begin)
        self._handles.clear()
        if held.count:
            self._drop_before(held.count - 1)

    def checkpoint(self) -> bytes:
        """Return all that this series knows, 60 KB at most. `restore` continues from it, bit by bit."""
        return self._held.pack(self._block, self._seams)

    def restore(self, checkpoint: bytes) -> None:
        """Go on from a checkpoint. Raise CheckpointError, and change nothing, if it does not fit."""
        self._seams = self._held.unpack(checkpoint, self._block)
        self._handles.clear()

    def _find_anchor(self, position: int) -> int:
        """Return the position of the bar with which the window of this bar begins."""
        return max(0, position // self._block - 1) * self._block

    def _drop_before(self, newest: int) -> None:
        """Drop what no bar that can be corrected needs, if this is the position of the newest bar.

        These are whole blocks, so that counting from the oldest bar that is left makes the same blocks.
        """
        number = self._find_anchor(self._find_anchor(newest))
        if number:  # keep the seams of these blocks, and of the block after them
            held, borders = self._held, range(self._block, number + 1, self._block)
            dropped = [Seam(int(held.starts[border]), held.read(border - 1)) for border in borders]
            self._seams = [*self._list_seams(), *dropped][-SEAMS:]
            held.drop(number)

    def _list_seams(self) -> list[Seam]:
        """Return the known seams, including the seam of the oldest held block."""
        if not self._seams and self._held.count:
            return [Seam(int(self._held.starts[0]), None)]
        return self._seams

    def _advance(self) -> None:
        """Feed the newest bar to the streams before the next is added; close them at the end of a block."""
        held = self._held
        if self._find_anchor(held.count) != self._find_anchor(held.count - 1):
            self._handles.clear()
            self._drop_before(held.count)
        elif held.count:
            values = held.rows[:, held.count - 1].tolist()
            for indicator in self._indicators:
                if (handle := self._handles.get(indicator.name)) is None:
                    continue
                if indicator.needs_volume and math.isnan(values[VOLUME]):
                    del self._handles[indicator.name]
                else:
                    handle.update(*indicator.pick(values))

    def _read_newest(self, row: Sequence[float]) -> Values:
        """Return the values of the newest bar, of which `row` has the number in each row."""
        held, handles = self._held, self._handles
        newest = held.count - 1
        bars = newest + 1 - self._find_anchor(newest)
        has_volume = not math.isnan(row[VOLUME])
        found = dict.fromkeys(self._names)
        for indicator in self._indicators:
            if bars < indicator.warm_bars or (indicator.needs_volume and not has_volume):
                continue
            handle = handles.get(indicator.name)
            outputs = (
                self._read_indicator(indicator, row)
                if handle is None
                else handle.peek(*indicator.pick(row))  # most often
            )
            if outputs.__class__ is float:
                if math.isfinite(outputs):
                    found[indicator.outputs[0]] = outputs
            elif outputs is not None:
                for name, number in zip(indicator.outputs, outputs, strict=True):
                    found[name] = number if math.isfinite(number) else None
        return found

    def _read_indicator(self, indicator: Indicator, row: Sequence[float]) -> Any:
        """Return the outputs of an indicator without a stream at the newest bar, or None if it has none."""
        if indicator.name == "obv":
            return row[OBV]
        if indicator.name == "vwap":
            return row[TURNOVER] / row[TRADED] if row[TRADED] > 0 else None
        newest = self._held.count - 1
        handle = self._open(indicator, newest)
        if handle is not None:
            self._handles[indicator.name] = handle
            return handle.peek(*indicator.pick(row))
        # the newest bar is the one that makes it warm; it can still change, so this stream is not kept
        handle = self._open(indicator, newest + 1)
        return None if handle is None else handle.value

    def _open(self, indicator: Indicator, end: int) -> Any:
        """Return a stream fed with the window's bars before this position, or None if they are too few."""
        held = self._held
        begin = self._find_anchor(held.count - 1)
        if indicator.needs_volume:
            gaps = np.flatnonzero(np.isnan(held.rows[VOLUME, begin:end]))
            begin += int(gaps[-1]) + 1 if len(gaps) else 0
        if end - begin < indicator.warm_bars:
            return None
        try:
            columns = [held.rows[row, begin:end] for row in indicator.rows]
            return getattr(stream, indicator.function)(*columns, **indicator.options)
        except talib.InsufficientHistory:  # type: ignore[attr-defined] # documented, and forgotten in its types
            return None


def _check_bar(bar: Bar, timeframe: str) -> None:
    """Raise ValueError if this bar can't be one of a series of this timeframe."""
    if bar.timeframe != timeframe:
        raise ValueError(f"a bar of {bar.timeframe} for a series of {timeframe}")
    if not MIN_MS <= bar.start_ms <= MAX_MS:
        raise ValueError(f"{timeframe}: the bar's start isn't a time in epoch milliseconds")
    for number in (bar.high, bar.low, bar.close, bar.volume, bar.vwap):
        if number is not None and not abs(number) <= MAX_NUMBER:  # NaN is not, either
            raise ValueError(f"{timeframe}: the bar has a number that isn't finite, or is too large")


def _compute_blocks(
    held: BarColumns, indicators: Sequence[Indicator], block: int, position: int
) -> list[Change]:
    """Return the values of the bars from this position on, each block over itself and the one before."""
    changes: list[Change] = []
    while position < held.count:
        number = position // block
        begin = max(0, number - 1) * block
        end = min(held.count, (number + 1) * block)
        columns: dict[str, list[float]] = {}
        for indicator in indicators:
            found = _compute_columns(held, indicator, begin, end)
            for name, output in zip(indicator.outputs, found, strict=True):
                columns[name] = output[position - begin :].tolist()
        starts = held.starts[position:end].tolist()
        for start_ms, row in zip(starts, zip(*columns.values(), strict=True), strict=True):
            # a number that is not finite is not warm, or beyond what a float can hold
            pairs = zip(columns, row, strict=True)
            changes.append((start_ms, {name: n if math.isfinite(n) else None for name, n in pairs}))
        position = end
    return changes


def _compute_columns(held: BarColumns, indicator: Indicator, begin: int, end: int) -> list[Array]:
    """Return an indicator's outputs over these bars by TA-Lib; NaN where there is no value."""
    if indicator.name == "vwap":
        return [held.read_vwap(begin, end)]
    if indicator.name == "obv":
        return [held.rows[OBV, begin:end]]
    function = getattr(talib, indicator.function)
    columns = [held.rows[row, begin:end] for row in indicator.rows]
    if indicator.needs_volume:
        return [apply_to_runs(function, columns, **indicator.options)]
    found = function(*columns, **indicator.options)
    return list(found) if isinstance(found, tuple) else [found]
