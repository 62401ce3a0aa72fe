"""Hears one child: its output line by line, its end, and when nobody holds its output open any more.

asyncio's own `Process.wait` returns only once the pipe is closed, which a child of the child can put off for
ever; here the two are told apart.
"""

import asyncio
from collections.abc import Callable

_LINE_LIMIT = 1 << 20  # bytes; a longer line comes in pieces


class Ear(asyncio.SubprocessProtocol):
    """For `loop.subprocess_exec`; `hear` takes each line without its end."""

    def __init__(self, hear: Callable[[bytes], None]) -> None:
        self.exited, self.silent = asyncio.Event(), asyncio.Event()
        self._hear, self._rest = hear, b""

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002 - asyncio's signature
        """Splits what came into lines."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._hear(line)
        if len(rest) > _LINE_LIMIT:
            self._hear(rest)
            rest = b""
        self._rest = rest

    def process_exited(self) -> None:
        """The process ended; there may still be output of it to come."""
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """It ended and its output is closed."""
        if self._rest:
            self._hear(self._rest)
        self.silent.set()
