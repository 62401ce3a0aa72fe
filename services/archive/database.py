"""Connect archive to its database: bring the schema up to date first, and make the staging tables.

On request it connects again, and ends sessions of ours that do nothing in a transaction.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import asyncpg

from marketswarm.access.passwords import DATABASE_READER, DATABASE_SIGNALS
from marketswarm.agent.requests import RequestOutcome
from marketswarm.postgres.errors import PostgresAwayError
from marketswarm.postgres.migrations import DatabaseSchema, SchemaError, TableRights
from marketswarm.postgres.pool import CONNECT_SEC, NO_SERVER_LIMITS, ConnectionPool, open_connection
from marketswarm.postgres.transaction import limit_work
from marketswarm.tasks import run_beside
from services.tables.signals import ARCHIVE_TABLES, SIGNAL_TABLES
from services.tables.tables import BOARD_NAME, TABLES

SCHEMA: Final = DatabaseSchema(
    "services.archive",
    rights=(
        TableRights(DATABASE_READER),
        TableRights(DATABASE_SIGNALS, reads=(*SIGNAL_TABLES, *ARCHIVE_TABLES), adds=SIGNAL_TABLES),
    ),
)
"""The tables of archive, and those that signals alone writes, since one database has one version.

The SQL files are in `services/archive/migrations`."""
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

ENDED: Final = (APPLICATION_NAME, BOARD_NAME)
"""The names of the sessions that may be ended. That of a backup, which holds its snapshot, is not among them,
nor are those of commands and of people."""
END_SEC: Final = 5.0
"""How long it may take to end sessions, with the wait for a connection."""
CLOSE_SEC: Final = 5.0
"""How long a statement that runs may continue before its connection is closed."""
RECONNECT_SEC: Final = 45.0
"""How long all of it may take after the first attempt to end sessions. A migration beyond it is cut short."""
GONE_LOOKS: Final = 20
"""How often to look whether the sessions that were ended have given their places back."""

_END_IDLE: Final = """
SELECT pid, pg_terminate_backend(pid) AS is_ended FROM pg_stat_activity
WHERE usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()
AND backend_type = 'client backend' AND application_name = ANY($2::text[])
AND state IN ('idle in transaction', 'idle in transaction (aborted)')
AND clock_timestamp() - state_change > make_interval(secs => $1)
"""
_FAILURES: Final = (*ConnectionPool.failures, SchemaError, TimeoutError)
_LEFT: Final = "SELECT 1 FROM pg_stat_activity WHERE pid = ANY($1::int[]) LIMIT 1"


class SchemaChangedError(PostgresAwayError):
    """The database has another schema than when the pool was opened, as after a restore."""


class Database(ConnectionPool):
    """Hold a pool of connections to the archive's database.

    The schema is brought up to date before anything else uses the pool, and again when a new connection finds
    another schema, because a backup may be restored under us. `timeout_sec` returns the time limit in force,
    after which a server that does not answer is away.
    """

    def __init__(
        self,
        url: str,
        timeout_sec: Callable[[], float] = lambda: TIMEOUT_SEC,
        *,
        slow_ms: float | None = None,
    ) -> None:
        self.migrating_since: float | None = None
        """Since when the schema is brought up to date (monotonic clock); None while it is not."""
        settings = {
            "application_name": APPLICATION_NAME,
            "search_path": SCHEMA.name,
            # an entry is acknowledged after its commit, because a server that crashes must still have it
            "synchronous_commit": "on",
        }
        super().__init__(
            url,
            settings,
            most=_MOST_CONNECTIONS,
            connect_sec=lambda: min(CONNECT_SEC, timeout_sec()),
            slow_ms=slow_ms,
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
            async with (
                limit_work(connection, SILENCE_SEC) as limit,
                run_beside(self._extend_while_at_work(limit, connection.get_server_pid())),
            ):
                await connection.execute(NO_SERVER_LIMITS)
                self._version = await SCHEMA.apply_migrations(connection)
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


async def reconnect(database: Database, idle_sec: float) -> RequestOutcome:
    """Open the connections again; end sessions that did nothing in a transaction for `idle_sec`.

    Those are ended first, over a connection that is there: if they use up all connections, no other one can
    be opened.
    """
    if database.migrating_since is not None:
        return RequestOutcome(why="the schema is being brought up to date")
    ended = None
    with contextlib.suppress(*_FAILURES):  # no connection of the pool answers
        async with asyncio.timeout(END_SEC), database.connect(END_SEC) as connection:
            ended = await end_idle_sessions(connection, idle_sec)
    try:
        async with asyncio.timeout(RECONNECT_SEC):
            await database.recycle(CLOSE_SEC)
            if ended is None:
                async with database.connect(END_SEC) as connection:
                    ended = await end_idle_sessions(connection, idle_sec)
    except _FAILURES as error:
        return RequestOutcome(ended or 0, why=str(error) or type(error).__name__)
    return RequestOutcome(ended)


async def end_idle_sessions(connection: Any, idle_sec: float) -> int:
    """End the sessions of our role in this database that idle in a transaction; return how many."""
    found = await connection.fetch(_END_IDLE, idle_sec, list(ENDED))
    ended = [row["pid"] for row in found if row["is_ended"]]
    for _ in range(GONE_LOOKS):
        if not await connection.fetchval(_LEFT, ended):
            break
        await asyncio.sleep(0.05)
    return len(ended)
