"""Load now what is not fresh, on request of the medic: its next turn may be a quarter of an hour away."""

import asyncio
import contextlib
import time
from typing import Final

from marketswarm.agent.requests import RequestOutcome
from marketswarm.bus import BusError
from services.sources.cascade.concurrency import CLAIMED_PAUSE_SEC, load_concurrently
from services.sources.cascade.loader import LoadOutcome, SeriesLoader
from services.sources.cascade.series import Series
from services.sources.dispatcher import SeriesDispatcher

MAX_RELOADED: Final = 50
"""The most series that one request has loaded."""
RELOAD_SEC: Final = 45.0
"""How long all of it may take. What was not loaded by then is loaded by its schedule."""


async def reload_stale(dispatcher: SeriesDispatcher, loader: SeriesLoader, at_once: int) -> RequestOutcome:
    """Load the series of this instance that are not fresh, `at_once` at a time, critical ones first.

    Sources that were late, empty or wrong lately are asked, too; those that are paused, at their limits, or
    have an open breaker are not. It has failed if a critical series is stale afterwards. Raises nothing.
    """
    stale = dispatcher.list_stale(time.time())[:MAX_RELOADED]
    if not stale:
        return RequestOutcome(why="every series is fresh")

    async def load(series: Series) -> None:
        begun = time.monotonic()
        try:
            while True:
                result = await loader.load(series, forced=True)
                if result.outcome is not LoadOutcome.CLAIMED:
                    break
                await asyncio.sleep(CLAIMED_PAUSE_SEC)
        except BusError as error:
            dispatcher.outage.record(error)
        else:
            dispatcher.note_load(series, result, time.monotonic() - begun)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RELOAD_SEC):
            await load_concurrently(stale, at_once, load)
    now = time.time()
    left = {each.id for each in dispatcher.list_stale(now)}
    return RequestOutcome(
        loaded=sum(each.id not in left for each in stale), why=dispatcher.find_problem(now) or ""
    )
