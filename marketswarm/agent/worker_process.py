"""Have hostile or heavy work done in a worker process of its own, one request after the other.

A document can make any parser take minutes or gigabytes, and a library can leave its memory behind. The
worker holds no secret and may be killed at any time; if it takes too long or dies over a request, the next
request gets a new one. `WorkerProcess` is the side of the agent, `serve_requests` the side of the worker,
which is a module that is run as a program:

    python -m services.rss_agg.parse_process

Requests go to the worker's stdin, answers come from its stdout, each with its length in front. A document may
have taken the worker over, so an answer is data that enters: the agent parses it, and unpickles nothing.
"""

import asyncio
import contextlib
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from marketswarm.agent.child_program import end_program, inherit_environ, start_program

REQUEST_SIZE: Final = struct.Struct("!I")
ANSWER_HEAD: Final = struct.Struct("!BI")
"""The place of its `_OUTCOMES`, or `_PROGRESS`, and the bytes of the answer."""
PROGRESS_BYTES: Final = 1024
"""The longest report of progress."""
PROGRESS_SEC: Final = 0.1
"""How long nothing more is read after a report of progress, so no worker keeps its agent busy with them."""
_OOM_SCORE: Final = "1000"
"""Where memory ends, the kernel kills what has the highest score first."""

T = TypeVar("T")
SendProgress = Callable[[bytes], None]
"""Reports to the agent how far a request is, in at most PROGRESS_BYTES."""


def _ignore_progress(_progress: bytes) -> None:
    pass


class WorkerFailure(StrEnum):
    """Why a request has no answer."""

    LATE = "late"  # the worker took too long, and was killed
    DEAD = "dead"  # the worker died, did not start, or began an answer that is too long
    BAD_ANSWER = "bad_answer"  # its answer can't be parsed; it was killed
    MEMORY = "memory"  # the request takes more memory than a worker may have
    RECURSION = "recursion"  # the request is nested too deeply


_OUTCOMES: Final = (None, WorkerFailure.MEMORY, WorkerFailure.RECURSION)
_PROGRESS: Final = len(_OUTCOMES)
"""In the place of an outcome: this is not the answer yet, but how far it is."""


class WorkerError(Exception):
    """A request has no answer; `str()` says why in words."""

    def __init__(self, failure: WorkerFailure, text: str) -> None:
        super().__init__(text)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Hold what one request may take.

    Attributes:
        request_sec: the time until its answer.
        start_sec: the same for the first request to a worker, which has to import its libraries first.
        answer_bytes: the longest answer.
        cpu_sec: the processor time; the worker ends after it even if its agent is gone.
        memory_bytes: the address space of a worker; None for libraries that reserve much more than they use.
    """

    request_sec: float
    start_sec: float
    answer_bytes: int
    cpu_sec: int
    memory_bytes: int | None = None


class WorkerProcess:
    """Ask one worker process at a time, started with the first request. It does not outlive this process."""

    def __init__(self, module: str, limits: WorkerLimits) -> None:
        self._module, self._limits = module, limits
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._is_busy = False

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while no worker runs."""
        return None if self._process is None else self._process.pid

    async def ask(
        self,
        request: bytes,
        parse: Callable[[bytes], T],
        on_progress: Callable[[bytes], None] = _ignore_progress,
    ) -> T:
        """Return what `parse` makes of the worker's answer; it raises ValueError if that is not one.

        Requests are answered one after the other. `on_progress` gets each report of how far the worker is; it
        raises ValueError for one that can't be parsed. A worker that fails, or whose answer can't be parsed,
        is killed. Raises WorkerError.
        """
        async with self._lock:
            within_sec = self._limits.start_sec if self._process is None else self._limits.request_sec
            try:
                async with asyncio.timeout(within_sec):
                    answer = await self._exchange(request, on_progress)
                found = parse(answer)
                self._is_busy = False
            except TimeoutError:
                raise WorkerError(WorkerFailure.LATE, f"it took more than {within_sec:.0f} s") from None
            except (OSError, asyncio.IncompleteReadError) as error:
                why = f"it died, or did not start ({type(error).__name__})"
                raise WorkerError(WorkerFailure.DEAD, why) from None
            except ValueError:
                raise WorkerError(WorkerFailure.BAD_ANSWER, "its answer can't be used") from None
            finally:
                if self._is_busy:
                    await self.aclose()
            return found

    async def _exchange(self, request: bytes, on_progress: Callable[[bytes], None]) -> bytes:
        """Return the answer of the worker, which is started if there is none.

        Raises OSError or IncompleteReadError if the worker dies or its answer is too long, ValueError if its
        outcome is not one, WorkerError if the request took too much.
        """
        self._is_busy = True
        process = self._process = self._process or await self._start_worker()
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise BrokenPipeError
        stdin.write(REQUEST_SIZE.pack(len(request)) + request)
        await stdin.drain()
        place, length = ANSWER_HEAD.unpack(await stdout.readexactly(ANSWER_HEAD.size))
        while place == _PROGRESS and length <= PROGRESS_BYTES:
            on_progress(await stdout.readexactly(length))
            await asyncio.sleep(PROGRESS_SEC)
            place, length = ANSWER_HEAD.unpack(await stdout.readexactly(ANSWER_HEAD.size))
        if length > self._limits.answer_bytes:
            raise BrokenPipeError
        if place >= len(_OUTCOMES):
            raise ValueError(place)
        answer, failure = await stdout.readexactly(length), _OUTCOMES[place]
        if failure is not None:
            self._is_busy = False
            raise WorkerError(failure, f"it took too much {failure}")
        return answer

    async def _start_worker(self) -> asyncio.subprocess.Process:
        """Start a worker with pipes, and without the agent's secrets in its environment."""
        return await start_program(
            [sys.executable, "-m", self._module],
            inherit_environ(),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            new_session=True,  # Ctrl-C in the terminal goes to the agent alone, which kills this process
        )

    async def aclose(self) -> None:
        """Kill the worker, if one runs, and wait up to KILL_SEC of `child_program` for its end."""
        process, self._process, self._is_busy = self._process, None, False
        if process is not None:
            await end_program(process)


# -- the worker


def serve_requests(answer: Callable[[bytes], bytes], limits: WorkerLimits) -> None:
    """Answer the requests on stdin until stdin ends. Runs in the worker, whose resources it limits.

    An error that `answer` raises ends the worker, except for MemoryError and RecursionError.
    """
    serve_with_progress(lambda request, _send: answer(request), limits)


def serve_with_progress(answer: Callable[[bytes, SendProgress], bytes], limits: WorkerLimits) -> None:
    """Answer requests as `serve_requests` does; `answer` gets a function, too, that reports how far it is."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what a library prints must not mix with the answers

    def send(place: int, content: bytes) -> None:
        answers.write(ANSWER_HEAD.pack(place, len(content)) + content)
        answers.flush()

    def send_progress(progress: bytes) -> None:
        send(_PROGRESS, progress[:PROGRESS_BYTES])

    while len(size := requests.read(REQUEST_SIZE.size)) == REQUEST_SIZE.size:
        request = requests.read(*REQUEST_SIZE.unpack(size))
        _limit_resources(limits)
        outcome: WorkerFailure | None = None
        try:
            content = answer(request, send_progress)
        except MemoryError:
            outcome, content = WorkerFailure.MEMORY, b""
        except RecursionError:
            outcome, content = WorkerFailure.RECURSION, b""
        send(_OUTCOMES.index(outcome), content)


def _limit_resources(limits: WorkerLimits) -> None:
    """Let this process have so much more of the processor's time, and so much memory in all.

    The kernel kills it over the one; over the other, MemoryError is raised. Where the machine or a container
    has no memory left, the kernel kills this process before its agent.
    """
    with contextlib.suppress(OSError):  # Linux alone has it
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system has these limits
        import resource  # noqa: PLC0415 - see above

        used = resource.getrusage(resource.RUSAGE_SELF)
        _soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
        cpu_sec = int(used.ru_utime + used.ru_stime) + limits.cpu_sec
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_sec, hard))
        if limits.memory_bytes is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
