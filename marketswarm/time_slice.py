"""Pause on the event loop: until something is due, or within long work, so that other tasks run.

A loop over a hundred thousand services takes seconds. Other tasks that need the event loop meanwhile (to
receive beats, send canaries, renew a lease) wait for its end, unless the loop pauses.
"""

import asyncio
import time
from typing import Final

SLICE_SEC: Final = 0.005
"""The time between two pauses. Eight long loops may run at once, each for so long, before the event loop has
its next turn, which may be late by 50 ms at most."""


class TimeSlice:
    """Lets other tasks run every `slice_sec` seconds: call `await time_slice.pause()` before each step."""

    def __init__(self, slice_sec: float = SLICE_SEC) -> None:
        self._slice_sec = slice_sec
        self._ends_at = time.monotonic() + slice_sec

    @property
    def is_over(self) -> bool:
        """Whether `pause` would let other tasks run. To ask first costs less, where each step is short."""
        return time.monotonic() >= self._ends_at

    async def pause(self) -> bool:
        """Let other tasks run once if this slice has ended, and begin another; return True if it had."""
        if not self.is_over:
            return False
        await asyncio.sleep(0)
        self._ends_at = time.monotonic() + self._slice_sec
        return True


class StepSize:
    """How many items one step of long work takes, so that no step holds the event loop for over `slice_sec`.

    It follows the measured time of the steps before, so a slow machine takes smaller ones.

    Args:
        least: the fewest items of a step, which is also the size of the first one.
        most: the most items of a step.
    """

    def __init__(self, least: int, most: int, slice_sec: float = SLICE_SEC) -> None:
        self._least, self._most, self._slice_sec = least, most, slice_sec
        self.size = least

    def note_step(self, items: int, sec: float) -> None:
        """Note that a step of so many items held the event loop for `sec` seconds."""
        fitting = self._most if sec <= 0 else int(items * self._slice_sec / sec)
        # one slow step, as after a pause of the whole machine, must not stop all progress
        self.size = max(self._least, self.size // 2, min(self._most, 2 * self.size, fitting))


async def wait_within(event: asyncio.Event, sec: float) -> bool:
    """Wait until `event` is set, `sec` seconds at most. Return True if it was set."""
    try:
        async with asyncio.timeout(sec):
            return await event.wait()
    except TimeoutError:
        return False


async def wait_until_due(due: asyncio.Event, pause_sec: float, *, least_sec: float = 0.0) -> bool:
    """Wait `pause_sec` seconds or until `due` is set, then clear `due`. Return True if it was set.

    Wait `least_sec` in any case. While nothing is due, that takes no timer of its own: a sleep in front of
    the wait would wake an idle process once more each time.
    """
    began = time.monotonic()
    await wait_within(due, max(pause_sec, least_sec))
    was_set = due.is_set()
    left_sec = began + least_sec - time.monotonic()
    if was_set and left_sec > 0:
        await asyncio.sleep(left_sec)
    due.clear()
    return was_set
