"""End a long answer, such as a stream or a WebSocket, once the token that it was opened with is refused."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from services.board.refusal import RefusedError

CHECK_SEC: Final = 2.0
"""How often the bus is asked whether a token is still valid."""
ENDED: Final = "the token is not valid any more"

MayRead = Callable[[], Awaitable[bool]]
"""Returns False once a client may no longer read. Raises RefusedError while the bus does not answer."""


async def run_while_allowed(answering: Awaitable[None], may_read: MayRead | None) -> bool:
    """Run an answer to its end; cancel it, and return False, once its client may no longer read.

    While the bus that keeps the tokens does not answer, the answer goes on. `may_read` is None for a client
    that needs no token.
    """
    if may_read is None:
        await answering
        return True
    try:
        async with asyncio.timeout(None) as limit:
            checking = asyncio.create_task(_expire(limit, may_read))
            try:
                await answering
            finally:
                checking.cancel()
    except TimeoutError:
        if not limit.expired():
            raise
        return False
    return True


async def _expire(limit: asyncio.Timeout, may_read: MayRead) -> None:
    """Let a time limit expire once a client may no longer read."""
    while True:
        await asyncio.sleep(CHECK_SEC)  # first of all, since the client was just let in
        if not await _may_go_on(may_read):
            limit.reschedule(asyncio.get_running_loop().time())
            return


async def _may_go_on(may_read: MayRead) -> bool:
    """Return whether a client may read, or nobody knows."""
    try:
        return await may_read()
    except RefusedError:
        return True
