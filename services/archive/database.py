"""Connect to PostgreSQL: a pool of connections, and two errors, one that is retried and one that is not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from services.archive.migrations import apply_migrations
from services.archive.tables import TABLES

WITHIN_SEC: Final = 60.0
"""The time limit of a statement whose caller sets none."""
CONNECT_SEC: Final = 10.0
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
    asyncpg.UndefinedTableError,  # the database was made anew
    asyncpg.InsufficientPrivilegeError,  # until somebody grants it
    asyncpg.InterfaceError,  # the connection was closed under us
    asyncpg.InternalClientError,
)


_REPLACED: Final = (asyncpg.UndefinedTableError, asyncpg.InvalidCatalogNameError)


class ArchiveAwayError(Exception):
    """PostgreSQL can't be used now; a later attempt may succeed. The message holds no password."""


class RefusedRowsError(Exception):
    """PostgreSQL refuses rows by their content: the same rows will be refused again."""


class MissingPartitionError(ArchiveAwayError):
    """A row has no partition: somebody dropped it after we last read which there are."""


def describe_url(url: str) -> str:
    """Return a URL without its user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


@contextlib.contextmanager
def translated_errors() -> Any:
    """Raise ArchiveAwayError or RefusedRowsError for the errors of the block that mean that."""
    try:
        yield
    except _AWAY as error:
        raise ArchiveAwayError(_describe(error)) from error
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:  # classes 22 and 23
        if isinstance(error, asyncpg.CheckViolationError) and error.constraint_name is None:
            # every check of ours has a name; that of a table's division into partitions has none
            raise MissingPartitionError(_describe(error)) from error
        raise RefusedRowsError(_describe(error)) from error


class Database:
    """Hold a pool of connections to one database, which is opened when it is first needed.

    The schema is brought up to date before anything else uses the pool.

    Args:
        url: the URL of the database.
        name: how PostgreSQL names our sessions, in `pg_stat_activity`.
    """

    def __init__(self, url: str, name: str = "archive") -> None:
        self._url, self._name = url, name
        self._pool: Any = None
        self._opening = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        """Lend a connection of the pool.

        Raises:
            ArchiveAwayError: PostgreSQL can't be used now.
            RefusedRowsError: it refuses rows that the block wrote.
            SchemaError: the database has a schema that this release can't work with.
        """
        try:
            with translated_errors():
                pool = await self._open()
                async with pool.acquire(timeout=CONNECT_SEC) as connection:
                    yield connection
        except ArchiveAwayError as error:
            if isinstance(error.__cause__, _REPLACED):
                await self.aclose()  # the next one makes the schema anew, or finds the restored one
            raise

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
                connection = await asyncpg.connect(self._url, timeout=CONNECT_SEC, **options)
                try:
                    await apply_migrations(connection)
                finally:
                    connection.terminate()
                self._pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=_MOST_CONNECTIONS,
                    init=_make_stages,
                    timeout=CONNECT_SEC,
                    **options,
                )
            return self._pool

    def _connect_options(self) -> dict[str, Any]:
        """Return the options of every connection."""
        settings = {
            "application_name": self._name,
            "timezone": "UTC",
            "search_path": "public",
            # an entry is acknowledged after its commit: a server that crashes must still have it
            "synchronous_commit": "on",
        }
        return {"command_timeout": WITHIN_SEC, "server_settings": settings}


async def _make_stages(connection: Any) -> None:
    """Make the staging tables of a new connection."""
    for table in TABLES:
        await connection.execute(table.stage_sql)


def _describe(error: BaseException) -> str:
    """Return the type and the message of an error on one line, without the rows that it may quote."""
    # `detail` has the failing row; the message has names of constraints and columns
    lines = str(error).splitlines() or [""]
    constraint = getattr(error, "constraint_name", None)
    return f"{type(error).__name__}: {constraint or lines[0][:200]}"
