"""What waits to be said, so that what happens together is said together. Pure; times are epoch seconds.

A line that stays alone after quiet goes out after a quarter of a second at most. Several go out
`group_wait_sec` after the first of them, and so does one that follows closely on others: who dies of one
cause does not die in one moment.
"""

from dataclasses import replace
from itertools import islice
from typing import Final

from notifier.router.incident import Line, Say

ALONE_SEC: Final = 0.25


class Waiting:
    """Lines in the order in which they came, and since when."""

    def __init__(self) -> None:
        self._taken_at = float("-inf")
        self.lines: dict[str, Line] = {}
        self._held: dict[str, int] = {}  # event ids, and how many lines have them
        self._of: dict[str, list[str]] = {}  # the lines' ids by what they are on

    def __len__(self) -> int:
        return len(self.lines)

    def put(self, line: Line) -> None:
        """Adds a line, in the place of one of the same id if there is one."""
        self.drop(line.id)
        self.lines[line.id] = line
        self._of.setdefault(line.key, []).append(line.id)
        for ident in line.ids:
            self._held[ident] = self._held.get(ident, 0) + 1

    def readdress(self, line_id: str, channels: tuple[str, ...]) -> None:
        """Have a line go to these channels; it keeps its place."""
        self.lines[line_id] = replace(self.lines[line_id], channels=channels)

    def drop(self, line_id: str) -> Line | None:
        """Takes a line out."""
        line = self.lines.pop(line_id, None)
        if line is not None:
            self._of[line.key].remove(line_id)
            if not self._of[line.key]:
                del self._of[line.key]
            for ident in line.ids:
                self._held[ident] -= 1
                if not self._held[ident]:
                    del self._held[ident]
        return line

    def take(self, now: float, at_most: int) -> list[Line]:
        """Takes lines out at `now`, in their order."""
        self._taken_at = now
        lines = list(islice(self.lines.values(), at_most))
        for line in lines:
            self.drop(line.id)
        return lines

    def opening(self, incident_id: str) -> Line | None:
        """The line that is to say that an outage began, by the id of its miss."""
        line = self.lines.get(incident_id)
        return line if line is not None and line.say is Say.DOWN else None

    def of(self, key: str) -> list[Line]:
        """All that is to be said of one thing."""
        return [self.lines[ident] for ident in self._of.get(key, ())]

    def holds(self, event_id: str) -> bool:
        """Whether an event is part of what waits."""
        return event_id in self._held

    def due_at(self, group_wait_sec: float) -> float | None:
        """When the lines are to go out; None while there are none."""
        if not self.lines:
            return None
        first = min(line.at for line in self.lines.values())
        alone = len(self.lines) == 1 and first - self._taken_at >= group_wait_sec
        return first + (min(ALONE_SEC, group_wait_sec / 4) if alone else group_wait_sec)
