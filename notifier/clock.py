"""The notifier's time: epoch seconds that never go back. The wall clock may step forward, back it may not."""

import time
from collections.abc import Callable


class Clock:
    """Call it for the time. Between steps it runs on with the monotonic clock."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._monotonic, self._wall = monotonic, wall
        self._ahead = wall() - monotonic()

    def __call__(self) -> float:
        """The time now, in epoch seconds."""
        run = self._monotonic()
        self._ahead = max(self._ahead, self._wall() - run)
        return run + self._ahead
