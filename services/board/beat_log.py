"""Keep when the last beats of each service arrived, as the board's looks found them. Pure.

The board does not listen to beats. At each look it reads how old the last beat of each service is; one that
is newer than at the look before is a new beat. So beats that come faster than the board looks are not all
seen, and their intervals are not shown.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Final

from services.board.snapshot import ServiceSnapshot

KEPT: Final = 61
"""How many beats of a service are kept."""
MAX_SERVICES: Final = 1000
"""In a larger fleet no beats are kept: the board looks too rarely there."""
LOOKS_PER_BEAT: Final = 2.0
"""How many looks there must be in an interval, so that each beat is seen."""


@dataclass(frozen=True, slots=True)
class BeatInterval:
    """The time from the beat before to the one that arrived `at` (epoch seconds)."""

    at: float
    sec: float


@dataclass(frozen=True, slots=True)
class BeatTimes:
    """The last intervals between beats of a service, the oldest first, beside the one in the truth.

    `why_not` says why there are none to show; it is empty if there are.
    """

    every_sec: float
    timeout_sec: float
    intervals: tuple[BeatInterval, ...] = ()
    why_not: str = ""

    @property
    def mean_sec(self) -> float:
        """The mean interval."""
        return fmean(one.sec for one in self.intervals)

    @property
    def least_sec(self) -> float:
        """The shortest interval."""
        return min(one.sec for one in self.intervals)

    @property
    def most_sec(self) -> float:
        """The longest interval."""
        return max(one.sec for one in self.intervals)


class BeatLog:
    """Keeps the times of the last beats of each service."""

    def __init__(self) -> None:
        self._beats: dict[str, deque[float]] = {}

    def note(self, services: Iterable[ServiceSnapshot]) -> None:
        """Keep the last beat of each service, if it is a new one; forget services that are not there."""
        found = tuple(services)
        if len(found) > MAX_SERVICES:
            self._beats.clear()
            return
        for one in found:
            if one.last_beat_at is None:
                continue
            known = self._beats.get(one.svc)
            if known is None:
                known = self._beats[one.svc] = deque(maxlen=KEPT)
            if not known or one.last_beat_at > known[-1]:
                known.append(one.last_beat_at)
        if len(self._beats) > len(found):
            names = {one.svc for one in found}
            self._beats = {svc: beats for svc, beats in self._beats.items() if svc in names}

    def outline(self, service: ServiceSnapshot, every_sec: float, look_sec: float) -> BeatTimes:
        """Return the last intervals of a service.

        Args:
            service: the service.
            every_sec: its interval in the truth.
            look_sec: the time from one look of the board to the next.
        """
        times = BeatTimes(every_sec, service.timeout_sec)
        if every_sec < LOOKS_PER_BEAT * look_sec:
            why = f"It beats every {every_sec:g} s, and the board looks every {look_sec:g} s: it misses some."
            return BeatTimes(times.every_sec, times.timeout_sec, (), why)
        beats = self._beats.get(service.svc, ())
        intervals = tuple(BeatInterval(after, after - before) for before, after in pairwise(beats))
        why = "" if intervals else "The board has not seen two beats since its start."
        return BeatTimes(times.every_sec, times.timeout_sec, intervals, why)
