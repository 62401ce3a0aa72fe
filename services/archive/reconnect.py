"""Connect to PostgreSQL again on request, and end sessions of ours that do nothing in a transaction."""

import asyncio
import contextlib
from typing import Any, Final

from marketswarm.agent.requests import RequestOutcome
from marketswarm.postgres.migrations import SchemaError
from marketswarm.postgres.pool import ConnectionPool
from services.archive.database import APPLICATION_NAME, Database
from services.tables.tables import BOARD_NAME

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
