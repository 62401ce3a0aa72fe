"""A lazy timing wheel: finds what falls due without looking at what does not.

An item sits in one slot, under the time it had when it was filed. Times may move later at will (a beat
was heard) and nobody tells the wheel: only when the slot comes up is the item asked again, and filed
anew. A time that moves earlier must be filed again by whoever moved it.

Pure: it knows no clock; times are plain numbers that grow.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Final, Generic, TypeVar

T = TypeVar("T")

GRAIN_SEC: Final = 0.25


class TimingWheel(Generic[T]):
    """Items by the time at which each falls due.

    Args:
        when: tells an item's time as it is now; infinity takes it off the wheel.
        grain: the width of a slot, in the unit of the times.
    """

    __slots__ = ("_begun", "_filed", "_grain", "_near", "_slots", "_upcoming", "_when")

    def __init__(self, when: Callable[[T], float], *, grain: float = GRAIN_SEC) -> None:
        self._when = when
        self._grain = grain
        self._begun: float = -inf  # every slot up to this one has been opened
        self._slots: dict[int, list[T]] = {}
        self._upcoming: list[int] = []  # a heap of the keys of `_slots`
        self._near: list[tuple[float, int, T]] = []  # a heap of what lies in opened slots
        self._filed = count()  # keeps the heap from comparing items

    def file(self, item: T) -> None:
        """Puts an item under its time as it is now."""
        at = self._when(item)
        if at == inf:
            return
        slot = int(at // self._grain)
        if slot <= self._begun:
            heappush(self._near, (at, next(self._filed), item))
        elif slot in self._slots:
            self._slots[slot].append(item)
        else:
            self._slots[slot] = [item]
            heappush(self._upcoming, slot)

    def ripe(self, now: float, at_most: float = inf) -> list[T]:
        """Takes off the items whose time is `now` or earlier, the first `at_most` of them."""
        slot_now = int(now // self._grain)
        while self._upcoming and self._upcoming[0] <= slot_now:
            slot = heappop(self._upcoming)
            self._begun = max(self._begun, slot)
            for item in self._slots.pop(slot):
                self.file(item)
        self._begun = max(self._begun, slot_now)
        found: list[T] = []
        while self._near and self._near[0][0] <= now and len(found) < at_most:
            item = heappop(self._near)[2]
            if self._when(item) <= now:
                found.append(item)
            else:
                self.file(item)
        return found

    def next_at(self) -> float:
        """The earliest time at which `ripe` may find something; infinity when nothing is filed."""
        near = self._near[0][0] if self._near else inf
        return min(near, self._upcoming[0] * self._grain) if self._upcoming else near
