"""The loop of market data: run the source that the truth wants, until the truth wants another.

    status = MarketStatus()
    me.task(run(me, lambda: own().settings.market, status), name="market")

This is a side task of massive: it reports failures by `me.set_degraded`, and its state is `status.remark()`.
"""

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, Final

from marketswarm.agent import Agent, LeaseLost
from marketswarm.bus import BusError
from services.massive.market.live import LiveSource
from services.massive.market.publish import AGAIN_SEC, place
from services.massive.market.replay import ReplaySource
from services.massive.market.settings import MarketEnvironment, MarketSettings, key_refusal, rest_url, ws_url
from services.massive.market.status import MarketStatus

LEASE: Final = "massive:market"
NO_KEY: Final = "POLYGON_API_KEY is not set"


async def run(me: Agent[Any], own: Callable[[], MarketSettings], standing: MarketStatus) -> None:
    """Run the source that `own()` wants, now and after each reseed."""
    changed = asyncio.Event()
    me.on_reseed(lambda _truth: changed.set())
    me.expose(standing.collect)
    while True:
        wishes, several = own(), is_one_of_several(me)
        work = begun(me, wishes, standing)
        task = asyncio.create_task(_done(me, work, several, standing)) if work is not None else None
        try:
            while nature(wishes) == nature(own()) and several == is_one_of_several(me):
                if work is not None:
                    work.want(own())
                await _either(changed, task)
                changed.clear()
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def is_one_of_several(me: Agent[Any]) -> bool:
    """Return True if the truth wants several instances.

    Most plans allow one connection, so only one streams.
    """
    return (me.section.replicas or 1) > 1


async def _done(
    me: Agent[Any], work: LiveSource | ReplaySource, several: bool, standing: MarketStatus
) -> None:
    """Run the source; where there are several instances, only while this one holds the lease."""
    while several:
        standing.stands_by, standing.streaming = True, False
        try:
            async with me.lease(LEASE, bus=place(me).bus):
                me.set_degraded(None, part="market")
                standing.stands_by = False
                await work.run()
                return
        except LeaseLost:
            continue
        except BusError as error:  # it has no such bus
            me.set_degraded(f"market data: {error}", part="market")
            await asyncio.sleep(AGAIN_SEC)
    await work.run()


def begun(me: Agent[Any], wishes: MarketSettings, standing: MarketStatus) -> LiveSource | ReplaySource | None:
    """Return the source to run, or None; `standing` says which it is, or why there is none."""
    settings: MarketEnvironment = me.settings
    standing.clear("off")
    me.set_degraded(None, part="market")
    if wishes.source == "off" or (wishes.source == "live" and not wishes.symbols):
        return None
    if wishes.source == "live" and settings.polygon_api_key is None:
        standing.why_off = NO_KEY
        return None
    standing.clear(wishes.source)
    if wishes.source == "replay" or settings.polygon_api_key is None:
        return ReplaySource(me, wishes, standing)
    environment = settings.massive_rest_url, settings.massive_ws_url
    if (why := key_refusal((wishes.rest_url, wishes.ws_url), environment)) is not None:
        standing.clear("off")
        me.log.error("market.refused", why=why)
        me.set_degraded(f"market data: {why}", part="market")
        return None
    places = rest_url(wishes, settings.massive_rest_url), ws_url(wishes, settings.massive_ws_url)
    return LiveSource(me, wishes, places, settings.polygon_api_key, standing)


def nature(wishes: MarketSettings) -> Hashable:
    """Return what can't change in a running source; everything else can."""
    where = wishes.source, wishes.feed, wishes.rest_url, wishes.ws_url, wishes.file, wishes.speed
    return *where, bool(wishes.symbols)


async def _either(changed: asyncio.Event, task: asyncio.Task[None] | None) -> None:
    """Return when the truth has changed; raise what the source raised, which ends the agent."""
    waiter = asyncio.create_task(changed.wait())
    try:
        await asyncio.wait(
            {waiter, task} if task and not task.done() else {waiter}, return_when="FIRST_COMPLETED"
        )
    finally:
        waiter.cancel()
    if task is not None and task.done():
        task.result()
