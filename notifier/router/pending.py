"""Queue notices for the group wait, so that related notices are sent together.

Pure; times are epoch seconds. A single notice after a quiet time is due within a quarter of a second. Several
are due `group_wait_sec` after the first of them, and so is a single one shortly after others, because
services that fail of one cause do not fail at one moment. A gap, such as a restart, is never due at once: it
is over, and other services restarted with it.
"""

from dataclasses import replace
from itertools import islice
from operator import attrgetter
from typing import Final

from notifier.router.incident import Notice, NoticeKind

ALONE_SEC: Final = 0.25
"""The longest wait of a single notice after a quiet time, in seconds."""


class PendingNotices:
    """The notices in the order in which they were queued."""

    def __init__(self) -> None:
        self._taken_at = float("-inf")
        self.notices: dict[str, Notice] = {}
        self._held: dict[str, int] = {}  # event ids, and how many notices have them
        self._ids_by_key: dict[str, list[str]] = {}  # notices' ids by the key of their incident
        self._changed: set[str] = set()  # ids of notices that were queued, changed or removed

    def __len__(self) -> int:
        return len(self.notices)

    def put(self, notice: Notice) -> None:
        self.drop(notice.id)
        self.notices[notice.id] = notice
        self._changed.add(notice.id)
        self._ids_by_key.setdefault(notice.key, []).append(notice.id)
        for ident in notice.ids:
            self._held[ident] = self._held.get(ident, 0) + 1

    def change_channels(self, notice_id: str, channels: tuple[str, ...]) -> None:
        self.notices[notice_id] = replace(self.notices[notice_id], channels=channels)
        self._changed.add(notice_id)

    def drop(self, notice_id: str) -> Notice | None:
        notice = self.notices.pop(notice_id, None)
        if notice is not None:
            self._changed.add(notice_id)
            self._ids_by_key[notice.key].remove(notice_id)
            if not self._ids_by_key[notice.key]:
                del self._ids_by_key[notice.key]
            for ident in notice.ids:
                self._held[ident] -= 1
                if not self._held[ident]:
                    del self._held[ident]
        return notice

    def take_changed(self) -> set[str]:
        """Return the ids of the notices that were queued, changed or removed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def take(self, now: float, at_most: int) -> list[Notice]:
        """Remove and return the oldest notices, `at_most` of them; `now` ends the quiet time."""
        self._taken_at = now
        notices = list(islice(self.notices.values(), at_most))
        for notice in notices:
            self.drop(notice.id)
        return notices

    def opening(self, incident_id: str) -> Notice | None:
        """Return the queued notice that an outage began; `incident_id` is the id of its miss."""
        notice = self.notices.get(incident_id)
        return notice if notice is not None and notice.say is NoticeKind.DOWN else None

    def of(self, key: str) -> list[Notice]:
        return [self.notices[ident] for ident in self._ids_by_key.get(key, ())]

    def holds(self, event_id: str) -> bool:
        return event_id in self._held

    def due_at(self, group_wait_sec: float) -> float | None:
        """Return when the queued notices are due, in epoch seconds; None if there are none."""
        if not self.notices:
            return None
        first = min(self.notices.values(), key=attrgetter("at"))
        is_alone = len(self.notices) == 1 and first.say is not NoticeKind.NOTE
        is_after_quiet = first.at - self._taken_at >= group_wait_sec
        short_sec = min(ALONE_SEC, group_wait_sec / 4)
        return first.at + (short_sec if is_alone and is_after_quiet else group_wait_sec)
