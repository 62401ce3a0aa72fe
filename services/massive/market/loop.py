"""Run the stream of market data that the truth wants, until the truth wants another.

    status = MarketStatus()
    me.task(run(me, lambda: settings_now().settings.market, status), name="market")

This is a side task of massive: its state and its problems are in `status`.
"""

import asyncio
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final

from marketswarm.agent import Agent, Lease
from marketswarm.agent.loops import lead
from services.massive.market.publish import bars_point
from services.massive.market.settings import NO_KEY, MarketEnvironment, MarketSettings
from services.massive.market.status import MarketStatus

if TYPE_CHECKING:
    from services.massive.market.live import LiveSource

LEASE: Final = "market"
_FORMER_LEASE: Final = "massive:market"


async def run(me: Agent[Any], settings_now: Callable[[], MarketSettings], status: MarketStatus) -> None:
    """Run the source that `settings_now()` wants; replace it when a reseed asks for another one.

    A reseed that only changes symbols or limits updates the running source. An error of the source is raised,
    in an ExceptionGroup.
    """
    reseeded = asyncio.Event()
    me.on_reseed(lambda _truth: reseeded.set())
    me.expose(status.collect)

    def identify() -> Hashable:
        return source_identity(settings_now()), is_replicated(me)

    while True:
        wanted, source = identify(), make_source(me, settings_now(), status)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(_run_source(me, source, status))
            while wanted == identify():
                if source is not None:
                    source.update_settings(settings_now())
                await reseeded.wait()
                reseeded.clear()
            running.cancel()


def is_replicated(me: Agent[Any]) -> bool:
    """Return True if the truth wants several instances.

    Most API plans allow one connection, so only the instance that holds the lease streams.
    """
    return (me.section.replicas or 1) > 1


async def _run_source(me: Agent[Any], source: "LiveSource | None", status: MarketStatus) -> None:
    """Run the source, if there is one; with several instances, only while this one holds the lease."""
    if source is None:
        return
    if not is_replicated(me):
        await source.run()
        return

    async def stream(_lease: Lease) -> None:
        source.store.outage.end()
        status.is_standby = False
        try:
            await source.run()
        finally:
            status.is_standby, status.streaming = True, False

    status.is_standby = True
    # the bus fails here only if the truth has no such bus: while it is away the lease is waited for
    outage = source.store.outage
    await lead(me, LEASE, stream, outage, former=_FORMER_LEASE, get_bus=lambda: bars_point(me).bus)


def make_source(me: Agent[Any], settings: MarketSettings, status: MarketStatus) -> "LiveSource | None":
    """Return the source to run, or None if there is none.

    `status` then shows which source it is, or why there is none.
    """
    environment: MarketEnvironment = me.settings
    status.reset("off")
    if settings.source == "off" or not settings.symbols:
        return None
    if environment.polygon_api_key is None:
        status.off_reason = NO_KEY
        return None
    status.refusal = environment.refuse_key(settings.rest_url, settings.ws_url)
    if status.refusal is not None:
        me.log.error("market.refused", why=status.refusal)
        return None
    status.reset(settings.source)
    from services.massive.market.live import LiveSource  # noqa: PLC0415 - takes time and memory

    return LiveSource(me, settings, environment.polygon_api_key, status)


def source_identity(settings: MarketSettings) -> Hashable:
    """Return the settings that a running source can't change; if they differ, another source must be made."""
    return settings.source, settings.feed, settings.rest_url, settings.ws_url, bool(settings.symbols)
