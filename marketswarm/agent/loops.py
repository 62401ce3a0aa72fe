"""Work that only one instance of a service may do at a time, for as long as the service runs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from marketswarm.agent.lease import Lease, LeaseLost
from marketswarm.agent.member import Agent
from marketswarm.bus.outage import Outage, retrying

LOST_REST_SEC: Final = 1.0
"""The pause after a lost lease: work whose epoch a store refuses may lose it again at once."""


async def lead(
    me: Agent[Any],
    name: str,
    work: Callable[[Lease], Awaitable[None]],
    outage: Outage,
    *,
    get_bus: Callable[[], str] = lambda: "system-redis",
    life_sec: float = 10.0,
) -> None:
    """Do `work` while this process holds the lease `name`, again and again until cancelled.

    The lease is waited for anew after it was lost, after `work` has raised a BusError, and after it returned.

    Args:
        work: is passed the lease, whose epoch can fence its writes. It may raise LeaseLost itself, when a
            store has refused its epoch.
        outage: records the BusErrors of `work`. It lasts until `work` returns, or ends it itself.
        life_sec: the seconds until the lease of a dead process expires.
    """
    async for attempt in retrying(outage):
        try:
            with attempt:
                async with me.lease(name, life_sec=life_sec, bus=get_bus()) as lease:
                    await work(lease)
        except LeaseLost:
            await asyncio.sleep(LOST_REST_SEC)
