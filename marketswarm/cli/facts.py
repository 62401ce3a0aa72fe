"""Reads what `status` shows from a fleet's buses. What it means is `rows`'."""

import asyncio
from typing import Any, NamedTuple

import orjson

from marketswarm.bus import Bus, BusError
from marketswarm.bus.stored_values import read_strings
from marketswarm.cli.leader import leader
from marketswarm.cli.rows import Facts, services
from marketswarm.cli.sight import Sight
from marketswarm.truth import SYSTEM

_ROSTER, _TOPOLOGY, _LEASE = "healer:roster", "mesh:topology", "healer:lease"
_LONGEST_TOPOLOGY = 32 * 1024 * 1024


async def facts(fleet: Sight) -> tuple[Facts, dict[str, str]]:
    """What is known of every service, and the buses that did not answer, with the reason."""
    known = services(fleet.truth)
    buses = sorted({SYSTEM, *(bus for bus, _ in known.values())})
    away: dict[str, str] = {}
    at = {name: [svc for svc, (bus, _) in known.items() if bus == name] for name in buses}
    (roster, topology, lease, (sec, usec)), health, *beats = await asyncio.gather(
        _judged(fleet.bus(SYSTEM), away),
        _strings(fleet.bus(SYSTEM), [f"health:{svc}" for svc in known], away),
        *(_beats(fleet.bus(name), here, away) for name, here in at.items()),
    )
    return Facts(
        roster={svc.decode(): _object(entry) for svc, entry in roster.items()},
        health={svc: _object(word) for svc, word in zip(known, health, strict=False)},
        beats={svc: seen.beat for part in beats for svc, seen in part.items() if seen.beat is not None},
        ttls_sec={svc: seen.ttl_sec for part in beats for svc, seen in part.items() if seen.beat is not None},
        runs={svc: seen.run for part in beats for svc, seen in part.items() if seen.run},
        instances={svc: _instances(seen) for svc, seen in _object(_object(topology).get("services")).items()},
        leader=leader(lease, sec + usec / 1e6),
    ), away


async def _judged(bus: Bus, away: dict[str, str]) -> Any:
    """The roster, the topology, the lease and the time, as they are on the bus."""
    pipe = bus.pipeline()
    pipe.hgetall(_ROSTER)
    pipe.getrange(_TOPOLOGY, 0, _LONGEST_TOPOLOGY)
    pipe.hgetall(_LEASE)
    pipe.time()
    return await _asked(bus, pipe, ({}, None, {}, (0, 0)), away)


class _Seen(NamedTuple):
    """Of one service: its last beat, how long that key has left, and how its command ended, if it is one."""

    beat: dict[str, Any] | None
    ttl_sec: float
    run: dict[str, Any]


async def _beats(bus: Bus, known: list[str], away: dict[str, str]) -> dict[str, _Seen]:
    """What each has left on its bus."""
    pipe = bus.pipeline()
    for svc in known:
        pipe.pttl(f"beat:{svc}")
    words = await _strings(bus, [f"{what}:{svc}" for svc in known for what in ("beat", "run")], away)
    ttls = await _asked(bus, pipe, [], away)
    return {
        svc: _Seen(None if beat is None else _object(beat), ttl / 1000, _object(run))
        for svc, beat, run, ttl in zip(known, words[::2], words[1::2], ttls, strict=False)
    }


async def _strings(bus: Bus, keys: list[str], away: dict[str, str]) -> list[bytes | None]:
    try:
        return await read_strings(bus, keys)
    except BusError as error:
        away[bus.name] = error.reason
        return []


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
