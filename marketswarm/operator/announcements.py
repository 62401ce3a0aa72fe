"""Define announcements, which people write for the public: incidents and maintenance.

Each entry on the stream is a whole update: who wrote what, and how things stand. An announcement is the
entries with its id; what holds is what the newest of them says. So two people who write at the same time lose
nothing, and a stream that was cut at its old end still has all that is shown.

They are the stream `board:announcements` on system-redis, about 500 entries.
"""

import secrets
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from marketswarm.bus import Bus
from marketswarm.keys import BOARD_ANNOUNCEMENTS
from marketswarm.operator.fields import STRICT, Epoch, Ident, JsonRecord, Name

MAX_CHARS: Final = 2000
MAX_TAGS: Final = 20
MAX_UPDATES: Final = 50
"""How many updates of one announcement are shown, the newest ones."""
PAST_SEC: Final = 14 * 86_400.0
"""How long an announcement is shown after its end."""
KEPT: Final = 500
_READ: Final = 2 * KEPT  # the server keeps somewhat more than it has to
_FIELD: Final = b"entry"


class AnnouncementState(StrEnum):
    """What an update says of an announcement. `withdrawn`: it was a mistake, and is not shown any more."""

    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    SCHEDULED = "scheduled"  # maintenance, until it has ended or an update says more
    RESOLVED = "resolved"
    WITHDRAWN = "withdrawn"


class AnnouncementPhase(StrEnum):
    """The phase of an announcement at a moment, in words for people."""

    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    PLANNED = "planned"
    UNDER_WAY = "under way"
    RESOLVED = "resolved"
    OVER = "over"
    WITHDRAWN = "withdrawn"


ENDED: Final = frozenset({AnnouncementPhase.RESOLVED, AnnouncementPhase.OVER, AnnouncementPhase.WITHDRAWN})


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class AnnouncementEntry(JsonRecord):
    """One update of the announcement `id`, written at `ts` by `author`. Times are epoch seconds.

    Maintenance has a begin and an end. Without `tags` it concerns everything that is public. Raises
    ValueError when a field is out of bounds, maintenance lacks its begin or end, or ends before it begins.
    """

    id: Ident
    ts: Epoch
    title: Name
    text: Annotated[str, Field(min_length=1, max_length=MAX_CHARS)]
    state: AnnouncementState
    author: Name
    tags: Annotated[tuple[Name, ...], Field(max_length=MAX_TAGS)] = ()
    begins_at: Epoch | None = None
    ends_at: Epoch | None = None

    def __post_init__(self) -> None:
        if (self.begins_at is None) != (self.ends_at is None):
            raise ValueError("maintenance has a begin and an end")
        if self.begins_at is not None and self.ends_at is not None and self.ends_at <= self.begins_at:
            raise ValueError("maintenance ends after it begins")
        if self.state is AnnouncementState.SCHEDULED and self.begins_at is None:
            raise ValueError("only maintenance is scheduled")


@dataclass(frozen=True, slots=True)
class Announcement:
    """An announcement: its updates, at least one, the newest first."""

    updates: tuple[AnnouncementEntry, ...]

    @property
    def latest(self) -> AnnouncementEntry:
        """The newest update, whose title, times and tags hold."""
        return self.updates[0]

    def find_phase(self, now: float) -> AnnouncementPhase:
        """Return whether it is planned, under way or over at `now`, in epoch seconds."""
        latest = self.latest
        if latest.state is not AnnouncementState.SCHEDULED:
            return AnnouncementPhase(latest.state)
        if latest.begins_at is None or now < latest.begins_at:
            return AnnouncementPhase.PLANNED
        is_over = latest.ends_at is not None and now >= latest.ends_at
        return AnnouncementPhase.OVER if is_over else AnnouncementPhase.UNDER_WAY

    def find_end(self, now: float) -> float | None:
        """Return when it ended, in epoch seconds; None if it has not by `now`."""
        phase = self.find_phase(now)
        if phase is AnnouncementPhase.OVER:
            return self.latest.ends_at
        return self.latest.ts if phase in ENDED else None

    def concerns(self, tag: str) -> bool:
        """Return True if it is about the services with a tag; the empty tag stands for all."""
        return not tag or not self.latest.tags or tag in self.latest.tags


def fold_announcements(entries: Iterable[AnnouncementEntry]) -> tuple[Announcement, ...]:
    """Return the announcements in some entries, which are in order, the oldest first.

    The one that was changed last comes first.
    """
    found: dict[str, list[AnnouncementEntry]] = {}
    for entry in entries:
        found[entry.id] = [entry, *found.pop(entry.id, ())][:MAX_UPDATES]
    return tuple(Announcement(tuple(updates)) for updates in reversed(found.values()))


def select_open(announcements: Iterable[Announcement], now: float, tag: str = "") -> list[Announcement]:
    some = [one for one in announcements if one.find_end(now) is None and one.concerns(tag)]
    return sorted(some, key=lambda one: one.find_phase(now) is AnnouncementPhase.PLANNED)


def select_past(announcements: Iterable[Announcement], now: float, tag: str = "") -> list[Announcement]:
    """Return those that ended within PAST_SEC and were not withdrawn, the latest first."""
    some = [
        (end, one)
        for one in announcements
        if (end := one.find_end(now)) is not None
        and now - end < PAST_SEC
        and one.find_phase(now) is not AnnouncementPhase.WITHDRAWN
        and one.concerns(tag)
    ]
    return [one for _, one in sorted(some, key=lambda pair: -pair[0])]


def create_announcement_id() -> str:
    return secrets.token_hex(4)


async def read_announcements(bus: Bus) -> tuple[Announcement, ...]:
    """The one that was changed last is first; skip entries that can't be parsed. Raises BusError."""
    found: Any = await bus.ask(bus.client.xrevrange(BOARD_ANNOUNCEMENTS, count=_READ))
    entries = (AnnouncementEntry.parse(fields.get(_FIELD, b"")) for _, fields in reversed(found))
    return fold_announcements(entry for entry in entries if entry is not None)


async def write_announcement(bus: Bus, entry: AnnouncementEntry) -> None:
    """Add an update of an announcement, or its first entry. Raises BusError."""
    fields: dict[Any, Any] = {_FIELD: entry.encode()}
    await bus.ask(bus.client.xadd(BOARD_ANNOUNCEMENTS, fields, maxlen=KEPT, approximate=True))
