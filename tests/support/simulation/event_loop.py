"""Simulated time for real asyncio code: each process has an event loop of its own, moved by one world.

A loop can be stopped as SIGSTOP stops a process: whatever was due meanwhile is there when it wakes. Modules
under test get their `time` from `Time`, which asks the running loop.
"""

import asyncio
import heapq
from asyncio import events
from collections.abc import Callable
from itertools import count
from typing import Any

MOST_TURNS = 50
BREATH_SEC = 1e-4
"""Who does not sleep gets on in time by this, after so many turns of its loop."""


class Nothing:
    """A selector that has no files."""

    def select(self, _timeout: float | None) -> tuple[()]:
        return ()

    def close(self) -> None:
        pass


class World:
    """The one clock, and what is to happen outside of all processes."""

    def __init__(self) -> None:
        self.t = 0.0
        self._number = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, t: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(t, self.t), next(self._number), do))

    def next_at(self) -> float:
        return self._events[0][0] if self._events else float("inf")

    def do_next(self) -> None:
        heapq.heappop(self._events)[2]()


class Loop(asyncio.BaseEventLoop):
    """The event loop of one process. `post` is what comes over its sockets."""

    def __init__(self, world: World, wall: float) -> None:
        super().__init__()
        self.world, self.wall = world, wall
        self._selector = Nothing()
        self.asleep_until = 0.0
        self.input_first = True
        self._input: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self.failures: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        return self.world.t

    def _process_events(self, _events: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def post(self, t: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._input, (t, next(self._number), do))

    def next_at(self) -> float:
        at = self._input[0][0] if self._input else float("inf")
        if self._ready:
            at = self.world.t
        elif self._scheduled:
            at = min(at, self._scheduled[0].when())
        return max(at, self.asleep_until)

    def step(self) -> None:
        """Does all that is due now."""
        for _ in range(MOST_TURNS):
            if self.input_first:
                self._take_input()
            events._set_running_loop(self)  # noqa: SLF001 - as every loop of asyncio does
            try:
                self._run_once()
            finally:
                events._set_running_loop(None)  # noqa: SLF001 - the same
            if not self.input_first:
                self._take_input()
            if not self._ready:
                break
        else:
            self.asleep_until = max(self.asleep_until, self.world.t + BREATH_SEC)
        if self.failures:
            raise AssertionError(self.failures) from self.failures[0].get("exception")

    def _take_input(self) -> None:
        while self._input and self._input[0][0] <= self.world.t:
            self.call_soon(heapq.heappop(self._input)[2])


class Time:
    """Stands for the module `time`."""

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    thread_time = monotonic

    @staticmethod
    def time() -> float:
        loop = asyncio.get_running_loop()
        return loop.time() + loop.wall
