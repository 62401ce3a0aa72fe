"""Read what may delay or stop a notification: silences, pending messages, dead messages.

`read_notifications` reads it from the buses; `parse_incidents` and `parse_pending` make values of the hash
`notifier:state` without any I/O. The notifier writes this hash, the same on every bus: a field for each
incident, and two for each message that is pending for some channel. Fields that can't be parsed are skipped.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Annotated, Final

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from marketswarm.bus import Bus, BusError
from marketswarm.bus.stored_values import read_fields
from marketswarm.keys import NOTIFIER_DEAD, NOTIFIER_SILENCES, NOTIFIER_STATE
from marketswarm.operator.fields import LATER, STRICT, Epoch
from marketswarm.operator.silences import Silence, merge_silences, parse_silences
from marketswarm.status.channel_records import ChannelStatus, list_channels, parse_stored
from marketswarm.text import parse_digits

_INCIDENT, _MESSAGE, _DELIVERIES = b"r:i:", b"o:m:", b"o:w:"
_PAUSES, _BROKEN, _SEQ = b"d:pauses", b"d:broken", b"seq"

_HEALING: Final = "healing"
_HOLDS: Final[Mapping[str, str]] = {
    "nobody": "no channel is configured",
    "silenced": "it is silenced",
    "maintenance": "maintenance",
    "flapping": "it flaps",
    "depends": "what it needs is down",
    _HEALING: "the medic works on it",
}
"""By the notifier's reason for an outage about which no message is sent, the reason in words."""

CHANNEL_REMEDY: Final = "set WEBHOOK_URL, or see docs/notifications.md for other ways"
"""What to do where no channel is open."""

Count = Annotated[int, Field(ge=0, le=1_000_000)]
_PAUSES_TYPE: Final = TypeAdapter(
    dict[str, tuple[int, Annotated[float, Field(allow_inf_nan=False)]]], config=LATER
)
_BROKEN_TYPE: Final = TypeAdapter(dict[str, str], config=LATER)


@dataclass(frozen=True, slots=True, config=STRICT)
class OpenIncident:
    """Hold an outage as the notifier stores it.

    `key` is the name of the service that is down, `acked_by` the person who acknowledged it ("" if none did),
    `held` the reason why no message about it is sent, None if one is. `held_until` is when a message that the
    rate limit delays is sent; None if it delays none. It has been down `since`, by the healer's clock. People
    were told at `told_at` (None: not yet) over `channels`; `reminded` and `escalated` count later ones. It is
    `flapping` while only that is sent. Times are epoch seconds.
    """

    key: str
    down: bool
    acked_by: str = ""
    held: str | None = None
    held_until: Epoch | None = None
    since: Epoch = 0.0
    told_at: Epoch | None = None
    channels: tuple[str, ...] = ()
    reminded: Count = 0
    escalated: Count = 0
    flapping: bool = False

    @property
    def is_in_digest(self) -> bool:
        """Whether it ended while its message waited for the medic: the next digest has a line about it."""
        is_held = self.held == _HEALING and self.told_at is None
        return is_held and not self.down and not self.flapping


@plain_dataclass(frozen=True, slots=True)
class PendingDelivery:
    """Hold a message that is pending for one channel; times are epoch seconds.

    `ts` is the time of the message's event, `failing_since` when the first attempt failed (None: none has
    failed). Before `retry_at` the channel is not tried again; `broken` is the reason why it takes no message.
    """

    id: str
    channel: str
    title: str
    ts: float
    failing_since: float | None = None
    retry_at: float | None = None
    broken: str | None = None

    @property
    def stuck(self) -> bool:
        return self.failing_since is not None or self.retry_at is not None or self.broken is not None


@plain_dataclass(frozen=True, slots=True)
class Notifications:
    """Hold the silences, incidents, pending and dead messages, as of `at` (epoch seconds).

    `silences` are those in force, the one that ends first at the front; `incidents` the open ones by service;
    `pending` the pending deliveries, the oldest message first; `dead` the number of entries in
    `notifier:dead`. `channels` are those that the notifier opened last, with what each sent and failed last;
    None if it has not said so.
    """

    silences: tuple[Silence, ...] = ()
    incidents: Mapping[str, OpenIncident] = field(default_factory=dict)
    pending: tuple[PendingDelivery, ...] = ()
    dead: int = 0
    at: float = 0.0
    channels: tuple[ChannelStatus, ...] | None = None


async def read_notifications(buses: Sequence[Bus]) -> Notifications:
    """Read the silences, the notifier's state and the number of dead messages.

    A bus that does not answer is skipped; of several states the one that was written last is used.
    """
    found = [each for each in await asyncio.gather(*map(_read_bus, buses)) if each is not None]
    now = time.time()
    silences = merge_silences(parse_silences(fields) for fields, _, _ in found).values()
    states = (fields for _, _, fields in found)
    # the number of the notifier's latest write to it: the highest of all is the latest
    state = max(states, key=lambda fields: parse_digits(fields.get(_SEQ)) or 0, default={})
    pending = parse_pending(state, now)
    broken, retry_at = _parse_troubles(state, now)
    return Notifications(
        tuple(sorted((each for each in silences if each.is_active(now)), key=lambda each: each.ends_at)),
        parse_incidents(state),
        pending,
        max((count for _, count, _ in found), default=0),
        now,
        list_channels(state, broken, retry_at, (each.channel for each in pending)),
    )


def describe_hold(reason: str) -> str:
    """Return why no message about an outage is sent, for a reason of the notifier's."""
    if reason in _HOLDS:
        return f"no message sent: {_HOLDS[reason]}"
    return f"message held back: {reason.replace('_', ' ')}"


def parse_incidents(state: Mapping[bytes, bytes]) -> dict[str, OpenIncident]:
    stored = (raw for name, raw in state.items() if name.startswith(_INCIDENT))
    incidents = (parse_stored(_INCIDENT_TYPE, raw) for raw in stored)
    return {each.key: each for each in incidents if each is not None and each.down}


async def read_incidents(bus: Bus, services: Collection[str]) -> dict[str, OpenIncident]:
    """Return the last outage of each of these services, also one that has ended. Raises BusError."""
    names = [_INCIDENT.decode() + svc for svc in services]
    (found,) = await read_fields(bus, [NOTIFIER_STATE], names)
    incidents = (parse_stored(_INCIDENT_TYPE, raw) for raw in found.values())
    return {each.key: each for each in incidents if each is not None and each.key in services}


def parse_pending(state: Mapping[bytes, bytes], now: float) -> tuple[PendingDelivery, ...]:
    """Return a delivery for each message and channel that is pending in `notifier:state`, oldest first."""
    broken, retry_at = _parse_troubles(state, now)
    found: list[PendingDelivery] = []
    for name, raw in state.items():
        if not name.startswith(_DELIVERIES):
            continue
        message = parse_stored(_MESSAGE_TYPE, state.get(_MESSAGE + name.removeprefix(_DELIVERIES)))
        deliveries = parse_stored(_DELIVERIES_TYPE, raw)
        if message is None or deliveries is None:
            continue
        found += (
            PendingDelivery(
                message.id,
                channel,
                message.title,
                message.timestamp,
                deliveries.since.get(channel),
                retry_at.get(channel),
                broken.get(channel),
            )
            for channel, outcome in deliveries.ways.items()
            if outcome is None
        )
    return tuple(sorted(found, key=lambda each: (each.ts, each.id, each.channel)))


def _parse_troubles(state: Mapping[bytes, bytes], now: float) -> tuple[dict[str, str], dict[str, float]]:
    """Return by channel why it takes no message, and until when it pauses, in epoch seconds."""
    pauses = parse_stored(_PAUSES_TYPE, state.get(_PAUSES)) or {}
    broken = parse_stored(_BROKEN_TYPE, state.get(_BROKEN)) or {}
    return broken, {channel: until for channel, (_, until) in pauses.items() if until > now}


@dataclass(frozen=True, slots=True, config=STRICT)
class _StoredMessage:
    id: str
    title: str
    timestamp: Epoch


@dataclass(frozen=True, slots=True, config=STRICT)
class _StoredDeliveries:
    """Hold the outcome of a message by channel (None: pending), and since when its attempts fail."""

    ways: dict[str, bool | str | None]
    since: dict[str, Epoch] = Field(default_factory=dict)


_INCIDENT_TYPE: Final = TypeAdapter(OpenIncident)
_MESSAGE_TYPE: Final = TypeAdapter(_StoredMessage)
_DELIVERIES_TYPE: Final = TypeAdapter(_StoredDeliveries)


async def _read_bus(bus: Bus) -> tuple[dict[bytes, bytes], int, dict[bytes, bytes]] | None:
    """Read the silences, the number of dead messages and the notifier's state; None without an answer."""
    pipe = bus.pipeline()
    pipe.hgetall(NOTIFIER_SILENCES)
    pipe.xlen(NOTIFIER_DEAD)
    pipe.hgetall(NOTIFIER_STATE)
    try:
        silences, count, state = await bus.ask(pipe.execute())
    except BusError:  # the caller names the buses that do not answer
        return None
    return silences, count, state


def group_stuck_by_channel(pending: Iterable[PendingDelivery]) -> dict[str, list[PendingDelivery]]:
    by_channel: dict[str, list[PendingDelivery]] = {}
    for each in pending:
        if each.stuck:
            by_channel.setdefault(each.channel, []).append(each)
    return by_channel
