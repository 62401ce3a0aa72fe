"""Show the bars of a series without gaps, for charts and models that need equal steps. Pure.

This is a view: no filled bar is ever published or stored, and each is marked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.market.records import DAY_MS, TIMEFRAME_SEC, Bar
from services.market.sessions import Session


@dataclass(frozen=True, slots=True)
class ShownBar:
    """Hold a bar of a view. A bar that `is_filled` was never traded: it repeats the close before it."""

    bar: Bar
    is_filled: bool


def fill_gaps(bars: Sequence[Bar], session: Session, timeframe: str, until_ms: int) -> Iterator[ShownBar]:
    """Yield the bars of one timeframe, and where one is missing while the market was open a filled one.

    A filled bar has the last close for all prices, and the volume 0. Intervals count from the open of the
    trading day, as those of the service bars do.

    Args:
        bars: the bars in order of time, each at the beginning of an interval.
        session: when they are traded.
        timeframe: their timeframe, of a day at most.
        until_ms: the time at which the view ends, in epoch milliseconds.

    Raises:
        OutsideCalendarError: a bar or the end is beyond the calendar of the session.
    """
    for number, bar in enumerate(bars):
        yield ShownBar(bar, is_filled=False)
        end_ms = bars[number + 1].start_ms if number + 1 < len(bars) else until_ms
        start_ms = _next_open(bar.start_ms, session, timeframe)
        while start_ms < end_ms:
            close = bar.close
            empty = Bar(bar.symbol, timeframe, start_ms, close, close, close, close, volume=0.0, trades=0)
            yield ShownBar(empty, is_filled=True)
            start_ms = _next_open(start_ms, session, timeframe)


def _next_open(start_ms: int, session: Session, timeframe: str) -> int:
    """Return the beginning of the interval after the one that begins at `start_ms`."""
    length_ms = 1000 * TIMEFRAME_SEC[timeframe]
    day = session.find_day(start_ms)
    if day is None or length_ms >= DAY_MS or start_ms + length_ms >= day.close_ms:
        return session.next_day(start_ms).open_ms
    return start_ms + length_ms
