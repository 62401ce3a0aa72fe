"""Number what is published, and keep the latest of it for clients that come back."""

import itertools
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from marketswarm.text import parse_digits

T = TypeVar("T")


class Ring(Generic[T]):
    """Hold the latest published items; each has a number, which grows by one.

    A position is `<boot>-<number>`: everything up to that number is seen. `boot` is the id of this process.

    Args:
        most: how many items are kept.
        most_bytes: how many bytes of them, as `size_of` measures an item.
    """

    def __init__(self, boot: str, most: int, most_bytes: int, size_of: Callable[[T], int]) -> None:
        self.number = 0
        self._boot, self._most, self._most_bytes, self._size_of = boot, most, most_bytes, size_of
        self._kept: deque[T] = deque()
        self._bytes = 0

    @property
    def position(self) -> str:
        return self.format_position(self.number)

    def format_position(self, number: int) -> str:
        return f"{self._boot}-{number}"

    def advance(self) -> int:
        """Count the next item, which `keep` must be called with; return its number."""
        self.number += 1
        return self.number

    def keep(self, item: T) -> None:
        """Keep the item that `advance` counted; drop the oldest ones beyond the bounds."""
        self._kept.append(item)
        self._bytes += self._size_of(item)
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            self._bytes -= self._size_of(self._kept.popleft())

    def find_missed(self, position: str) -> list[T] | None:
        """Return the items after a position, oldest first; None if it is unknown, or some are lost."""
        boot, _, text = position.rpartition("-")
        last, first_kept = parse_digits(text), self.number + 1 - len(self._kept)
        if boot != self._boot or last is None or not first_kept - 1 <= last <= self.number:
            return None
        return list(itertools.islice(self._kept, last + 1 - first_kept, None))

    def clear(self) -> None:
        """Drop all items, because some were lost before they came here: no earlier position is known."""
        self.number += 1
        self._kept.clear()
        self._bytes = 0
