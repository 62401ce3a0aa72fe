"""Show the messages that wait and those that no receiver took; read these in words that can be shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from marketswarm.bus import Bus, NoBusError
from marketswarm.operator.dead_messages import UndeliveredMessage, read_dead_messages
from marketswarm.status.channel_records import ADD_CHANNEL
from marketswarm.text import escape_lines
from services.board.fleet.frame import Frame
from services.board.fleet.words import escape_fields

SHOWN: Final = 200  # how many messages are shown, the newest; the notifier keeps 1,000
MAX_TEXT_CHARS: Final = 4000


@dataclass(frozen=True, slots=True)
class NotificationsPage:
    """What the notifier has still to send, which is in the snapshot, and the messages that it gave up.

    `dead` are the newest of these, the newest first; `away` has the reason for each bus that was not read.
    `adding` says how to add a channel.
    """

    template: ClassVar = "notifications.html"
    frame: Frame
    dead: tuple[UndeliveredMessage, ...] = ()
    away: Mapping[str, str] = field(default_factory=dict)
    adding: tuple[str, ...] = ADD_CHANNEL


async def read_dead_letters(
    buses: Sequence[Bus],
) -> tuple[tuple[UndeliveredMessage, ...], Mapping[str, str]]:
    """Return the newest messages that were given up, the newest first, and the reason for each failed bus."""
    try:
        found, away = await read_dead_messages(buses, SHOWN)
    except NoBusError as error:
        return (), error.failed
    return tuple(map(_escape, reversed(found[-SHOWN:]))), away


def _escape(message: UndeliveredMessage) -> UndeliveredMessage:
    shown = replace(message, text=escape_lines(message.text[:MAX_TEXT_CHARS]))
    return escape_fields(shown, "channel", "reason", "title")
