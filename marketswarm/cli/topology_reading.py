"""Reads what `topology` shows: the truth of a fleet, and what mesh wrote. The rest is `topology_seen`'s."""

from pathlib import Path
from typing import Any, Final

import orjson

from marketswarm.agent import point_like
from marketswarm.bus import BusError
from marketswarm.cli.document import accepted
from marketswarm.cli.sight import Sight, sight
from marketswarm.cli.topology_picture import Picture
from marketswarm.cli.topology_seen import Written, picture
from marketswarm.exit import Exit
from marketswarm.truth import SYSTEM, AccessPoint, Truth

MESH: Final = "mesh"
LONGEST: Final = 32 * 1024 * 1024


async def look(data: Path) -> Picture:
    """The picture of a fleet. Raises Exit when there is none, or it has no truth."""
    async with sight(data) as fleet:
        truth = fleet.truth
        topology, flow = [
            await _written(fleet, _place(truth, name)) for name in ("mesh:topology", "mesh:flow")
        ]
        return picture(truth, fleet.found.revision if fleet.found else None, topology, flow)


def drawn_from(path: Path) -> Picture:
    """The picture of a file alone, without any server. Raises Exit, code 2, for one that won't do."""
    nobody = Written(why=f"from {path} alone")
    return picture(accepted(path), None, nobody, nobody)


def _place(truth: Truth, name: str) -> AccessPoint:
    section = truth.services.get(MESH)
    return point_like(section.access_points.publish_to if section else (), SYSTEM, name)


async def _written(fleet: Sight, at: AccessPoint) -> Written:
    try:
        bus = fleet.bus(at.bus)
    except Exit as end:
        return Written(why=end.message)
    pipe = bus.pipeline()
    pipe.getrange(at.key, 0, LONGEST)
    pipe.pttl(at.key)
    try:
        raw, left_ms = await bus.ask(pipe.execute())
    except BusError as error:
        return Written(why=f"bus {bus.name} does not answer: {error.reason}")
    found = _object(raw)
    kept_sec = found.get("kept_sec")
    known = type(kept_sec) in (int, float) and left_ms >= 0
    return Written(found, max(0.0, kept_sec - left_ms / 1000) if known and kept_sec is not None else None)


def _object(raw: bytes | None) -> dict[str, Any]:
    try:
        found = orjson.loads(raw) if raw and len(raw) <= LONGEST else None
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {}
