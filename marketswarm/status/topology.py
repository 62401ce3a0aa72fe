"""Read what mesh wrote about the running instances and the flow of data, and combine it with the truth."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from marketswarm.bus import Bus, BusError
from marketswarm.bus.stored_values import parse_object
from marketswarm.exit import Exit
from marketswarm.keys import MESH_FLOW, MESH_TOPOLOGY, roster_key
from marketswarm.status.topology_view import MeshSnapshot, TopologyView, build_topology
from marketswarm.truth import HEALER, SYSTEM, AccessPoint, Truth, point_like

MESH: Final = "mesh"
MESH_IS_DOWN: Final = "mesh is down: the tables show what it saw last"
MAX_SNAPSHOT_BYTES: Final = 32 * 1024 * 1024


async def read_topology(
    truth: Truth, revision: int | None, bus_by_name: Callable[[str], Bus]
) -> TopologyView:
    """Return the topology of a fleet; what can't be read is left out, and its notes say so."""
    section = truth.services.get(MESH)
    written = section.access_points.publish_to if section else ()
    instances, flow, is_down = await asyncio.gather(
        _read_mesh_snapshot(bus_by_name, point_like(written, SYSTEM, MESH_TOPOLOGY)),
        _read_mesh_snapshot(bus_by_name, point_like(written, SYSTEM, MESH_FLOW)),
        _is_mesh_down(bus_by_name),
    )
    found = build_topology(truth, revision, instances, flow)
    return replace(found, notes=[MESH_IS_DOWN, *found.notes]) if is_down else found


async def _is_mesh_down(bus_by_name: Callable[[str], Bus]) -> bool:
    try:
        bus = bus_by_name(SYSTEM)
        entry = parse_object(await bus.ask(bus.client.hget(roster_key(HEALER), MESH)))
    except (BusError, Exit):
        return False
    return entry.get("verdict") == "down"


async def _read_mesh_snapshot(bus_by_name: Callable[[str], Bus], place: AccessPoint) -> MeshSnapshot:
    try:
        bus = bus_by_name(place.bus)
    except (BusError, Exit) as error:
        return MeshSnapshot(why=str(error))
    pipe = bus.pipeline()
    pipe.getrange(place.key, 0, MAX_SNAPSHOT_BYTES)
    pipe.pttl(place.key)
    try:
        raw, left_msec = await bus.ask(pipe.execute())
    except BusError as error:
        return MeshSnapshot(why=f"bus {bus.name} does not answer: {error.reason}")
    found = parse_object(raw, MAX_SNAPSHOT_BYTES)
    kept_sec = found.get("kept_sec")
    if type(kept_sec) not in (int, float) or left_msec < 0:
        return MeshSnapshot(found, None)
    return MeshSnapshot(found, max(0.0, kept_sec - left_msec / 1000))
