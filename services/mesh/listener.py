"""Listen for beats on every bus of the truth: one subscriber a bus, started and stopped as the truth changes.

Beats of services that the truth does not know are reported once an hour each, in bounded memory. Such a
service chooses its own name, so the name is bounded and stripped of terminal control characters.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from marketswarm import beat
from marketswarm.agent import Agent
from marketswarm.bus import BusError
from marketswarm.bus.subscriber import subscribe
from marketswarm.channels.text import printable_line
from marketswarm.keys import HEARTBEAT_SUFFIX, heartbeat_channel
from marketswarm.settings import CommonSettings
from marketswarm.text import escape_text
from marketswarm.truth import Truth
from services.mesh.topology import EVENT_KINDS, MeshEvent, Topology

REPORT_AGAIN_SEC: Final = 3600.0
MAX_NAMES: Final = 1000
NAME_LIMIT: Final = 63
PATTERN: Final = heartbeat_channel("*")
GATHER_SEC: Final = 0.25  # mesh looks each second: no beat is needed sooner
MAX_SHOWN: Final = 50  # names in `mesh:topology`, the latest
MAX_EVENTS: Final = 1000  # events that wait while the bus can't be used
WARNINGS: Final = {
    "stranger": "mesh.unknown_service",
    "crash_loop": "mesh.crash_loop",
    "conflict": "mesh.conflict",
}


class UnknownServices:
    """Keep the names of services that beat and are not in the truth.

    `dropped` counts those that were not reported because MAX_NAMES others were.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._reported_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._reported_at)

    def is_new(self, svc: str, now: float) -> bool:
        """Return True if this service is to be reported now, and record the report: once an hour at most."""
        self._forget(now)
        if svc in self._reported_at:
            return False
        if len(self) >= MAX_NAMES:
            self.dropped += 1
            return False
        self._reported_at[svc] = now
        return True

    def recent_names(self, now: float) -> list[str]:
        self._forget(now)
        return list(self._reported_at)[-MAX_SHOWN:]

    def _forget(self, now: float) -> None:
        """Delete the names whose report is an hour old; they are in the order of their reports."""
        while self and now - next(iter(self._reported_at.values())) >= REPORT_AGAIN_SEC:
            del self._reported_at[next(iter(self._reported_at))]


def clean_name(name: bytes) -> str | None:
    """Return the name of an unknown service in printable form; None if it is empty or too long."""
    text = name.decode("utf-8", "replace")
    return escape_text(text) if 0 < len(text) <= NAME_LIMIT else None


@dataclass(frozen=True, slots=True)
class Subscription:
    """Name a bus to hear, and the `channels` there that the pattern of heartbeats does not match."""

    bus: str
    url: str
    channels: tuple[str, ...]


class BeatListener:
    """Turn messages into changes of the topology, and collect the events that follow until they are written.

    `malformed` and `oversized` count messages that are not beats, `counts` the events by kind.
    """

    def __init__(self, me: Agent[CommonSettings], topology: Topology) -> None:
        self.malformed = 0
        self.oversized = 0
        self.events: list[MeshEvent] = []
        self.unknown = UnknownServices()
        self.counts = dict.fromkeys(EVENT_KINDS, 0)
        self._me, self._topology = me, topology
        self._services: dict[tuple[str, bytes], str] = {}
        self._subscriptions: dict[Subscription, asyncio.Task[None]] = {}

    def follow(self, truth: Truth) -> None:
        self._services = services_by_channel(truth)
        self._topology.keep_services(self._services.values())
        self._topology.replicas = {
            svc: one.replicas for svc, one in truth.services.items() if one.replicas is not None
        }
        self._topology.convergence.set_revision(self._me.revision, time.monotonic())
        made = [self._make_subscription(name) for name in truth.bus_names()]
        wanted = {each for each in made if each is not None}
        for gone in [each for each in self._subscriptions if each not in wanted]:
            self._subscriptions.pop(gone).cancel()
            self._topology.deaf.add(gone.bus)
        for new in sorted(wanted - set(self._subscriptions), key=lambda each: each.bus):
            self._topology.deaf.add(new.bus)  # until the subscription is confirmed
            self._subscriptions[new] = self._me.task(self._listen(new), name=f"hearing {new.bus}")
        self._topology.deaf &= {each.bus for each in wanted}

    def add_events(self, events: list[MeshEvent]) -> None:
        """Count and log events, and keep them until they are written; drop the oldest beyond MAX_EVENTS."""
        for event in events:
            self.counts[event.event] += 1
            name = WARNINGS.get(event.event)
            if name is not None:
                self._me.log.warning(name, svc=event.svc, **event.more)
            elif event.event == "converged":
                self._me.log.info("mesh.converged", revision=event.rev, **event.more)
        if events:
            self.events = [*self.events, *events][-MAX_EVENTS:]

    async def _listen(self, subscription: Subscription) -> None:
        """Take the beats and events of one bus into the topology, until cancelled."""
        bus = self._me.bus(subscription.bus)
        await subscribe(
            bus,
            patterns=(PATTERN,),
            channels=subscription.channels,
            on_message=lambda channel, payload: self._on_message(subscription.bus, channel, payload),
            on_skipped=lambda channel: self._on_oversized(subscription.bus, channel),
            on_subscribed=lambda: self._on_subscribed(subscription),
            on_lost=self._on_lost,
            gather_sec=GATHER_SEC,
        )

    def _make_subscription(self, name: str) -> Subscription | None:
        """Return the subscription to the bus `name`; log an unknown bus and return None."""
        try:
            url = self._me.bus(name).url
        except BusError as error:
            self._me.log.warning("mesh.bus_unknown", bus=name, reason=error.reason)
            return None
        own = {channel.decode() for bus, channel in self._services if bus == name}
        return Subscription(
            name, url, tuple(sorted(one for one in own if not one.endswith(HEARTBEAT_SUFFIX)))
        )

    def _on_message(self, bus: str, channel: bytes, payload: bytes) -> None:
        svc = self._services.get((bus, channel))
        if svc is None:
            self._on_unknown_sender(channel, payload)
            return
        now, wall = time.monotonic(), time.time()
        if self._topology.record_familiar(svc, bus, payload, now, wall):
            return
        found = beat.parse_beat(payload, svc)
        if isinstance(found, beat.MalformedBeat):
            self.malformed += 1
            return
        self.add_events(self._topology.record_beat(bus, found, now, wall, payload))

    def _on_oversized(self, bus: str, channel: bytes) -> None:
        if not self.oversized:
            self._me.log.warning(
                "mesh.oversized", bus=bus, channel=printable_line(channel.decode("utf-8", "replace"))
            )
        self.oversized += 1

    def _on_unknown_sender(self, channel: bytes, payload: bytes) -> None:
        name = channel.removesuffix(HEARTBEAT_SUFFIX.encode())
        svc, found = clean_name(name), beat.parse_beat(payload, name.decode("utf-8", "replace"))
        if svc is None or isinstance(found, beat.MalformedBeat):
            self.malformed += 1
        elif self.unknown.is_new(svc, time.monotonic()):
            self.add_events([MeshEvent("stranger", svc, "", time.time())])

    def _on_subscribed(self, subscription: Subscription) -> None:
        self._topology.mark_heard(subscription.bus, time.monotonic())
        self._me.log.info("mesh.subscribed", bus=subscription.bus)

    def _on_lost(self, error: BusError) -> None:
        if error.bus not in self._topology.deaf:
            self._me.log.warning(
                "mesh.subscription_lost", bus=error.bus, reason=error.reason, detail=error.detail
            )
        self._topology.deaf.add(error.bus)


def services_by_channel(truth: Truth) -> dict[tuple[str, bytes], str]:
    known = {(one.bus, one.channel.encode()): one.svc for one in truth.watched()}
    own = {(truth.bus_of(svc), truth.channel_of(svc).encode()): svc for svc in truth.services}
    return known | own
