"""When each incident is to be looked at again: a look is at those that are due, and at no others. Pure."""

import heapq
from typing import Final

NEVER: Final = float("inf")
SPARE: Final = 1000
"""Entries that were replaced are dropped when there are so many more of them than of the others."""


class Agenda:
    """Keys, and the time (epoch seconds) at which each is due; a later entry replaces an earlier one."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def put(self, key: str, at: float) -> None:
        """Have `key` be due at `at`, or never."""
        if at == NEVER:
            self._at.pop(key, None)
        elif self._at.get(key) != at:
            self._at[key] = at
            heapq.heappush(self._heap, (at, key))
            if len(self._heap) > 2 * len(self._at) + SPARE:
                self._heap = [(at, key) for key, at in self._at.items()]
                heapq.heapify(self._heap)

    def sooner(self, key: str, at: float) -> None:
        """Have `key` be due at `at`, unless it is due before that anyway."""
        self.put(key, min(at, self._at.get(key, NEVER)))

    def take(self, now: float, at_most: int) -> list[str]:
        """Take out keys that are due at `now`, the earliest first."""
        found: list[str] = []
        while len(found) < at_most and self.next_at() <= now:
            _, key = heapq.heappop(self._heap)
            del self._at[key]
            found.append(key)
        return found

    def next_at(self) -> float:
        """When the next key is due."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else NEVER
