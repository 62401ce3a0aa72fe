"""Observe PostgreSQL for the report on the bus: its connections, size, memory, replicas, and age of tables.

It reads only what each role may see of the server's own views. Of sessions and replicas, a role sees details
of its own alone, unless it has `pg_read_all_stats`. PostgreSQL tells no client what memory it takes. But its
processes carry in their titles whom they serve, so where it runs on our machine, the one that serves a
connection of ours is known by that, and with its parent all the others.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final

import asyncpg
import psutil

from marketswarm.operator.service_reports import DatabaseReport, DatedTable
from marketswarm.postgres.transaction import transaction
from services.archive.backup import SNAPSHOT_NAME
from services.archive.database import Database
from services.tables.row_times import WINDOWS_SEC, format_newest

WITHIN_SEC: Final = 5.0
"""How long a connection may take for its statements."""
SERVER_SEC: Final = 3.0
"""The time limit of a statement about the server, which it keeps itself, so that none continues unheard."""
IDLE_SEC: Final = 60
"""How long a session may do nothing in a transaction before it is counted."""
AGE_SEC: Final = 1.0
"""The time limit of a statement about the age of a table."""
PUT_OFF_SEC: Final = 600.0
"""How long a table is left alone whose newest row was not found in that time."""

# The type of another role's session is null; an autovacuum worker has a database and no role.
_SERVER: Final = """
SELECT count(*) FILTER (
        WHERE datid IS NOT NULL AND usesysid IS NOT NULL
        AND coalesce(backend_type, 'client backend') = 'client backend'
    ) AS connections,
    count(*) FILTER (
        WHERE state IN ('idle in transaction', 'idle in transaction (aborted)')
        AND clock_timestamp() - state_change > make_interval(secs => $1) AND application_name <> $2
    ) AS idle_transactions,
    greatest(
        current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0), 1
    ) AS connection_limit,
    pg_database_size(current_database()) AS size_bytes
FROM pg_stat_activity
"""
# The lag of a replica that has caught up is null after a while. A base backup replays nothing. The state of a
# replica that this role may not see is null, and so is its lag.
_REPLICAS: Final = """
SELECT count(*) AS replicas,
    CASE WHEN bool_and(lag_sec IS NOT NULL) THEN max(lag_sec) END AS replica_lag_sec
FROM (
    SELECT CASE
        WHEN replay_lsn >= pg_current_wal_lsn() THEN 0 ELSE extract(epoch FROM replay_lag)
    END::float8 AS lag_sec
    FROM pg_stat_replication WHERE state IS NULL OR replay_lsn IS NOT NULL
) replica
"""
_BACKEND: Final = """
SELECT pg_backend_pid() AS pid, concat(session_user, ' ', current_database(), ' ', coalesce(
    host(inet_client_addr()) || '(' || inet_client_port() || ')', '[local]'
)) AS title
"""
"""A process keeps the title that it got at its start: who connected, to which database, from where."""


class DatabaseObserver:
    """Observe one database. It keeps the times of the newest rows, so that older ones are not read again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._newest: dict[DatedTable, float] = {}
        self._put_off: dict[DatedTable, float] = {}  # until when, by the monotonic clock

    async def observe(self, tables: Iterable[DatedTable]) -> DatabaseReport:
        """Return what is known of the database now, and of these tables; nothing of the streams.

        Raises PostgresAwayError, and SchemaError.
        """
        async with self._database.connect(WITHIN_SEC) as connection, _limited(connection, SERVER_SEC):
            server = await connection.fetchrow(_SERVER, IDLE_SEC, SNAPSHOT_NAME)
            replicas = await connection.fetchrow(_REPLICAS)
            memory_percent = await read_memory_percent(connection)
        ages = {table: await self._measure_age(table) for table in tables}
        return DatabaseReport(
            ts=time.time(),
            memory_percent=memory_percent,
            table_ages={table.value: age for table, age in ages.items() if age is not None},
            **server,
            **replicas,
        )

    async def _measure_age(self, table: DatedTable) -> float | None:
        """Return how old the newest row of a table is; None without rows, or if it is not found in time."""
        if time.monotonic() < self._put_off.get(table, 0.0):
            return None
        now, known = time.time(), self._newest.pop(table, None)
        since = [now - sec for sec in WINDOWS_SEC]
        async with self._database.connect(WITHIN_SEC) as connection:
            try:
                # rows may have been deleted since, or the database restored
                for each in since if known is None else [known, *since]:
                    found = await _find_newest(connection, table, each)
                    if found is not None:
                        self._newest[table], age_sec = found
                        return age_sec
            except asyncpg.QueryCanceledError:
                self._put_off[table] = time.monotonic() + PUT_OFF_SEC
        return None


async def _find_newest(connection: Any, table: DatedTable, since: float) -> tuple[float, float] | None:
    """Return the time of the newest row since then that is not ahead of the server's clock, and its age."""
    async with _limited(connection, AGE_SEC):
        row = await connection.fetchrow(format_newest(table), since)
    return None if row is None else (row[0], max(0.0, row[1]))


@contextlib.asynccontextmanager
async def _limited(connection: Any, sec: float) -> AsyncIterator[None]:
    """Read in a transaction. The server ends each of its statements after `sec`."""
    async with transaction(connection, readonly=True):
        await connection.execute(f"SET LOCAL statement_timeout = {round(1000 * sec)}")
        yield


async def read_memory_percent(connection: Any) -> float | None:
    """Return the share of the machine's memory that the server of a connection takes, in percent.

    None where its processes are not to be seen: on another machine, or in a container.
    """
    pid, title = await connection.fetchrow(_BACKEND)
    return await asyncio.to_thread(measure_memory_percent, pid, title)


def measure_memory_percent(pid: int, title: str) -> float | None:
    """Return what the parent of process `pid` and its children take, in percent; this blocks.

    None if the process has another title: then another program has this pid on this machine. Memory that they
    share counts once.
    """
    try:
        backend = psutil.Process(pid)
        if title not in " ".join(backend.cmdline()):
            return None
        server = psutil.Process(backend.ppid())
        used = list(_list_used([server, *server.children()]))
        total = psutil.virtual_memory().total
    except (psutil.Error, OSError):
        return None
    own, shared = sum(own for own, _ in used), max((shared for _, shared in used), default=0)
    return 100.0 * (own + shared) / total if used else None


def _list_used(processes: Iterable[psutil.Process]) -> Iterator[tuple[int, int]]:
    """Return the bytes that each process has for itself, and those that it shares with others."""
    for process in processes:
        try:
            memory = process.memory_info()
        except psutil.NoSuchProcess:  # a session that has just ended
            continue
        shared = getattr(memory, "shared", 0)  # Linux alone says it
        yield memory.rss - shared, shared
