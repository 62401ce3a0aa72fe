"""Say in SQL which rows an answer about many symbols has: a page of them, or all for an Arrow stream. Pure.

They come by symbol, in the order in which the symbols were given, and then by time, the oldest first. Each
symbol is read by the index of its key, so that nothing is sorted and the first row comes at once.
"""

from collections.abc import Sequence
from typing import Any, Final

from services.board.market.query import QueryError, TableFormat, TableQuery, parse_time_cursor
from services.market.records import TIMEFRAME_SEC
from services.tables.rows import ColumnType
from services.tables.tables import OBSERVATION_TABLE, VALUE_NAMES, TableSchema

OTHER_VALUES: Final = "other_values"
"""The column of an Arrow stream with the values that have no column of their own, as JSON, or null."""


def list_stream_columns(table: TableSchema) -> dict[str, ColumnType]:
    """Return the columns of an Arrow stream; each indicator or feature has one of its own."""
    columns = {"symbol": ColumnType.TEXT}
    columns |= {name: kind for name, kind in table.answered.items() if kind is not ColumnType.JSON}
    if names := VALUE_NAMES.get(table.name):
        columns |= dict.fromkeys(names, ColumnType.NUMBER) | {OTHER_VALUES: ColumnType.JSON}
    return columns


def select_page(table: TableSchema, query: TableQuery, timeframe: str | None) -> str:
    """Return the SELECT of a page: the symbol, then the answered cells.

    Its parameters are the symbols, the first time of each, the end of the range, the most rows, of a table
    with timeframes the timeframe, and of a query as of an instant that; times are epoch milliseconds, and
    null for no bound.
    """
    return _select(table, table.list_selected(table.answered), "", query, timeframe)


def select_stream(table: TableSchema, query: TableQuery, timeframe: str | None) -> str:
    """Return the SELECT of the cells of `list_stream_columns`, as CSV has them; parameters as of a page."""
    cells = [_list_copied(table, name, kind) for name, kind in table.answered.items()]
    values = VALUE_NAMES.get(table.name)
    if not values:
        return _select(table, ", ".join(filter(None, cells)), "", query, timeframe)
    record = ", ".join(f'"{name}" double precision' for name in values)
    names = ", ".join(f"'{name}'" for name in values)
    cells += (f'spread."{name}"' for name in values)
    cells.append(f"""nullif("values" - array[{names}], '{{}}'::jsonb)::text""")
    spread = f'cross join lateral jsonb_to_record("values") as spread({record})'
    return _select(table, ", ".join(filter(None, cells)), spread, query, timeframe)


def format_known(timeframe: str | None, instant: str) -> str:
    """Return the condition in SQL that a row with a start was known by an instant.

    A row from before rows said when they were known counts as known a whole interval after its start.
    """
    length = f"interval '{TIMEFRAME_SEC[timeframe or '1d']} s'"
    return f"start <= {instant} and coalesce(known_at, start + {length}) <= {instant}"


def format_vintages(symbol: str, instant: str, more: str = "") -> str:
    """Return the values of a series as they were known by an instant, in SQL, in place of the table.

    `more` is a further condition.
    """
    return f"""(
  select distinct on (start) * from observation_vintages
  where symbol = {symbol} and known_at <= {instant} {more} order by start, known_at desc
) as observations"""  # noqa: S608 - our own names


def list_values(symbols: Sequence[str], query: TableQuery, timeframe: str | None) -> list[Any]:
    """Return the parameters of such a SELECT. Raises QueryError for a cursor that leads nowhere.

    A cursor is the symbol and the time of the last row of a page. Arrow has no pages, and no most rows.
    """
    first_times = [query.from_ms] * len(symbols)
    if query.cursor is not None:
        symbol, _, time = query.cursor.partition(",")
        at_ms = parse_time_cursor(time)
        if symbol not in symbols or at_ms is None:
            raise QueryError("cursor: is not one that a page gave")
        place = symbols.index(symbol)
        symbols, first_times = symbols[place:], [at_ms + 1, *first_times[place + 1 :]]
    most = None if query.format is TableFormat.ARROW else query.limit
    values = [list(symbols), first_times, query.to_ms, most]
    return [*values, *(each for each in (timeframe, query.as_of_ms) if each is not None)]


def find_many_cursor(rows: Sequence[Sequence[Any]], query: TableQuery) -> str | None:
    """Return the cursor to the rows after a page; None if the page is not full."""
    return f"{rows[-1][0]},{rows[-1][1]}" if rows and len(rows) == query.limit else None


def _list_copied(table: TableSchema, name: str, kind: ColumnType) -> str:
    """Return a cell as the reader of CSV takes it; empty for a column that is spread."""
    if kind is ColumnType.JSON:
        return ""
    # the text of a boolean is `true` and not `t`
    return f'"{name}"::text' if kind is ColumnType.FLAG else table.list_selected([name])


def _select(table: TableSchema, cells: str, spread: str, query: TableQuery, timeframe: str | None) -> str:
    # the rows of a function come in its order, and an inner SELECT for each of them can only be a nested loop
    frame, known, source = "", "", table.name
    if timeframe is not None:
        frame = "and timeframe = $5::text"
    bounds = """start >= coalesce(to_timestamp(wanted.first_ms / 1000.0), '-infinity')
  and start < coalesce(to_timestamp($3::bigint / 1000.0), 'infinity')"""
    if query.as_of_ms is not None:
        instant = f"to_timestamp(${5 if timeframe is None else 6}::bigint / 1000.0)"
        if table is OBSERVATION_TABLE:
            source = format_vintages("wanted.symbol", instant, f"and {bounds}")
        else:
            known = f"and {format_known(timeframe, instant)}"
    return f"""
select wanted.symbol, found.* from unnest($1::text[], $2::bigint[]) as wanted(symbol, first_ms)
cross join lateral (
  select {cells} from {source} {spread}
  where symbol = wanted.symbol {frame} and {bounds} {known}
  order by start
) as found
limit $4::bigint"""  # noqa: S608 - our own names
