"""Connect to the tables of signals, as a role that may add rows there and do nothing else."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from marketswarm.postgres.errors import TriggerRefusalError
from marketswarm.postgres.pool import CONNECT_SEC, ConnectionPool
from marketswarm.postgres.transaction import transaction

APPLICATION_NAME: Final = "signals"
"""The name of the sessions of the pool, as PostgreSQL shows them."""
WORK_SEC: Final = 10.0
"""The default time limit of the work on one connection."""
_MOST_CONNECTIONS: Final = 4
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OLDER_EPOCH: Final = "SG001"
"""The code by which the triggers of migration 18 refuse an older leader; they have one more, of the order."""


class StaleEpochError(Exception):
    """Another leader has begun: this one adds nothing any more, and must begin an epoch to go on."""


class LogMovedError(Exception):
    """The log has another end than the writer knows, as after a restored backup: it must be read again."""


class SignalDatabase(ConnectionPool):
    """Hold a pool of connections to the tables of signals, which archive makes.

    Until it has made them, PostgreSQL counts as away. A statement that takes longer than `slow_ms` is logged.
    """

    def __init__(self, url: str, slow_ms: float | None = None) -> None:
        settings = {
            "application_name": APPLICATION_NAME,
            "search_path": "public",
            # a tick is published after its commit, because a server that crashes must still have it
            "synchronous_commit": "on",
        }
        super().__init__(
            url, settings, most=_MOST_CONNECTIONS, connect_sec=lambda: CONNECT_SEC, slow_ms=slow_ms
        )

    @contextlib.asynccontextmanager
    async def connect(self, within_sec: float = WORK_SEC) -> AsyncIterator[Any]:
        """Lend a connection. It is closed after `within_sec`.

        Raises StaleEpochError or LogMovedError where a trigger refuses a row for that, PostgresAwayError and
        RefusedRowsError.
        """
        try:
            async with super().connect(within_sec) as connection:
                yield connection
        except TriggerRefusalError as error:
            named = StaleEpochError if error.code == _OLDER_EPOCH else LogMovedError
            raise named(str(error)) from None

    @contextlib.asynccontextmanager
    async def read(self, within_sec: float = WORK_SEC) -> AsyncIterator[Any]:
        """Lend a connection for statements that see the same rows. It is closed after `within_sec`."""
        async with (
            self.connect(within_sec) as connection,
            transaction(connection, isolation="repeatable_read", readonly=True),
        ):
            yield connection


def to_datetime(at_ms: float) -> datetime:
    """Return the instant of epoch milliseconds."""
    return _EPOCH + timedelta(milliseconds=at_ms)
