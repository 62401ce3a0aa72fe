"""A command on this host: it reads the webhook's JSON, and says by its exit code what came of it.

No shell takes part, and of our environment it gets no more than it needs. Not here: how it is run and ended.
"""

import asyncio
import errno
import os
import shlex
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from marketswarm import log as logs
from marketswarm.channels.channel import Channel, Failure, Receipt, SendError
from marketswarm.channels.message import Message, encode_webhook_body
from marketswarm.channels.text import printable_line, truncate

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


INHERITED: Final = ("PATH", "HOME", "LANG")
PREFIX: Final = "MARKETSWARM_"
SAID_AT_MOST: Final = 200
NEVER: Final = frozenset({126, 127})
"""What says that it could not be run: whoever runs it again learns the same."""

_SHORT: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""What this host is short of for now; whatever else keeps a command from starting will do so again."""

log = logs.get("exec")


def _words(value: Any) -> Any:
    return shlex.split(value) if isinstance(value, str) else value


def _fit(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0] or any("\0" in word for word in words):
        raise ValueError("must be a command and its arguments")
    return words


class Options(BaseModel):
    """The command and its arguments, in one string or several; and how long it may take."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    command: Annotated[tuple[str, ...], BeforeValidator(_words), AfterValidator(_fit)] = Field(repr=False)
    within_sec: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = 10.0


class Exec:
    """Runs the command once a message."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.where = Path(options.command[0]).name
        self.within_sec = options.within_sec + ANSWERS_SEC
        self._options = options

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:  # noqa: ARG002 - has no threads
        """See `Channel`."""
        options = self._options
        try:
            code, said = await run(
                options.command, encode_webhook_body(message), environment(os.environ), options.within_sec
            )
        except TimeoutError:
            raise SendError("timeout") from None
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise SendError(f"can not be run: {why}", _failure(lasting=error.errno not in _SHORT)) from None
        if code == 0:
            return Receipt("exit 0")
        reason = f"exit {code}" if code > 0 else f"signal {-code}"
        log.warning(
            "exec.failed",
            channel=self.name,
            command=self.where,
            reason=reason,
            said=truncate(printable_line(said), SAID_AT_MOST),
        )
        raise SendError(reason, _failure(lasting=code in NEVER))

    async def aclose(self) -> None:
        """See `Channel`."""


def create(name: str, options: Options) -> Channel:
    """The channel; nothing is run yet."""
    return Exec(name, options)


def _failure(*, lasting: bool) -> Failure:
    """Whether the command itself is at fault, whatever the message is, or it may do better later."""
    return Failure.BROKEN if lasting else Failure.TEMPORARY


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What the command gets of our environment, which may hold secrets."""
    return {name: value for name, value in ours.items() if name in INHERITED or name.startswith(PREFIX)}
