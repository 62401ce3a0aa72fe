"""Leaves a stranger alone while he is ill, and tries him once before trusting him again. Pure; seconds."""

from typing import Final

FAILURES: Final = 3
FIRST_PAUSE_SEC: Final = 60.0
LONGEST_PAUSE_SEC: Final = 3600.0


class Breaker:
    """Opens after three failures in a row, or one that will last; each further one doubles the pause."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._failures = self._pauses = 0
        self._until = 0.0

    def open_sec(self, now: float) -> float:
        """How long he is left alone yet; 0 when he may be asked."""
        return max(0.0, self._until - now)

    def worked(self) -> None:
        """He answered as he should."""
        self._failures = self._pauses = 0
        self.reason = None

    def failed(
        self, reason: str, now: float, *, after_sec: float | None = None, lasting: bool = False
    ) -> None:
        """He did not. `after_sec`: how long he wants to be left alone; `lasting`: no second try mends it."""
        self._failures += 1
        self.reason = reason
        # once he was paused, the next failure is that of the one try
        if lasting or self._pauses or self._failures >= FAILURES:
            pause_sec = min(FIRST_PAUSE_SEC * 2**self._pauses, LONGEST_PAUSE_SEC)
            self._pauses = min(self._pauses + 1, 10)
            self._until = now + pause_sec
        if after_sec is not None:
            self._until = max(self._until, now + min(after_sec, LONGEST_PAUSE_SEC))
