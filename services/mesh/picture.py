"""Encode the topology for the key `mesh:topology`, and restore it when mesh starts again. Pure.

What is read back may have been written by anyone, so every part of it is checked.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import orjson

from marketswarm.beat import Beat, Malformed, Sender, parse, sender
from marketswarm.bus.stored_values import parse_count, parse_epoch
from services.mesh.instance import KEPT, Instance, RestartHistory, restore_history
from services.mesh.topology import MAX_DEPARTED, MAX_INSTANCES, Departed, Topology

KEPT_SEC: Final = 86_400  # when nobody writes it any more; what is left of it tells how old it is
MOST_RESTARTS: Final = 2**52
"""What is counted on from there can be written as JSON for ever."""
MAX_BYTES: Final = 16 * 1024 * 1024
BEAT_KEYS: Final = ("i", "boot", "rev", "status", "detail", "every", "host", "version", "started")
Number = (int, float)


def encode_topology(topology: Topology, unknown: Iterable[str], now: float, wall: float) -> dict[str, Any]:
    """Return the object for `mesh:topology`; `now` and `wall` are the same moment on two clocks."""
    services = {
        svc: {
            "instances": [
                one.to_json(now, wall) for one in sorted(found.values(), key=lambda one: one.first_ts)
            ],
            "conflict": svc in topology.conflicts.services_in_conflict,
        }
        for svc, found in sorted(topology.services.items())
    }
    return {
        "ts": round(wall, 3),
        "kept_sec": KEPT_SEC,
        "services": services,
        "deaf": sorted(topology.deaf),
        "converged": topology.convergence.at,
        "took_sec": topology.convergence.took_sec,
        "strangers": sorted(unknown),
        "gone": {
            svc: [_encode_departed(one, now, wall) for one in gone]
            for svc, gone in sorted(topology.departed.items())
        },
    }


def restore_topology(
    topology: Topology,
    raw: bytes | None,
    bus_of: Mapping[str, str],
    now: float,
    wall: float,
    *,
    unusable: Callable[[str], None] = lambda _what: None,
) -> int:
    """Add the instances in `raw` to the topology as if heard now; return how many.

    A part that can't be used is left out, and `unusable` is called with a name for it.
    """
    picture = _object(raw)
    if raw is not None and not isinstance(picture.get("services"), dict):
        unusable("")
    services, gone = _dict(picture.get("services")), _dict(picture.get("gone"))
    topology.convergence.at = parse_count(picture.get("converged"))
    for svc, bus in bus_of.items():
        known = _dict(services.get(svc))
        for one in _list(known.get("instances"))[:MAX_INSTANCES]:
            instance = _parse_instance(svc, bus, one, now, wall)
            if instance is not None:
                topology.add(instance)
            else:
                unusable(f"{svc} instances")
        if known.get("conflict") is True:
            topology.conflicts.services_in_conflict.add(svc)
        left = [_parse_departed(one, now, wall) for one in _list(gone.get(svc))[-MAX_DEPARTED:]]
        for _ in range(left.count(None)):
            unusable(f"{svc} gone")
        if any(left):
            topology.departed[svc] = [one for one in left if one is not None]
    return sum(1 for _ in topology.instances())


def _encode_departed(one: Departed, now: float, wall: float) -> dict[str, Any]:
    return {
        "boot": one.boot,
        "ts": round(one.ts, 3),
        "restarts": one.history.restarts,
        "restarted_at": one.history.to_json(now, wall),
        "crash_loop": one.history.is_looping,
    }


def _parse_instance(svc: str, bus: str, one: Any, now: float, wall: float) -> Instance | None:
    found = _dict(one)
    last_ts, first_ts = found.get("last_ts"), parse_epoch(found.get("first_ts"))
    plain = {key: found[key] for key in BEAT_KEYS if isinstance(found.get(key), (str, *Number))}
    said = orjson.dumps({"svc": svc, "ts": last_ts if isinstance(last_ts, Number) else None, **plain})
    last: Beat | Malformed = parse(said, svc)
    history = _parse_history(found, now, wall)
    if isinstance(last, Malformed) or history is None or first_ts is None:
        return None
    who: Sender = sender(said)
    return Instance(svc, last.boot or "", bus, last, now, now, last.ts, first_ts, history, who)


def _parse_departed(one: Any, now: float, wall: float) -> Departed | None:
    found = _dict(one)
    boot, ts, history = found.get("boot"), parse_epoch(found.get("ts")), _parse_history(found, now, wall)
    if not isinstance(boot, str) or ts is None or history is None:
        return None
    return Departed(boot[:100], history, ts)


def _parse_history(found: Mapping[str, Any], now: float, wall: float) -> RestartHistory | None:
    restarts = parse_count(found.get("restarts"))
    if restarts is None or restarts > MOST_RESTARTS:
        return None
    times = [float(at) for at in _list(found.get("restarted_at"))[-KEPT:] if isinstance(at, Number)]
    return restore_history(restarts, times, found.get("crash_loop") is True, now, wall)


def _object(raw: bytes | None) -> dict[str, Any]:
    if raw is None or len(raw) > MAX_BYTES:
        return {}
    try:
        return _dict(orjson.loads(raw))
    except orjson.JSONDecodeError:
        return {}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
