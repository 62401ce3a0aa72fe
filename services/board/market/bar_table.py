"""Make the table of a page of bars: its gaps, the cursor to the page before, and fill on demand. Pure."""

import itertools
from collections.abc import Sequence
from typing import Final

from services.board.market.charts import FoundChart
from services.board.market.gaps import find_gaps, list_missing
from services.board.market.live import CLOSE, REPLAY, Chart
from services.board.market.query import QueryError, TableQuery, parse_time_cursor
from services.board.market.tables import AnswerTable, Column, make_columns
from services.market.rows import BAR_CELLS, Cells, ColumnType
from services.market.sessions import Session
from services.market.tables import BAR_TABLE

BAR_COLUMNS: Final = make_columns(BAR_TABLE, BAR_CELLS)
FILLED_COLUMNS: Final = (*BAR_COLUMNS, Column("filled", ColumnType.FLAG))
MAX_FILLED: Final = 5000
"""The most rows of an answer that stand for missing bars."""


def make_bars(
    chart: Chart, found: FoundChart, query: TableQuery, session: Session | None, *, fill: bool = False
) -> AnswerTable:
    """Return bars as a table, with the cursor to the ones before and the gaps; these need a session.

    With `fill`, the gaps are filled with rows that are marked. Raises QueryError if that can't be done.
    """
    symbol, timeframe = chart
    rows = found.rows
    starts = [row[0] for row in rows]
    edges = _find_edges(found, query)
    about = {
        "symbol": symbol,
        "timeframe": timeframe,
        "asset": found.asset or None,
        "session": None if session is None else session.code,
        "replay": any(row[REPLAY] for row in rows),
        "cursor": find_cursor(starts, query),
        "gaps": None if session is None else list_gaps(edges, timeframe, session),
    }
    if not fill:
        return AnswerTable("bars", BAR_COLUMNS, rows, about)
    return AnswerTable("bars", FILLED_COLUMNS, fill_gaps(rows, edges, timeframe, session), about)


def _find_edges(found: FoundChart, query: TableQuery) -> list[int]:
    """Return the starts of the bars of a page, and of the newer page that its cursor came from.

    Of those after the newest bar of the database there are none while nobody knows what is missing there.
    """
    following = parse_time_cursor(query.cursor)
    edges = [*(row[0] for row in found.rows), *(() if following is None else (following,))]
    return [start for start in edges if found.whole_until is None or start <= found.whole_until]


def list_gaps(edges: Sequence[int], timeframe: str, session: Session) -> list[dict[str, int]]:
    """Return the gaps between bars that begin at `edges`."""
    gaps = find_gaps(edges, timeframe, session)
    return [{"from": one.from_ms, "to": one.to_ms, "missing": one.missing} for one in gaps]


def fill_gaps(
    rows: Sequence[Cells], edges: Sequence[int], timeframe: str, session: Session | None
) -> list[Cells]:
    """Return rows of bars with a row for each interval without one, each with a cell that says which it is.

    Such a row has the close before it for all prices, and neither a volume nor a source. It is a view:
    nothing of it is stored. Raises QueryError if nobody knows the intervals, or more than MAX_FILLED are
    missing.
    """
    if session is None:
        raise QueryError("fill: nobody knows when this symbol is traded")
    missing = list(itertools.islice(list_missing(edges, timeframe, session), MAX_FILLED + 1))
    if len(missing) > MAX_FILLED:
        raise QueryError(f"fill: more than {MAX_FILLED:,} bars are missing: ask for fewer rows")
    days = {one.start_ms: one.date.isoformat() if timeframe == "1d" else None for one in missing}
    known = {row[0]: row for row in rows}
    filled: list[Cells] = []
    for start in sorted(known.keys() | days.keys()):
        if start in known:
            filled.append((*known[start], False))
        else:
            before = filled[-1]
            prices = (before[CLOSE],) * 4
            filled.append((start, *prices, *(None,) * 9, before[REPLAY], days[start], True))
    return filled


def find_cursor(starts: Sequence[int], query: TableQuery) -> str | None:
    """Return the cursor to the rows before a page; None if the page is not full, or nothing is before it."""
    is_full = len(starts) == query.limit and bool(starts)
    is_at_begin = is_full and query.from_ms is not None and starts[0] <= query.from_ms
    return str(starts[0]) if is_full and not is_at_begin else None
