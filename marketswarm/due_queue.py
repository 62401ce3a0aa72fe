"""Keep when each of many keys is due, so that a look at those that are due looks at no others. Pure."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

NEVER: Final = float("inf")
SPARE: Final = 1000
"""Replaced heap entries are dropped when there are this many more of them than of valid ones."""
MAX_OWNERS: Final = 2_000
"""Idle owners are forgotten when there are more owners than this."""


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

    def take(self, now: float, at_most: float = NEVER) -> list[str]:
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


@dataclass(slots=True)
class _Owner:
    """Hold how many keys of an owner run, when its next one may begin, and those that wait for that."""

    running: int = 0
    free_at: float = 0.0
    waiting: dict[str, None] = field(default_factory=dict)


class DueWork:
    """Decide which keys begin: those that are due, within limits.

    The next key is of the owner of whom the fewest run; owners with the same number take turns.

    Call `finish` for each key that `begin` returned, and `put` to make it due again.

    Args:
        find_owner: returns the owner of a key; called when the key falls due.
    """

    def __init__(self, find_owner: Callable[[str], str]) -> None:
        self.running: dict[str, str] = {}
        """The owner of each key that has begun and is not finished."""
        self._find_owner, self._due = find_owner, DueQueue()
        self._waiting: dict[str, tuple[float, str]] = {}  # since when, and for which owner
        self._owners: dict[str, _Owner] = {}
        self._turns: dict[str, None] = {}  # the owners with waiting keys, the next one first
        self._looked_at = -NEVER
        self.limit(1, 1)

    def __len__(self) -> int:
        """Return how many owners are known."""
        return len(self._owners)

    def limit(self, at_once: int, owner_at_once: int, spacing_sec: float = 0.0) -> None:
        """Limit how many keys run, in all and of one owner; those of one owner begin `spacing_sec` apart."""
        self._at_once, self._owner_at_once, self._spacing_sec = at_once, owner_at_once, spacing_sec

    def put(self, key: str, at: float) -> None:
        """Make `key` due at `at` in place of its earlier time; NEVER removes it.

        A key that runs when it falls due is dropped.
        """
        self._stop_waiting(key)
        self._due.put(key, at)

    def clear(self) -> None:
        """Remove all keys but those that run; the pauses of the owners stay."""
        for key in list(self._waiting):
            self._stop_waiting(key)
        self._due = DueQueue()

    def begin(self, now: float) -> str | None:
        """Return the next key that may begin, which runs from now on; None if none may.

        If `now` is before that of the last call, the clock was set back: what is left of each owner's pause
        stays as long as it was. When the keys are due is for the caller to say anew.
        """
        if now < self._looked_at:
            for each in self._owners.values():
                each.free_at -= self._looked_at - now
        self._looked_at = now
        for key in self._due.take(now):
            if key not in self.running:
                name = self._find_owner(key)
                self._waiting[key] = now, name
                self._owners.setdefault(name, _Owner()).waiting[key] = None
                self._turns.setdefault(name)
        best: str | None = None
        for name in self._find_free():
            owner = self._owners[name]
            if owner.free_at <= now and (best is None or owner.running < self._owners[best].running):
                best = name
                if not owner.running:  # no look at all others
                    break
        if best is None:
            return None
        owner = self._owners[best]
        key = next(iter(owner.waiting))
        self._stop_waiting(key)
        if best in self._turns:  # to the end
            self._turns[best] = self._turns.pop(best)
        owner.running, owner.free_at = owner.running + 1, now + self._spacing_sec
        self.running[key] = best
        return key

    def finish(self, key: str, now: float, pause_sec: float = 0.0) -> None:
        """Record that a key runs no longer, and that none of its owner may begin for `pause_sec`."""
        found = self._owners[self.running.pop(key)]
        found.running -= 1
        found.free_at = max(found.free_at, now + pause_sec) if pause_sec else found.free_at
        if len(self._owners) > MAX_OWNERS:
            owners = self._owners.items()
            self._owners = {n: it for n, it in owners if it.running or it.waiting or it.free_at > now}

    def next_at(self, now: float) -> float:
        """Return when the next key may begin, or falls due, unless `finish` is called earlier."""
        pauses = (max(now, self._owners[name].free_at) for name in self._find_free())
        return min(self._due.next_at(), min(pauses, default=NEVER))

    def overdue_sec(self, now: float) -> float:
        """Return how long the first of the waiting keys has waited."""
        return now - next(iter(self._waiting.values()), (now, ""))[0]

    def _find_free(self) -> Iterator[str]:
        """Yield the owners of waiting keys of whom one more may run."""
        if len(self.running) < self._at_once:
            yield from (name for name in self._turns if self._owners[name].running < self._owner_at_once)

    def _stop_waiting(self, key: str) -> None:
        if key in self._waiting:
            _, name = self._waiting.pop(key)
            del self._owners[name].waiting[key]
            if not self._owners[name].waiting:
                del self._turns[name]
