"""Run a block in a transaction, without waiting for a server that does not answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg


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
