"""Limit the work over a connection, and commit or roll it back: neither waits for a server that is frozen."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg

from marketswarm.postgres.errors import make_timeout


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
        raise make_timeout(limit_sec) from None
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
    """Terminate a connection without waiting for the server; do nothing if it is closed already."""
    with contextlib.suppress(asyncpg.InterfaceError):  # a pool has it back
        connection.terminate()
