"""Run a command on this host for each message, with the webhook's JSON as its input.

Its exit code is the outcome. No shell is involved, and the command gets only a few variables of the
environment. It runs in a session of its own, so that all its processes end with it when it takes too
long, and no process that it leaves behind delays us.
"""

import asyncio
import errno
import math
import os
import shlex
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from io import FileIO
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field

from marketswarm import log as logs
from marketswarm.channels.channel import Channel, ChannelOptions, Failure, Receipt, SendError
from marketswarm.channels.message import Message, encode_webhook_body
from marketswarm.channels.text import printable_line, truncate
from marketswarm.net.errors import OUT_OF_RESOURCES
from marketswarm.tail_buffer import TailBuffer

OUTPUT_KEPT_BYTES: Final = 4096
"""How many bytes at the end of the command's output are kept; the rest is read and dropped."""
OUTPUT_WAIT_SEC: Final = 0.2
"""How long to wait for the last output after the command's end, in seconds."""
ENV_NAMES: Final = ("PATH", "HOME", "LANG")
"""The variables of the environment that the command inherits."""
ENV_PREFIX: Final = "MARKETSWARM_"
"""The command inherits variables with this prefix, too."""
SHOWN_AT_MOST: Final = 200
"""How long the last line of the output in the log may be."""
NOT_RUNNABLE: Final = frozenset({126, 127})
"""Exit codes of a command that could not be run, and can't be run by another attempt."""
HOST_LATE_SEC: Final = 2
"""How much later than we ourselves the host ends a command that `limit_in_host` limits, in seconds."""
_SHORT_OF_RESOURCES: Final = OUT_OF_RESOURCES | {errno.EAGAIN}
"""Errors of a host that is short of resources for now; other errors to start a command persist."""


class OutputTail(asyncio.Protocol):
    """Reads a command's output; `kept` is the end of it, `ended` is set once all of it was read."""

    def __init__(self, kept_bytes: int = OUTPUT_KEPT_BYTES) -> None:
        self.ended = asyncio.Event()
        self._tail = TailBuffer(kept_bytes)

    @property
    def kept(self) -> bytes:
        return self._tail.read()

    @property
    def size(self) -> int:
        """How many bytes the command has written."""
        return self._tail.size

    def data_received(self, data: bytes) -> None:
        self._tail.add(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the library's signature
        self.ended.set()

    def last(self) -> str:
        """Return the last line of the output that is not blank; empty if there is none."""
        lines = self.kept.decode("utf-8", "replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")


async def run_command(
    command: Sequence[str],
    within_sec: float,
    body: bytes = b"",
    env: Mapping[str, str] | None = None,
    output: OutputTail | None = None,
    *,
    on_start: Callable[[int], None] | None = None,
) -> tuple[int, str]:
    """Run a command with `body` on its stdin; return its exit code and the last line of its output.

    An exit code below 0 is the negative number of the signal that ended the command. Without `env`, the
    command inherits the variables of ENV_NAMES alone. `output` shows what it has written while it runs, and
    `on_start` is called with its pid, which is the number of its process group. If the caller is cancelled,
    the command and its processes are killed.

    Raises:
        TimeoutError: after `within_sec`; the command and its processes are killed then.
        OSError: when the command can't be started.
    """
    output = OutputTail() if output is None else output
    async with asyncio.timeout(within_sec):
        code = await _run(command, body, env, output, on_start=on_start)
    return code, output.last()


def limit_in_host(within_sec: float) -> tuple[str, ...]:
    """Return the words that have the host kill a command a little after its time; none without `timeout`.

    A command has a session of its own, so nothing else ends it once we were killed while it ran.
    """
    program = shutil.which("timeout")
    return () if program is None else (program, "-s", "KILL", str(math.ceil(within_sec) + HOST_LATE_SEC))


async def read_command(
    command: Sequence[str],
    within_sec: float,
    max_bytes: int,
    body: bytes = b"",
    *,
    folder: Path | None = None,
    with_errors: bool = False,
    ends_group: bool = False,
) -> tuple[int, bytes]:
    """Run a command with `body` on its stdin; return its exit code and the last `max_bytes` of its stdout.

    It runs in `folder`, by default the present one, and inherits the variables of ENV_NAMES alone. What it
    writes to stderr is dropped, or with `with_errors` part of the output. With `ends_group`, the processes of
    its group that it leaves behind are killed, too. Raises as `run_command` does.
    """
    output = OutputTail(max_bytes)
    stderr = asyncio.subprocess.STDOUT if with_errors else asyncio.subprocess.DEVNULL
    async with asyncio.timeout(within_sec):
        code = await _run(command, body, None, output, stderr=stderr, folder=folder, ends_group=ends_group)
    return code, output.kept


async def _run(
    command: Sequence[str],
    body: bytes,
    env: Mapping[str, str] | None,
    output: OutputTail,
    *,
    stderr: int | None = None,
    folder: Path | None = None,
    ends_group: bool = False,
    on_start: Callable[[int], None] | None = None,
) -> int:
    """Run a command; its stderr goes where its stdout goes unless `stderr` says otherwise."""
    loop = asyncio.get_running_loop()
    if env is None:
        env = {name: os.environ[name] for name in ENV_NAMES if name in os.environ}
    with ExitStack() as opened:
        # our own pipes, since with asyncio's we would wait for processes that the command leaves behind
        (stdin, into), (out, stdout) = _open_pipe(opened), _open_pipe(opened)
        reading, _ = await loop.connect_read_pipe(lambda: output, out)
        opened.callback(reading.close)
        writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, into)
        opened.callback(_end_writing, writing)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=stdin,
            stdout=stdout,
            stderr=stdout if stderr is None else stderr,
            env=env,
            cwd=folder,
            start_new_session=True,
        )
        stdin.close()
        stdout.close()
        writing.write(body)
        writing.write_eof()
        is_read = stderr is not None
        return await _wait_for_end(process, output, is_read=is_read, ends_group=ends_group, on_start=on_start)


def _open_pipe(opened: ExitStack) -> tuple[FileIO, FileIO]:
    """Open a pipe whose ends `opened` closes; an end that was closed before is not closed again."""
    reading, writing = os.pipe()
    return opened.enter_context(FileIO(reading, "rb")), opened.enter_context(FileIO(writing, "wb"))


def _end_writing(writing: asyncio.WriteTransport) -> None:
    """Close the command's input; what it did not read is dropped."""
    (writing.abort if writing.get_write_buffer_size() else writing.close)()


async def _wait_for_end(
    process: asyncio.subprocess.Process,
    output: OutputTail,
    *,
    is_read: bool,
    ends_group: bool,
    on_start: Callable[[int], None] | None,
) -> int:
    """Call `on_start` with the pid of a process, wait for it, and return its exit code.

    When this is cancelled, or `ends_group`, kill its process group.

    After a failure, or if its output `is_read`, also wait for the rest of it, OUTPUT_WAIT_SEC at most.
    """
    try:
        if on_start is not None:
            on_start(process.pid)
        code = await process.wait()
    finally:
        if ends_group or process.returncode is None:
            # a group keeps the number of its first process while it has any
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await _wait_though_cancelled(process)
    if code or is_read:
        with suppress(TimeoutError):
            await asyncio.wait_for(output.ended.wait(), OUTPUT_WAIT_SEC)
    return code


async def _wait_though_cancelled(process: asyncio.subprocess.Process) -> None:
    """Wait for the end of a process that was killed; raise CancelledError after that, if it was due before.

    A wait that is broken off leaves a process of which nobody takes note that it has ended: asyncio has its
    end only from an event loop that still runs then.
    """
    cancelled: asyncio.CancelledError | None = None
    while process.returncode is None:
        try:
            await process.wait()  # in no task of its own, which the end of the event loop would cancel
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


log = logs.get("exec")


def _split_command(value: Any) -> Any:
    return shlex.split(value) if isinstance(value, str) else value


def _require_command(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0] or any("\0" in word for word in words):
        raise ValueError("must be a command and its arguments")
    return words


class Options(ChannelOptions):
    """The command with its arguments, as one string or several, and how long it may take."""

    command: Annotated[tuple[str, ...], BeforeValidator(_split_command), AfterValidator(_require_command)] = (
        Field(repr=False)
    )
    within_sec: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = 10.0


class Exec(Channel):
    """A channel that runs the command once for each message."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.where = Path(options.command[0]).name
        self.within_sec = options.within_sec + OUTPUT_WAIT_SEC
        self._options = options

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:  # noqa: ARG002 - has no threads
        options = self._options
        try:
            code, last_line = await run_command(
                options.command,
                options.within_sec,
                encode_webhook_body(message),
                make_environment(os.environ),
            )
        except TimeoutError:
            raise SendError("timeout") from None
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise SendError(
                f"can not be run: {why}", _choose_failure(lasting=error.errno not in _SHORT_OF_RESOURCES)
            ) from None
        if code == 0:
            return Receipt("exit 0")
        reason = f"exit {code}" if code > 0 else f"signal {-code}"
        log.warning(
            "exec.failed",
            channel=self.name,
            command=self.where,
            reason=reason,
            said=truncate(printable_line(last_line), SHOWN_AT_MOST),
        )
        raise SendError(reason, _choose_failure(lasting=code in NOT_RUNNABLE))


def _choose_failure(*, lasting: bool) -> Failure:
    """Return BROKEN if the command itself is at fault, whatever the message is, otherwise TEMPORARY."""
    return Failure.BROKEN if lasting else Failure.TEMPORARY


def make_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return those variables of `ours` that the command inherits; the others may hold secrets."""
    return {name: value for name, value in ours.items() if name in ENV_NAMES or name.startswith(ENV_PREFIX)}
