"""Define the protocol of a channel, its receipts and errors, and helpers that channels share."""

import traceback
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from pydantic import BaseModel, ConfigDict

from marketswarm.channels.message import Message

if TYPE_CHECKING:
    from marketswarm.log import Logger

MESSAGES_KEPT: Final = 100
"""Of how many messages the accepted parts are kept."""
LONGEST_RETRY_SEC: Final = 3600.0
"""A receiver that asks for a longer pause is tried after this one all the same, in seconds."""
CAUSES_AT_MOST: Final = 8
"""How many causes of an exception the trace in the log shows."""


class AcceptedParts:
    """The accepted parts of each message, for messages that take several requests.

    Without this, a message of a hundred parts would never be complete if each attempt sends fifty.
    The parts of the latest messages are kept in memory, because other messages are sent between two
    attempts at one.
    """

    def __init__(self) -> None:
        self._accepted: OrderedDict[str, set[str]] = OrderedDict()

    def remaining(self, ident: str, parts: Iterable[str]) -> list[str]:
        """Return the parts of the message with this id that are still to be sent."""
        accepted = self._accepted.setdefault(ident, set())
        self._accepted.move_to_end(ident)
        if len(self._accepted) > MESSAGES_KEPT:
            self._accepted.popitem(last=False)
        return [part for part in parts if part not in accepted]

    def mark_accepted(self, ident: str, part: str) -> None:
        """Record that a part was accepted, even after its attempt timed out."""
        if ident in self._accepted:
            self._accepted[ident].add(part)

    def forget(self, ident: str) -> None:
        self._accepted.pop(ident, None)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer of a receiver that accepted a message, in a word or number that may be shown.

    `anchor` is a value that the channel needs with each later message of the same thread, such as Slack's
    `ts`.
    """

    answer: str
    anchor: str | None = None


class Failure(StrEnum):
    """The meaning of a failed attempt for the next one."""

    TEMPORARY = "temporary"  # the same message may be accepted later
    REJECTED = "rejected"  # this message is never accepted; others may be
    BROKEN = "broken"  # no message is accepted until the channel is repaired


class SendError(Exception):
    """The error of an attempt after which the message does not count as accepted.

    `reason` is one word or number, such as timeout, refused, 404; of an address it holds the host at most.
    `failure` says whether a later attempt may succeed. `retry_after_sec` is the pause that the receiver
    asked for, in seconds, LONGEST_RETRY_SEC at most.
    """

    def __init__(
        self, reason: str, failure: Failure = Failure.TEMPORARY, *, retry_after_sec: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.failure = failure
        self.retry_after_sec = None if retry_after_sec is None else min(retry_after_sec, LONGEST_RETRY_SEC)

    @property
    def is_permanent(self) -> bool:
        """Whether sending the same message again is of no use."""
        return self.failure is not Failure.TEMPORARY


class ChannelOptions(BaseModel):
    """The options of a kind of channel, as the truth or the environment gives them."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Channel(Protocol):
    """A connection to one receiver of messages, such as a Slack channel or a mail server."""

    name: str
    """The name in logs and in `notifier:told`: `webhook`, `email`, or the name in the truth."""
    where: str
    """The host that the channel talks to, fit to be shown."""
    within_sec: float
    """The longest time that one attempt may take, in seconds, with all its requests."""

    async def send(self, message: Message, anchor: str | None = None) -> Receipt:
        """Send a message within `within_sec`; return its receipt. Raises SendError and nothing else.

        `anchor` is from the receipt of this channel for the first message of the thread.
        """

    async def aclose(self) -> None:
        """Close all connections of the channel; by default it keeps none."""
        return


def report_channel_defect(log: "Logger", channel: Channel, message: Message, defect: Exception) -> SendError:
    """Log where a channel raised an unexpected exception; return a SendError of kind REJECTED.

    The text of an exception may hold an address or a token, so only its type and its traceback are logged.
    """
    kind = type(defect).__name__
    log.error(
        "channel.defect", channel=channel.name, id=message.id, error=kind, trace=list(_list_causes(defect))
    )
    return SendError(kind, Failure.REJECTED)


def _list_causes(defect: BaseException, causes: int = CAUSES_AT_MOST) -> Iterator[str]:
    """Yield a line for each frame of an exception's traceback, outermost first, then those of its causes."""
    for frame in traceback.extract_tb(defect.__traceback__):
        yield f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    cause = defect.__cause__ or (None if defect.__suppress_context__ else defect.__context__)
    if cause is not None and causes:
        yield f"from {type(cause).__name__}:"
        yield from _list_causes(cause, causes - 1)
