"""Results not in the outlook yet, while the bus of the alerts takes nothing: bounded, in order. Pure.

Of a long row of the same only its beginning and its end are kept: what is between decides nothing.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from services.massive.outlook import Sight

ROWS_AT_MOST: Final = 100
"""Rows of the same, of one target; beyond that the oldest go."""

Named = tuple[str, Sight]


class Backlog:
    """Sights by target. `whole` is how many of the same in a row can matter."""

    def __init__(self, whole: int) -> None:
        self.whole = whole
        self._size = 0
        self._rows: dict[str, deque[list[Sight]]] = {}

    def __len__(self) -> int:
        return self._size

    def put(self, name: str, sight: Sight) -> None:
        """Adds one; it is newer than those before it."""
        rows = self._rows.setdefault(name, deque())
        if rows and len(rows[-1]) > self.whole and _alike(rows[-1][-1], sight):
            rows[-1][-1] = sight
            return
        self._size += 1
        if rows and _alike(rows[-1][-1], sight):
            rows[-1].append(sight)
        else:
            rows.append([sight])
        if len(rows) > ROWS_AT_MOST:
            self._size -= len(rows.popleft())

    def first(self, count: int) -> list[Named]:
        """The oldest, of all targets together."""
        every = ((name, sight) for name, rows in self._rows.items() for row in rows for sight in row)
        return sorted(every, key=lambda each: each[1].n)[:count]

    def done(self, taken: Iterable[Named]) -> None:
        """These are in the outlook now."""
        for name, sight in taken:
            rows = self._rows.get(name)
            row = rows[0] if rows else None
            if rows is None or row is None or sight not in row:
                continue
            row.remove(sight)
            self._size -= 1
            if not row:
                rows.popleft()
            if not rows:
                del self._rows[name]

    def forget(self, name: str) -> None:
        """Nobody wants to know any more."""
        self._size -= sum(map(len, self._rows.pop(name, ())))


def _alike(one: Sight, other: Sight) -> bool:
    return (one.error is None) == (other.error is None)
