"""Beats of services that the truth does not know: each told once an hour, in bounded memory. Pure.

Their names are theirs to choose, so they are bounded, and bare of all that would steer a terminal.

Hears every bus of the truth: one subscriber a bus, begun and ended as the truth changes.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from marketswarm import beat
from marketswarm.agent import Agent
from marketswarm.bus import BusError
from marketswarm.bus.subscriber import subscribe
from marketswarm.channels.text import plain
from marketswarm.settings import Common
from marketswarm.text import escape_text
from marketswarm.truth import Truth
from services.mesh.topology import HAPPENINGS, Event, Topology

AGAIN_SEC: Final = 3600.0
NAMES: Final = 1000
NAME_LIMIT: Final = 63
SHOWN: Final = 50  # in the picture, the latest


class Strangers:
    """Remembers who was told of. When full of recent names, more are counted and not told."""

    def __init__(self) -> None:
        self.untold = 0
        self._told_at: dict[str, float] = {}

    def heard(self, svc: str, now: float) -> bool:
        """Whether this one is news; `now` in seconds of a clock that only runs on."""
        told_at = self._told_at.get(svc)
        if told_at is not None and now - told_at < AGAIN_SEC:
            return False
        self._told_at.pop(svc, None)
        self._forget(now)
        if len(self._told_at) >= NAMES:
            self.untold += 1
            return False
        self._told_at[svc] = now
        return True

    def names(self, now: float) -> list[str]:
        """Who was told of within the hour; the latest, if they are many."""
        self._forget(now)
        return list(self._told_at)[-SHOWN:]

    def _forget(self, now: float) -> None:
        """Drop who was told of an hour ago; the oldest stand first, as names are put in again at the end."""
        while self._told_at:
            oldest = next(iter(self._told_at))
            if now - self._told_at[oldest] < AGAIN_SEC:
                return
            del self._told_at[oldest]


def fit(name: bytes) -> str | None:
    """A stranger's name as it may be shown; None when it is too long for one."""
    text = name.decode("utf-8", "replace")
    return escape_text(text) if 0 < len(text) <= NAME_LIMIT else None


PATTERN: Final = "*:heartbeat"
EVENTS_KEPT: Final = 1000  # while the bus takes none
LOGGED: Final = {
    "stranger": "mesh.stranger",
    "crash_loop": "mesh.crash_loop",
    "conflict": "mesh.conflict",
}


@dataclass(frozen=True, slots=True)
class Ear:
    """What is listened to on one bus: the pattern, and channels that it does not cover."""

    bus: str
    url: str
    channels: tuple[str, ...]


class Hearing:
    """Turns messages into the topology and a list of events to be told."""

    def __init__(self, me: Agent[Common], topology: Topology) -> None:
        self.malformed = 0
        self.oversized = 0
        self.events: list[Event] = []
        self.strangers = Strangers()
        self.told = dict.fromkeys(HAPPENINGS, 0)
        self._me, self._topology = me, topology
        self._services: dict[tuple[str, bytes], str] = {}
        self._ears: dict[Ear, asyncio.Task[None]] = {}

    def follow(self, truth: Truth) -> None:
        """Hear what this truth names, and nothing else."""
        self._services = services_by_channel(truth)
        self._topology.keep(self._services.values())
        self._topology.replicas = {
            svc: one.replicas for svc, one in truth.services.items() if one.replicas is not None
        }
        self._topology.convergence.applied(self._me.revision, time.monotonic())
        wanted = {ear for name in truth.bus_names() if (ear := self._ear(name)) is not None}
        for ear in [ear for ear in self._ears if ear not in wanted]:
            self._ears.pop(ear).cancel()
            self._topology.lost(ear.bus)
        for ear in sorted(wanted - set(self._ears), key=lambda ear: ear.bus):
            self._topology.lost(ear.bus)  # until it is joined
            self._ears[ear] = self._me.task(self._listen(ear), name=f"hearing {ear.bus}")
        self._topology.deaf &= {ear.bus for ear in wanted}

    def tell(self, events: list[Event]) -> None:
        """Keep events until they are written; the oldest go first when there are too many."""
        for event in events:
            self.told[event.event] += 1
            self._log(event)
        if events:
            self.events = [*self.events, *events][-EVENTS_KEPT:]

    def untold(self, events: list[Event]) -> None:
        """These were not taken: they come before what was heard meanwhile."""
        self.events = [*events, *self.events][-EVENTS_KEPT:]

    async def _listen(self, ear: Ear) -> None:
        bus = self._me.bus(ear.bus)
        await subscribe(
            bus,
            patterns=(PATTERN,),
            channels=ear.channels,
            heard=lambda channel, payload: self._heard(ear.bus, channel, payload),
            skipped=lambda channel: self._skipped(ear.bus, channel),
            joined=lambda: self._joined(ear),
            lost=self._lost,
        )

    def _ear(self, name: str) -> Ear | None:
        try:
            url = self._me.bus(name).url
        except BusError as error:
            self._me.log.warning("mesh.bus_unknown", bus=name, reason=error.reason)
            return None
        own = {channel.decode() for bus, channel in self._services if bus == name}
        return Ear(name, url, tuple(sorted(one for one in own if not one.endswith(":heartbeat"))))

    def _heard(self, bus: str, channel: bytes, payload: bytes) -> None:
        svc = self._services.get((bus, channel))
        if svc is None:
            self._heard_a_stranger(channel, payload)
            return
        found = beat.parse(payload, svc)
        if isinstance(found, beat.Malformed):
            self.malformed += 1
            return
        now, wall = time.monotonic(), time.time()
        self.tell(self._topology.heard(bus, found, now, wall, lambda: beat.sender(payload)))

    def _skipped(self, bus: str, channel: bytes) -> None:
        """A message that is far too large for a beat: not held, but counted, and said the first time."""
        if not self.oversized:
            self._me.log.warning("mesh.oversized", bus=bus, channel=plain(channel.decode("utf-8", "replace")))
        self.oversized += 1

    def _heard_a_stranger(self, channel: bytes, payload: bytes) -> None:
        name = channel.removesuffix(b":heartbeat")
        svc = fit(name)
        if svc is None or isinstance(beat.parse(payload, name.decode("utf-8", "replace")), beat.Malformed):
            self.malformed += 1
        elif self.strangers.heard(svc, time.monotonic()):
            self.tell([Event("stranger", svc, "", time.time())])

    def _log(self, event: Event) -> None:
        """What somebody should look at is a warning; who comes and goes is in the stream."""
        name = LOGGED.get(event.event)
        if name is not None:
            self._me.log.warning(name, svc=event.svc, **event.more)
        elif event.event == "converged":
            self._me.log.info("mesh.converged", revision=event.rev, **event.more)

    def _joined(self, ear: Ear) -> None:
        self._topology.joined(ear.bus, time.monotonic())
        self._me.log.info("mesh.hearing", bus=ear.bus)

    def _lost(self, error: BusError) -> None:
        if error.bus not in self._topology.deaf:
            self._me.log.warning("mesh.deaf", bus=error.bus, reason=error.reason, detail=error.detail)
        self._topology.lost(error.bus)


def services_by_channel(truth: Truth) -> dict[tuple[str, bytes], str]:
    """Bus and channel to the service that beats there, the healer and those known to it alone included."""
    known = {(one.bus, one.channel.encode()): one.svc for one in truth.watched()}
    own = {(truth.bus_of(svc), one.heartbeat.channel.encode()): svc for svc, one in truth.services.items()}
    return known | own
