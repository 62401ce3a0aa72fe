"""A command run to its end, bounded in every way: bytes in, an exit code and its last word out.

It is a session of its own, so that all it started ends with it when it takes too long, and nothing that it
leaves behind holds us up. Not here: what is run, and what an exit code means.
"""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

HEARD_AT_MOST: Final = 4096
"""Bytes of its output that are kept; the rest is read and dropped, so that it never waits for us."""
ANSWERS_SEC: Final = 0.2
"""After its end, for what it wrote last; what it left behind may hold the pipe for ever."""


class _Heard(asyncio.Protocol):
    """What the command writes: the last of it."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self._kept = b""

    def data_received(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-HEARD_AT_MOST:]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the library's signature
        self.over.set()

    def last(self) -> str:
        """Its last line."""
        lines = self._kept.decode("utf-8", "replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")


async def run(
    command: Sequence[str], body: bytes, env: Mapping[str, str], within_sec: float
) -> tuple[int, str]:
    """Runs it with `body` on its stdin: its exit code, below zero the signal that ended it; its last line.

    Raises:
        TimeoutError: after `within_sec`; it and all it started are ended then.
        OSError: when it can't be started.
    """
    heard = _Heard()
    async with asyncio.timeout(within_sec):
        code = await _run(command, body, env, heard)
    return code, heard.last()


async def _run(command: Sequence[str], body: bytes, env: Mapping[str, str], heard: _Heard) -> int:
    loop = asyncio.get_running_loop()
    # pipes of our own: asyncio's would have us wait for whatever the command leaves behind
    (stdin, into), (out, stdout) = os.pipe(), os.pipe()
    reading, _ = await loop.connect_read_pipe(lambda: heard, os.fdopen(out, "rb", 0))
    writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(into, "wb", 0))
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=stdin,
                stdout=stdout,
                stderr=stdout,
                env=env,
                start_new_session=True,
            )
        finally:
            os.close(stdin)
            os.close(stdout)
        writing.write(body)
        writing.write_eof()
        return await _end(process, heard)
    finally:
        reading.close()
        # what it did not read is dropped; one without a rest closes by itself
        (writing.abort if writing.get_write_buffer_size() else writing.close)()


async def _end(process: asyncio.subprocess.Process, heard: _Heard) -> int:
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if code:
        with suppress(TimeoutError):
            await asyncio.wait_for(heard.over.wait(), ANSWERS_SEC)
    return code
