"""Connect archive to its database: bring the schema up to date first, and make the staging tables."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import asyncpg

from marketswarm.access.passwords import DATABASE_READER
from marketswarm.postgres.errors import PostgresAwayError
from marketswarm.postgres.migrations import DatabaseSchema
from marketswarm.postgres.pool import CONNECT_SEC, NO_SERVER_LIMITS, ConnectionPool, open_connection
from marketswarm.postgres.transaction import limit_work
from services.tables.tables import TABLES

SCHEMA: Final = DatabaseSchema("services.archive", reader=DATABASE_READER)
"""The tables of archive; their SQL files are in `services/archive/migrations`."""
APPLICATION_NAME: Final = "archive"
"""The name of the sessions of the pool, as PostgreSQL shows them."""
TIMEOUT_SEC: Final = 60.0
"""The default time limit of the work on one connection."""
MIGRATE_SEC: Final = 7 * 86_400.0
"""The time limit of all migrations; one may write a long table again, or wait for a long reader."""
SILENCE_SEC: Final = 60.0
"""How long the server may answer no other session until a migration is given up."""
_MOST_CONNECTIONS: Final = 6
_REPLACED: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidCatalogNameError,
)


class SchemaChangedError(PostgresAwayError):
    """The database has another schema than when the pool was opened, as after a restore."""


class Database(ConnectionPool):
    """Hold a pool of connections to the archive's database.

    The schema is brought up to date before anything else uses the pool, and again when a new connection finds
    another schema, because a backup may be restored under us. `timeout_sec` returns the time limit in force,
    after which a server that does not answer is away.
    """

    def __init__(self, url: str, timeout_sec: Callable[[], float] = lambda: TIMEOUT_SEC) -> None:
        self.migrating_since: float | None = None
        """Since when the schema is brought up to date (monotonic clock); None while it is not."""
        settings = {
            "application_name": APPLICATION_NAME,
            "search_path": SCHEMA.name,
            # an entry is acknowledged after its commit, because a server that crashes must still have it
            "synchronous_commit": "on",
        }
        super().__init__(
            url, settings, most=_MOST_CONNECTIONS, connect_sec=lambda: min(CONNECT_SEC, timeout_sec())
        )
        self._timeout_sec = timeout_sec
        self._version = 0  # of the schema that the pool was opened with

    @contextlib.asynccontextmanager
    async def connect(self, within_sec: float | None = None) -> AsyncIterator[Any]:
        """Lend a connection of the pool. It is closed after `within_sec`, or after the time limit in force.

        Raises SchemaError, too, if the database has a schema that this release can't work with.
        """
        try:
            async with super().connect(within_sec or self._timeout_sec()) as connection:
                yield connection
        except PostgresAwayError as error:
            if isinstance(error, SchemaChangedError) or isinstance(error.__cause__, _REPLACED):
                await self.aclose()  # the next one makes the schema again, or finds the restored one
            raise

    async def require_schema(self) -> None:
        """Raise SchemaChangedError if the schema is another one, which may refuse rows by other rules."""
        async with self.connect() as connection:
            await self._require_version(connection)

    async def prepare_database(self) -> None:
        """Bring the schema up to date, as long as the server answers other sessions meanwhile.

        At the end the session is terminated.
        """
        connection = await self.open_session()
        self.migrating_since = time.monotonic()
        try:
            async with limit_work(connection, SILENCE_SEC) as limit:
                pid = connection.get_server_pid()
                extending = asyncio.create_task(self._extend_while_at_work(limit, pid))
                try:
                    await connection.execute(NO_SERVER_LIMITS)
                    self._version = await SCHEMA.apply_migrations(connection)
                finally:
                    extending.cancel()
        finally:
            self.migrating_since = None
            connection.terminate()

    async def _extend_while_at_work(self, limit: asyncio.Timeout, pid: int) -> None:
        """Move a time limit to SILENCE_SEC from now whenever the server has the session `pid`."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(SILENCE_SEC / 4)
            with contextlib.suppress(PostgresAwayError):
                async with open_connection(self.url, SILENCE_SEC / 4) as other:
                    found = await other.fetchval("SELECT 1 FROM pg_stat_activity WHERE pid = $1", pid)
                if found and not limit.expired():
                    limit.reschedule(clock() + SILENCE_SEC)

    async def prepare_connection(self, connection: Any) -> None:
        await self._require_version(connection)
        for table in TABLES:
            await connection.execute(table.stage_sql)

    async def _require_version(self, connection: Any) -> None:
        found = await SCHEMA.read_version(connection)
        if found != self._version:
            raise SchemaChangedError(f"the database has schema {found} now, and had {self._version}")
