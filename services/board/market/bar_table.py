"""Make the table of a page of bars: its gaps, the cursor to the page before, and fill on demand. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import compress, count, islice, repeat
from operator import itemgetter, lt, sub
from typing import Any, Final

from services.board.market.charts import FoundChart
from services.board.market.live import ADJUSTMENT, CLOSE, REPLAY, Chart
from services.board.market.query import QueryError, TableQuery, parse_time_cursor
from services.board.market.tables import AnswerTable
from services.market.records import DAY_MS, PERIODS, TIMEFRAME_SEC
from services.market.sessions import OutsideCalendarError, Session, TradingDay
from services.tables.rows import Cells, ColumnType
from services.tables.tables import BAR_TABLE

MAX_GAPS: Final = 1000
FILLED_COLUMNS: Final = {**BAR_TABLE.answered, "filled": ColumnType.FLAG}
MAX_FILLED: Final = 5000  # the most rows of an answer that stand for missing bars


@dataclass(frozen=True, slots=True)
class Gap:
    """Hold the interval `[from_ms, to_ms)`, in which the market was open and `missing` bars are missing."""

    from_ms: int
    to_ms: int
    missing: int


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


def list_missing(starts: Sequence[int], timeframe: str, session: Session) -> Iterator[tuple[int, date]]:
    """Yield the start (epoch milliseconds) of each missing bar between `starts`, and its trading day.

    Those between the newest two bars come first.
    """
    step = 1000 * TIMEFRAME_SEC[timeframe]
    for before, after in _list_steps(starts, timeframe):
        try:
            for gap, day in _find_between(before, after, timeframe, session):
                yield from ((gap.from_ms + n * step, day.date) for n in range(gap.missing))
        except OutsideCalendarError:
            continue


def _list_steps(starts: Sequence[int], timeframe: str) -> Iterator[tuple[int, int]]:
    """Return the starts of each two bars between which there may be others, the newest two first."""
    step = 1000 * TIMEFRAME_SEC[timeframe]
    # a chart that is watched is looked at after each change, and most distances are one step
    are_wider = map(lt, repeat(step), map(sub, starts[1:], starts))
    wider = list(compress(count(), are_wider))
    return ((starts[n], starts[n + 1]) for n in reversed(wider))


def _find_between(
    before: int, after: int, timeframe: str, session: Session
) -> Iterator[tuple[Gap, TradingDay]]:
    """Yield a gap for each trading day in which bars between two are missing. Raises OutsideCalendarError."""
    step = 1000 * TIMEFRAME_SEC[timeframe]
    if step < DAY_MS:
        yield from _find_missing_intervals(before, after, step, session)
        return
    last = _find_day(after, session)
    for day in session.iter_days(_find_day(before, session).open_ms + 1, last.open_ms):
        yield Gap(day.open_ms, day.close_ms, 1), day


def _find_missing_intervals(
    before: int, after: int, step: int, session: Session
) -> Iterator[tuple[Gap, TradingDay]]:
    for day in session.iter_days(_find_day(before, session).open_ms, after):
        first = day.open_ms + _ceil_div(max(0, before + step - day.open_ms), step) * step
        # the last interval of a day may be shorter than the others
        is_inside = after < day.close_ms
        count = (after - first) // step if is_inside else _ceil_div(day.close_ms - first, step)
        for start, missing in _skip_break(first, count, step, day):
            if missing > 0:
                yield Gap(start, min(start + missing * step, day.close_ms), missing), day


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


def _find_day(start_ms: int, session: Session) -> TradingDay:
    """Return the trading day of a bar; a source may name a day by the midnight before its open."""
    return session.find_day(start_ms) or session.next_day(start_ms)


def _join(gaps: Iterable[Gap]) -> list[Gap]:
    """Return gaps, joined where the market did not close between them."""
    joined: list[Gap] = []
    for gap in gaps:
        if joined and joined[-1].to_ms == gap.from_ms:
            joined[-1] = Gap(joined[-1].from_ms, gap.to_ms, joined[-1].missing + gap.missing)
        else:
            joined.append(gap)
    return joined


def _ceil_div(number: int, divisor: int) -> int:
    return -(-number // divisor)


def make_bars(
    chart: Chart, found: FoundChart, query: TableQuery, session: Session | None, *, fill: bool = False
) -> AnswerTable:
    """Return bars as a table, with the cursor to the ones before and the gaps; these need a session.

    Gaps are those of days and of what is shorter: they are None for weeks and months. With `fill`, the
    gaps are filled with rows that are marked. Raises QueryError if that can't be done.
    """
    symbol, timeframe = chart
    rows = found.rows
    starts = list(map(itemgetter(0), rows))
    edges = _find_edges(starts, found.whole_until, query)
    has_gaps = session is not None and timeframe not in PERIODS
    gaps = () if session is None or not has_gaps else find_gaps(edges, timeframe, session)
    listed = [{"from": one.from_ms, "to": one.to_ms, "missing": one.missing} for one in gaps]
    about = {
        "symbol": symbol,
        "timeframe": timeframe,
        "asset": found.asset or None,
        "session": None if session is None else session.code,
        "replay": any(map(itemgetter(REPLAY), rows)),
        "cursor": find_cursor(starts, query),
        "gaps": listed if has_gaps else None,
    }
    if not fill:
        return AnswerTable("bars", BAR_TABLE.answered, rows, about)
    if timeframe in PERIODS:
        raise QueryError("fill: not for weeks and months; ask for days")
    return AnswerTable("bars", FILLED_COLUMNS, fill_gaps(rows, edges, timeframe, session), about)


def _find_edges(starts: Sequence[int], whole_until: int | None, query: TableQuery) -> Sequence[int]:
    """Return the `starts` of the bars of a page, and that of the newer page that its cursor came from.

    Those after `whole_until`, the newest bar of the database, are left out while it is unknown what is
    missing there.
    """
    following = parse_time_cursor(query.cursor)
    edges = starts if following is None else [*starts, following]
    return edges if whole_until is None else [start for start in edges if start <= whole_until]


def fill_gaps(
    rows: Sequence[Cells], edges: Sequence[int], timeframe: str, session: Session | None
) -> list[Cells]:
    """Return rows of bars with a row for each interval without one; the last cell says which it is.

    Such a row has the close before it for all prices, and neither a volume nor a source. It is not stored
    anywhere. Raises QueryError if the intervals are not known, or more than MAX_FILLED are missing.
    """
    if session is None:
        raise QueryError("fill: the trading hours of this symbol are not known")
    missing = list(islice(list_missing(edges, timeframe, session), MAX_FILLED + 1))
    if len(missing) > MAX_FILLED:
        raise QueryError(f"fill: more than {MAX_FILLED:,} bars are missing: ask for fewer rows")
    days = {start: day.isoformat() if timeframe == "1d" else None for start, day in missing}
    known = {row[0]: row for row in rows}
    filled: list[Cells] = []
    for start in sorted(known.keys() | days.keys()):
        if start in known:
            filled.append((*known[start], False))
        else:
            before = filled[-1]
            row: dict[str, Any] = dict.fromkeys(FILLED_COLUMNS)
            row |= dict.fromkeys(("open", "high", "low", "close"), before[CLOSE])
            row |= {"start": start, "replay": before[REPLAY], "day": days[start], "filled": True}
            adjustment, adjusted_to = before[ADJUSTMENT : ADJUSTMENT + 2]
            row |= {"adjustment": adjustment, "adjusted_to": adjusted_to}
            filled.append(tuple(row.values()))
    return filled


def find_cursor(starts: Sequence[int], query: TableQuery) -> str | None:
    """Return the cursor to the rows before a page; None if the page is not full, or nothing is before it."""
    is_full = len(starts) == query.limit and bool(starts)
    is_at_begin = is_full and query.from_ms is not None and starts[0] <= query.from_ms
    return str(starts[0]) if is_full and not is_at_begin else None
