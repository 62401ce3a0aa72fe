"""A minute of SPY as a row of the archive, the time at which it began, and what a query finds."""

from datetime import UTC, datetime
from typing import Any

from services.archive.database import Database
from services.archive.writer import TypedEntry
from services.tables.rows import BarRow
from services.tables.tables import BAR_TABLE
from support.postgres import plain

START = datetime(2026, 10, 26, 12, tzinfo=UTC)
_MS = round(START.timestamp() * 1000)
_BAR = BarRow("SPY", "1m", _MS, 10.0, 12.0, 9.0, 11.0, 5.0, 10.5, 3, True, 1, 0, "yahoo", _MS, "ab", False)


def entry(**changes: Any) -> TypedEntry:
    """Return the entry of the minute, with these changes."""
    return TypedEntry("bars:bars", b"1-0", BAR_TABLE, plain(_BAR._replace(**changes)))


async def column(database: Database, sql: str) -> list[Any]:
    """Return the first column of what a query finds."""
    async with database.connect() as connection:
        return [row[0] for row in await connection.fetch(sql)]
