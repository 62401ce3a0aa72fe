"""A message that takes several requests: what of it was accepted, so that a repeat does not begin anew.

The receiver drops repeats all the same; but a message of a hundred parts, of which each attempt gets through
fifty, would never come to its end. Kept in the process only, for the messages that were tried last: others
are sent between two attempts at one.
"""

import traceback
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from marketswarm.channels.message import Message

MESSAGES_KEPT: Final = 100


class AcceptedParts:
    """Remembers the parts accepted of each message."""

    def __init__(self) -> None:
        self._accepted: OrderedDict[str, set[str]] = OrderedDict()

    def remaining(self, ident: str, parts: Iterable[str]) -> list[str]:
        """Return the parts of the message of that id that are still to be sent."""
        accepted = self._accepted.setdefault(ident, set())
        self._accepted.move_to_end(ident)
        if len(self._accepted) > MESSAGES_KEPT:
            self._accepted.popitem(last=False)
        return [part for part in parts if part not in accepted]

    def mark_accepted(self, ident: str, part: str) -> None:
        """Record that a part was accepted, maybe later than anyone waited for it."""
        if ident in self._accepted:
            self._accepted[ident].add(part)

    def forget(self, ident: str) -> None:
        """Record that all of a message was accepted: whoever sends it again means it."""
        self._accepted.pop(ident, None)


LONGEST_RETRY_SEC: Final = 3600.0
"""A receiver that asks for more than that is asked again all the same."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receiver answered when it accepted: in a word or number, fit to be shown.

    `anchor` is what the channel wants back with each later message of the same thread, such as Slack's `ts`.
    """

    answer: str
    anchor: str | None = None


class Failure(StrEnum):
    """What a failed attempt says about the next one."""

    TEMPORARY = "temporary"  # the same message may be accepted later
    REJECTED = "rejected"  # this message is never accepted; others may be
    BROKEN = "broken"  # no message is accepted until somebody repairs the channel


class SendError(Exception):
    """A message was not accepted.

    `reason` is one word or number, such as timeout, refused, 404; it holds no address beyond a host.
    `retry_after_sec` is how long the receiver wants to be left alone, in seconds, if it said so.
    """

    def __init__(
        self, reason: str, failure: Failure = Failure.TEMPORARY, *, retry_after_sec: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.failure = failure
        self.retry_after_sec = None if retry_after_sec is None else min(retry_after_sec, LONGEST_RETRY_SEC)

    @property
    def permanent(self) -> bool:
        """Whether sending the same message again is of no use."""
        return self.failure is not Failure.TEMPORARY


class Channel(Protocol):
    """One way to reach people."""

    name: str
    """What it is called in logs and in `notifier:told`: webhook, email, or what the truth calls it."""
    where: str
    """The host that it talks to, fit to be shown."""
    within_sec: float
    """The longest that the channel lets one attempt take, in seconds, all its requests together."""

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:
        """Delivers, within `within_sec`. Raises SendError, and nothing else.

        `anchor` is that of the receipt which this channel gave for the first message of the thread.
        """

    async def aclose(self) -> None:
        """Closes what it keeps open."""


CAUSES_AT_MOST: Final = 8


def report_channel_defect(
    log: FilteringBoundLogger, channel: Channel, message: Message, defect: Exception
) -> SendError:
    """Log the traceback of a channel's defect; return it as a refusal of this one message."""
    kind = type(defect).__name__
    log.error("channel.defect", channel=channel.name, id=message.id, error=kind, trace=list(_trace(defect)))
    return SendError(kind, Failure.REJECTED)


def _trace(defect: BaseException, causes: int = CAUSES_AT_MOST) -> Iterator[str]:
    """Yield a line for each frame, outermost first, then for those of what caused it."""
    for frame in traceback.extract_tb(defect.__traceback__):
        yield f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    cause = defect.__cause__ or (None if defect.__suppress_context__ else defect.__context__)
    if cause is not None and causes:
        yield f"from {type(cause).__name__}:"
        yield from _trace(cause, causes - 1)
