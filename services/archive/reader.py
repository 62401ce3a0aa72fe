"""Read the digests of tables, and the version of TimescaleDB."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from services.tables.row_times import TABLE_NAMES


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
