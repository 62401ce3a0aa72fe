"""The loop of vexy_ai: take items, write a note about each, once, whoever died with it in hand."""

import time
from typing import Final

from marketswarm.agent import Agent, agent, first_point
from marketswarm.bus import BusError
from marketswarm.settings import Common
from services.vexy_ai.notes import Section, Wishes, note
from services.vexy_ai.queue import Entry, Queue

AGAIN_SEC: Final = 1.0
BUS_SEC: Final = 10.0  # above what a step of the queue may take: a bus that is away is no hanging of ours


async def main() -> int:
    """Be vexy_ai until asked to stop."""
    async with agent("vexy_ai") as me:
        own = me.own(Section)
        while True:
            try:
                await work(me, own().settings)
            except BusError as error:
                why = f"{error.bus} {error.reason}"
                if why not in (me.trouble() or ""):  # once, until it has worked again
                    me.log.warning("items.unread", bus=error.bus, reason=error.reason)
                me.degraded(why)
            await me.rest(AGAIN_SEC)
    return me.exit_code


async def work(me: Agent[Common], wishes: Wishes) -> None:
    """Work until the truth changes. Raises BusError when a bus does not do its part."""
    async with me.waiting(BUS_SEC):
        queue = await opened(me, wishes)
    revision = me.revision
    try:
        claimed_at = float("-inf")
        while me.revision == revision:
            if time.monotonic() - claimed_at >= wishes.claim_sec / 2:
                claimed_at = time.monotonic()
                async with me.waiting(BUS_SEC):
                    orphans = await queue.take_over(wishes.claim_sec, wishes.batch)
                await note_all(me, queue, orphans)
            async with me.waiting(BUS_SEC):
                items = await queue.take(wishes.batch)
            await note_all(me, queue, items)
            me.degraded(None)
    finally:
        async with me.waiting(BUS_SEC):
            await queue.close()


async def opened(me: Agent[Common], wishes: Wishes) -> Queue:
    """This process as a consumer of the items."""
    source = first_point(me.section.access_points.subscribe_to, "market-redis", "rss:items")
    queue = Queue(me.bus(source.bus), source.key, wishes.group, me.boot)
    await queue.open()
    return queue


async def note_all(me: Agent[Common], queue: Queue, entries: list[Entry]) -> None:
    """Write the note about each item."""
    to = first_point(me.section.access_points.publish_to, "market-redis", "vexy:notes")
    new = 0
    for entry_id, item in entries:
        now = time.time()
        made = note(entry_id.decode(), item, now)
        async with me.waiting(BUS_SEC):
            new += await queue.settle(entry_id, me.bus(to.bus), to.key, made, now)
    if entries:
        me.log.info("items.noted", items=len(entries), new=new)
