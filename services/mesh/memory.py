"""Reads `mesh:topology` back, so that a mesh that starts again knows who was there. Pure, and wary."""

from typing import Any, Final

import orjson

from marketswarm.beat import Beat, Malformed, parse
from services.mesh.topology import INSTANCES_A_SERVICE, Instance, Topology

MAX_BYTES: Final = 16 * 1024 * 1024
BEAT_KEYS: Final = ("i", "boot", "rev", "status", "detail", "every")


def remember(topology: Topology, raw: bytes | None, bus_of: dict[str, str], now: float) -> int:
    """Put the instances of `raw` into the topology as if heard now; how many. What is odd is left out."""
    if raw is None or len(raw) > MAX_BYTES:
        return 0
    try:
        picture = orjson.loads(raw)
        services, converged = picture["services"], picture.get("converged")
        found = [(svc, one) for svc in bus_of for one in _instances(services, svc)]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return 0
    topology.converged_at = converged if isinstance(converged, int) else None
    for svc, one in found:
        instance = _instance(svc, bus_of[svc], one, now)
        if instance is not None:
            topology.instances[svc, instance.boot] = instance
    return len(topology.instances)


def _instances(services: Any, svc: str) -> list[Any]:
    known = services.get(svc) if isinstance(services, dict) else None
    found = known.get("instances") if isinstance(known, dict) else None
    return found[:INSTANCES_A_SERVICE] if isinstance(found, list) else []


def _instance(svc: str, bus: str, one: Any, now: float) -> Instance | None:
    if not isinstance(one, dict):
        return None
    last_ts, first_ts = one.get("last_ts"), one.get("first_ts")
    last: Beat | Malformed = parse(
        orjson.dumps({"svc": svc, "ts": last_ts, **{key: one.get(key) for key in BEAT_KEYS}}), svc
    )
    restarts = one.get("restarts")
    if isinstance(last, Malformed) or not isinstance(first_ts, (int, float)) or not isinstance(restarts, int):
        return None
    return Instance(svc, last.boot or "", bus, last, now, now, last.ts, float(first_ts), restarts)
