"""Find the bars that a chart should have and has not, by the calendar of its market. Pure.

While a market is open, each interval of a chart should have a bar; nights, weekends, holidays and the rest of
a day after an early close are no gaps. Intervals are counted from the open of the trading day, as the service
bars counts them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Final

from services.market.records import DAY_MS, TIMEFRAME_SEC
from services.market.sessions import OutsideCalendarError, Session, TradingDay

MAX_GAPS: Final = 1000


@dataclass(frozen=True, slots=True)
class Gap:
    """Hold the interval `[from_ms, to_ms)`, in which the market was open and `missing` bars are missing."""

    from_ms: int
    to_ms: int
    missing: int


@dataclass(frozen=True, slots=True)
class MissingBar:
    """Hold the start of an interval without a bar, in epoch milliseconds, and the date of its trading day."""

    start_ms: int
    date: date


def find_gaps(starts: Sequence[int], timeframe: str, session: Session) -> list[Gap]:
    """Return the gaps between bars that begin at `starts` (ascending epoch milliseconds), oldest first.

    At most MAX_GAPS, the newest ones. What the calendar does not know has no gaps.
    """
    found: list[Gap] = []
    for before, after in _list_steps(starts, timeframe):
        try:
            found += reversed(_join(gap for gap, _ in _find_between(before, after, timeframe, session)))
        except OutsideCalendarError:
            continue
        if len(found) >= MAX_GAPS:
            break
    return found[:MAX_GAPS][::-1]


def list_missing(starts: Sequence[int], timeframe: str, session: Session) -> Iterator[MissingBar]:
    """Yield each missing bar between bars that begin at `starts`, those between the newest two first."""
    step = 1000 * TIMEFRAME_SEC[timeframe]
    for before, after in _list_steps(starts, timeframe):
        try:
            for gap, day in _find_between(before, after, timeframe, session):
                yield from (MissingBar(gap.from_ms + n * step, day.date) for n in range(gap.missing))
        except OutsideCalendarError:
            continue


def _list_steps(starts: Sequence[int], timeframe: str) -> Iterator[tuple[int, int]]:
    """Yield the starts of each two bars between which there may be others, the newest two first."""
    for before, after in reversed(list(pairwise(starts))):
        if after - before > 1000 * TIMEFRAME_SEC[timeframe]:
            yield before, after


def _find_between(
    before: int, after: int, timeframe: str, session: Session
) -> Iterator[tuple[Gap, TradingDay]]:
    """Yield a gap for each trading day in which bars between two are missing. Raises OutsideCalendarError."""
    step = 1000 * TIMEFRAME_SEC[timeframe]
    return (_find_missing_days if step >= DAY_MS else _find_missing_intervals)(before, after, step, session)


def _find_missing_intervals(
    before: int, after: int, step: int, session: Session
) -> Iterator[tuple[Gap, TradingDay]]:
    """Yield a gap for each trading day in which intervals of `step` lie between two bars."""
    day = _find_day(before, session)
    while day.open_ms < after:
        first = day.open_ms + _ceil_div(max(0, before + step - day.open_ms), step) * step
        # the last interval of a day may be shorter than the others
        is_inside = after < day.close_ms
        count = (after - first) // step if is_inside else _ceil_div(day.close_ms - first, step)
        for start, missing in _skip_break(first, count, step, day):
            if missing > 0:
                yield Gap(start, min(start + missing * step, day.close_ms), missing), day
        day = session.next_day(day.open_ms)


def _skip_break(first: int, count: int, step: int, day: TradingDay) -> Iterator[tuple[int, int]]:
    """Yield the start and the number of intervals from `first` on, without those within the lunch break."""
    if day.break_ms is None:
        yield first, count
        return
    pauses, resumes = day.break_ms
    before = min(count, max(0, _ceil_div(pauses - first, step)))
    after = max(before, (resumes - first) // step)
    yield first, before
    yield first + after * step, count - after


def _find_missing_days(
    before: int, after: int, _step: int, session: Session
) -> Iterator[tuple[Gap, TradingDay]]:
    """Yield a gap for each trading day between those of two daily bars."""
    last = _find_day(after, session)
    day = session.next_day(_find_day(before, session).open_ms)
    while day.open_ms < last.open_ms:
        yield Gap(day.open_ms, day.close_ms, 1), day
        day = session.next_day(day.open_ms)


def _find_day(start_ms: int, session: Session) -> TradingDay:
    """Return the trading day of a bar: a source may name a day by the midnight before its open."""
    return session.find_day(start_ms) or session.next_day(start_ms)


def _join(gaps: Iterable[Gap]) -> list[Gap]:
    """Return gaps, those as one between which the market did not close."""
    joined: list[Gap] = []
    for gap in gaps:
        if joined and joined[-1].to_ms == gap.from_ms:
            joined[-1] = Gap(joined[-1].from_ms, gap.to_ms, joined[-1].missing + gap.missing)
        else:
            joined.append(gap)
    return joined


def _ceil_div(number: int, divisor: int) -> int:
    """Return a quotient, rounded up."""
    return -(-number // divisor)
