"""Ends a block of the current task from outside, and tells at its end whose the cancellation was.

What `asyncio.timeout` does for a time, for any reason: the task is cancelled, and once the block is over that
is settled, so that nobody else's cancellation is swallowed and none of ours is left behind.
"""

import asyncio
from typing import Final

AGAIN_SEC: Final = 3.25
"""A block that lost its cancellation gets another. Until then its clean-up is left alone: of the 5 s that an
agent has to end, the rest is for its goodbye and for closing."""


class Cut:
    """Begins where it is made; `end` must follow, in the same task, however the block ended."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a block lives in a task")
        self._task = task
        self._before = task.cancelling()
        self._cancels = 0
        self._again: asyncio.TimerHandle | None = None
        self._over = False

    def now(self) -> None:
        """Cancel the block, and again if it goes on for long. Without effect once it is over."""
        if self._over:
            return
        self._cancels += 1
        self._task.cancel()
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(AGAIN_SEC, self.now)

    def end(self) -> bool:
        """The block is over; whether it was cancelled by `now`, and by nobody else."""
        self._over = True
        if self._again is not None:
            self._again.cancel()
        cut = self._cancels > 0
        while self._cancels:
            self._cancels -= 1
            self._task.uncancel()
        return cut and self._task.cancelling() <= self._before
