"""Run many real agents in one process: `python -m bench.agents FIRST COUNT`, which swarm.py starts.

Each agent has its own heartbeat, truth and connections. Two things are not as in an agent of its own: a
process parses a document once for all of them, as any process with several agents does, and the threads of
their watchdogs sleep longer, since hundreds in one interpreter would mostly wait for each other.

It prints a line when all have joined. An order is a revision; the answer is the monotonic time at which the
last had it in force.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from typing import Final

from bench.beats import name_services
from bench.programs import answer, read_order
from marketswarm.agent import Agent, agent, watchdog
from marketswarm.settings import CommonSettings

JOIN_AT_ONCE: Final = 10
WATCHDOG_STEP_SEC: Final = 60.0


class Swarm:
    """Agents that run. `applied` holds how many of them have a revision in force, and since when."""

    def __init__(self) -> None:
        self.applied: dict[int, tuple[int, float]] = {}
        self.joined = 0
        self._joining, self._changed = asyncio.Semaphore(JOIN_AT_ONCE), asyncio.Event()

    async def run(self, name: str) -> None:
        """Run one agent until the process is killed."""
        async with contextlib.AsyncExitStack() as ends:
            async with self._joining:
                me = await ends.enter_async_context(agent(name))
            me.on_reseed(lambda _truth: self._count(me))
            self.joined += 1
            self._changed.set()
            while True:
                await me.rest(5)
                me.progress()

    def _count(self, me: Agent[CommonSettings]) -> None:
        count, _ = self.applied.get(me.revision or 0, (0, 0.0))
        self.applied[me.revision or 0] = count + 1, time.monotonic()
        self._changed.set()

    async def wait_until(self, done: Callable[[], bool]) -> None:
        while not done():
            self._changed.clear()
            await self._changed.wait()


async def main(first: int, count: int) -> None:
    watchdog.MAX_STEP_SEC = WATCHDOG_STEP_SEC  # type: ignore[misc]
    swarm = Swarm()
    async with asyncio.TaskGroup() as group:
        for name in name_services(first + count)[first:]:
            group.create_task(swarm.run(name))
        await swarm.wait_until(lambda: swarm.joined == count)
        answer("ready")
        while True:
            revision = await asyncio.to_thread(read_order)
            await swarm.wait_until(lambda: swarm.applied.get(revision, (0, 0.0))[0] == count)  # noqa: B023
            answer(swarm.applied[revision][1])


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
