"""Write tables as Parquet files, one for each month or each day, by polars."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from marketswarm.postgres.transaction import transaction
from services.archive.partitions import next_month
from services.market.adjust import Adjuster
from services.market.records import TIMEFRAME_SEC
from services.market.sessions import Session, UnknownSessionError, find_default_session, get_session
from services.tables.adjusted_bars import SHARE_SQL, Adjust, adjust_rows, find_day_as_of, make_adjusters
from services.tables.row_times import ROW_TIMES
from services.tables.rows import find_polars_type
from services.tables.tables import TABLES, VALUE_NAMES

if TYPE_CHECKING:
    import polars as pl

SYMBOL_TABLES: Final = (
    *("bars", "quotes", "observations", "observation_vintages", "actions", "indicators", "features"),
)
"""The tables that can be exported."""
_ASSETS: Final = "SELECT symbol, asset FROM symbols WHERE $1::text[] IS NULL OR symbol = ANY($1)"
ROWS_AT_ONCE: Final = 5000
_ROWS_IN_GROUP: Final = 5000
"""The rows of one row group; while the parts of a file are joined, a few of them are in memory."""
_NAMES: Final = {"month": "%Y-%m", "day": "%Y-%m-%d"}
Period = Literal["month", "day"]
"""The time that the rows of one file are of, in UTC."""
_VINTAGES: Final = """(
    SELECT DISTINCT ON (symbol, start) * FROM observation_vintages WHERE known_at <= $4
    ORDER BY symbol, start, known_at DESC
) observations"""
_KNOWN_ROW: Final = "coalesce(known_at, start + interval '1 s' * {})"
_LENGTH: Final = "CASE timeframe {} END".format(
    " ".join(f"WHEN '{name}' THEN {sec}" for name, sec in TIMEFRAME_SEC.items())
)
_KNOWN: Final = {
    "bars": _KNOWN_ROW.format(_LENGTH),
    "indicators": _KNOWN_ROW.format(_LENGTH),
    "features": _KNOWN_ROW.format(TIMEFRAME_SEC["1d"]),
    "quotes": "at",
    "observations": "known_at",
    "observation_vintages": "known_at",
    "actions": "(ex_day + interval '1 ms') AT TIME ZONE 'UTC'",
}
"""By table, since when a row is known; one that does not say so since a whole interval after its start.

An action is known from its day on, and a midnight is the end of the day before it.
"""


class RowsAdjuster:
    """Put rows of bars on the basis of a day in the market of each symbol, by the actions of a database.

    A symbol without a day in `days` has that of UTC, which is the one of the empty name.
    """

    def __init__(self, adjusters: Mapping[str, Adjuster], adjust: Adjust, days: Mapping[str, date]) -> None:
        self._adjusters = adjusters
        self._bases = {symbol: adjust.make_basis(day) for symbol, day in days.items()}

    def adjust(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the rows of asyncpg in their order, each by the names of its columns."""
        columns = tuple(rows[0].keys())
        by_symbol: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            by_symbol.setdefault(row["symbol"], []).append(place)
        found: dict[int, dict[str, Any]] = {}
        for symbol, places in by_symbol.items():
            cells = [tuple(rows[place].values()) for place in places]
            wanted = self._bases.get(symbol, self._bases[""])
            changed = adjust_rows(cells, columns, self._adjusters.get(symbol), wanted)
            for place, row in zip(places, changed, strict=True):
                found[place] = dict(zip(columns, row, strict=True))
        return [found[place] for place in range(len(rows))]


async def read_adjuster(
    connection: Any, adjust: Adjust, at_ms: int, symbols: Sequence[str] = (), *, as_of: datetime | None = None
) -> RowsAdjuster:
    """Return what adjusts the bars of these symbols, or of all, by what was known `as_of`.

    They are adjusted up to the date of `at_ms` (epoch milliseconds) where the market of their asset class is;
    which exchange the truth names for a symbol, a database does not know.
    """
    wanted = list(symbols) or None
    rows = await connection.fetch(SHARE_SQL, wanted, None, as_of)
    days = {"": find_day_as_of(at_ms, None)}
    for symbol, asset in await connection.fetch(_ASSETS, wanted):
        days[symbol] = find_day_as_of(at_ms, _find_session(find_default_session(asset, symbol)))
    return RowsAdjuster(make_adjusters(tuple(row) for row in rows), adjust, days)


def _find_session(code: str | None) -> Session | None:
    """Return the session of a code; None without its calendar, which comes with the extra `market`."""
    try:
        return None if code is None else get_session(code)
    except (ImportError, UnknownSessionError):
        return None


class ExportError(Exception):
    """A file can't be written; the message has its path."""


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """Name a file that was written."""

    path: Path
    rows: int


async def iterate_rows(
    connection: Any,
    table: str,
    since: datetime,
    until: datetime,
    symbols: Sequence[str] = (),
    *,
    as_of: datetime | None = None,
) -> AsyncIterator[list[Any]]:
    """Yield the rows of a table with times from `since` on and before `until`, ROWS_AT_ONCE at a time.

    They are in the order of time and symbol. Without `symbols`, those of all symbols are read. With `as_of`
    they are those that were known then; of observations the values of then.
    """
    column, is_past = ROW_TIMES[table], table == "observations" and as_of is not None
    query = (
        f"SELECT * FROM {_VINTAGES if is_past else table} "  # noqa: S608 - our own names
        f"WHERE {column} >= $1::timestamptz AND {column} < $2::timestamptz "
        f"AND ($3::text[] IS NULL OR symbol = ANY($3)) "
        f"AND ($4::timestamptz IS NULL OR {_KNOWN[table]} <= $4) "
        f'ORDER BY {column}, symbol COLLATE "C"'
    )
    async with transaction(connection, readonly=True):
        cursor = await connection.cursor(query, since, until, list(symbols) or None, as_of)
        while rows := await cursor.fetch(ROWS_AT_ONCE):
            yield rows


async def read_range(connection: Any, table: str) -> tuple[datetime, datetime] | None:
    """Return the first and the last time; None for an empty table."""
    column = ROW_TIMES[table]
    bounds = f"SELECT min({column})::timestamptz, max({column})::timestamptz FROM {table}"  # noqa: S608 - our own names
    first, last = await connection.fetchrow(bounds)
    return None if first is None else (first, last)


async def export_table(
    connection: Any,
    table: str,
    folder: Path,
    span: tuple[datetime, datetime],
    symbols: Sequence[str] = (),
    *,
    by: Period = "month",
    as_of: datetime | None = None,
    adjusted: RowsAdjuster | None = None,
) -> AsyncIterator[ExportedFile]:
    """Write the rows of a table whose times are in `span`, without its end; yield each file when it is whole.

    With `as_of`, the rows as they were known then. Rows of bars are put on another basis by `adjusted`. A
    month's file is `<table>-2026-11.parquet`, a day's `<table>-2026-11-02.parquet`. A file of that name is
    replaced in one step. Raises ExportError if a file can't be written.
    """
    at, until = span
    while at < until:
        ends = min(next_month(at) if by == "month" else _next_day(at), until)
        path = folder / f"{table}-{at:{_NAMES[by]}}.parquet"
        pages = iterate_rows(connection, table, at, ends, symbols, as_of=as_of)
        rows = await _export_file(pages, table, path, adjusted)
        if rows:
            yield ExportedFile(path, rows)
        at = ends


def _next_day(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


async def _export_file(
    pages: AsyncIterator[list[Any]], table: str, path: Path, adjusted: RowsAdjuster | None
) -> int:
    """Write the file of one month or day, if the table has rows of it; return how many.

    Each page of rows is a file of its own first, so that any number of rows needs the memory of a page.
    """
    with _file_errors(path):
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        _remove_parts(path)
    parts: list[Path] = []
    count = 0
    try:
        async for found in pages:
            rows = [dict(row) for row in found] if adjusted is None else adjusted.adjust(found)
            parts.append(path.with_suffix(f".{len(parts):05}.part"))
            with _file_errors(path):
                make_frame(table, rows).write_parquet(parts[-1], compression="zstd")
            count += len(rows)
        if parts:
            with _file_errors(path):
                _join(parts, path)
    finally:
        with _file_errors(path):
            _remove_parts(path)
    return count


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """Raise ExportError for an error of a file, which would otherwise pass for one of PostgreSQL."""
    try:
        yield
    except OSError as error:
        raise ExportError(f"{path} can't be written: {error.strerror or error}") from error


def _join(parts: list[Path], path: Path) -> None:
    import polars as pl  # noqa: PLC0415 - as in make_frame

    draft = path.with_suffix(".part")
    pl.scan_parquet(parts, glob=False).sink_parquet(
        draft, compression="zstd", row_group_size=_ROWS_IN_GROUP, maintain_order=True
    )
    draft.replace(path)


def _remove_parts(path: Path) -> None:
    """Delete the parts of a file: those of this export, or what a killed one left."""
    for part in path.parent.iterdir():
        if part.suffix == ".part" and part.name.startswith(f"{path.stem}."):
            part.unlink(missing_ok=True)


def make_frame(table: str, rows: Sequence[Mapping[str, Any]]) -> "pl.DataFrame":
    """Return rows by the names of their columns, at least one, as a table of polars.

    Indicators and features have a column for each value, whichever the rows have, so that parts can be
    joined. `other_values` has the values that this release does not know, as JSON; it is null without any.
    """
    import polars as pl  # noqa: PLC0415 - takes a second to import, and only this command needs it

    types = next(each.types for each in TABLES if each.name == table)
    names = rows[0].keys()
    schema = {name: find_polars_type(pl, types[name], "us") for name in names}
    if "rev" in schema:
        schema["rev"] = pl.Int32()
    if (values := VALUE_NAMES.get(table)) is None:
        return pl.DataFrame([tuple(row.values()) for row in rows], schema=schema, orient="row")
    del schema["values"]
    own = tuple(schema)
    schema |= dict.fromkeys(values, pl.Float64()) | {"other_values": pl.String()}
    spread = [(*(row[name] for name in own), *_split_values(row["values"], values)) for row in rows]
    return pl.DataFrame(spread, schema=schema, orient="row")


def _split_values(text: str, names: Sequence[str]) -> Iterator[float | str | None]:
    """Yield each name's value in a JSON object, None if it has none; then the others as JSON, or None."""
    values = orjson.loads(text)
    for name in names:
        number = values.pop(name, None)
        yield None if number is None else float(number)
    yield orjson.dumps(values).decode() if values else None
