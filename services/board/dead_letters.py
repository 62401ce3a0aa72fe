"""Read the messages that no receiver took, in words that can be shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from marketswarm.bus import Bus, NoBusError
from marketswarm.operator_link.dead_messages import UndeliveredMessage, read_dead_messages
from marketswarm.text import escape_lines, escape_text
from services.board.pages import DeadMessageView

SHOWN: Final = 200
"""How many messages are shown, the newest; the notifier keeps 1,000."""
MAX_TEXT_CHARS: Final = 4000


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """The newest messages that were given up, the newest first; `away` has the reason for each failed bus."""

    messages: tuple[DeadMessageView, ...]
    away: dict[str, str]


async def read_dead_letters(buses: Sequence[Bus]) -> DeadLetters:
    """Return the messages that some bus keeps; none if no bus answers."""
    try:
        found, away = await read_dead_messages(buses, SHOWN)
    except NoBusError as error:
        return DeadLetters((), dict(error.failed))
    newest = [_make_view(each) for each in reversed(found[-SHOWN:])]
    return DeadLetters(tuple(newest), away)


def _make_view(message: UndeliveredMessage) -> DeadMessageView:
    """Return a message of which every character can be shown."""
    return DeadMessageView(
        message.id,
        escape_text(message.channel),
        escape_text(message.reason),
        message.ts,
        escape_text(message.title),
        escape_lines(message.text[:MAX_TEXT_CHARS]),
        message.severity,
    )
