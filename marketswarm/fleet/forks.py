"""Start the first process of each agent by fork, while a fleet starts.

A fork of a process that has imported what all agents need (`fork_server.py`) is ready sooner than a new
interpreter, and has the memory of these imports in common with all others. The fork server ends when the
fleet is up. What is started later runs in an interpreter of its own, and so by the code that is on disk then.

Only on Linux. Without a fork server, or if it fails, programs are started by the interpreter.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import IO, Final

from marketswarm.fleet.child import LogEvent, OutputReader, Program, spawn_command
from marketswarm.fleet.environment import make_server_environ
from marketswarm.fleet.fork_server import PID, ROOM

_PR_SET_CHILD_SUBREAPER: Final = 36
_READY_WITHIN_SEC: Final = 60.0
_NOT_BY_FORK: Final = ("OTEL_", "COVERAGE_PROCESS")
"""The beginnings of variables that decide what an interpreter imports first, so no fork can follow them."""


class ForkServer:
    """Starts programs by fork inside its `serve` block, and none at other times.

    `write_line` is called with each line that the fork server itself writes, which are errors.
    """

    def __init__(self, log_event: LogEvent, write_line: Callable[[bytes], None]) -> None:
        self._log_event, self._write_line = log_event, write_line
        self._control: socket.socket | None = None
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Run the fork server while the block runs, then kill it.

        Where there can't be one, `spawn` starts nothing.
        """
        reader = OutputReader(self._write_line)
        server = None
        if _is_possible():
            try:
                server = await self._start_server(reader)
            except OSError as error:  # no memory, no more processes
                self._fail(error)
        try:
            yield
        finally:
            self._close_control()
            if server is not None:
                # not by asyncio's method: if it has just ended, its exit code would be lost
                if server.get_returncode() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(server.get_pid(), signal.SIGKILL)
                await reader.exited.wait()
                server.close()

    async def _start_server(self, reader: OutputReader) -> asyncio.SubprocessTransport:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = [str(theirs.fileno()), str(os.getpid()), ROOM]
        command = [sys.executable, "-m", "marketswarm.fleet.fork_server", *arguments]
        environ = {**make_server_environ(os.environ), "PYTHONUNBUFFERED": "1"}
        with theirs, _adopt_orphans():  # the kernel notes in a new process whether its orphans are adopted
            return await spawn_command(Program("fork-server", command, environ), reader, [theirs.fileno()])

    async def spawn(self, program: Program, reader: OutputReader) -> "ForkedProcess | None":
        """Start a program; return None if it has to be started by the interpreter."""
        if program.module is None:
            return None
        async with self._lock:
            if self._control is None:
                return None
            try:
                return await self._fork(self._control, program, reader)
            except (OSError, TimeoutError) as error:
                self._fail(error)
                return None

    async def _fork(self, control: socket.socket, program: Program, reader: OutputReader) -> "ForkedProcess":
        """Raise OSError or TimeoutError if there is no fork; nothing was given to `reader` then."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        read_end, write_end = os.pipe()
        output, written = os.fdopen(read_end, "rb", buffering=0), os.fdopen(write_end, "wb", buffering=0)
        with ours, contextlib.ExitStack() as unless_forked:
            unless_forked.enter_context(output)
            ours.setblocking(False)
            with _adopt_orphans():
                with theirs, written:
                    socket.send_fds(control, [b"f"], [theirs.fileno(), written.fileno()])
                async with asyncio.timeout(_READY_WITHIN_SEC):
                    raw = await loop.sock_recv(ours, PID.size)
            if len(raw) != PID.size:
                raise OSError("the fork server has ended")
            process = ForkedProcess(PID.unpack(raw)[0], reader)
            unless_forked.pop_all()
            try:
                await process.read_output(output)
                order = {"module": program.module, "environ": dict(program.environ)}
                with contextlib.suppress(OSError):  # it was killed meanwhile, as any process may be
                    await loop.sock_sendall(ours, json.dumps(order).encode())
            except BaseException:
                process.close()
                raise
            return process

    def _fail(self, error: OSError | TimeoutError) -> None:
        """Log that the fork server failed, unless it was ended on purpose, and ask nothing more of it."""
        if self._control is not None:
            self._log_event("fork_server.failed", "warning", why=str(error) or "no answer")
        self._close_control()

    def _close_control(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None


class ForkedProcess(asyncio.SubprocessTransport):
    """A program that was started by fork: a child of this process."""

    def __init__(self, pid: int, reader: OutputReader) -> None:
        super().__init__()
        self._pid, self._reader = pid, reader
        self._returncode: int | None = None
        self._output: asyncio.BaseTransport | None = None
        self._handle = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._handle, self._handle_exit)

    async def read_output(self, output: IO[bytes]) -> None:
        """Pass on what the program writes; `output` is closed with this process."""
        connect = asyncio.get_running_loop().connect_read_pipe
        self._output, _ = await connect(lambda: self._reader, output)

    def get_pid(self) -> int:
        return self._pid

    def get_returncode(self) -> int | None:
        return self._returncode

    def close(self) -> None:
        """Close the program's output, and kill it if it still runs."""
        if self._output is not None:
            self._output.close()
        if self._returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _handle_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._handle)
        os.close(self._handle)
        _, status = os.waitpid(self._pid, 0)
        self._returncode = os.waitstatus_to_exitcode(status)
        self._reader.process_exited()


def _is_possible() -> bool:
    """Return True if this system has what a fork server needs, and nothing wants interpreters of its own."""
    if sys.platform != "linux" or any(name.startswith(_NOT_BY_FORK) for name in os.environ):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an old kernel, or a sandbox
        return False
    return True


@contextlib.contextmanager
def _adopt_orphans() -> Iterator[None]:
    """Make this process the parent of its descendants whose parents end inside the block."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
