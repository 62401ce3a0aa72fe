"""Who may be probed at the same time, so that what is slow waits for what is slow, and nothing else does.

There are two lanes. A target whose last probe took long goes by the slow one; so does the look-up of a name
that took long, by threads of its own, since one that hangs holds its thread. Not here: when one is probed.
"""

import asyncio
from typing import Final

from services.massive.probes.means import SystemLookUp
from services.massive.probes.result import Finding

AT_ONCE: Final = 64
THREADS: Final = 16
SLOW_MS: Final = 500.0


class Lane:
    """So many at once, and threads for their look-ups, which are started as they are needed."""

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(AT_ONCE)
        self.look_up = SystemLookUp(THREADS)


class Lanes:
    """Both lanes."""

    def __init__(self) -> None:
        self.quick, self.slow = Lane(), Lane()

    def gate(self, last: Finding | None) -> asyncio.Semaphore:
        """Where a target has to pass, by its last result."""
        return self._lane(last, "total").gate

    def look_up(self, last: Finding | None) -> SystemLookUp:
        """Who looks its host up, by its last result."""
        return self._lane(last, "dns").look_up

    def close(self) -> None:
        """Ends the threads, without waiting for those that hang."""
        for lane in (self.quick, self.slow):
            lane.look_up.close()

    def _lane(self, last: Finding | None, step: str) -> Lane:
        slow = last is not None and last.result.ms.get(step, 0.0) > SLOW_MS
        return self.slow if slow else self.quick
