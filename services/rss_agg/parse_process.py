"""Has documents taken apart by a process of its own (`parsing.py`), one after the other.

One that takes too long, or dies of its document, is ended; the next document gets another.
"""

import asyncio
import contextlib
import os
import sys
from types import TracebackType
from typing import Any, Final, Self

import orjson

from services.rss_agg.parse import ENTRIES, Entry, NotAFeed
from services.rss_agg.parse_worker import ASKED, TOLD

WITHIN_SEC: Final = 10.0
START_SEC: Final = 20.0  # the first answer of a process has to wait for its libraries, on a busy machine
END_SEC: Final = 2.0
ANSWER_LENGTH: Final = ENTRIES * 40_000
INHERITED: Final = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "LD_LIBRARY_PATH")


class Parser:
    """One process at a time, begun with the first document. Use as a context."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._end()

    async def entries(self, body: bytes, kind: str, base: str) -> list[Entry]:
        """The entries of a document; see `entries_of`. Raises NotAFeed.

        A document has WITHIN_SEC seconds, from when it is its turn.
        """
        async with self._turn:
            try:
                within_sec = WITHIN_SEC if self._process is not None else START_SEC
                async with asyncio.timeout(within_sec):
                    answer = await self._ask(body, kind, base)
            except TimeoutError:
                raise NotAFeed("takes_too_long") from None
            except (OSError, asyncio.IncompleteReadError):
                raise NotAFeed("not_a_feed (kills its reader)") from None
            finally:
                if self._busy:
                    await self._end()
        if "why" in answer:
            raise NotAFeed(answer["why"])
        return [Entry(**entry) for entry in answer["entries"]]

    _busy = False

    async def _ask(self, body: bytes, kind: str, base: str) -> dict[str, Any]:
        self._busy = True
        process = self._process = self._process or await _begin()
        into, out = process.stdin, process.stdout
        if into is None or out is None:
            raise BrokenPipeError
        head = orjson.dumps({"kind": kind, "base": base})
        into.write(ASKED.pack(len(head), len(body)) + head + body)
        await into.drain()
        (length,) = TOLD.unpack(await out.readexactly(TOLD.size))
        if length > ANSWER_LENGTH:
            raise BrokenPipeError
        answer: dict[str, Any] = orjson.loads(await out.readexactly(length))
        self._busy = False
        return answer

    async def _end(self) -> None:
        process, self._process, self._busy = self._process, None, False
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SEC):
                # its end alone leaves the pipe for the loop to close
                await process.communicate()


async def _begin() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.rss_agg.parse_worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in INHERITED if name in os.environ},
        start_new_session=True,  # a Ctrl-C for all is ours to turn into an end
    )
