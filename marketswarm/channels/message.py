"""What is sent, what sends it, and what may come of it. Values only."""

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final, Protocol

LONGEST_RETRY_SEC: Final = 3600.0
"""A receiver that asks for more than that is asked again all the same."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}")


class Severity(StrEnum):
    """How much it matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class What(StrEnum):
    """What a message tells: the sort of news, for a channel that shows each in its own way."""

    DOWN = "down"
    UP = "up"
    GROUP = "group"
    REMINDER = "reminder"
    FLAPPING = "flapping"
    SETTLED = "settled"
    NOTE = "note"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Message:
    """One message to people.

    `id` is the same however often it is sent, so that a receiver can drop repeats. `timestamp` is when it
    happened, in epoch seconds. `late` says that it could not be told when it happened. `events` are the
    alert events that it tells of, each as its JSON stood on the log, oldest first.

    `lines` are one for each thing told of, where these are several: `title` and `text` are enough without
    them, and a channel shows as many as it can. `about` are the services and buses that it tells of: two
    messages about the same one must arrive in order. `thread` is the id of the message that began the
    conversation, its own if it is the first. `opens` says that something is down after it; `closes` are the
    threads in which nothing is down any more after it.
    """

    id: str
    title: str
    text: str
    severity: Severity
    timestamp: float
    late: bool = False
    events: tuple[bytes, ...] = ()
    what: What = What.NOTE
    lines: tuple[str, ...] = ()
    thread: str = ""
    opens: bool = False
    closes: tuple[str, ...] = ()
    about: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The id as headers of HTTP and mail can carry it: itself, unless a stranger made it."""
        return plain_key(self.id)

    @property
    def begins(self) -> bool:
        """Whether it is the first of its thread."""
        return self.thread in ("", self.id)


def plain_key(ident: str) -> str:
    """An id of a message or a thread as headers of HTTP and mail can carry it."""
    if _PLAIN.fullmatch(ident):
        return ident
    return f"sha256.{sha256(ident.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


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
