"""Show the messages that wait and those that no receiver took; read these in words that can be shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from marketswarm.bus import Bus, NoBusError
from marketswarm.operator.dead_messages import UndeliveredMessage, read_dead_messages
from marketswarm.text import escape_lines, escape_text
from services.board.rendering import Frame

SHOWN: Final = 200  # how many messages are shown, the newest; the notifier keeps 1,000
MAX_TEXT_CHARS: Final = 4000


@dataclass(frozen=True, slots=True)
class DeadMessageView:
    """A message that a channel refused for good, and why; `ts` is when, in epoch seconds, if it is known."""

    id: str
    channel: str
    reason: str
    ts: float | None
    title: str
    text: str
    severity: str


@dataclass(frozen=True, slots=True)
class NotificationsPage:
    """What the notifier has still to send, which is in the snapshot, and the messages that it gave up.

    `dead` are the newest of these, the newest first; `away` has the reason for each bus that was not read.
    """

    template: ClassVar = "notifications.html"
    frame: Frame
    dead: tuple[DeadMessageView, ...] = ()
    away: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """The newest messages that were given up, the newest first; `away` has the reason for each failed bus."""

    messages: tuple[DeadMessageView, ...]
    away: dict[str, str]


async def read_dead_letters(buses: Sequence[Bus]) -> DeadLetters:
    try:
        found, away = await read_dead_messages(buses, SHOWN)
    except NoBusError as error:
        return DeadLetters((), dict(error.failed))
    newest = [_make_view(each) for each in reversed(found[-SHOWN:])]
    return DeadLetters(tuple(newest), away)


def _make_view(message: UndeliveredMessage) -> DeadMessageView:
    return DeadMessageView(
        message.id,
        escape_text(message.channel),
        escape_text(message.reason),
        message.ts,
        escape_text(message.title),
        escape_lines(message.text[:MAX_TEXT_CHARS]),
        message.severity,
    )
