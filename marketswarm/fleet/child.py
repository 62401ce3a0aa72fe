"""Supervise a child process: restart it when it ends, stop it on request, and leave no process behind."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from marketswarm.agent.parent_death_guard import die_with_parent
from marketswarm.fleet_control import FleetProcess, ProcessState, RestartAnswer
from marketswarm.net.retry import Backoff
from marketswarm.time_slice import wait_within

GRACE_SEC = 6.0  # an agent takes up to 5 s for an orderly stop
_KILL_AGAIN_SEC = 0.5  # it may have been killed before it was there
_OUTPUT_END_WITHIN_SEC = 0.5  # a grandchild may keep the output open for ever

_EXIT_CODE_MEANINGS = {
    0: "it ended by itself",
    2: "its configuration is wrong, its last lines say how",
    3: "no bus answered it in time",
    4: "it found no truth on any bus; `marketswarm seed` puts one there",
    5: "something inside it died or hung",
}
_LINE_LIMIT = 1 << 20  # bytes; a longer line is passed on in pieces
BACKOFF = Backoff(first_sec=0.5, longest_sec=30.0)
HEALTHY_RUN_SEC = 10.0
_CONFIGURATION_CODE = 2


class LogEvent(Protocol):
    """A function that logs an event of the fleet."""

    def __call__(self, event: str, level: str = "info", **facts: Any) -> None:
        """Log `event`, a dotted constant, with its fields."""


@dataclass(frozen=True, slots=True)
class Program:
    """The program of a child; `pause_after_kill_sec` is the shortest back-off after SIGKILL, in seconds."""

    name: str
    command: list[str]
    environ: Mapping[str, str]
    pause_after_kill_sec: float = 0.0
    stop_signal: signal.Signals = signal.SIGTERM

    @property
    def module(self) -> str | None:
        """Return the module that the command runs by `python -m`; None for any other command."""
        is_module = self.command[:2] == [sys.executable, "-m"] and len(self.command) == 3
        return self.command[2] if is_module else None


class OutputReader(asyncio.SubprocessProtocol, asyncio.Protocol):
    """Reads the output of a child line by line, and notes its end and the end of its output separately.

    `Process.wait` of asyncio returns only once the pipe is closed, and a grandchild can hold the pipe open
    for ever. Pass an instance to `loop.subprocess_exec`, or to `loop.connect_read_pipe` for a child that the
    event loop did not start; `on_line` is called with each line without its end.
    """

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self.exited, self.output_ended = asyncio.Event(), asyncio.Event()
        self._on_line, self._rest = on_line, b""

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002 - asyncio's signature
        self.data_received(data)

    def data_received(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(line)
        if len(rest) > _LINE_LIMIT:
            self._on_line(rest)
            rest = b""
        self._rest = rest

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._rest:
            self._on_line(self._rest)
        self.output_ended.set()


StartProcess = Callable[[Program, OutputReader], Awaitable[asyncio.SubprocessTransport | None]]
"""Starts a program, and gives its output to the reader; None: the program can't be started in this way."""


@dataclass(slots=True)
class RestartBackoff:
    """The back-off between restarts of one program: 0.5, 1, 2 … 30 s, and 0.5 s again after a run of 10 s.

    `pause_after_kill_sec` is the shortest back-off after SIGKILL. No error in a program ends it like that:
    either a person wants to see the program missed, or the kernel is short of memory and needs time.
    """

    pause_after_kill_sec: float = 0.0
    _restarts: int = 0

    def next_pause_sec(self, ran_sec: float, code: int) -> float:
        """Return the back-off after a run of `ran_sec` seconds that ended with `code`.

        Exit code 2 has the longest one at once: a wrong configuration stays wrong until somebody edits it.
        """
        if code == _CONFIGURATION_CODE:
            return BACKOFF.longest_sec
        if ran_sec >= HEALTHY_RUN_SEC:
            self._restarts = 0
        self._restarts += 1
        pause_sec = BACKOFF.pause_sec(self._restarts)
        return max(pause_sec, self.pause_after_kill_sec) if code == -signal.SIGKILL else pause_sec


class Child:
    """Run one program on request, and restart it whenever it ends, until it is stopped.

    `on_line` is called with each line of output, without its line end; `grace_sec` is the time between
    SIGTERM and SIGKILL. `start_first` starts the first process, if it can; the interpreter starts all others.
    """

    def __init__(
        self,
        program: Program,
        log_event: LogEvent,
        on_line: Callable[[bytes], None],
        grace_sec: float = GRACE_SEC,
        start_first: StartProcess | None = None,
    ) -> None:
        self.name = program.name
        self.state = ProcessState.STOPPED
        self.restarts = 0
        self.started_at = 0.0  # wall clock, to compare with the `ts` of its beats
        self._begun = 0.0  # the same moment by the monotonic clock
        self._program, self._log_event = program, log_event
        self._on_line, self._grace_sec = on_line, grace_sec
        self._start_first = start_first
        self.started = asyncio.Event()
        """Set once its first process was started, or could not be."""
        self._process: asyncio.SubprocessTransport | None = None
        self._wanted = asyncio.Event()
        self._skip_backoff = asyncio.Event()  # ends the back-off early
        self._ended = asyncio.Event()
        self._ended.set()
        self._is_ending = False
        self._is_restarting = False

    @property
    def identity(self) -> str:
        """The time of its last start, which no other start has; the same while it runs and after its end."""
        return f"{self.started_at:.6f}"

    @property
    def pid(self) -> int | None:
        return self._process.get_pid() if self._process else None

    @property
    def is_wanted(self) -> bool:
        return self._wanted.is_set()

    def describe(self) -> FleetProcess:
        age_sec = time.monotonic() - self._begun if self.started_at else 0.0
        pid = self.pid if self.state is ProcessState.RUNNING else None
        return FleetProcess(
            self.name,
            self.state,
            self.is_wanted,
            self.identity,
            age_sec,
            self.restarts,
            pid,
            self._is_restarting,
        )

    async def supervise(self) -> None:
        """Run the program while it is wanted, until `end` is called. Cancelling this kills the process."""
        backoff = RestartBackoff(self._program.pause_after_kill_sec)
        while not self._is_ending:
            await self._wanted.wait()
            if self._is_ending:
                break
            begun = time.monotonic()
            code = await self._run()
            if self._is_restarting:
                self._is_restarting = False
                self.restarts += 1
            elif self._wanted.is_set():
                await self._pause(backoff.next_pause_sec(time.monotonic() - begun, code), code)
        self.state = ProcessState.STOPPED

    async def run_once(self, kill: asyncio.Event) -> int:
        """Run the program once; return its exit code. Cancelling stops it, by SIGKILL once `kill` is set."""
        self._wanted.set()
        running = asyncio.ensure_future(self._run())
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await self.stop(kill)
            raise

    def start(self) -> str:
        """Start the program; if it waits for a restart, start it at once. Return a sentence for the user."""
        if self.state is ProcessState.RUNNING and self._wanted.is_set():
            return f"{self.name} runs already (pid {self.pid})"
        text = f"{self.name} starts" + (
            " now, not after its pause" if self.state is ProcessState.WAITING else ""
        )
        self._skip_backoff.set()
        self._wanted.set()
        return text

    async def stop(self, kill: asyncio.Event | None = None) -> str:
        """Stop the program, and keep it stopped until `start` is called. Return a sentence for the user.

        Send its stop signal, then SIGKILL after the grace time or as soon as `kill` is set.
        """
        if not self._wanted.is_set():
            return f"{self.name} is stopped already"
        self._wanted.clear()
        self._skip_backoff.set()
        if self._ended.is_set():
            return f"{self.name} was not running and stays so"
        begun = time.monotonic()
        self._terminate()  # one that is still being started is terminated as soon as it is there
        if not await self._wait_for_end(self._grace_sec, kill):
            self._kill_all()
            while not await self._wait_for_end(_KILL_AGAIN_SEC, None):
                self._kill_all()
            return f"{self.name} did not stop and was killed after {time.monotonic() - begun:.1f} s"
        return f"{self.name} stopped in {time.monotonic() - begun:.1f} s"

    async def restart(self, identity: str) -> tuple[RestartAnswer, str]:
        """End the process that has this identity, so that the next one starts at once; or end its back-off.

        Return what was done, and a sentence for people. A program that is stopped stays so, also if it is
        stopped meanwhile.
        """
        if not self._wanted.is_set():
            return RestartAnswer.REFUSED, f"{self.name} is stopped, and stays so"
        if identity != self.identity or self._is_restarting:
            return RestartAnswer.CHANGED, f"{self.name} was restarted meanwhile"
        if self._process is None:
            self._skip_backoff.set()
            return RestartAnswer.DONE, f"{self.name} starts now, not after its pause"
        self._log_event("agent.restarting", "warning", svc=self.name, why="it was asked for")
        begun, self._is_restarting = time.monotonic(), True
        self._terminate()
        if not await self._wait_for_end(self._grace_sec, None):
            self._kill_all()
            await self._ended.wait()
        return (
            RestartAnswer.DONE,
            f"{self.name} ended after {time.monotonic() - begun:.1f} s and starts again",
        )

    async def end(self, kill: asyncio.Event) -> None:
        """Stop the program for good, so that `supervise` returns. Send SIGKILL as soon as `kill` is set."""
        self._is_ending = True
        await self.stop(kill)
        self._wanted.set()

    def kill(self) -> str:
        """Send SIGKILL to the program and all that it started. Return a sentence for the user.

        `supervise` restarts it after the back-off, which is long enough for the healer to miss the program.
        """
        if self._process is None:
            return f"{self.name} does not run"
        text = f"{self.name} (pid {self.pid}) killed; it is started again once it was missed"
        self._kill_all()
        return text

    def _terminate(self) -> None:
        """Send the process the signal by which its program ends, also if it is frozen."""
        # not by asyncio's methods: they look first whether it has ended, and its exit code would be lost
        if self._process is not None and self.pid is not None and self._process.get_returncode() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, self._program.stop_signal)
                os.kill(self.pid, signal.SIGCONT)  # a process stopped by SIGSTOP can't act on it

    def _kill_all(self) -> None:
        """Kill the process and all that it started, as its process group."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def _run(self) -> int:
        """Run the process to its end; return its exit code (-N for signal N), 1 if it can't be started."""
        self._ended.clear()
        reader = OutputReader(self._on_line)
        try:
            self.started_at, self._begun = time.time(), time.monotonic()
            start_first, self._start_first = self._start_first, None
            if start_first is not None:
                self._process = await start_first(self._program, reader)
            self._process = self._process or await spawn_command(self._program, reader)
        except OSError as error:  # no memory, no more processes
            self._log_event("agent.unstartable", "error", svc=self.name, why=error.strerror)
            self._ended.set()
            return 1
        finally:
            self.started.set()
        self.state = ProcessState.RUNNING
        if not self._wanted.is_set():  # `stop` was called while the process was starting
            self._terminate()
        try:
            await reader.exited.wait()
            await wait_within(reader.output_ended, _OUTPUT_END_WITHIN_SEC)
            return self._process.get_returncode() or 0
        finally:
            if not reader.output_ended.is_set():
                self._kill_all()
            self._process.close()
            self._process, self.state = None, ProcessState.STOPPED
            self._ended.set()

    async def _pause(self, pause_sec: float, code: int) -> None:
        self.restarts += 1
        self.state = ProcessState.WAITING
        self._log_event(
            "agent.ended",
            "warning",
            svc=self.name,
            code=code,
            why=explain_exit_code(code),
            again_in_sec=pause_sec,
        )
        self._skip_backoff.clear()
        await wait_within(self._skip_backoff, pause_sec)
        self.state = ProcessState.STOPPED

    async def _wait_for_end(self, sec: float, kill: asyncio.Event | None) -> bool:
        """Wait for the end of the process, up to `sec` or until `kill` is set; return True if it ended."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._ended, kill) if event]
        await asyncio.wait(waits, timeout=sec, return_when=asyncio.FIRST_COMPLETED)
        has_ended = waits[0].done()  # the event itself may be cleared by the next start already
        for wait in waits:
            wait.cancel()
        return has_ended


async def spawn_command(
    program: Program, reader: OutputReader, pass_fds: Sequence[int] = ()
) -> asyncio.SubprocessTransport:
    transport, _ = await asyncio.get_running_loop().subprocess_exec(
        lambda: reader,
        *die_with_parent(program.command),
        env=program.environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        pass_fds=pass_fds,
        start_new_session=True,  # Ctrl-C reaches only the fleet, which stops its children in order
    )
    return transport


def format_signal(number: int) -> str:
    """Return the name of a signal: SIGTERM, or `signal 35` for a real-time signal, which has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def explain_exit_code(code: int) -> str:
    if code < 0:
        return f"it was ended by {format_signal(-code)}"
    return _EXIT_CODE_MEANINGS.get(code, f"it ended with code {code}")
