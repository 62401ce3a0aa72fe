"""Writes the picture and the events to the bus when they are new, the picture each ten seconds at least."""

import time
from typing import Any, Final

import orjson

from marketswarm.agent import Agent, point_like
from marketswarm.bus import BusError
from marketswarm.keys import MESH_EVENTS, MESH_TOPOLOGY
from marketswarm.settings import Common
from marketswarm.truth import AccessPoint
from services.mesh.listener import Hearing
from services.mesh.picture import KEPT_SEC, shown
from services.mesh.topology import Event, Topology

WRITE_EVERY_SEC: Final = 10.0
EVENTS_LENGTH: Final = 10_000


def topology_key(me: Agent[Common]) -> AccessPoint:
    """Where the picture is, by the truth."""
    return point_like(me.section.access_points.publish_to, "system-redis", MESH_TOPOLOGY)


def events_key(me: Agent[Common]) -> AccessPoint:
    """Where the events go, by the truth."""
    return point_like(me.section.access_points.publish_to, "system-redis", MESH_EVENTS)


class Writing:
    """`trouble` is why it did not work the last time, `None` if it did."""

    def __init__(self, me: Agent[Common]) -> None:
        self.trouble: str | None = None
        self._me = me
        self._written: dict[str, Any] = {}
        self._written_at = float("-inf")

    async def write(self, topology: Topology, hearing: Hearing) -> None:
        """Write what is new. Events that a bus does not take wait for the next time."""
        now, wall = time.monotonic(), time.time()
        picture = shown(topology, hearing.strangers.names(now), now, wall)
        body = {key: value for key, value in picture.items() if key != "ts"}
        telling, hearing.events = hearing.events, []
        try:
            if telling:
                await self._add(telling)
                telling = []
            if body != self._written or now - self._written_at >= WRITE_EVERY_SEC:
                await self._set(orjson.dumps(picture))
                self._written, self._written_at = body, time.monotonic()
        except BusError as error:
            if self.trouble is None:
                self._me.log.warning("mesh.unwritten", bus=error.bus, reason=error.reason)
            self.trouble = f"not written: {error.bus} {error.reason}"
            hearing.untold(telling)
        else:
            self.trouble = None

    async def _add(self, events: list[Event]) -> None:
        to = events_key(self._me)
        bus = self._me.bus(to.bus)
        pipe = bus.pipeline()
        for event in events:
            pipe.xadd(to.key, event.fields(), maxlen=EVENTS_LENGTH, approximate=True)
        await bus.ask(pipe.execute())

    async def _set(self, picture: bytes) -> None:
        to = topology_key(self._me)
        bus = self._me.bus(to.bus)
        await bus.ask(bus.client.set(to.key, picture, ex=KEPT_SEC))
