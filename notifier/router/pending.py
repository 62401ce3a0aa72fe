"""Queue notices, so that related ones are sent together: for the group wait, or for the digest.

Pure; times are epoch seconds. A single notice after a quiet time is due within a quarter of a second. Several
are due `group_wait_sec` after the first of them, and so is a single one shortly after others, because
services that fail of one cause do not fail at one moment. A gap, such as a restart, is never due at once: it
has ended, and other services restarted with it. One about the healer or a bus waits 5 s at most, and all
that are queued are due with it. Outages that were healed before a message about them was sent wait for one
message in a while, the digest; once it is due, they are queued like every notice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from operator import attrgetter
from typing import Final

from notifier.router.incident import Notice, NoticeKind, parse_notice

SENTINEL_WAIT_SEC: Final = 5.0
"""The longest wait of a notice about the healer or a bus, in seconds. The sentinel waits for 15, as shipped,
and then sends a message itself, because no delivery record is written while a notice waits."""
ALONE_SEC: Final = 0.25
"""The longest wait of a single notice after a quiet time, in seconds."""
MAX_DIGEST_NOTICES: Final = 200
"""A digest with so many notices is due at once."""
LEAST_DIGEST_WAIT_SEC: Final = 2.0
"""How long a notice waits for the digest in any case: an ok may be read before the remedy that led to it."""


class StoredNotices:
    """Notices in the order in which they were queued, each kept as a field of the state.

    Args:
        prefix: what the name of such a field begins with; the notice's id follows.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.notices: dict[str, Notice] = {}
        self._stored: set[str] = set()  # ids of the notices in the stored state
        self._changed: set[str] = set()  # ids of notices that were queued, changed or removed
        self._last_order = 0

    def restore(self, fields: Mapping[str, bytes]) -> list[str]:
        """Restore what `changes` returned in an earlier run; return the fields that can't be parsed."""
        raws = {name: raw for name, raw in fields.items() if name.startswith(self._prefix)}
        found = {name: parse_notice(raw) for name, raw in raws.items()}
        usable = [each for name, each in found.items() if each is not None and name == self._prefix + each.id]
        for notice in sorted(usable, key=attrgetter("order", "at")):
            # the order stays as it is stored: with another one, those queued later would come before it
            self._last_order = notice.order - 1
            self.put(notice)
        self._changed.clear()
        self._stored = set(self.notices)
        return [name for name in found if name.removeprefix(self._prefix) not in self._stored]

    def changes(self) -> dict[str, bytes | None]:
        """Return the fields that changed since the last call; None for deleted ones."""
        found: dict[str, bytes | None] = {}
        for ident in self._changed:
            if (notice := self.notices.get(ident)) is not None:
                found[self._prefix + ident] = notice.encode()
                self._stored.add(ident)
            elif ident in self._stored:
                found[self._prefix + ident] = None
                self._stored.remove(ident)
        self._changed.clear()
        return found

    def shift_times(self, by_sec: float) -> None:
        """Move the times at which the notices were queued by `by_sec`; their order stays."""
        for notice in list(self.notices.values()):
            self._replace(replace(notice, at=notice.at + by_sec))

    def list_past_times(self) -> list[float]:
        return [notice.at for notice in self.notices.values()]

    def cap_times(self, now: float) -> None:
        """Have notices that were queued later than `now` count as queued now."""
        for notice in [each for each in self.notices.values() if each.at > now]:
            self._replace(replace(notice, at=now))

    def put(self, notice: Notice) -> None:
        """Queue a notice behind all others, or replace one at its place."""
        known = self.notices.get(notice.id)
        self._last_order += known is None
        self._replace(replace(notice, order=self._last_order if known is None else known.order))

    def _replace(self, notice: Notice) -> None:
        self.notices[notice.id] = notice
        self._changed.add(notice.id)

    def drop(self, notice_id: str) -> Notice | None:
        self._changed.add(notice_id)
        return self.notices.pop(notice_id, None)


class HealedDigest(StoredNotices):
    """The notices of the next digest."""

    def change_words(self, ident: str, words: str) -> None:
        """Replace the words of a notice, if it is still here."""
        notice = self.notices.get(ident)
        if notice is not None and notice.words != words:
            self.put(replace(notice, words=words))

    def due_at(self, digest_sec: float) -> float | None:
        """Return when the digest is due, `digest_sec` after its first notice; None without a notice."""
        if not self.notices:
            return None
        first = next(iter(self.notices.values()))
        if len(self.notices) >= MAX_DIGEST_NOTICES:
            return first.at
        return first.at + max(digest_sec, LEAST_DIGEST_WAIT_SEC)

    def take(self, now: float) -> list[Notice]:
        """Remove and return all notices, as ones of `now`: their words say when it was."""
        taken = [replace(each, ts=now, at=now) for each in self.notices.values()]
        for each in taken:
            self.drop(each.id)
        return taken


class PendingNotices(StoredNotices):
    """The notices that wait for others of their group."""

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self._taken_at = float("-inf")
        self._held: dict[str, int] = {}  # event ids, and how many notices have them
        self._ids_by_key: dict[str, list[str]] = {}  # notices' ids by the key of their incident

    def put(self, notice: Notice) -> None:
        self.drop(notice.id)
        super().put(notice)
        self._ids_by_key.setdefault(notice.key, []).append(notice.id)
        for ident in notice.ids:
            self._held[ident] = self._held.get(ident, 0) + 1

    def shift_times(self, by_sec: float) -> None:
        super().shift_times(by_sec)
        self._taken_at += by_sec

    def change_channels(self, notice_id: str, channels: tuple[str, ...]) -> None:
        self._replace(replace(self.notices[notice_id], channels=channels))

    def drop(self, notice_id: str) -> Notice | None:
        notice = super().drop(notice_id)
        if notice is not None:
            self._ids_by_key[notice.key].remove(notice_id)
            if not self._ids_by_key[notice.key]:
                del self._ids_by_key[notice.key]
            for ident in notice.ids:
                self._held[ident] -= 1
                if not self._held[ident]:
                    del self._held[ident]
        return notice

    def list_oldest(self, at_most: int) -> list[Notice]:
        """Return the oldest notices, `at_most` of them; they stay until `drop_sent`."""
        return list(islice(self.notices.values(), at_most))

    def drop_sent(self, notices: Iterable[Notice], now: float) -> None:
        """Remove notices for which there is a message; `now` ends the quiet time."""
        self._taken_at = now
        for notice in notices:
            self.drop(notice.id)

    def opening(self, incident_id: str) -> Notice | None:
        """Return the queued notice that an outage began; `incident_id` is the id of its miss."""
        notice = self.notices.get(incident_id)
        return notice if notice is not None and notice.say is NoticeKind.DOWN else None

    def of(self, key: str) -> list[Notice]:
        """Return the notices about the incident with this key."""
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
        due_at = first.at + (short_sec if is_alone and is_after_quiet else group_wait_sec)
        if group_wait_sec <= SENTINEL_WAIT_SEC:
            return due_at
        hurried = (each.at for each in self.notices.values() if each.may_be_sent_by_sentinel)
        return min(due_at, min(hurried, default=due_at) + SENTINEL_WAIT_SEC)
