"""One reading of one feed, from what is known of it to what is known of it then.

Look up how it stands, fetch, take apart, publish; each step bounded, and nothing remembered of a document
before its items are on the stream. When it is to be read is `schedule.py`, beside whom `desk.py`.

Which feeds are read now: those that are this instance's, as they fall due, a few at once.

Each reading is a task of its own, so that a slow feed holds nobody up; who may begin is decided by
`schedule.py` and `hosts.py`, which hosts are bothered how much, and how it stands is said by `report.py`.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Literal, Self

from marketswarm import log
from marketswarm.agent import Agent, first_point
from marketswarm.bus import BusError
from marketswarm.settings import Common
from marketswarm.truth.credentials import reference_in
from marketswarm.truth.env_policy import is_feed_variable
from services.rss_agg.fetch import Answer, Failed, Fetching, Wanted, mark, origin, shown
from services.rss_agg.metrics import Tally
from services.rss_agg.parse import Item, NotAFeed, items_of
from services.rss_agg.parse_process import Parser
from services.rss_agg.scheduler import FIRSTS_PER_SEC, Hosts, Schedule, next_at, slowed
from services.rss_agg.settings import Feed, ReadSettings, RssSettings
from services.rss_agg.store import Known, Memory, Standing, reported, states

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

    async def read(self, one: Known, section: RssSettings, memory: Memory) -> Outcome:
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

    async def _read(self, one: Known, standing: Standing, wishes: ReadSettings, memory: Memory) -> Outcome:
        answer = await self._fetching.fetch(_wanted(one, standing), wishes)
        moved = "" if one.feed.secret else answer.moved
        if moved and moved != standing.moved:
            self._log.warning("feed.moved", feed=one.feed.name, to=shown(moved))
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
        self, one: Known, well: Standing, items: list[Item], wishes: ReadSettings, memory: Memory
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
        self, one: Known, standing: Standing, error: Failed, wishes: ReadSettings, memory: Memory
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


BUS_SEC: Final = 30.0  # above what looking up a thousand feeds may take; each request has its own bound
AGAIN_SEC: Final = 1.0  # after a bus that did not answer
LONGEST_SEC: Final = 60.0
END_SEC: Final = 1.0
SAY_EVERY_SEC: Final = 0.25  # going through a thousand feeds takes milliseconds


class Desk:
    """The readings of one instance. Use as a context; what has a name without `_` is for the loop.

    `stalled` is why nothing is read: the bus that remembers is away. `standings` are by URL in the truth.
    """

    def __init__(self, me: Agent[Common], tally: Tally) -> None:
        self.stalled: str | None = None
        self.feeds: Sequence[Feed] = ()
        self.standings: dict[str, Standing] = {}
        self._me, self._tally = me, tally
        self._schedule, self._hosts = Schedule(), Hosts()
        self._known: dict[str, Known] = {}
        self._asked: tuple[RssSettings | None, list[str]] = (None, [])
        self._followed: tuple[Any, ...] = ()
        self._changed, self._said_at = True, 0.0
        self._waiting: dict[str, float] = {}  # whose turn has come, since when
        self._readings: dict[str, asyncio.Task[None]] = {}
        self._memory: Memory | None = None
        self._section = RssSettings()
        self._ends = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        fetching = await self._ends.enter_async_context(Fetching())
        parser = await self._ends.enter_async_context(Parser())
        self._reading = Reading(fetching, parser, self._tally)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for task in self._readings.values():
            task.cancel()
        if self._readings:
            await asyncio.wait(self._readings.values(), timeout=END_SEC)
        await self._ends.aclose()

    async def follow(self, section: RssSettings, mine: Callable[[list[str]], list[str]]) -> None:
        """Go by this section from now on; `mine` tells which of its feeds are for this instance."""
        if self._asked[0] is not section:
            self._asked = (section, [feed.url for feed in section.endpoints])
        urls = mine(self._asked[1])
        to = first_point(self._me.section.access_points.publish_to, "market-redis", "rss:items")
        following = (section, urls, to, self._me.revision)  # with a truth a bus may have another address
        if following == self._followed and self.stalled is None:
            return
        try:
            memory = Memory(self._me.bus(to.bus), to.key)
            async with self._me.waiting(BUS_SEC):
                await memory.usable()
                # after an outage, too: what fell due meanwhile is not to be read all at once
                await self._recall(memory, section, set(urls))
        except BusError as error:
            self._stall(error)
            return
        except TimeoutError:
            self._stall(BusError(to.bus, "timeout"))
            return
        if self.stalled is not None:
            self._me.log.info("feeds.resumed", bus=to.bus)
        self._memory, self._section, self._followed, self.stalled = memory, section, following, None
        self._changed = True

    async def _recall(self, memory: Memory, section: RssSettings, urls: set[str]) -> None:
        """Know of each feed that is ours how it stands, and when it is due."""
        scopes = await memory.scopes(section.endpoints)
        feeds = [feed for feed in section.endpoints if feed.url in urls]
        known = {feed.url: Known(feed, scopes[feed.url], mark(where(feed.url))) for feed in feeds}
        standings = await memory.standings(list(known.values()))
        self._hosts.forget()
        self._waiting.clear()
        self._schedule.keep(())
        self.feeds, self._known = feeds, known
        self.standings = dict(zip(known, standings, strict=True))
        now, firsts = time.monotonic(), 0
        for url, standing in self.standings.items():
            due = self._due(known[url].feed, standing, section)
            if due <= now:
                due = now + firsts / FIRSTS_PER_SEC
                firsts += 1
            if url not in self._readings:
                self._schedule.put(url, due)

    def _due(self, feed: Feed, standing: Standing, section: RssSettings) -> float:
        """When a feed is to be read next, on the monotonic clock; infinity for one that is gone."""
        if standing.gone_at:
            return float("inf")
        every_sec = slowed(section.every_sec(feed), standing.fails)
        at = next_at(feed.url, standing.read_at, every_sec, random.random()) if standing.read_at else 0.0
        return time.monotonic() + max(at, standing.not_before) - time.time()

    def begin(self) -> None:
        """Begin to read what is due and may be read."""
        now, wishes = time.monotonic(), self._section.settings
        for url in self._schedule.due(now):
            self._waiting[url] = now
            self._hosts.wait(self._host(url), url)
        while self.stalled is None and len(self._readings) < wishes.at_once:
            turn = self._hosts.take(now, wishes.host_at_once, wishes.host_spacing_sec)
            if turn is None:
                break
            host, url = turn
            del self._waiting[url]
            name = f"feed {self._known[url].feed.name}"
            self._readings[url] = self._me.task(self._read(url, host), name=name)
        self._tally.overdue_sec = now - next(iter(self._waiting.values()), now)

    def news(self) -> bool:
        """Whether how things stand is to be said again."""
        now = time.monotonic()
        if not self._changed or now < self._said_at + SAY_EVERY_SEC:
            return False
        self._changed, self._said_at = False, now
        self._tally.states = states(self.feeds, self.standings)
        return True

    def rest_sec(self) -> float:
        """For how long there is nothing to begin, unless a reading ends before."""
        now, wishes = time.monotonic(), self._section.settings
        if self.stalled is not None:
            return AGAIN_SEC
        next_due = self._schedule.next_at()
        if self._changed:
            next_due = min(next_due, self._said_at + SAY_EVERY_SEC)
        if len(self._readings) < wishes.at_once:
            next_due = min(next_due, self._hosts.next_at(now, wishes.host_at_once))
        return min(max(0.0, next_due - now), LONGEST_SEC)

    def _host(self, url: str) -> str:
        standing = self.standings.get(url)
        return origin(standing.moved if standing and standing.moved else where(url))

    async def _read(self, url: str, host: str) -> None:
        one, memory, section = self._known[url], self._memory, self._section
        pause_sec, standing = 0.0, self.standings[url]
        try:
            if memory is not None:
                outcome = await self._reading.read(one, section, memory)
                pause_sec, standing = outcome.pause_sec, outcome.standing
                self._tell(one, outcome)
        except BusError as error:
            if error.reason == "error":  # what lies there is not what we put there: this feed's alone
                why = f"{error.bus} error"
                standing = standing.failed(why, time.time(), None, gone=False)
                self._me.log.warning("feed.failed", feed=one.feed.name, why=why, detail=error.detail)
            else:
                self._stall(error)
        finally:
            self._readings.pop(url, None)
            self._hosts.done(host, time.monotonic(), pause_sec)
            self._again(url, standing)
            self._me.wake()

    def _again(self, url: str, standing: Standing) -> None:
        """Put a feed that was read back into its place, if it still is ours."""
        if url in self._known and url not in self._waiting:
            self._changed = self._changed or reported(standing) != reported(self.standings[url])
            self.standings[url] = standing
            self._schedule.put(url, self._due(self._known[url].feed, standing, self._section))

    def _tell(self, one: Known, outcome: Outcome) -> None:
        before = self.standings.get(one.feed.url)
        if before is not None and before.why and not outcome.standing.why:
            self._me.log.info("feed.recovered", feed=one.feed.name, after=before.why)

    def _stall(self, error: BusError) -> None:
        why = f"{error.bus} {error.reason}: feeds are not read"
        if why != self.stalled:
            self._me.log.warning("feeds.stalled", bus=error.bus, reason=error.reason)
        self._changed = self._changed or why != self.stalled
        self.stalled = why
