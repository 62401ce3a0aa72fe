"""Reads what `status` shows from a fleet's buses. What it means is `rows`'."""

import asyncio
from typing import Any

import orjson

from marketswarm.bus import Bus, BusError
from marketswarm.cli.leader import leader
from marketswarm.cli.rows import Facts, services
from marketswarm.cli.sight import Sight
from marketswarm.truth import SYSTEM

_ROSTER, _TOPOLOGY, _LEASE = "healer:roster", "mesh:topology", "healer:lease"


async def facts(fleet: Sight) -> tuple[Facts, dict[str, str]]:
    """What is known of every service, and the buses that did not answer, with the reason."""
    known = services(fleet.truth)
    buses = sorted({SYSTEM, *(bus for bus, _ in known.values())})
    away: dict[str, str] = {}
    at = {name: [svc for svc, (bus, _) in known.items() if bus == name] for name in buses}
    (roster, topology, lease, (sec, usec), health), *beats = await asyncio.gather(
        _judged(fleet.bus(SYSTEM), list(known), away),
        *(_beats(fleet.bus(name), here, away) for name, here in at.items()),
    )
    return Facts(
        roster={svc.decode(): _object(entry) for svc, entry in roster.items()},
        health={svc: _object(word) for svc, word in zip(known, health, strict=False)},
        beats={svc: beat for part in beats for svc, (beat, _) in part.items()},
        ttls_sec={svc: ttl_sec for part in beats for svc, (_, ttl_sec) in part.items()},
        instances={svc: _instances(seen) for svc, seen in _object(_object(topology).get("services")).items()},
        leader=leader(lease, sec + usec / 1e6),
    ), away


async def _judged(bus: Bus, known: list[str], away: dict[str, str]) -> Any:
    """The roster, the topology, the lease, the time and the health of each, as they are on the bus."""
    pipe = bus.pipeline()
    pipe.hgetall(_ROSTER)
    pipe.get(_TOPOLOGY)
    pipe.hgetall(_LEASE)
    pipe.time()
    pipe.mget([f"health:{svc}" for svc in known] or ["health:"])
    return await _asked(bus, pipe, ({}, None, {}, (0, 0), []), away)


async def _beats(bus: Bus, known: list[str], away: dict[str, str]) -> dict[str, tuple[dict[str, Any], float]]:
    """The last beat of each, and how long its key has left; those without one are left out."""
    pipe = bus.pipeline()
    for svc in known:
        pipe.get(f"beat:{svc}")
        pipe.pttl(f"beat:{svc}")
    replies = await _asked(bus, pipe, [], away)
    pairs = zip(known, replies[::2], replies[1::2], strict=False)
    return {svc: (_object(beat), ttl / 1000) for svc, beat, ttl in pairs if beat is not None}


async def _asked(bus: Bus, pipe: Any, default: Any, away: dict[str, str]) -> Any:
    try:
        return await bus.ask(pipe.execute())
    except BusError as error:
        away[bus.name] = error.reason
        return default


def _object(value: Any) -> dict[str, Any]:
    """The JSON object that `value` is or holds; an empty one for all else."""
    if isinstance(value, bytes):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return {}
    return value if isinstance(value, dict) else {}


def _instances(seen: Any) -> list[Any]:
    found = _object(seen).get("instances")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
