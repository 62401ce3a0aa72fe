"""Read a stored signal and its inputs from PostgreSQL, to be decided once more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from services.signals.proofs.recompute import NamedBars, StoredBar, list_named_bars
from services.signals.store.database import SignalDatabase, to_datetime
from services.tables.signal_rules import SELECT_RULES, StoredRules, parse_stored_rules
from services.tables.signals import SIGNAL_BY_ID, FoundSignal

READ_SEC: Final = 60.0
_BARS: Final = """
SELECT (extract(epoch FROM start) * 1000)::bigint, open, high, low, close, volume, source, replay FROM bars
WHERE symbol = $1 AND timeframe = $2 AND start BETWEEN $3 AND $4 AND final
ORDER BY start
"""
_SOURCE_BARS: Final = """
SELECT (extract(epoch FROM start) * 1000)::bigint, open, high, low, close, volume, source, replay
FROM source_bars
WHERE symbol = $1 AND timeframe = $2 AND start BETWEEN $3 AND $4 AND final AND source = $5
ORDER BY start
"""
_ENTRY: Final = "SELECT entry FROM signal_log WHERE n = $1"


@dataclass(frozen=True, slots=True)
class SignalInputs:
    """Hold a stored signal, the entry of its tick, and the bars of the archive that it names.

    `rules` are those that the entry names; None if it names none, or they are not stored as it names them.
    """

    signal: FoundSignal
    entry: dict[str, Any]
    bars: Mapping[str | None, Sequence[StoredBar]]
    rules: StoredRules | None = None


async def read_inputs(database: SignalDatabase, ident: str) -> SignalInputs | None:
    """Return a signal by its id, with its inputs; None if there is none. Raises PostgresAwayError."""
    async with database.read(READ_SEC) as connection:
        row = await connection.fetchrow(SIGNAL_BY_ID, ident)
        if row is None:
            return None
        signal = FoundSignal(*row)
        entry = orjson.loads(await connection.fetchval(_ENTRY, signal.n))
        named = list_named_bars(orjson.loads(signal.content))
        bars = {name: await _read_bars(connection, signal.symbol, each) for name, each in named.items()}
        rules = await _read_rules(connection, entry)
    return SignalInputs(signal, entry, bars, rules)


async def _read_rules(connection: Any, entry: Mapping[str, Any]) -> StoredRules | None:
    digest = str(entry.get("rules", ""))
    if not digest:
        return None
    return parse_stored_rules(await connection.fetchval(SELECT_RULES, digest), digest)


async def _read_bars(connection: Any, symbol: str, named: NamedBars) -> list[StoredBar]:
    """Return the bars of a window, of any source; of its own alone where they were loaded for themselves."""
    asked = symbol, named.timeframe, to_datetime(named.first_ms), to_datetime(named.last_ms)
    if named.is_separate:
        rows = await connection.fetch(_SOURCE_BARS, *asked, named.source)
    else:
        rows = await connection.fetch(_BARS, *asked)
    return [StoredBar(*row) for row in rows]
