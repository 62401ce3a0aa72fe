"""Let messages gather before they are read.

Messages of many senders come one by one, and to be woken costs a program more than to handle a message.
"""

import asyncio
from typing import Any


def find_transport(connection: Any) -> Any:
    """Return the transport of a client library's connection; None for a bus in memory."""
    return getattr(connection._writer, "transport", None)  # noqa: SLF001 - the one way to it


class Gather:
    """The pauses between the reads of one connection. `end` may be called from any task of the event loop."""

    def __init__(self) -> None:
        self._pause: asyncio.Future[None] | None = None

    async def wait(self, connection: Any, sec: float) -> None:
        """Leave what arrives to the system's buffer for so long; a server that fills it keeps the rest."""
        loop, transport = asyncio.get_running_loop(), find_transport(connection)
        self._pause = loop.create_future()
        timer = loop.call_later(sec, self.end)
        if transport is not None:
            transport.pause_reading()
        try:
            await self._pause
        finally:
            timer.cancel()
            if transport is not None:
                transport.resume_reading()

    def end(self) -> None:
        """Have what has arrived read now."""
        if self._pause is not None and not self._pause.done():
            self._pause.set_result(None)
