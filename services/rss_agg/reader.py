"""Read feeds: fetch, parse, publish; start the readings of this instance's feeds as they fall due.

Each reading is a task of its own, so a slow feed delays no other. `DueWork` decides which may begin;
nothing of a document is recorded before its items are on the stream (`store.py`).
"""

import asyncio
import hashlib
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from marketswarm import log
from marketswarm.agent import Agent, first_point
from marketswarm.bus import BusError
from marketswarm.bus.outage import PAUSES, Outage
from marketswarm.due_queue import NEVER, DueWork
from marketswarm.keys import RSS_ITEMS
from marketswarm.settings import CommonSettings
from marketswarm.text import redact_url
from marketswarm.truth import AccessPoint
from marketswarm.truth.credentials import parse_reference
from marketswarm.truth.env_policy import is_feed_variable
from services.rss_agg.fetch import (
    FeedError,
    FeedResponse,
    Fetcher,
    hash_url,
    host_and_port,
    make_base_url,
)
from services.rss_agg.metrics import RssMetrics
from services.rss_agg.parse import Item, NotAFeedError, make_items
from services.rss_agg.parse_process import ParseProcess
from services.rss_agg.scheduler import FIRST_READS_PER_SEC, next_read_at, slow_down
from services.rss_agg.settings import Feed, ReadSettings, RssSettings
from services.rss_agg.store import FeedState, FeedStore, KnownFeed, Published, count_by_status

RECENT_SHARE: Final = 0.45
"""The share of its period for which a feed that another instance has read is not read again."""
BUS_SEC: Final = 30.0  # for loading the states of a thousand feeds; each request has its own limit
MAX_REST_SEC: Final = 60.0
CANCEL_SEC: Final = 1.0
REPORT_EVERY_SEC: Final = 0.25  # summing up a thousand feeds takes milliseconds


class FeedReader:
    """Read one feed at a time: fetch its document, parse it, publish its items.

    A failure of the feed is recorded in its state; only BusError is raised, when the store can't be used.
    """

    def __init__(self, fetcher: Fetcher, parser: ParseProcess, metrics: RssMetrics) -> None:
        self._fetcher, self._parser, self._metrics = fetcher, parser, metrics
        self._log = log.get("rss_agg")

    async def read(
        self, known: KnownFeed, settings: RssSettings, store: FeedStore
    ) -> tuple[FeedState, float]:
        """Return the state of the feed, and for how many seconds its host asked for no further request.

        The host of a redirect speaks for the feed alone: that it is busy says nothing of other feeds there.
        """
        (state,) = await store.load_states([known])
        if not should_read(state, settings.every_sec(known.feed), time.time()):
            return state, 0.0
        started, pause_sec = time.monotonic(), 0.0
        try:
            outcome, after = await self._fetch_parse_publish(known, state, settings.settings, store)
        except FeedError as error:
            reason, outcome = str(error), "failed"
            if error.host == host_and_port(state.moved_to or resolve_url(known.feed.url)):
                pause_sec = error.retry_after_sec or 0.0
            after = state.after_failure(reason, time.time(), error.retry_after_sec, gone=error.gone)
            if reason != state.error:
                event = "feed.gone" if error.gone else "feed.failed"
                self._log.warning(event, feed=known.feed.name, why=reason)
            await store.save_state(known, after, settings.settings)
        self._metrics.count_reading(outcome, time.monotonic() - started)
        return after, pause_sec

    async def _fetch_parse_publish(
        self, known: KnownFeed, state: FeedState, settings: ReadSettings, store: FeedStore
    ) -> tuple[str, FeedState]:
        """Return what came of it, as `readings_total` counts it, and the state after it. Raises FeedError."""
        url = resolve_url(known.feed.url)
        if not url:
            name = parse_reference(known.feed.url)
            raise FeedError("not_set" if name is None or is_feed_variable(name) else "not_allowed")
        response = await self._fetcher.fetch(
            url,
            settings,
            moved_to=state.moved_to,
            validators=state.validators,
            validators_of=state.validators_of,
        )
        after = self._update_state(known, state, response)
        if response.body is None or after.body_digest == state.body_digest:
            await store.save_state(known, after, settings)
            self._log.debug("feed.unchanged", feed=known.feed.name)
            return "unchanged", after
        base_url = make_base_url(response.url, is_secret=known.feed.is_secret)
        try:
            entries = await self._parser.parse(response.body, response.content_type, base_url)
        except NotAFeedError as error:
            raise FeedError(str(error)) from None
        items = make_items(known.feed, known.scope, entries)
        published = await store.publish_items(known, after, items, settings)
        self._count_published(known, items, published)
        return "fresh", after

    def _update_state(self, known: KnownFeed, state: FeedState, response: FeedResponse) -> FeedState:
        moved_to = "" if known.feed.is_secret else response.moved_to
        if moved_to and moved_to != state.moved_to:
            self._log.warning("feed.moved", feed=known.feed.name, to=redact_url(moved_to)[:200])
        after = replace(
            state.after_success(time.time()),
            moved_to=moved_to,
            validators=response.validators,
            validators_of=hash_url(response.url),
        )
        if response.body is None:
            return after
        return replace(after, body_digest=hashlib.sha256(response.body).hexdigest()[:24])

    def _count_published(self, known: KnownFeed, items: list[Item], published: Published) -> None:
        new, edited = len(published.new), len(published.edited)
        # the first items of a feed may be old, so their lag is not measured
        dated = [] if published.first else [item for item in items if item.id in published.new]
        self._metrics.count_items(new, edited, (item.fields["published"] for item in dated), time.time())
        write = self._log.info if new or edited else self._log.debug
        write("feed.read", feed=known.feed.name, items=len(items), new=new, edited=edited)


def should_read(state: FeedState, every_sec: float, now: float) -> bool:
    is_recent = state.read_at + RECENT_SHARE * slow_down(every_sec, state.failures) > now
    return not is_recent and not state.gone_at and state.not_before <= now


def resolve_url(url: str) -> str:
    """Return the URL of a feed; empty if the truth has `env:NAME`, and that is not set or not for feeds."""
    name = parse_reference(url)
    if name is None:
        return url
    return os.environ.get(name, "") if is_feed_variable(name) else ""


class FeedDispatcher:
    """Start the readings of this instance's feeds as they fall due.

    `outage` lasts while the bus of the stream can't be used, so that nothing is read. `states` are by the
    feeds' URLs in the truth.
    """

    def __init__(self, me: Agent[CommonSettings], metrics: RssMetrics) -> None:
        self.outage = Outage(me.log, "feeds.stalled", "feeds.resumed", degrade=self._note_stalled)
        self.feeds: Sequence[Feed] = ()
        self.states: dict[str, FeedState] = {}
        self._me, self._metrics = me, metrics
        self._fetcher, self._parser = Fetcher(), ParseProcess()
        self._reader = FeedReader(self._fetcher, self._parser, metrics)
        self._work = DueWork(self._host)
        self._known: dict[str, KnownFeed] = {}
        self._urls: tuple[RssSettings | None, list[str]] = (None, [])
        self._applied: tuple[Any, ...] = ()
        self._changed, self._reported_at = True, 0.0
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._store: FeedStore | None = None
        self._settings = RssSettings()

    async def aclose(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=CANCEL_SEC)
        await self._parser.aclose()
        await self._fetcher.aclose()

    async def follow(self, settings: RssSettings, mine: Callable[[list[str]], list[str]]) -> None:
        """Read by these settings from now on; `mine` selects the URLs that this instance reads."""
        if self._urls[0] is not settings:
            self._urls = (settings, [feed.url for feed in settings.endpoints])
        urls = mine(self._urls[1])
        stream = first_point(self._me.section.access_points.publish_to, "market-redis", RSS_ITEMS)
        applied = (settings, urls, stream, self._me.revision)  # a new truth may give a bus another address
        if applied == self._applied and self.outage.error is None:
            return
        with self.outage:
            self._store = await self._open_store(stream, settings, set(urls))
            self._settings, self._applied, self._changed = settings, applied, True

    async def _open_store(self, stream: AccessPoint, settings: RssSettings, urls: set[str]) -> FeedStore:
        store = FeedStore(self._me.bus(stream.bus), stream.key)
        try:
            async with self._me.waiting(BUS_SEC):
                await store.check_writable()
                # after an outage, too, because the feeds that fell due meanwhile must not be read all at once
                await self._load(store, settings, urls)
        except TimeoutError:
            raise BusError(stream.bus, "timeout") from None
        return store

    async def _load(self, store: FeedStore, settings: RssSettings, urls: set[str]) -> None:
        """Load the state of each feed of this instance, and schedule it. Raises BusError."""
        scopes = await store.load_scopes(settings.endpoints)
        feeds = [feed for feed in settings.endpoints if feed.url in urls]
        known = {
            feed.url: KnownFeed(feed, scopes[feed.url], hash_url(resolve_url(feed.url))) for feed in feeds
        }
        states = await store.load_states(list(known.values()))
        self._work.clear()
        self.feeds, self._known = feeds, known
        self.states = dict(zip(known, states, strict=True))
        now, overdue = time.monotonic(), 0
        for url, state in self.states.items():
            due_at = self._due_at(known[url].feed, state, settings)
            if due_at <= now:
                due_at = now + overdue / FIRST_READS_PER_SEC
                overdue += 1
            self._work.put(url, due_at)

    def _due_at(self, feed: Feed, state: FeedState, settings: RssSettings) -> float:
        """Return monotonic seconds; NEVER for a feed that is gone."""
        if state.gone_at:
            return NEVER
        every_sec = slow_down(settings.every_sec(feed), state.failures)
        due_at = 0.0
        if state.read_at:
            due_at = next_read_at(feed.url, state.read_at, every_sec, random.random())
        return time.monotonic() + max(due_at, state.not_before) - time.time()

    def start_due(self) -> None:
        now, settings = time.monotonic(), self._settings.settings
        at_once = settings.at_once if self.outage.error is None else 0
        self._work.limit(at_once, settings.host_at_once, settings.host_spacing_sec)
        while (url := self._work.begin(now)) is not None:
            name = f"feed {self._known[url].feed.name}"
            self._tasks[url] = self._me.task(self._read(url), name=name)
        self._metrics.overdue_seconds = self._work.overdue_sec(now)

    def has_news(self) -> bool:
        """Return True, at most every REPORT_EVERY_SEC, if something changed that the beats show."""
        now = time.monotonic()
        if not self._changed or now < self._reported_at + REPORT_EVERY_SEC:
            return False
        self._changed, self._reported_at = False, now
        self._metrics.count_feeds(count_by_status(self.feeds, self.states))
        return True

    def rest_sec(self) -> float:
        """Return how many seconds may pass before the next reading starts, unless one ends earlier."""
        if self.outage.error is not None:
            return PAUSES.longest_sec
        now = time.monotonic()
        next_at = self._work.next_at(now)
        if self._changed:
            next_at = min(next_at, self._reported_at + REPORT_EVERY_SEC)
        return min(max(0.0, next_at - now), MAX_REST_SEC)

    def _host(self, url: str) -> str:
        state = self.states.get(url)
        return host_and_port(state.moved_to if state and state.moved_to else resolve_url(url))

    async def _read(self, url: str) -> None:
        known, store, settings = self._known[url], self._store, self._settings
        pause_sec, state = 0.0, self.states[url]
        try:
            if store is not None:
                state, pause_sec = await self._reader.read(known, settings, store)
                before = self.states.get(url)
                if before is not None and before.error and not state.error:
                    self._me.log.info("feed.recovered", feed=known.feed.name, after=before.error)
        except BusError as error:
            if error.reason == "error":  # someone else wrote to this feed's keys: only this feed fails
                reason = f"{error.bus} error"
                state = state.after_failure(reason, time.time(), None, gone=False)
                self._me.log.warning("feed.failed", feed=known.feed.name, why=reason, detail=error.detail)
            else:
                self.outage.record(error)
        finally:
            self._tasks.pop(url, None)
            self._work.finish(url, time.monotonic(), pause_sec)
            if url in self._known:
                self._changed = self._changed or _shown(state) != _shown(self.states[url])
                self.states[url] = state
                self._work.put(url, self._due_at(self._known[url].feed, state, self._settings))
            self._me.wake()

    def _note_stalled(self, _problem: str | None) -> None:
        self._changed = True


def _shown(state: FeedState) -> tuple[str, ...]:
    return state.status, state.error, state.moved_to
