"""Ask services of the gym as their users do, while a trial runs, and count the requests that failed."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.background import Background

EVERY_SEC: Final = 0.5
ANSWER_WITHIN_SEC: Final = 0.5
COUNTED_SEC: Final = 60.0
"""How long after the injection requests are counted: as long as each healer has at least."""
GOOD: Final = b"ok"


@dataclass(frozen=True, slots=True)
class Request:
    """A request to `svc` that was begun at `ts` (epoch seconds)."""

    ts: float
    svc: str
    is_answered: bool


def find_socket(folder: Path, svc: str) -> Path:
    """Return where a service answers requests; `folder` is that of the gym's orders."""
    return folder / f"{svc}.sock"


class Requester(Background):
    """Ask each service twice a second while a `with` block runs.

    A request is begun in time, whatever became of those before it. `requests` is what was asked.
    """

    def __init__(self, folder: Path, services: Collection[str]) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self._folder, self._services = folder, tuple(services)

    def _run(self) -> None:
        asyncio.run(self._ask_all())

    async def _ask_all(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while not self._is_over.is_set():
                for svc in self._services:
                    tasks.create_task(self._ask(svc))
                await asyncio.sleep(EVERY_SEC)

    async def _ask(self, svc: str) -> None:
        began = time.time()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_SEC):
                reader, writer = await asyncio.open_unix_connection(find_socket(self._folder, svc))
                try:
                    is_answered = await reader.read() == GOOD
                finally:
                    writer.close()
        except OSError:  # a timeout is one, too
            is_answered = False
        self.requests.append(Request(began, svc, is_answered))

    def count(self, since: float) -> tuple[int, int]:
        """Return how many requests were begun in the first minute from `since` on, and how many failed."""
        counted = [each for each in tuple(self.requests) if since <= each.ts <= since + COUNTED_SEC]
        return len(counted), sum(not each.is_answered for each in counted)
