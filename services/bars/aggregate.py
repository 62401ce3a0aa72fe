"""Merge bars into one longer bar, and fill gaps for who must have a bar for every minute. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from marketswarm.market.entries import MAX_NUMBER
from marketswarm.market.records import Bar
from services.bars.intervals import LENGTH_MS, Grid
from services.bars.settings import Timeframe


def merge_bars(parts: Sequence[Bar], timeframe: str, start_ms: int) -> Bar:
    """Return the bar of an interval made of the bars in it, which are in order of time.

    The volume, the trades and the vwap are None unless every part has them; a part in which nothing was
    traded needs no vwap. A sum beyond MAX_NUMBER, which no entry can hold, is None, too. Raise IndexError if
    there are no parts.
    """
    first, last = parts[0], parts[-1]
    volume: float | None = 0.0
    turnover: float | None = 0.0
    trades: int | None = 0
    high, low = first.high, first.low
    for part in parts:
        high = max(high, part.high)
        low = min(low, part.low)
        if part.volume is None:
            volume = turnover = None
        elif volume is not None:
            volume += part.volume
            if part.vwap is None:
                turnover = turnover if part.volume == 0 else None
            elif turnover is not None:
                turnover += part.vwap * part.volume
        trades = None if trades is None or part.trades is None else trades + part.trades
    if volume is not None and volume > MAX_NUMBER:
        volume = turnover = None
    if trades is not None and trades > MAX_NUMBER:
        trades = None
    vwap = turnover / volume if turnover is not None and volume else None
    if vwap is not None:
        vwap = min(max(vwap, low), high)  # the sums are rounded, and an average lies within
    return Bar(first.symbol, timeframe, start_ms, first.open, high, low, last.close, volume, vwap, trades)


@dataclass(frozen=True, slots=True)
class ShownBar:
    """Hold a bar of a view. A bar that `is_filled` was never traded: it repeats the close before it."""

    bar: Bar
    is_filled: bool


def fill_gaps(bars: Sequence[Bar], grid: Grid, timeframe: Timeframe, until_ms: int) -> Iterator[ShownBar]:
    """Yield the bars of one timeframe, and in each gap marked bars, up to `until_ms`.

    This is a view for charts and models that need equal steps. No filled bar is ever published or stored.
    `bars` are in order of time. A filled bar has the last close for all prices, and the volume 0.
    """
    for at, bar in enumerate(bars):
        yield ShownBar(bar, is_filled=False)
        end_ms = bars[at + 1].start_ms if at + 1 < len(bars) else until_ms
        yield from _fill_between(bar, end_ms, grid, timeframe)


def _fill_between(bar: Bar, end_ms: int, grid: Grid, timeframe: Timeframe) -> Iterator[ShownBar]:
    """Yield an empty bar, marked as filled, for each interval that begins after `bar` and before `end_ms`."""
    at_ms = _next_open(bar.start_ms, grid, timeframe)
    while at_ms < end_ms:
        close = bar.close
        empty = Bar(bar.symbol, timeframe, at_ms, close, close, close, close, volume=0.0, trades=0)
        yield ShownBar(empty, is_filled=True)
        at_ms = _next_open(at_ms, grid, timeframe)


def _next_open(at_ms: int, grid: Grid, timeframe: Timeframe) -> int:
    """Return the open of the interval that follows the one at `at_ms`; raise OutsideCalendarError beyond."""
    here = grid.find(at_ms, timeframe)
    after_ms = at_ms + LENGTH_MS[timeframe] if here is None else here.close_ms
    following = grid.find(after_ms, timeframe)
    return grid.session.next_day(after_ms - 1).open_ms if following is None else following.open_ms
