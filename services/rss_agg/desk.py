"""Which feeds are read now: those that are this instance's, as they fall due, a few at once.

Each reading is a task of its own, so that a slow feed holds nobody up; who may begin is decided by
`schedule.py` and `hosts.py`, which hosts are bothered how much, and how it stands is said by `report.py`.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from marketswarm.agent import Agent, first_point
from marketswarm.bus import BusError
from marketswarm.settings import Common
from services.rss_agg import answers
from services.rss_agg.fetching import Fetching
from services.rss_agg.hosts import Hosts
from services.rss_agg.memory import Known, Memory
from services.rss_agg.parser import Parser
from services.rss_agg.reading import Outcome, Reading, where
from services.rss_agg.report import shown, states
from services.rss_agg.schedule import FIRSTS_PER_SEC, Schedule, next_at, slowed
from services.rss_agg.section import Feed, Section
from services.rss_agg.standing import Standing
from services.rss_agg.tally import Tally

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
        self._asked: tuple[Section | None, list[str]] = (None, [])
        self._followed: tuple[Any, ...] = ()
        self._changed, self._said_at = True, 0.0
        self._waiting: dict[str, float] = {}  # whose turn has come, since when
        self._readings: dict[str, asyncio.Task[None]] = {}
        self._memory: Memory | None = None
        self._section = Section()
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

    async def follow(self, section: Section, mine: Callable[[list[str]], list[str]]) -> None:
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

    async def _recall(self, memory: Memory, section: Section, urls: set[str]) -> None:
        """Know of each feed that is ours how it stands, and when it is due."""
        scopes = await memory.scopes(section.endpoints)
        feeds = [feed for feed in section.endpoints if feed.url in urls]
        known = {feed.url: Known(feed, scopes[feed.url], answers.mark(where(feed.url))) for feed in feeds}
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

    def _due(self, feed: Feed, standing: Standing, section: Section) -> float:
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
        return answers.origin(standing.moved if standing and standing.moved else where(url))

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
            self._changed = self._changed or shown(standing) != shown(self.standings[url])
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
