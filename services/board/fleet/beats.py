"""Keep when the last beats of each service arrived. Pure.

The board does not listen to beats. At each look it reads how old the last beat of each service is; one that
is newer than at the look before is a new beat. So beats that come faster than the board looks are not all
seen, and their intervals are not shown.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from services.board.fleet.snapshot import ServiceSnapshot

KEPT: Final = 61
MAX_SERVICES: Final = 1000  # in a larger fleet no beats are kept, because the board looks too rarely there
LOOKS_PER_BEAT: Final = 2.0  # how many looks there must be in an interval, so that each beat is seen


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
    intervals: tuple[BeatInterval, ...] = ()
    why_not: str = ""


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
            known = self._beats.setdefault(one.svc, deque(maxlen=KEPT))
            if not known or one.last_beat_at > known[-1]:
                known.append(one.last_beat_at)
        if len(self._beats) > len(found):
            names = {one.svc for one in found}
            self._beats = {svc: beats for svc, beats in self._beats.items() if svc in names}

    def outline(self, service: ServiceSnapshot, every_sec: float, look_sec: float) -> BeatTimes:
        """Return the last intervals of a service, which has `every_sec` in the truth.

        `look_sec` is the time from one look of the board to the next.
        """
        if every_sec < LOOKS_PER_BEAT * look_sec:
            why = f"It beats every {every_sec:g} s. The board looks every {look_sec:g} s, so it misses some."
            return BeatTimes(every_sec, why_not=why)
        beats = self._beats.get(service.svc, ())
        intervals = tuple(BeatInterval(after, after - before) for before, after in pairwise(beats))
        why = "" if intervals else "The board has not seen two beats since its start."
        return BeatTimes(every_sec, intervals, why)
