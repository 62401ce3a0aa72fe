"""Keep the outages that were healed before a message about them was sent, for one message in a while. Pure.

They are notices that wait longer than others: stored as fields of the state, and queued like every notice
once the digest is due. Times are epoch seconds.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from notifier.router.incident import Notice, parse_notice

DIGEST_FIELD: Final = "r:d:"
"""Prefix of the state's fields that hold a notice for the digest; its id follows."""
MAX_NOTICES: Final = 200
"""A digest with so many notices is due at once."""
LEAST_WAIT_SEC: Final = 2.0
"""How long a notice waits in any case: an ok may be read before the remedy that led to it."""


class HealedDigest:
    """The notices of the next digest, in the order in which they were added."""

    def __init__(self) -> None:
        self._notices: dict[str, Notice] = {}
        self._changed: set[str] = set()
        self._stored: set[str] = set()  # ids of the notices in the stored state

    def restore(self, fields: Mapping[str, bytes]) -> list[str]:
        """Restore what `changes` returned in an earlier run; return the fields that can't be parsed."""
        unusable: list[str] = []
        found: list[Notice] = []
        for name, raw in fields.items():
            if name.startswith(DIGEST_FIELD):
                notice = parse_notice(raw)
                if notice is None or name != DIGEST_FIELD + notice.id:
                    unusable.append(name)
                else:
                    found.append(notice)
        self._notices = {each.id: each for each in sorted(found, key=lambda each: each.at)}
        self._stored = set(self._notices)
        return unusable

    def add(self, notice: Notice) -> None:
        self._notices[notice.id] = notice
        self._changed.add(notice.id)

    def change_words(self, ident: str, words: str) -> None:
        """Replace the words of a notice, if it is still here."""
        notice = self._notices.get(ident)
        if notice is not None and notice.words != words:
            self.add(replace(notice, words=words))

    def due_at(self, digest_sec: float) -> float | None:
        """Return when the digest is due, `digest_sec` after its first notice; None without a notice."""
        if not self._notices:
            return None
        first = next(iter(self._notices.values()))
        if len(self._notices) >= MAX_NOTICES:
            return first.at
        return first.at + max(digest_sec, LEAST_WAIT_SEC)

    def take(self, now: float) -> list[Notice]:
        """Remove and return all notices, as ones of `now`: their words say when it was."""
        taken = [replace(each, ts=now, at=now) for each in self._notices.values()]
        self._changed.update(self._notices)
        self._notices.clear()
        return taken

    def changes(self) -> dict[str, bytes | None]:
        """Return the fields that changed since the last call; None for deleted ones."""
        changed, self._changed = self._changed, set()
        found: dict[str, bytes | None] = {}
        for ident in sorted(changed & (self._notices.keys() | self._stored)):
            notice = self._notices.get(ident)
            found[DIGEST_FIELD + ident] = None if notice is None else notice.encode()
        self._stored = set(self._notices)
        return found
