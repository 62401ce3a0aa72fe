"""The loop of rss_agg: read the feeds that are due, publish what is new, say which ones fail."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import orjson

from marketswarm.agent import Agent, agent, first_point
from marketswarm.bus import BusError, Script
from marketswarm.settings import Common
from services.rss_agg.items import Feed, Item, Section
from services.rss_agg.schedule import Schedule, summed_up

if TYPE_CHECKING:
    from services.rss_agg.reading import Reader

AT_ONCE: Final = 4
ROUND_MARGIN_SEC: Final = 15.0  # to parse and to publish, beside the time to fetch
REMEMBERED: Final = 20_000
REMEMBERED_SEC: Final = 7 * 86_400
STREAM_LENGTH: Final = 10_000
PUBLISH: Final = Script.beside("services.rss_agg", "publish.lua")


async def main() -> int:
    """Be rss_agg until asked to stop."""
    async with agent("rss_agg") as me, contextlib.AsyncExitStack() as closing:
        own, schedule, reader = me.own(Section), Schedule(), None
        failing: dict[str, str] = {}
        while True:
            section = own()
            due = schedule.due(section, time.monotonic())
            if due and reader is None:
                reader = await closing.enter_async_context(_reader())
            if due and reader is not None:
                await read_all(me, reader, section, due, failing)
            for feed in due:
                schedule.was_read(feed, time.monotonic())
            say(me, section, failing)
            await me.rest(schedule.next_sec(section, time.monotonic()))
    return me.exit_code


async def read_all(
    me: Agent[Common], reader: "Reader", section: Section, due: Sequence[Feed], failing: dict[str, str]
) -> None:
    """Read and publish the feeds that are due, a few at once; `failing` is brought up to date."""
    gate = asyncio.Semaphore(AT_ONCE)
    rounds = -(-len(due) // AT_ONCE)

    async def one(feed: Feed) -> None:
        async with gate:
            why = await read_one(me, reader, section, feed)
        before = failing.pop(feed.url, None)
        if why is not None:
            failing[feed.url] = why
            if why != before:
                me.log.warning("feed.failed", feed=feed.name, why=why)

    with contextlib.suppress(TimeoutError):
        async with me.waiting(rounds * (section.settings.timeout_sec + ROUND_MARGIN_SEC)):
            await asyncio.gather(*(one(feed) for feed in due))


async def read_one(me: Agent[Common], reader: "Reader", section: Section, feed: Feed) -> str | None:
    """Read a feed and publish what is new in it; why that did not work, or `None`."""
    from services.rss_agg.reading import Failed  # noqa: PLC0415 - loaded by now; see `_reader`

    try:
        items = await reader.read(feed, section.settings)
        new = await publish(me, items)
    except Failed as error:
        return str(error)
    except BusError as error:
        return f"{error.bus} {error.reason}"
    me.log.info("feed.read", feed=feed.name, items=len(items), new=new)
    return None


async def publish(me: Agent[Common], items: Sequence[Item]) -> int:
    """Put the items that are new on the stream; how many those were. Raises BusError."""
    to = first_point(me.section.access_points.publish_to, "market-redis", "rss:items")
    args: list[str | bytes | float] = [round(time.time(), 3), REMEMBERED, REMEMBERED_SEC, STREAM_LENGTH]
    for item in items:
        args += [item.id, orjson.dumps([text for pair in item.fields.items() for text in pair])]
    return int(await me.bus(to.bus).script(PUBLISH, [to.key, f"{to.key}:seen"], args))


def say(me: Agent[Common], section: Section, failing: dict[str, str]) -> None:
    """Some feeds that fail are worth a word; all that fail are a trouble."""
    known = {feed.url for feed in section.endpoints}
    for url in set(failing) - known:
        del failing[url]
    summary = summed_up(section.endpoints, failing)
    me.degraded(summary if failing and len(failing) == len(known) else None)
    me.note(summary)


def _reader() -> "Reader":
    """A reader, whose libraries are loaded here and now: without feeds nobody needs them."""
    from services.rss_agg.reading import Reader  # noqa: PLC0415 - see above

    return Reader()
