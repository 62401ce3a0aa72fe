"""Read and write announcements: the stream `board:announcements` on system-redis, about 500 entries."""

import secrets
from typing import Any, Final

from marketswarm.bus import Bus
from marketswarm.keys import BOARD_ANNOUNCEMENTS
from marketswarm.operator.announcement import Announcement, AnnouncementEntry, fold_announcements

KEPT: Final = 500
_READ: Final = 2 * KEPT  # the server keeps somewhat more than it has to
_FIELD: Final = b"entry"


def create_announcement_id() -> str:
    return secrets.token_hex(4)


async def read_announcements(bus: Bus) -> tuple[Announcement, ...]:
    """Return all announcements, the one that was changed last first. Raises BusError.

    An entry that can't be parsed is skipped.
    """
    found: Any = await bus.ask(bus.client.xrevrange(BOARD_ANNOUNCEMENTS, count=_READ))
    entries = (AnnouncementEntry.parse(fields.get(_FIELD, b"")) for _, fields in reversed(found))
    return fold_announcements(entry for entry in entries if entry is not None)


async def write_announcement(bus: Bus, entry: AnnouncementEntry) -> None:
    """Add an update of an announcement, or its first entry. Raises BusError."""
    fields: dict[Any, Any] = {_FIELD: entry.encode()}
    await bus.ask(bus.client.xadd(BOARD_ANNOUNCEMENTS, fields, maxlen=KEPT, approximate=True))
