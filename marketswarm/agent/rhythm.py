"""When the next beat is due: on a grid that does not drift, a little early by chance.

Pure: times are seconds of whatever clock the caller has, chance is passed in as numbers in [0, 1).
"""

from typing import Final

JITTER: Final = 0.02  # of the interval: beats of many come apart, and a gap stays below 1.02 intervals


class Rhythm:
    """The grid of one interval, begun at `now` with a beat. `phase` keeps a fleet started at once apart."""

    def __init__(self, interval_sec: float, now: float, phase: float) -> None:
        self.interval_sec = interval_sec
        self._slot = now - interval_sec * (1 - phase) / 2  # the first gap is a half to a whole interval

    def next_due(self, now: float, chance: float) -> float:
        """When the beat after the one at `now` is due. Slots that passed are skipped, not made up for."""
        passed = max(0, int((now - self._slot) // self.interval_sec))
        self._slot += (passed + 1) * self.interval_sec
        return self._slot - JITTER * self.interval_sec * chance
