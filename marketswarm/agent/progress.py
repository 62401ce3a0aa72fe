"""Whether the work goes on: what the beats and the watchdog both go by.

No clock of its own: times are readings of `time.monotonic()`, passed in.
"""

import asyncio


class Progress:
    """The work loop's own word. Joining the swarm counts as progress; so does resting, all the while."""

    def __init__(self, now: float) -> None:
        self.at = now
        self._resting = 0
        self._made = asyncio.Event()
        self._made.set()

    @property
    def resting(self) -> bool:
        """Whether the work loop is waiting on purpose."""
        return self._resting > 0

    def make(self, now: float) -> None:
        """The work got somewhere."""
        self.at = now
        self._made.set()

    def rest(self, now: float) -> None:
        """The work begins to wait on purpose; ends with `resume`."""
        self._resting += 1
        self.make(now)

    def resume(self, now: float) -> None:
        """The work goes on after a rest."""
        self._resting -= 1
        self.make(now)

    async def since_last_beat(self) -> None:
        """Return once there was progress since this last returned."""
        await self._made.wait()
        if not self.resting:
            self._made.clear()

    def silent_sec(self, now: float) -> float:
        """How long there has been no progress."""
        return 0.0 if self.resting else now - self.at
