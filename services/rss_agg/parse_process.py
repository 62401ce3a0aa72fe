"""Parse documents in a worker process of their own, one after the other.

A document can make any parser take minutes or gigabytes. The worker holds no secret and may be killed at any
time; if it takes too long or dies over a document, the next document gets a new one. `ParseProcess` is the
side of the agent, `main` that of the worker:

    python -m services.rss_agg.parse_process

Requests go to the worker's stdin, answers come from its stdout, each with its length in front.
"""

import asyncio
import contextlib
import os
import signal
import struct
import sys
from typing import Any, Final

import orjson

from marketswarm.agent.child_program import inherit_environ
from services.rss_agg.parse import MAX_ENTRIES, FeedEntry, NotAFeedError, parse_entries

REQUEST_SIZES: Final = struct.Struct("!II")  # bytes of the head (JSON) and of the body
ANSWER_SIZE: Final = struct.Struct("!I")
PARSE_SEC: Final = 10.0
START_SEC: Final = 20.0  # for a new worker, which has to import its libraries first
KILL_SEC: Final = 2.0
ANSWER_BYTES: Final = MAX_ENTRIES * 40_000
MEMORY_BYTES: Final = 1 << 30
MAX_CPU_SEC: Final = 30
"""The processor time for one document; the worker ends after it even if its agent is gone."""


class ParseProcess:
    """Parse documents in one worker process at a time, started with the first document."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._is_busy = False

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while no worker runs."""
        return None if self._process is None else self._process.pid

    async def parse(self, body: bytes, content_type: str, base_url: str) -> list[FeedEntry]:
        """Return the entries of a document, as `parse_entries` does.

        Documents are parsed one after the other, each within PARSE_SEC, or START_SEC if the worker has to
        start. A worker that fails is killed. Raises NotAFeedError if the document is not a feed, or takes too
        much time or memory.
        """
        async with self._lock:
            try:
                async with asyncio.timeout(PARSE_SEC if self._process is not None else START_SEC):
                    answer = await self._request(body, content_type, base_url)
            except TimeoutError:
                raise NotAFeedError("takes_too_long") from None
            except (OSError, asyncio.IncompleteReadError):
                raise NotAFeedError("not_a_feed (kills its reader)") from None
            finally:
                if self._is_busy:
                    await self.aclose()
        if "why" in answer:
            raise NotAFeedError(answer["why"])
        return [FeedEntry(**entry) for entry in answer["entries"]]

    async def _request(self, body: bytes, content_type: str, base_url: str) -> dict[str, Any]:
        """Return the answer of the worker, which is started if there is none.

        Raises OSError or IncompleteReadError if the worker dies or its answer is too long.
        """
        self._is_busy = True
        process = self._process = self._process or await _start_worker()
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise BrokenPipeError
        head = orjson.dumps({"content_type": content_type, "base_url": base_url})
        stdin.write(REQUEST_SIZES.pack(len(head), len(body)) + head + body)
        await stdin.drain()
        (length,) = ANSWER_SIZE.unpack(await stdout.readexactly(ANSWER_SIZE.size))
        if length > ANSWER_BYTES:
            raise BrokenPipeError
        answer: dict[str, Any] = orjson.loads(await stdout.readexactly(length))
        self._is_busy = False
        return answer

    async def aclose(self) -> None:
        """Kill the worker, if one runs, and wait up to KILL_SEC for its end."""
        process, self._process, self._is_busy = self._process, None, False
        if process is None:
            return
        # not by asyncio's method, which looks first whether it has ended, since its exit code would be lost
        with contextlib.suppress(ProcessLookupError):
            if process.returncode is None:
                os.kill(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_SEC):
                # `communicate` also closes the pipe, which `wait` leaves to the event loop
                await process.communicate()


async def _start_worker() -> asyncio.subprocess.Process:
    """Start a worker with pipes, and without the agent's secrets in its environment."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.rss_agg.parse_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=inherit_environ(),
        start_new_session=True,  # Ctrl-C in the terminal goes to the agent alone, which kills this process
    )


# -- the worker


def main() -> None:
    """Answer the requests on stdin until stdin ends. Runs in the worker."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what a library prints must not mix with the answers
    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system has these limits
        import resource  # noqa: PLC0415 - see above

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    while len(sizes := requests.read(REQUEST_SIZES.size)) == REQUEST_SIZES.size:
        head_length, body_length = REQUEST_SIZES.unpack(sizes)
        head, body = orjson.loads(requests.read(head_length)), requests.read(body_length)
        _limit_cpu_time()
        answer = _answer(head, body)
        answers.write(ANSWER_SIZE.pack(len(answer)) + answer)
        answers.flush()


def _answer(head: dict[str, Any], body: bytes) -> bytes:
    try:
        entries = parse_entries(body, head["content_type"], head["base_url"])
    except NotAFeedError as error:
        return orjson.dumps({"why": str(error)})
    except MemoryError:
        return orjson.dumps({"why": "too_much"})
    except RecursionError:
        return orjson.dumps({"why": "too_deep"})
    return orjson.dumps({"entries": entries})


def _limit_cpu_time() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - see above

        used = resource.getrusage(resource.RUSAGE_SELF)
        _soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + MAX_CPU_SEC, hard))


if __name__ == "__main__":
    main()
