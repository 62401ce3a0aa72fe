"""Read what the commands and backups need: digests of tables, and their rows in order."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from marketswarm.postgres.transaction import transaction
from services.tables.tables import TABLES

TABLE_NAMES: Final = (
    *("bars", "quotes", "observations", "indicators", "features", "symbols", "sources", "source_health"),
    *("downloads", "correlations", "correlated_days", "alert_log"),
    *("alert_counts", "incidents", "incident_events", "incident_evidence"),
)
"""Every table of the schema."""
ROW_TIMES: Final[Mapping[str, str]] = {
    **{table.name: table.time_columns[0][0] for table in TABLES if table.time_columns},
    "correlations": "day",
    "source_health": "at",
    "alert_counts": "day",
    "incidents": "opened_at",
}
"""By table, the column that says how new a row is."""
SYMBOL_TABLES: Final = ("bars", "quotes", "observations", "indicators", "features")
"""The tables that can be exported."""
ROWS_AT_ONCE: Final = 5000


@dataclass(frozen=True, slots=True)
class TableDigest:
    """Hold how many rows a table has, and a sum over all of them that does not depend on their order."""

    rows: int
    digest: str


async def read_digests(connection: Any, tables: Iterable[str] = TABLE_NAMES) -> dict[str, TableDigest]:
    """Return the digest of each of `tables` that the database has: an older schema lacks some.

    The text of the rows is hashed, in UTC. The names must be identifiers.
    """
    present = "SELECT name FROM unnest($1::text[]) name WHERE to_regclass(name) IS NOT NULL"
    found = {row["name"] for row in await connection.fetch(present, list(tables))}
    sql = "SELECT count(*), coalesce(sum(hashtextextended(row::text, 0)::numeric), 0)::text FROM {} row"
    known = [table for table in tables if table in found]
    return {table: TableDigest(*await connection.fetchrow(sql.format(table))) for table in known}


async def read_timescaledb_version(connection: Any) -> str | None:
    version = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    return None if version is None else str(version)


async def iterate_rows(
    connection: Any, table: str, since: datetime, until: datetime, symbols: Sequence[str] = ()
) -> AsyncIterator[list[Any]]:
    """Yield the rows of a table with times from `since` on and before `until`, ROWS_AT_ONCE at a time.

    They are in the order of time and symbol. Without `symbols`, those of all symbols are read.
    """
    column = ROW_TIMES[table]
    query = (
        f"SELECT * FROM {table} WHERE {column} >= $1 AND {column} < $2 "  # noqa: S608 - our own names
        f'AND ($3::text[] IS NULL OR symbol = ANY($3)) ORDER BY {column}, symbol COLLATE "C"'
    )
    async with transaction(connection, readonly=True):
        cursor = await connection.cursor(query, since, until, list(symbols) or None)
        while rows := await cursor.fetch(ROWS_AT_ONCE):
            yield rows


async def read_range(connection: Any, table: str) -> tuple[datetime, datetime] | None:
    """Return the first and the last time; None for an empty table."""
    column = ROW_TIMES[table]
    first, last = await connection.fetchrow(f"SELECT min({column}), max({column}) FROM {table}")  # noqa: S608 - our own names
    return None if first is None else (first, last)
