"""Read the messages that a channel refused for good: the stream `notifier:dead` of every bus.

Other programs may write there, too, so an entry without a message is skipped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.bus import Bus
from marketswarm.bus.stored_values import MAX_EPOCH_SEC, parse_decimal
from marketswarm.channels.message import parse_message
from marketswarm.keys import NOTIFIER_DEAD
from marketswarm.operator.buses import ask_buses

MAX_ENTRIES: Final = 10_000
"""The most entries of a bus that are read; the notifier keeps 1,000."""


@dataclass(frozen=True, slots=True)
class UndeliveredMessage:
    """Hold a message that a channel refused for good, and why.

    `ts` is when the notifier gave up, in epoch seconds, or None if that is not known.
    """

    id: str
    channel: str
    reason: str
    ts: float | None
    title: str
    text: str
    severity: str


async def read_dead_messages(
    buses: Sequence[Bus], count: int = MAX_ENTRIES
) -> tuple[list[UndeliveredMessage], dict[str, str]]:
    """Return the newest `count` of every bus, oldest first, and what failed. Raises NoBusError."""
    entries, failed = await ask_buses(buses, lambda bus: bus.client.xrevrange(NOTIFIER_DEAD, count=count))
    return merge_entries(fields for found in entries.values() for _, fields in reversed(found)), failed


def merge_entries(entries: Iterable[Any]) -> list[UndeliveredMessage]:
    """Keep the latest entry of each message and channel, oldest first. Skip unreadable entries."""
    latest: dict[tuple[str, str], UndeliveredMessage] = {}
    for each in filter(None, map(_parse_entry, entries)):
        other = latest.get((each.id, each.channel))
        if other is None or (each.ts or 0.0) >= (other.ts or 0.0):
            latest[each.id, each.channel] = each
    return sorted(latest.values(), key=lambda each: each.ts or 0.0)


def _parse_entry(fields: dict[bytes, bytes] | None) -> UndeliveredMessage | None:
    """Return the message in an entry of `notifier:dead`; None if the entry has no message."""
    message = parse_message((fields or {}).get(b"message", b""))
    if message is None or fields is None:
        return None
    channel, reason, ts = (
        fields.get(name, b"").decode(errors="replace") for name in (b"channel", b"reason", b"ts")
    )
    at = parse_decimal(ts, 0.0, MAX_EPOCH_SEC)
    return UndeliveredMessage(
        message.id, channel, reason, at, message.title, message.text, str(message.severity)
    )
