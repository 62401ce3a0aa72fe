"""Store the topology in `mesh:topology` and the events in `mesh:events`; restore the topology at the start.

Anyone may have written the stored topology, so every part of it is checked: it is parsed once into typed
instances with finite numbers.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

from marketswarm.agent import Agent, point_like
from marketswarm.beat import MalformedBeat, parse_beat, parse_sender
from marketswarm.bus.outage import Outage
from marketswarm.bus.stored_values import get_list, get_object, parse_count, parse_epoch, parse_object
from marketswarm.keys import MESH_EVENTS, MESH_TOPOLOGY
from marketswarm.settings import CommonSettings
from marketswarm.time_slice import TimeSlice
from marketswarm.truth import AccessPoint
from services.mesh.instance import Instance, parse_history
from services.mesh.listener import MAX_EVENTS, BeatListener, UnknownServices
from services.mesh.topology import MAX_DEPARTED, MAX_INSTANCES, Departed, MeshEvent, Topology

BUS_SEC: Final = 10.0
"""Longer than a read or write may take: waiting for a bus must not count as hanging."""
KEPT_SEC: Final = 86_400
"""The seconds for which the topology is kept after its last write; readers compute its age from the rest."""
MAX_TOPOLOGY_BYTES: Final = 32 * 1024 * 1024  # more than a hundred thousand services need
BEAT_KEYS: Final = ("i", "boot", "rev", "status", "detail", "every", "host", "version", "started")
Number = (int, float)
REWRITE_SEC: Final = 10.0
INSTANCES_A_SEC: Final = 1000
"""A topology of more instances is written less often than each second: one costs some microseconds."""
EVENTS_LENGTH: Final = 10_000


def encode_topology(topology: Topology, unknown: Iterable[str], now: float, wall: float) -> Iterator[bytes]:
    """Yield the JSON of `mesh:topology` in pieces, one for each service; the first one is about the time.

    `now` and `wall` are one moment on both clocks. The topology may change between two pieces.
    """
    yield b'{"ts":%.3f,' % wall
    head = {
        "kept_sec": KEPT_SEC,
        "deaf": sorted(topology.deaf),
        "converged": topology.convergence.at,
        "took_sec": topology.convergence.took_sec,
        "strangers": sorted(unknown),
        "gone": {
            svc: [
                {"boot": one.boot, "ts": round(one.ts, 3), **one.history.to_json(now, wall)} for one in gone
            ]
            for svc, gone in sorted(topology.departed.items())
        },
    }
    yield orjson.dumps(head)[1:-1] + b',"services":{'
    separator = b""
    for svc in sorted(topology.services):
        found = list(topology.instances_of(svc).values())
        if len(found) > 1:  # nearly all have one, and there may be 100,000
            found.sort(key=lambda one: one.first_ts)
        if found:
            instances = [one.to_json(now, wall) for one in found]
            entry = {svc: {"instances": instances, "conflict": svc in topology.in_conflict}}
            yield separator + orjson.dumps(entry)[1:-1]
            separator = b","
    yield b"}}"


def restore_topology(
    topology: Topology, raw: bytes | None, bus_of: Mapping[str, str], now: float, wall: float
) -> list[str]:
    """Add the instances in `raw` to the topology as if heard now.

    A part that is invalid is left out; return a name for each.
    """
    unusable: list[str] = []
    stored = parse_object(raw)
    if raw is not None and not isinstance(stored.get("services"), dict):
        unusable.append("")
    services, gone = get_object(stored.get("services")), get_object(stored.get("gone"))
    topology.convergence.at = parse_count(stored.get("converged"))
    for svc, bus in bus_of.items():
        known = get_object(services.get(svc))
        for one in get_list(known.get("instances"))[:MAX_INSTANCES]:
            instance = _parse_instance(svc, bus, one, now, wall)
            if instance is not None:
                topology.add(instance)
            else:
                unusable.append(f"{svc} instances")
        if known.get("conflict") is True:
            topology.in_conflict.add(svc)
        left = [_parse_departed(one, now, wall) for one in get_list(gone.get(svc))[-MAX_DEPARTED:]]
        unusable += [f"{svc} gone"] * left.count(None)
        if any(left):
            topology.departed[svc] = [one for one in left if one is not None]
    return unusable


def _parse_instance(svc: str, bus: str, stored: Any, now: float, wall: float) -> Instance | None:
    """Return None if the stored instance is invalid; its last beat is parsed like any beat."""
    found = get_object(stored)
    last_ts, first_ts = found.get("last_ts"), parse_epoch(found.get("first_ts"))
    plain = {key: found[key] for key in BEAT_KEYS if isinstance(found.get(key), (str, *Number))}
    payload = orjson.dumps({"svc": svc, "ts": last_ts if isinstance(last_ts, Number) else None, **plain})
    last = parse_beat(payload, svc)
    history = parse_history(found, now, wall)
    if isinstance(last, MalformedBeat) or history is None or first_ts is None:
        return None
    boot, who = last.boot or "", parse_sender(payload)
    return Instance(svc, boot, bus, last, now, now, last.ts, first_ts, history, who)


def _parse_departed(stored: Any, now: float, wall: float) -> Departed | None:
    found = get_object(stored)
    boot, ts, history = found.get("boot"), parse_epoch(found.get("ts")), parse_history(found, now, wall)
    if not isinstance(boot, str) or ts is None or history is None:
        return None
    return Departed(boot[:100], history, ts)


def compute_pause_sec(topology: Topology) -> float:
    """Return the least seconds from one writing of a topology to the next; 0 for one that is small."""
    instances = sum(map(len, topology.services.values()))
    return 0.0 if instances <= INSTANCES_A_SEC else min(instances / INSTANCES_A_SEC, REWRITE_SEC)


def find_point(me: Agent[CommonSettings], key: str) -> AccessPoint:
    """Return the bus and key in the truth in force of what is `key` by default."""
    return point_like(me.section.access_points.publish_to, "system-redis", key)


class TopologyWriter:
    """Write the topology and the events to the bus."""

    def __init__(self, me: Agent[CommonSettings]) -> None:
        self.outage = Outage(me.log, "mesh.unwritten", "mesh.written")
        self._me = me
        self._written: list[bytes] = []
        self._written_at = self._due_at = float("-inf")

    async def write(self, topology: Topology, listener: BeatListener) -> None:
        """Write all new events, and the topology if it has changed or was not written for REWRITE_SEC.

        A large topology is looked at less often than that. Events that can't be written stay in the listener
        for the next call; the failure is in `outage`, and is not raised.
        """
        events, listener.events = listener.events, []
        with self.outage:
            async with self._me.waiting(BUS_SEC, bus=find_point(self._me, MESH_TOPOLOGY).bus):
                if events:
                    await self._add_events(events)
                    events = []
                if time.monotonic() >= self._due_at:
                    await self._write_topology(topology, listener.unknown)
        listener.events = [*events, *listener.events][-MAX_EVENTS:]

    async def _write_topology(self, topology: Topology, unknown: UnknownServices) -> None:
        now, wall = time.monotonic(), time.time()
        pieces, time_slice = [], TimeSlice()
        for piece in encode_topology(topology, unknown.recent_names(now), now, wall):
            pieces.append(piece)
            await time_slice.pause()
        if pieces[1:] != self._written or now - self._written_at >= REWRITE_SEC:
            point = find_point(self._me, MESH_TOPOLOGY)
            bus = self._me.bus(point.bus)
            await bus.ask(bus.client.set(point.key, b"".join(pieces), ex=KEPT_SEC))
            self._written, self._written_at = pieces[1:], time.monotonic()
        self._due_at = now + compute_pause_sec(topology)

    async def _add_events(self, events: list[MeshEvent]) -> None:
        point = find_point(self._me, MESH_EVENTS)
        bus = self._me.bus(point.bus)
        pipe = bus.pipeline()
        for event in events:
            pipe.xadd(point.key, event.fields(), maxlen=EVENTS_LENGTH, approximate=True)
        await bus.ask(pipe.execute())
