"""Share connections to one database: a pool that survives the server, and single connections."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import asyncpg

from marketswarm import log as logs
from marketswarm.net.retry import Backoff
from marketswarm.postgres.errors import (
    AWAY,
    PostgresAwayError,
    RefusedRowsError,
    make_timeout,
    translated_errors,
)
from marketswarm.postgres.transaction import limit_work
from marketswarm.time_slice import wait_within

CONNECT_SEC: Final = 10.0
"""How long a connection may take to open."""
ANSWER_SEC: Final = 3.0
"""How long a connection may take to answer that it is there."""
CHECK_SEC: Final = 10.0
"""The seconds between two looks whether a server is there that answered."""
REST: Final = Backoff(first_sec=1.0, longest_sec=5.0)
"""The pauses between two looks at a server that is away."""
MAX_STATEMENT_CHARS: Final = 500  # of a slow statement in the log
NO_SERVER_LIMITS: Final = """
SELECT set_config(name, '0', false) FROM pg_settings
WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_session_timeout',
    'idle_in_transaction_session_timeout')
"""  # transaction_timeout is there since version 17
log = logs.get()


@dataclass(frozen=True, slots=True)
class DatabaseAway:
    """Hold why no statement can succeed, and since when, by the monotonic clock."""

    error: Exception
    since: float

    @property
    def reason(self) -> str:
        return str(self.error) or type(self.error).__name__


class ConnectionPool:
    """Lend connections to one database. It is opened when it is first needed, and again after `aclose`.

    `settings` are those of every session, `most` is how many connections there may be, and `connect_sec`
    returns how long to wait for one. A statement that takes longer than `slow_ms` is logged, without its
    values; COPY is not timed.

    Attributes:
        answered_at: when the server answered last (monotonic clock); None if it never did.
    """

    failures: ClassVar = PostgresAwayError, RefusedRowsError, asyncpg.PostgresError, ValueError
    """What a statement over a connection may raise; a ValueError for a URL that can't be parsed."""

    def __init__(
        self,
        url: str,
        settings: Mapping[str, str],
        *,
        most: int,
        connect_sec: Callable[[], float],
        slow_ms: float | None = None,
    ) -> None:
        self.url, self._settings, self._slow_ms = url, {"timezone": "UTC", **settings}, slow_ms
        self.answered_at: float | None = None
        self._most, self._connect_sec = most, connect_sec
        self._opened: _OpenPool | None = None
        self._opening = asyncio.Lock()
        self._lost = asyncio.Event()
        self.away: DatabaseAway | None = None
        """Why the server can't be used, by the last statement that says so; None while it answers.

        `connect` tries all the same, so only `watch` should ask while it is away.
        """

    async def watch(self) -> AsyncIterator[DatabaseAway | None]:
        """Look without end whether the server answers; before and after each look, yield what is known.

        It looks every CHECK_SEC, at once when a statement finds the server away, and after the pauses of REST
        until it is back.
        """
        failures = 0
        while True:
            yield self.away
            failures = 0 if await self._answers() else failures + 1
            yield self.away
            if failures:
                await asyncio.sleep(REST.pause_sec(failures))
            else:
                await wait_within(self._lost, CHECK_SEC)

    @contextlib.asynccontextmanager
    async def connect(self, within_sec: float) -> AsyncIterator[Any]:
        """Lend a connection. It is closed if the block takes longer than `within_sec`, or is cancelled.

        Whether the server is away is noted by how this ends.

        Raises:
            PostgresAwayError: PostgreSQL can't be used now, or the block took too long.
            RefusedRowsError: it refuses rows that the block wrote.
        """
        try:
            with translated_errors():
                opened = await self._open()
                async with opened.lend(self._connect_sec()) as connection, limit_work(connection, within_sec):
                    yield connection
        except PostgresAwayError as error:
            if error.is_outage:
                self.away = DatabaseAway(error, time.monotonic() if self.away is None else self.away.since)
                self._lost.set()
            raise
        self.away, self.answered_at = None, time.monotonic()
        self._lost.clear()

    async def aclose(self) -> None:
        """Terminate all connections, and what runs over them, without waiting for the server."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.pool.terminate()

    async def recycle(self, within_sec: float) -> None:
        """Close the connections and open one that answers.

        Who has one, or waits for one, may continue with it for `within_sec`; then it is terminated. If the
        server opens no further one, and those that there are answer, they are kept: they may be the last ones
        that it lends us. They are also kept if the server has too many connections, and each of ours is in
        use. Raises PostgresAwayError, also then.
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
        except self.failures:
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

    def count_open(self) -> int:
        """Return how many connections are open now."""
        return 0 if self._opened is None else int(self._opened.pool.get_size())

    async def _prepare(self, connection: Any) -> None:
        """Have the slow statements of a new connection logged, if that is wanted; prepare it."""
        if self._slow_ms is not None:
            connection.add_query_logger(self._note_statement)
        await self.prepare_connection(connection)

    def _note_statement(self, record: asyncpg.connection.LoggedQuery) -> None:
        took_ms = 1000 * record.elapsed
        if self._slow_ms is not None and took_ms > self._slow_ms:
            failed = None if record.exception is None else type(record.exception).__name__
            statement = " ".join(record.query.split())[:MAX_STATEMENT_CHARS]
            log.warning("database.slow_query", took_ms=round(took_ms, 1), statement=statement, failed=failed)

    async def _open(self) -> "_OpenPool":
        async with self._opening:
            if self._opened is None:
                await self.prepare_database()
                pool = await asyncpg.create_pool(
                    self.url,
                    min_size=0,
                    max_size=self._most,
                    init=self._prepare,
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
        """Lend a connection of the pool until the block ends.

        Raise TimeoutError, with a text that says what was waited for, if none is free within `within_sec`.
        """
        self._users += 1
        self._is_unused.clear()
        try:
            try:
                connection = await self.pool.acquire(timeout=within_sec)
            except TimeoutError:
                raise make_timeout(within_sec) from None
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
            with contextlib.suppress(*AWAY):
                async with asyncio.timeout(within_sec):
                    await self._is_unused.wait()
                    await self.pool.close()
        finally:
            self.pool.terminate()  # does nothing to one that is closed


@contextlib.asynccontextmanager
async def open_connection(url: str, within_sec: float) -> AsyncIterator[Any]:
    """Open one connection for the block, and terminate it at the end, after `within_sec` at the latest.

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
