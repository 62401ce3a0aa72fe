"""Measure the memory and the connections of the buses, by INFO."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from marketswarm.bus import Bus, BusError, NoBusError
from marketswarm.bus.stored_values import MAX_COUNT, parse_number
from services.medic.rules.metric import Metric, Readings


async def read_buses(names: Iterable[str], get_bus: Callable[[str], Bus]) -> Readings:
    """Return how full each bus is; one that does not answer, or has no limit, is not known."""
    readings: Readings = {Metric.BUS_MEMORY: {}, Metric.BUS_CONNECTIONS: {}}

    async def read(name: str) -> None:
        try:
            bus = get_bus(name)
            memory = await bus.ask(bus.client.info("memory"))
            clients = await bus.ask(bus.client.info("clients"))
        except (BusError, NoBusError):
            return
        readings[Metric.BUS_MEMORY][name] = _find_percent(memory, "used_memory", "maxmemory")
        readings[Metric.BUS_CONNECTIONS][name] = _find_percent(clients, "connected_clients", "maxclients")

    await asyncio.gather(*map(read, names))
    return readings


def _find_percent(info: Any, used: str, limit: str) -> float | None:
    if not isinstance(info, dict):
        return None
    some, most = parse_number(info.get(used), 0, MAX_COUNT), parse_number(info.get(limit), 1, MAX_COUNT)
    return None if some is None or most is None else 100 * some / most
