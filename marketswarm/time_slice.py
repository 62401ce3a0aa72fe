"""Long work on the event loop, in turns that are short by the clock.

A loop over a hundred thousand services takes seconds. Whoever else needs the event loop meanwhile (who hears
beats, sends canaries, renews a lease) waits for its end, unless it pauses.
"""

import asyncio
import time
from typing import Final

SLICE_SEC: Final = 0.02
"""Several such works may go on at once, and a canary needs the loop a few times: a second in all is far."""


class TimeSlice:
    """Call `await time_slice.pause()` before each step: it lets others run when `slice_sec` are over."""

    def __init__(self, slice_sec: float = SLICE_SEC) -> None:
        self._slice_sec = slice_sec
        self._ends_at = time.monotonic() + slice_sec

    async def pause(self) -> None:
        """Let the other tasks run if this turn is over, and begin another."""
        if time.monotonic() >= self._ends_at:
            await asyncio.sleep(0)
            self._ends_at = time.monotonic() + self._slice_sec
