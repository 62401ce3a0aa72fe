"""One reading of one feed, from what is known of it to what is known of it then.

Look up how it stands, fetch, take apart, publish; each step bounded, and nothing remembered of a document
before its items are on the stream. When it is to be read is `schedule.py`, beside whom `desk.py`.
"""

import hashlib
import os
import time
from dataclasses import dataclass, replace
from typing import Final, Literal

from marketswarm import log
from marketswarm.truth.credentials import reference_in
from marketswarm.truth.env_policy import is_feed_variable
from services.rss_agg import answers
from services.rss_agg.answers import mark
from services.rss_agg.documents import NotAFeed
from services.rss_agg.fetching import Answer, Failed, Fetching, Wanted
from services.rss_agg.items import Item, items_of
from services.rss_agg.memory import Known, Memory
from services.rss_agg.parser import Parser
from services.rss_agg.schedule import slowed
from services.rss_agg.section import Section, Wishes
from services.rss_agg.standing import Standing
from services.rss_agg.tally import Tally

JUST_NOW: Final = 0.45
"""Of a period: who was asked so lately, by another instance, is not asked again."""

Kind = Literal["fresh", "unchanged", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a reading; `pause_sec`: how long its host wants to be left alone."""

    kind: Kind
    standing: Standing
    pause_sec: float = 0.0


class Reading:
    """Reads feeds. Raises BusError when the memory can't be had; of a feed it raises nothing."""

    def __init__(self, fetching: Fetching, parser: Parser, tally: Tally) -> None:
        self._fetching, self._parser, self._tally = fetching, parser, tally
        self._log = log.get("rss_agg")

    async def read(self, one: Known, section: Section, memory: Memory) -> Outcome:
        """Read a feed and publish what is new."""
        wishes = section.settings
        (standing,) = await memory.standings([one])
        if not wanted(standing, section.every_sec(one.feed), time.time()):
            return Outcome("skipped", standing)
        begun = time.monotonic()
        try:
            outcome = await self._read(one, standing, wishes, memory)
        except Failed as error:
            outcome = await self._failed(one, standing, error, wishes, memory)
        self._tally.read(outcome.kind, time.monotonic() - begun)
        return outcome

    async def _read(self, one: Known, standing: Standing, wishes: Wishes, memory: Memory) -> Outcome:
        answer = await self._fetching.fetch(_wanted(one, standing), wishes)
        moved = "" if one.feed.secret else answer.moved
        if moved and moved != standing.moved:
            self._log.warning("feed.moved", feed=one.feed.name, to=answers.shown(moved))
        digest = hashlib.sha256(answer.body).hexdigest()[:24] if answer.body is not None else standing.body
        well = replace(
            standing.well(time.time()),
            moved=moved,
            validators=answer.validators,
            of=mark(answer.url),
            body=digest,
        )
        if answer.body is None or digest == standing.body:
            await memory.note(one, well, wishes)
            self._log.debug("feed.unchanged", feed=one.feed.name)
            return Outcome("unchanged", well)
        items = await self._items(one, answer)
        await self._publish(one, well, items, wishes, memory)
        return Outcome("fresh", well)

    async def _items(self, one: Known, answer: Answer) -> list[Item]:
        try:
            entries = await self._parser.entries(answer.body or b"", answer.kind, answer.url)
        except NotAFeed as error:
            raise Failed(str(error)) from None
        return items_of(one.feed, one.scope, entries)

    async def _publish(
        self, one: Known, well: Standing, items: list[Item], wishes: Wishes, memory: Memory
    ) -> None:
        done = await memory.publish(one, well, items, wishes)
        # how late a feed's first items are says how old they are, and nothing of us
        fresh = [] if done.first else [item for item in items if item.id in done.new]
        self._tally.published(
            len(done.new), len(done.edited), (item.fields["published"] for item in fresh), time.time()
        )
        say = self._log.info if done.new or done.edited else self._log.debug
        say("feed.read", feed=one.feed.name, items=len(items), new=len(done.new), edited=len(done.edited))

    async def _failed(
        self, one: Known, standing: Standing, error: Failed, wishes: Wishes, memory: Memory
    ) -> Outcome:
        why = str(error)
        failed = standing.failed(why, time.time(), error.retry_after_sec, gone=error.gone)
        if why != standing.why:
            event = "feed.gone" if error.gone else "feed.failed"
            self._log.warning(event, feed=one.feed.name, why=why)
        await memory.note(one, failed, wishes)
        return Outcome("failed", failed, error.retry_after_sec or 0.0)


def wanted(standing: Standing, every_sec: float, now: float) -> bool:
    """Whether a feed is to be asked now, or was it by another instance, or wants not to be."""
    lately = standing.read_at + JUST_NOW * slowed(every_sec, standing.fails) > now
    return not lately and not standing.gone_at and standing.not_before <= now


def where(one_url: str) -> str:
    """Where a feed of the truth is now; empty when it is in a variable that is not set, or not for feeds."""
    name = reference_in(one_url)
    if name is None:
        return one_url
    return os.environ.get(name, "") if is_feed_variable(name) else ""


def _wanted(one: Known, standing: Standing) -> Wanted:
    url = where(one.feed.url)
    if not url:
        name = reference_in(one.feed.url)
        raise Failed("not_set" if name is None or is_feed_variable(name) else "not_allowed")
    return Wanted(url, standing.moved, standing.validators, standing.of)
