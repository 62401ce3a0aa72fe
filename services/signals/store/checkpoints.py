"""Store checkpoints of the log, and the cosignatures of witnesses over them."""

from typing import Final

from services.signals.store.database import to_datetime
from services.signals.store.reader import AuditReader

_ADD_CHECKPOINT: Final = """
INSERT INTO signal_checkpoints (size, at, note) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
_ADD_COSIGNATURE: Final = """
INSERT INTO signal_cosignatures (size, witness, at, line) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""


class CheckpointTables(AuditReader):
    """Read the log, and store what was signed of it. Each method may raise PostgresAwayError."""

    async def write_checkpoint(self, size: int, at: float, note: bytes) -> None:
        """Store a checkpoint (`at` in epoch seconds); do nothing if there is one of this size."""
        async with self._database.connect() as connection:
            await connection.execute(_ADD_CHECKPOINT, size, to_datetime(1000 * at), note.decode())

    async def write_cosignature(self, size: int, witness: str, at_sec: int, line: str) -> None:
        """Store a verified cosignature; do nothing if the witness has one over this size.

        Raises RefusedRowsError if there is no checkpoint of this size.
        """
        async with self._database.connect() as connection:
            await connection.execute(_ADD_COSIGNATURE, size, witness, to_datetime(1000 * at_sec), line)
