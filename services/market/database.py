"""Share connections to PostgreSQL: a pool that survives the server, and the errors that say what failed.

Services without the driver `asyncpg` import this module late, or not at all.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

BOARD_NAME: Final = "marketswarm board"
"""The name of the board's sessions, as PostgreSQL shows them."""
CONNECT_SEC: Final = 10.0
"""How long a connection may take to open."""
ANSWER_SEC: Final = 3.0
"""How long a connection may take to answer that it is there."""
_AWAY: Final = (
    OSError,  # refused, reset, no route; TimeoutError is one
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.OperatorInterventionError,  # class 57: it shuts down, starts, or was told to end our session
    asyncpg.InsufficientResourcesError,  # class 53: its disk or its memory is full, or too many connect
    asyncpg.TransactionRollbackError,  # class 40: a deadlock; the other one continues
    asyncpg.InvalidAuthorizationSpecificationError,  # class 28: the password, which may be mended
    asyncpg.InvalidCatalogNameError,  # the database was dropped, as for a restore
    asyncpg.ReadOnlySQLTransactionError,  # a standby, until it is promoted
    asyncpg.ObjectNotInPrerequisiteStateError,  # class 55: a lock was not to be had
    asyncpg.UndefinedTableError,  # the database was made again, or an older one was restored
    asyncpg.UndefinedColumnError,
    asyncpg.DuplicateTableError,  # an instance of another release, which locks otherwise, made it as well
    asyncpg.InsufficientPrivilegeError,  # until it is granted
    asyncpg.InterfaceError,  # the connection was closed under us
    asyncpg.InternalClientError,
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
NO_SERVER_LIMITS: Final = """
SELECT set_config(name, '0', false) FROM pg_settings
WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_session_timeout',
    'idle_in_transaction_session_timeout')
"""  # transaction_timeout is there since version 17


class PostgresAwayError(Exception):
    """PostgreSQL can't be used now; a later attempt may succeed. The message holds no password."""


class ServerFaultError(PostgresAwayError):
    """PostgreSQL answers, and reports a fault of its own, such as a damaged index: rows are not to blame."""


class MissingPartitionError(PostgresAwayError):
    """A row has no partition: it was dropped after we last read which there are."""


class RefusedRowsError(Exception):
    """PostgreSQL refuses rows by their content: the same rows will be refused again."""


@contextlib.contextmanager
def translated_errors() -> Any:
    """Raise PostgresAwayError or RefusedRowsError for the errors of the block that mean that."""
    try:
        yield
    except _AWAY as error:
        raise PostgresAwayError(_describe(error)) from error
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


class ConnectionPool:
    """Lend connections to one database. It is opened when it is first needed, and again after `aclose`.

    `settings` are those of every session, `most` is how many connections there may be, and `connect_sec`
    returns how long to wait for one.
    """

    failures: ClassVar = PostgresAwayError, RefusedRowsError, asyncpg.PostgresError, ValueError
    """What a statement over a connection may raise; a ValueError for a URL that can't be parsed."""

    def __init__(
        self, url: str, settings: Mapping[str, str], *, most: int, connect_sec: Callable[[], float]
    ) -> None:
        self.url, self._settings = url, {"timezone": "UTC", **settings}
        self._most, self._connect_sec = most, connect_sec
        self._opened: _OpenPool | None = None
        self._opening = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def connect(self, within_sec: float) -> AsyncIterator[Any]:
        """Lend a connection. It is closed if the block takes longer than `within_sec`, or is cancelled.

        Raises:
            PostgresAwayError: PostgreSQL can't be used now, or the block took too long.
            RefusedRowsError: it refuses rows that the block wrote.
        """
        with translated_errors():
            opened = await self._open()
            async with opened.lend(self._connect_sec()) as connection, limit_work(connection, within_sec):
                yield connection

    async def aclose(self) -> None:
        """Close all connections without waiting for the server."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.pool.terminate()

    async def recycle(self, within_sec: float) -> None:
        """Close the connections and open one that answers.

        Who has one, or waits for one, may continue with it for `within_sec`. If the server opens no further
        one, and those that there are answer, they are kept: they may be the last ones that it lends us. So
        are they if the server has too many connections, and each of ours is in use. Raises PostgresAwayError,
        also then.
        """
        spare = None  # holds a place while the others are closed
        try:
            with translated_errors():
                spare = await self.open_session()
        except PostgresAwayError as error:
            is_full = isinstance(error.__cause__, asyncpg.TooManyConnectionsError)
            if self._opened is not None and (await self._answers() or (is_full and self._opened.is_in_use())):
                raise
        try:
            async with self._opening:  # so new work waits for the places of the old
                opened, self._opened = self._opened, None
                if opened is not None:
                    await opened.close(within_sec)
            await self._ask()
        finally:
            if spare is not None:
                spare.terminate()

    async def _answers(self) -> bool:
        try:
            await self._ask()
        except PostgresAwayError:
            return False
        return True

    async def _ask(self) -> None:
        async with self.connect(ANSWER_SEC) as connection:
            await connection.execute("SELECT 1")

    async def open_session(self) -> Any:
        return await asyncpg.connect(self.url, timeout=self._connect_sec(), server_settings=self._settings)

    async def prepare_database(self) -> None:
        """Do what the database needs before the first connection is lent; nothing by default."""

    async def prepare_connection(self, connection: Any) -> None:
        """Do what each new connection needs; nothing by default."""

    async def _open(self) -> "_OpenPool":
        async with self._opening:
            if self._opened is None:
                await self.prepare_database()
                pool = await asyncpg.create_pool(
                    self.url,
                    min_size=0,
                    max_size=self._most,
                    init=self.prepare_connection,
                    timeout=CONNECT_SEC,
                    server_settings=self._settings,
                )
                self._opened = _OpenPool(pool)
            return self._opened


class _OpenPool:
    """A pool of asyncpg, and how many have a connection of it or wait for one."""

    def __init__(self, pool: Any) -> None:
        self.pool, self._users = pool, 0
        self._is_unused = asyncio.Event()
        self._is_unused.set()

    @contextlib.asynccontextmanager
    async def lend(self, within_sec: float) -> AsyncIterator[Any]:
        """Lend a connection; a TimeoutError says what was waited for, which asyncpg's does not."""
        self._users += 1
        self._is_unused.clear()
        try:
            try:
                connection = await self.pool.acquire(timeout=within_sec)
            except TimeoutError:
                raise _make_timeout(within_sec) from None
            try:
                yield connection
            finally:
                await self.pool.release(connection)
        finally:
            self._users -= 1
            if not self._users:
                self._is_unused.set()

    def is_in_use(self) -> bool:
        """Return whether it has connections, and none of them is idle."""
        return bool(self.pool.get_size()) and not self.pool.get_idle_size()

    async def close(self, within_sec: float) -> None:
        """Close it once nobody uses it, and after `within_sec` all the same.

        Without users the server has given its places back by the end; asyncpg itself waits for none that
        wait.
        """
        try:
            with contextlib.suppress(*_AWAY):
                async with asyncio.timeout(within_sec):
                    await self._is_unused.wait()
                    await self.pool.close()
        finally:
            self.pool.terminate()  # does nothing to one that is closed


def _make_timeout(within_sec: float) -> TimeoutError:
    return TimeoutError(f"no answer within {within_sec:g} s")


@contextlib.asynccontextmanager
async def open_connection(url: str, within_sec: float) -> AsyncIterator[Any]:
    """Open one connection for the block, and close it after `within_sec` at the latest.

    The server's own limits of a statement, a transaction and an idle session don't apply to it: a backup
    holds its snapshot while pg_dump works. Raises PostgresAwayError.
    """
    with translated_errors():
        options = {"timezone": "UTC", "search_path": "public"}
        connection = await asyncpg.connect(url, timeout=CONNECT_SEC, server_settings=options)
        try:
            async with limit_work(connection, within_sec):
                await connection.execute(NO_SERVER_LIMITS)
                yield connection
        finally:
            connection.terminate()


@contextlib.asynccontextmanager
async def limit_work(connection: Any, limit_sec: float) -> AsyncIterator[asyncio.Timeout]:
    """Close a connection whose block takes longer, with a TimeoutError, or is cancelled.

    Otherwise the pool would take it back only when the server has answered the statement that was cancelled.
    The block gets the limit, which it may move on.
    """
    try:
        async with asyncio.timeout(limit_sec) as limit:
            yield limit
    except TimeoutError:
        terminate(connection)
        raise _make_timeout(limit_sec) from None
    except asyncio.CancelledError:
        terminate(connection)
        raise


@contextlib.asynccontextmanager
async def transaction(connection: Any, **options: Any) -> AsyncIterator[None]:
    """Commit what the block did at its end, and roll it back after an error.

    The context of asyncpg always rolls back by a statement, and waits for its reply, which a frozen server
    does not give. Here a block that is cancelled or out of time closes the connection instead; the server
    rolls back as soon as it notices that. `options` are those of asyncpg's `Connection.transaction`.
    """
    running = connection.transaction(**options)
    await running.start()
    try:
        yield
    except (asyncio.CancelledError, TimeoutError):
        terminate(connection)
        raise
    except BaseException:
        with contextlib.suppress(asyncpg.InterfaceError):  # it is closed
            await running.rollback()
        raise
    await running.commit()


def terminate(connection: Any) -> None:
    """Close a connection without waiting for the server; do nothing if it is closed already."""
    with contextlib.suppress(asyncpg.InterfaceError):  # a pool has it back
        connection.terminate()


def describe_url(url: str) -> str:
    """Return a URL without its user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def _describe(error: BaseException) -> str:
    """Return the type and the message of an error on one line, without the rows that it may quote."""
    # `detail` has the failing row; the message has names of constraints and columns
    lines = str(error).splitlines() or [""]
    words = getattr(error, "constraint_name", None) or lines[0][:200]
    return ": ".join(filter(None, [type(error).__name__, words]))
