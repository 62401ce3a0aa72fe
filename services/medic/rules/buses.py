"""Measure the memory, the connections and the replicas of the buses, by INFO."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from marketswarm.bus import Bus, BusError, NoBusError
from marketswarm.bus.stored_values import MAX_COUNT, parse_number
from services.medic.metric import Metric, Readings

MAX_REPLICAS: Final = 100


async def read_buses(names: Iterable[str], get_bus: Callable[[str], Bus]) -> Readings:
    """Return how full each bus is, and how its replicas follow.

    What does not answer is not known; nor is how full a bus is that has no limit, or the lag of no replicas.
    """
    metrics = (Metric.BUS_MEMORY, Metric.BUS_CONNECTIONS, Metric.BUS_REPLICAS, Metric.BUS_REPLICA_LAG)
    readings: Readings = {metric: {} for metric in metrics}

    async def read(name: str) -> None:
        try:
            bus = get_bus(name)
            memory = await bus.ask(bus.client.info("memory"))
            clients = await bus.ask(bus.client.info("clients"))
            replication = await bus.ask(bus.client.info("replication"))
        except (BusError, NoBusError):
            return
        readings[Metric.BUS_MEMORY][name] = _find_percent(memory, "used_memory", "maxmemory")
        readings[Metric.BUS_CONNECTIONS][name] = _find_percent(clients, "connected_clients", "maxclients")
        lags = _list_replica_lags(replication)
        readings[Metric.BUS_REPLICAS][name] = None if lags is None else len(lags)
        readings[Metric.BUS_REPLICA_LAG][name] = max(lags) if lags else None

    await asyncio.gather(*map(read, names))
    return readings


def _find_percent(info: Any, used: str, limit: str) -> float | None:
    if not isinstance(info, dict):
        return None
    some, most = parse_number(info.get(used), 0, MAX_COUNT), parse_number(info.get(limit), 1, MAX_COUNT)
    return None if some is None or most is None else 100 * some / most


def _list_replica_lags(info: Any) -> list[float] | None:
    """Return for how many seconds each connected replica has not been heard; None for a replica itself.

    One whose link has broken is no longer listed, and one that still copies everything does not follow yet.
    """
    if not isinstance(info, dict) or info.get("role") != "master":
        return None
    listed = [info.get(f"slave{number}") for number in range(MAX_REPLICAS)]
    following = [each for each in listed if isinstance(each, dict) and each.get("state") == "online"]
    found = [parse_number(each.get("lag"), 0, MAX_COUNT) for each in following]
    return [lag for lag in found if lag is not None]
