"""What could not be delivered, from `notifier:dead` of every bus: each message and channel once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.bus import Bus
from marketswarm.channels.message import parse
from marketswarm.cli.everywhere import everywhere
from marketswarm.operator import DEAD

_READ_AT_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A message that a channel did not take: why, and since when (epoch seconds; None: it isn't said)."""

    id: str
    channel: str
    reason: str
    ts: float | None
    title: str
    text: str
    severity: str


async def undelivered(buses: Sequence[Bus]) -> tuple[list[Undelivered], dict[str, str]]:
    """All of them, the oldest first, and the buses that did not answer. Raises Exit, code 3, if none does."""
    found, away = await everywhere(buses, lambda bus: bus.client.xrange(DEAD, count=_READ_AT_MOST))
    return once(fields for entries in found.values() for _, fields in entries), away


def once(entries: Iterable[Any]) -> list[Undelivered]:
    """Each message and channel once, the latest word on it, the oldest first; what is no message goes by."""
    latest: dict[tuple[str, str], Undelivered] = {}
    for each in filter(None, map(_read, entries)):
        other = latest.get((each.id, each.channel))
        if other is None or (each.ts or 0.0) >= (other.ts or 0.0):
            latest[each.id, each.channel] = each
    return sorted(latest.values(), key=lambda each: each.ts or 0.0)


def _read(fields: dict[bytes, bytes]) -> Undelivered | None:
    message = parse(fields.get(b"message", b""))
    if message is None:
        return None
    channel, reason, ts = (
        fields.get(name, b"").decode(errors="replace") for name in (b"channel", b"reason", b"ts")
    )
    return Undelivered(
        message.id, channel, reason, _number(ts), message.title, message.text, str(message.severity)
    )


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if 0 <= found <= 1e11 else None
