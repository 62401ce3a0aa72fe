"""Keep when each of many keys is due, so that a look at those that are due looks at no others. Pure."""

import heapq
from typing import Final

NEVER: Final = float("inf")
SPARE: Final = 1000
"""Replaced heap entries are dropped when there are this many more of them than of valid ones."""


class DueQueue:
    """A priority queue of keys by the time at which each is due; a later entry replaces an earlier one."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def put(self, key: str, at: float) -> None:
        """Make `key` due at `at` in place of its earlier time; NEVER removes the key."""
        if at == NEVER:
            self._at.pop(key, None)
        elif self._at.get(key) != at:
            self._at[key] = at
            heapq.heappush(self._heap, (at, key))
            if len(self._heap) > 2 * len(self._at) + SPARE:
                self._heap = [(at, key) for key, at in self._at.items()]
                heapq.heapify(self._heap)

    def put_earlier(self, key: str, at: float) -> None:
        """Make `key` due at `at`, unless it is due earlier anyway."""
        self.put(key, min(at, self._at.get(key, NEVER)))

    def take(self, now: float, at_most: int) -> list[str]:
        """Remove and return the keys that are due at `now`, earliest first, `at_most` of them."""
        found: list[str] = []
        while len(found) < at_most and self.next_at() <= now:
            _, key = heapq.heappop(self._heap)
            del self._at[key]
            found.append(key)
        return found

    def next_at(self) -> float:
        """Return NEVER if the queue is empty."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else NEVER
