"""Write the topology and the events to the bus: when they have changed, and every ten seconds at least."""

import time
from typing import Any, Final

import orjson

from marketswarm.agent import Agent, point_like
from marketswarm.bus import BusError
from marketswarm.keys import MESH_EVENTS, MESH_TOPOLOGY
from marketswarm.settings import CommonSettings
from marketswarm.truth import AccessPoint
from services.mesh.listener import BeatListener
from services.mesh.picture import KEPT_SEC, encode_topology
from services.mesh.topology import MeshEvent, Topology

WRITE_EVERY_SEC: Final = 10.0
EVENTS_LENGTH: Final = 10_000


def topology_key(me: Agent[CommonSettings]) -> AccessPoint:
    """Return the bus and key of the topology, by the truth."""
    return point_like(me.section.access_points.publish_to, "system-redis", MESH_TOPOLOGY)


def events_key(me: Agent[CommonSettings]) -> AccessPoint:
    """Return the bus and key of the events, by the truth."""
    return point_like(me.section.access_points.publish_to, "system-redis", MESH_EVENTS)


class TopologyWriter:
    """Write to the bus; `error` says why the last attempt failed, None if it did not."""

    def __init__(self, me: Agent[CommonSettings]) -> None:
        self.error: str | None = None
        self._me = me
        self._written: dict[str, Any] = {}
        self._written_at = float("-inf")

    async def write(self, topology: Topology, listener: BeatListener) -> None:
        """Write the topology if it has changed, and all new events.

        Events that can't be written wait for the next call.
        """
        now, wall = time.monotonic(), time.time()
        picture = encode_topology(topology, listener.unknown.recent_names(now), now, wall)
        body = {key: value for key, value in picture.items() if key != "ts"}
        events, listener.events = listener.events, []
        try:
            if events:
                await self._add_events(events)
                events = []
            if body != self._written or now - self._written_at >= WRITE_EVERY_SEC:
                await self._set_picture(orjson.dumps(picture))
                self._written, self._written_at = body, time.monotonic()
        except BusError as error:
            if self.error is None:
                self._me.log.warning("mesh.unwritten", bus=error.bus, reason=error.reason)
            self.error = f"not written: {error.bus} {error.reason}"
            listener.requeue_events(events)
        else:
            self.error = None

    async def _add_events(self, events: list[MeshEvent]) -> None:
        to = events_key(self._me)
        bus = self._me.bus(to.bus)
        pipe = bus.pipeline()
        for event in events:
            pipe.xadd(to.key, event.fields(), maxlen=EVENTS_LENGTH, approximate=True)
        await bus.ask(pipe.execute())

    async def _set_picture(self, picture: bytes) -> None:
        to = topology_key(self._me)
        bus = self._me.bus(to.bus)
        await bus.ask(bus.client.set(to.key, picture, ex=KEPT_SEC))
