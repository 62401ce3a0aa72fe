"""Queue notices for the group wait, so that what happens together is sent together.

Pure; times are epoch seconds. A single notice after a quiet time is due within a quarter of a second.
Several are due `group_wait_sec` after the first of them, and so is a single one shortly after others:
services that fail of one cause do not fail at one moment.
"""

from dataclasses import replace
from itertools import islice
from typing import Final

from notifier.router.incident import Notice, NoticeKind

ALONE_SEC: Final = 0.25


class PendingNotices:
    """The notices in the order in which they were queued."""

    def __init__(self) -> None:
        self._taken_at = float("-inf")
        self.lines: dict[str, Notice] = {}
        self._held: dict[str, int] = {}  # event ids, and how many lines have them
        self._of: dict[str, list[str]] = {}  # the lines' ids by what they are on

    def __len__(self) -> int:
        return len(self.lines)

    def put(self, line: Notice) -> None:
        """Queue a notice, in place of one with the same id."""
        self.drop(line.id)
        self.lines[line.id] = line
        self._of.setdefault(line.key, []).append(line.id)
        for ident in line.ids:
            self._held[ident] = self._held.get(ident, 0) + 1

    def readdress(self, line_id: str, channels: tuple[str, ...]) -> None:
        """Change the channels of a notice, which keeps its place."""
        self.lines[line_id] = replace(self.lines[line_id], channels=channels)

    def drop(self, line_id: str) -> Notice | None:
        """Remove and return a notice; None if it isn't queued."""
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

    def take(self, now: float, at_most: int) -> list[Notice]:
        """Remove and return the oldest notices at `now`."""
        self._taken_at = now
        lines = list(islice(self.lines.values(), at_most))
        for line in lines:
            self.drop(line.id)
        return lines

    def opening(self, incident_id: str) -> Notice | None:
        """Return the queued notice that an outage began; `incident_id` is the id of its miss."""
        line = self.lines.get(incident_id)
        return line if line is not None and line.say is NoticeKind.DOWN else None

    def of(self, key: str) -> list[Notice]:
        """Return all queued notices about one incident."""
        return [self.lines[ident] for ident in self._of.get(key, ())]

    def holds(self, event_id: str) -> bool:
        """Return True if an event is part of a queued notice."""
        return event_id in self._held

    def due_at(self, group_wait_sec: float) -> float | None:
        """Return when the notices are due; None if there are none."""
        if not self.lines:
            return None
        first = min(line.at for line in self.lines.values())
        alone = len(self.lines) == 1 and first - self._taken_at >= group_wait_sec
        return first + (min(ALONE_SEC, group_wait_sec / 4) if alone else group_wait_sec)
