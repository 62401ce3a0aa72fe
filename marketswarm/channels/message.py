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


@dataclass(frozen=True, slots=True)
class Message:
    """One message to people.

    `id` is the same however often it is sent, so that a receiver can drop repeats. `timestamp` is when it
    happened, in epoch seconds. `late` says that it could not be told when it happened. `events` are the
    alert events that it tells of, each as its JSON stood on the log, oldest first.
    """

    id: str
    title: str
    text: str
    severity: Severity
    timestamp: float
    late: bool = False
    events: tuple[bytes, ...] = ()

    @property
    def key(self) -> str:
        """The id as headers of HTTP and mail can carry it: itself, unless a stranger made it."""
        if _PLAIN.fullmatch(self.id):
            return self.id
        return f"sha256.{sha256(self.id.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


class SendError(Exception):
    """A message was not accepted.

    `reason` is one word or number, such as timeout, refused, 404; it holds no address beyond a host. When it
    is `permanent`, the same message will not be accepted later either. `retry_after_sec` is how long the
    receiver wants to be left alone, in seconds, if it said so.
    """

    def __init__(self, reason: str, *, permanent: bool = False, retry_after_sec: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent
        self.retry_after_sec = None if retry_after_sec is None else min(retry_after_sec, LONGEST_RETRY_SEC)


class Channel(Protocol):
    """One way to reach people."""

    name: str
    """What it is called in logs and in `notifier:told`: webhook, email."""
    where: str
    """The host that it talks to, fit to be shown."""

    async def send(self, message: Message) -> None:
        """Delivers, within a few seconds. Raises SendError, and nothing else."""

    async def aclose(self) -> None:
        """Closes what it keeps open."""
