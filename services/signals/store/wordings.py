"""Store how models worded the reasons of signals, beside the log."""

from typing import Final

from services.signals.store.database import SignalDatabase, to_datetime
from services.tables.signal_wordings import WordedSignal

_ADD: Final = """
INSERT INTO signal_wordings (tick, symbol, at, model, text) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING RETURNING tick
"""


class WordingTable:
    """Add wordings; none is ever changed."""

    def __init__(self, database: SignalDatabase) -> None:
        self._database = database

    async def write_wording(self, one: WordedSignal) -> bool:
        """Store the wording of a committed signal; return False if it has one.

        Raises PostgresAwayError, and RefusedRowsError if there is no such signal.
        """
        wording = one.wording
        values = one.tick, one.symbol, to_datetime(wording.at), wording.model, wording.text
        async with self._database.connect() as connection:
            return await connection.fetchval(_ADD, *values) is not None
