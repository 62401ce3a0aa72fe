"""Read the last final bars of symbols, and their splits, from the tables of archive.

The streams hold bars of some hours or days, and a window of long bars is longer than that: a process that
begins has its windows from here.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from marketswarm.postgres.errors import PostgresAwayError, ServerFaultError
from services.market.records import Bar, Timeframe
from services.signals.cycle.market import ArchivedBar
from services.signals.store.database import SignalDatabase

READ_SEC: Final = 30.0
"""The time limit of one read."""
SYMBOLS_AT_ONCE: Final = 100
"""Of how many symbols bars are read at once, since they are put in their places in one step."""
_CELLS: Final = """
found.symbol, (extract(epoch FROM found.start) * 1000)::bigint, found.open, found.high, found.low,
found.close, found.volume, found.source, (extract(epoch FROM found.known_at) * 1000)::bigint
"""
# of a recording the rows do not say as of when they were played
_BARS: Final = f"""
SELECT {_CELLS} FROM unnest($1::text[]) AS wanted(symbol) CROSS JOIN LATERAL (
    SELECT * FROM bars WHERE symbol = wanted.symbol AND timeframe = $2 AND final AND NOT replay
    AND start <= now() ORDER BY start DESC LIMIT $3
) AS found ORDER BY found.symbol, found.start
"""  # noqa: S608 - our own names
_SOURCE_BARS: Final = f"""
SELECT {_CELLS} FROM unnest($1::text[], $4::text[]) AS wanted(symbol, source) CROSS JOIN LATERAL (
    SELECT * FROM source_bars
    WHERE symbol = wanted.symbol AND source = wanted.source AND timeframe = $2 AND final AND NOT replay
    AND start <= now() ORDER BY start DESC LIMIT $3
) AS found ORDER BY found.symbol, found.source, found.start
"""  # noqa: S608 - our own names
_SPLITS: Final = """
SELECT symbol, ex_day FROM actions WHERE symbol = ANY($1::text[]) AND kind = 'split' AND NOT withdrawn
ORDER BY symbol, ex_day
"""


class WindowTables:
    """Read what windows begin with. Each method may raise PostgresAwayError."""

    def __init__(self, database: SignalDatabase) -> None:
        self._database = database

    async def read_bars(self, symbols: Sequence[str], timeframe: Timeframe, most: int) -> list[ArchivedBar]:
        """Return the last `most` bars of each symbol by symbol, the oldest first; none of a recording."""
        rows = await self._fetch(_BARS, list(symbols), timeframe, most)
        return [_make_bar(timeframe, row) for row in rows]

    async def read_source_bars(
        self, wanted: Sequence[tuple[str, str]], timeframe: Timeframe, most: int
    ) -> list[ArchivedBar]:
        """Return the same of symbols and sources whose bars are loaded for themselves."""
        symbols, sources = [each[0] for each in wanted], [each[1] for each in wanted]
        rows = await self._fetch(_SOURCE_BARS, symbols, timeframe, most, sources)
        return [_make_bar(timeframe, row) for row in rows]

    async def read_splits(self, symbols: Sequence[str]) -> list[tuple[str, date]]:
        """Return the first trading days on a new scale of these symbols; they may be still to come."""
        return [(row[0], row[1]) for row in await self._fetch(_SPLITS, list(symbols))]

    async def _fetch(self, sql: str, *asked: Any) -> Sequence[Any]:
        async with self._database.connect(READ_SEC) as connection:
            rows: Sequence[Any] = await connection.fetch(sql, *asked)
        return rows


def is_of_tables(error: PostgresAwayError) -> bool:
    """Return whether these tables can't be read, though PostgreSQL may take a tick all the same.

    An archive of an older release has not granted the rights, a table has a fault, or is locked for long.
    """
    return (
        error.lacks_right or isinstance(error, ServerFaultError) or isinstance(error.__cause__, TimeoutError)
    )


def _make_bar(timeframe: Timeframe, row: Sequence[Any]) -> ArchivedBar:
    symbol, start_ms, opened, high, low, close, volume, source, known_ms = row
    return ArchivedBar(
        Bar(symbol, timeframe, start_ms, opened, high, low, close, volume=volume), source, known_ms
    )
