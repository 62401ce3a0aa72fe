"""Connect to PostgreSQL: a pool of connections, and two errors, one that is retried and one that is not."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from services.archive.migrations import apply_migrations, read_version
from services.archive.tables import TABLES
from services.archive.transaction import terminate

TIMEOUT_SEC: Final = 60.0
"""The default time limit of the work on one connection."""
CONNECT_SEC: Final = 10.0
MIGRATE_SEC: Final = 7 * 86_400.0
"""The time limit of all migrations together: one may write a long table anew, or wait for a long reader."""
SILENCE_SEC: Final = 60.0
"""How long the server may answer no other session until a migration is given up."""
_MOST_CONNECTIONS: Final = 6

_AWAY: Final = (
    OSError,  # refused, reset, no route; TimeoutError is one
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.OperatorInterventionError,  # class 57: it shuts down, starts, or was told to end our session
    asyncpg.InsufficientResourcesError,  # class 53: its disk or its memory is full, or too many connect
    asyncpg.TransactionRollbackError,  # class 40: a deadlock; the other one goes on
    asyncpg.InvalidAuthorizationSpecificationError,  # class 28: the password, which may be mended
    asyncpg.InvalidCatalogNameError,  # the database was dropped, as for a restore
    asyncpg.ReadOnlySQLTransactionError,  # a standby, until it is promoted
    asyncpg.ObjectNotInPrerequisiteStateError,  # class 55: a lock was not to be had
    asyncpg.UndefinedTableError,  # the database was made anew, or an older one was restored
    asyncpg.UndefinedColumnError,
    asyncpg.DuplicateTableError,  # an instance of another release, which locks otherwise, made it as well
    asyncpg.InsufficientPrivilegeError,  # until it is granted
    asyncpg.InterfaceError,  # the connection was closed under us
    asyncpg.InternalClientError,
)


_NO_SERVER_LIMITS: Final = """
SELECT set_config(name, '0', false) FROM pg_settings
WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_session_timeout',
    'idle_in_transaction_session_timeout')
"""  # transaction_timeout is there since version 17
_REPLACED: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidCatalogNameError,
)
_FAULTS: Final = (
    asyncpg.PostgresSystemError,  # class 58: it can't read or write a file
    asyncpg.InternalServerError,  # class XX: an index or a block is damaged
)

_REFUSALS: Final = (
    asyncpg.DataError,  # class 22
    asyncpg.IntegrityConstraintViolationError,  # class 23
    asyncpg.ProgramLimitExceededError,  # class 54: a value is too long for an index, or nested too deep
)


class ArchiveAwayError(Exception):
    """PostgreSQL can't be used now; a later attempt may succeed. The message holds no password."""


class ServerFaultError(ArchiveAwayError):
    """PostgreSQL answers, and reports a fault of its own, such as a damaged index: rows are not to blame."""


class SchemaChangedError(ArchiveAwayError):
    """The database has another schema than when the pool was opened, as after a restore."""


class RefusedRowsError(Exception):
    """PostgreSQL refuses rows by their content, so the same rows will be refused again."""


class MissingPartitionError(ArchiveAwayError):
    """A row has no partition, because it was dropped after we last read the partitions."""


def describe_url(url: str) -> str:
    """Return the URL without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


@contextlib.contextmanager
def translated_errors() -> Any:
    """Raise ArchiveAwayError or RefusedRowsError for the errors of the block that mean that."""
    try:
        yield
    except _AWAY as error:
        raise ArchiveAwayError(_describe(error)) from error
    except _FAULTS as error:
        raise ServerFaultError(_describe(error)) from error
    except _REFUSALS as error:
        if isinstance(error, asyncpg.CheckViolationError) and error.constraint_name is None:
            # every check of ours has a name; that of a table's division into partitions has none
            raise MissingPartitionError(_describe(error)) from error
        raise RefusedRowsError(_describe(error)) from error


@contextlib.contextmanager
def refused_encodings() -> Any:
    """Raise RefusedRowsError for rows of the block that the driver can't encode, such as a number of 2^63."""
    try:
        yield
    except (OverflowError, ValueError) as error:
        raise RefusedRowsError(_describe(error)) from error


class Database:
    """Hold a pool of connections to one database, which is opened when it is first needed.

    The schema is brought up to date before anything else uses the pool, and again when a new connection finds
    another schema, because a backup may be restored under us.

    Args:
        name: how PostgreSQL names our sessions, in `pg_stat_activity`.
        timeout_sec: returns the time limit in force, after which a server that does not answer is away.
    """

    def __init__(
        self, url: str, name: str = "archive", timeout_sec: Callable[[], float] = lambda: TIMEOUT_SEC
    ) -> None:
        self.migrating_since: float | None = None
        """Since when the schema is brought up to date (monotonic clock); None while it is not."""
        self._url, self._name, self._timeout_sec = url, name, timeout_sec
        self._pool: Any = None
        self._version = 0  # of the schema that the pool was opened with
        self._opening = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def connect(self, within_sec: float | None = None) -> AsyncIterator[Any]:
        """Lend a connection of the pool. It is closed after `within_sec`, or after the time limit in force.

        Raises:
            ArchiveAwayError: PostgreSQL can't be used now, or the block took too long.
            RefusedRowsError: it refuses rows that the block wrote.
            SchemaError: the database has a schema that this release can't work with.
        """
        limit_sec = self._timeout_sec() if within_sec is None else within_sec
        try:
            with translated_errors():
                pool = await self._open()
                async with (
                    pool.acquire(timeout=self._connect_sec()) as connection,
                    _time_limit(connection, limit_sec),
                ):
                    yield connection
        except ArchiveAwayError as error:
            if isinstance(error, SchemaChangedError) or isinstance(error.__cause__, _REPLACED):
                await self.aclose()  # the next one makes the schema anew, or finds the restored one
            raise

    async def require_schema(self) -> None:
        """Check that the database still has the schema that the pool was opened with.

        Raises:
            SchemaChangedError: it has another one, so rows may be refused by rules that we don't know.
            ArchiveAwayError: PostgreSQL can't be used now.
        """
        async with self.connect() as connection:
            await _require_version(connection, self._version)

    async def aclose(self) -> None:
        """Close all connections without waiting for the server."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def _open(self) -> Any:
        """Return the pool; open it, and bring the schema up to date, if that was not done yet."""
        async with self._opening:
            if self._pool is None:
                options = self._connect_options()
                self._version = await self._migrate(options)
                self._pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=_MOST_CONNECTIONS,
                    init=self._prepare,
                    timeout=CONNECT_SEC,
                    **options,
                )
            return self._pool

    async def _migrate(self, options: dict[str, Any]) -> int:
        """Bring the schema up to date, and return its version.

        This takes as long as it needs while the server answers other sessions, and has the one at work.
        """
        connection = await asyncpg.connect(self._url, timeout=self._connect_sec(), **options)
        self.migrating_since = time.monotonic()
        try:
            async with _time_limit(connection, SILENCE_SEC) as limit:
                pid = connection.get_server_pid()
                extending = asyncio.create_task(self._extend_while_at_work(limit, pid))
                try:
                    await connection.execute(_NO_SERVER_LIMITS)
                    return await apply_migrations(connection)
                finally:
                    extending.cancel()
        finally:
            self.migrating_since = None
            connection.terminate()

    async def _extend_while_at_work(self, limit: asyncio.Timeout, pid: int) -> None:
        """Move a time limit to SILENCE_SEC from now whenever the server says that it has the session `pid`.

        One that was restarted, or took over from another, has it no more.
        """
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(SILENCE_SEC / 4)
            with contextlib.suppress(ArchiveAwayError):
                async with open_connection(self._url, SILENCE_SEC / 4) as other:
                    found = await other.fetchval("SELECT 1 FROM pg_stat_activity WHERE pid = $1", pid)
                if found and not limit.expired():
                    limit.reschedule(clock() + SILENCE_SEC)

    async def _prepare(self, connection: Any) -> None:
        """Make the staging tables of a new connection. Raise SchemaChangedError for another schema."""
        await _require_version(connection, self._version)
        for table in TABLES:
            await connection.execute(table.stage_sql)

    def _connect_sec(self) -> float:
        return min(CONNECT_SEC, self._timeout_sec())

    def _connect_options(self) -> dict[str, Any]:
        settings = {
            "application_name": self._name,
            "timezone": "UTC",
            "search_path": "public",
            # an entry is acknowledged after its commit, because a server that crashes must still have it
            "synchronous_commit": "on",
        }
        return {"server_settings": settings}


@contextlib.asynccontextmanager
async def open_connection(url: str, within_sec: float) -> AsyncIterator[Any]:
    """Open one connection for the block, and close it after `within_sec` at the latest.

    The server's own limits of a statement, a transaction and an idle session don't apply to it: a backup
    holds its snapshot while pg_dump works. Raises ArchiveAwayError if PostgreSQL can't be used now, or the
    block took too long.
    """
    with translated_errors():
        options = {"timezone": "UTC", "search_path": "public"}
        connection = await asyncpg.connect(url, timeout=CONNECT_SEC, server_settings=options)
        try:
            async with _time_limit(connection, within_sec):
                await connection.execute(_NO_SERVER_LIMITS)
                yield connection
        finally:
            connection.terminate()


@contextlib.asynccontextmanager
async def _time_limit(connection: Any, limit_sec: float) -> AsyncIterator[asyncio.Timeout]:
    """Close a connection whose block takes longer, with a TimeoutError, or is cancelled.

    The block gets the limit, which it may move on.
    Else the pool would take it back only when the server has answered the statement that was cancelled.
    """
    try:
        async with asyncio.timeout(limit_sec) as limit:
            yield limit
    except TimeoutError:
        terminate(connection)
        raise TimeoutError(f"no answer within {limit_sec:g} s") from None
    except asyncio.CancelledError:
        terminate(connection)
        raise


async def _require_version(connection: Any, version: int) -> None:
    """Raise SchemaChangedError if the database has another version of the schema."""
    found = await read_version(connection)
    if found != version:
        raise SchemaChangedError(f"the database has schema {found} now, and had {version}")


def _describe(error: BaseException) -> str:
    """Return one line, without the rows that the message may quote."""
    # `detail` has the failing row; the message has names of constraints and columns
    lines = str(error).splitlines() or [""]
    words = getattr(error, "constraint_name", None) or lines[0][:200]
    return ": ".join(filter(None, [type(error).__name__, words]))
