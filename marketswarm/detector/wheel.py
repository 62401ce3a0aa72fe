"""A lazy timing wheel: finds the items that are due without looking at the others.

An item sits in one slot, under the time it had when it was added. Its time may become later (a beat was
heard) without any call to the wheel: only when the slot comes up, the item's time is read again, and the item
is added again if it is not due. If an item's time becomes earlier, the caller must add the item again.

Pure: it reads no clock; times are plain numbers that grow.
"""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Final, Generic, TypeVar

T = TypeVar("T")

GRAIN_SEC: Final = 0.25
"""The width of a slot."""


class TimingWheel(Generic[T]):
    """A timing wheel: items by their due times.

    Args:
        when: returns an item's due time as it is now; infinity removes the item.
    """

    __slots__ = ("_added", "_begun", "_near", "_open", "_slots", "_upcoming", "_when")

    def __init__(self, when: Callable[[T], float]) -> None:
        self._when = when
        self._begun: float = -inf  # every slot before this one was opened, and this one at least begun
        self._open: list[T] = []  # the items of that slot that were not looked at yet, the last one first
        self._slots: dict[int, list[T]] = {}
        self._upcoming: list[int] = []  # a heap of the keys of `_slots`
        self._near: list[tuple[float, int, T]] = []  # a heap of the items of opened slots
        self._added = count()  # keeps the heap from comparing items

    def add(self, item: T) -> None:
        """Add an item under its due time as it is now."""
        self._file(item, self._when(item))

    def _file(self, item: T, at: float) -> None:
        """File an item under `at`; drop it if that is infinity."""
        if at == inf:
            return
        slot = int(at // GRAIN_SEC)
        if slot <= self._begun:
            heappush(self._near, (at, next(self._added), item))
        elif slot in self._slots:
            self._slots[slot].append(item)
        else:
            self._slots[slot] = [item]
            heappush(self._upcoming, slot)

    def __iter__(self) -> Iterator[T]:
        """Yield every item, in no order; one that was added twice is yielded twice."""
        for items in self._slots.values():
            yield from items
        yield from self._open
        yield from (item for _, _, item in self._near)

    def pop_due(self, now: float, at_most: float = inf) -> list[T]:
        """Remove and return items that are due at `now`: all of them, if that takes `at_most` looks or fewer.

        Otherwise `next_due` is not later than `now`, and the next call continues. The order is that of the
        slots of the times as they are now, however late the call is; a slot of any size is opened over
        several calls.
        """
        slot_now = int(now // GRAIN_SEC)
        found: list[T] = []
        looks = 0
        while looks < at_most:
            if self._near and self._near[0][0] <= now:
                item = heappop(self._near)[2]
            elif self._open or self._open_next(slot_now):
                item = self._open.pop()
            else:
                self._begun = max(self._begun, slot_now)
                break
            looks += 1
            at = self._when(item)
            # on a late wheel, one whose time moved to a later slot stands behind all those before that slot
            if at <= now and at // GRAIN_SEC <= self._begun:
                found.append(item)
            else:
                self._file(item, at)
        return found

    def _open_next(self, slot_now: int) -> bool:
        """Open the earliest slot; return False if it is later than `slot_now`, or there is none."""
        if not self._upcoming or self._upcoming[0] > slot_now:
            return False
        slot = self._begun = heappop(self._upcoming)
        self._open = self._slots.pop(slot)
        self._open.reverse()  # they are taken from its end
        return True

    def next_due(self) -> float:
        """Return the earliest time at which `pop_due` may find an item; infinity if the wheel is empty."""
        near = self._near[0][0] if self._near else inf
        if self._open:
            return min(near, self._begun * GRAIN_SEC)
        return min(near, self._upcoming[0] * GRAIN_SEC) if self._upcoming else near
