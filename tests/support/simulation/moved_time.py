"""Time that a test does not wait for: while its event loop is idle, all clocks move to the next timer.

A conftest.py imports the fixture `moved_time`. The code under test, buses in memory included, sees one time:
`time.time`, `time.monotonic`, `time.clock_gettime` and that of the loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from selectors import BaseSelector
from typing import Any

import pytest


class MovedTime:
    """Clocks that run as usual, and ahead of it by what `advance` has moved them."""

    def __init__(self) -> None:
        self.ahead_sec = 0.0

    def advance(self, seconds: float) -> None:
        """Move all clocks at once, without a turn of the loop: as a loop that stands still sees it."""
        self.ahead_sec += seconds


class MovingSelector:
    """A loop's selector that moves the time in place of waiting for the loop's next timer."""

    def __init__(self, selector: BaseSelector, moved: MovedTime) -> None:
        self._selector, self._moved = selector, moved
        self.threads = 0
        """The calls that run in threads of the loop: real time passes until they are done."""

    def select(self, timeout: float | None = None) -> list[Any]:
        """Return what is ready; wait only for a thread or, without any timer, for whatever comes."""
        if timeout is None or self.threads:
            return self._selector.select(timeout)
        ready = self._selector.select(0)
        if not ready and timeout > 0:
            self._moved.advance(timeout)
        return ready

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)


@pytest.fixture
async def moved_time() -> AsyncIterator[MovedTime]:
    """Let the time of this test's loop jump from timer to timer; yield the clocks, to move them by hand.

    They run as usual again before the loop is closed, which waits for its threads with a limit.
    """
    moved, loop = MovedTime(), asyncio.get_running_loop()
    selector = MovingSelector(loop._selector, moved)  # type: ignore[attr-defined] # noqa: SLF001 - the only seam
    in_thread = loop.run_in_executor

    def run_in_executor(*args: Any) -> asyncio.Future[Any]:
        selector.threads += 1
        running = in_thread(*args)
        running.add_done_callback(lambda _: setattr(selector, "threads", selector.threads - 1))
        return running

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_selector", selector)
        patch.setattr(loop, "run_in_executor", run_in_executor)
        for name in ("time", "monotonic", "clock_gettime"):
            real = getattr(time, name)
            patch.setattr(time, name, lambda *args, real=real: real(*args) + moved.ahead_sec)
        yield moved
