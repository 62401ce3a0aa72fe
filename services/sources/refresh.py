"""Load all series that are old enough by schedule, in one instance at a time.

The instance that holds the lease goes over the series of all shares, also those without an interval of their
own. When the last completed run began is on the bus: one that was broken off, or missed because no instance
ran, is made up for at once. Meanwhile it tries the sources that are down and that no load asks.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from marketswarm.agent.loops import lead
from marketswarm.bus.outage import Outage, retry
from marketswarm.bus.stored_values import is_ahead
from marketswarm.bus.stream_loss import LostSpan
from marketswarm.net.retry import Backoff
from marketswarm.truth.schedule import parse_schedule
from services.market.records import RecordKind
from services.sources.cascade.loader import LoadOutcome, LoadResult, load_concurrently
from services.sources.cascade.missing_keys import is_stream
from services.sources.cascade.series import Series, list_series
from services.sources.cascade.state import needs_refresh
from services.sources.dispatcher import SeriesDispatcher
from services.sources.settings import SourcesSettings

TRY_EVERY_SEC: Final = 30.0
"""How often it is looked whether a source that is down is to be tried."""
TRY_BACKOFF: Final = Backoff(300.0, 3600.0)
"""The pauses between trials of a source that is down."""
LEASE: Final = "refresh"
_FORMER_LEASE: Final = f"sources:{LEASE}"


class Refresh:
    """Load all series that are old enough by schedule, while this instance holds the lease on `bus`."""

    def __init__(
        self, dispatcher: SeriesDispatcher, get_settings: Callable[[], SourcesSettings], bus: str
    ) -> None:
        self._me, self._loader, self._dispatcher = dispatcher.me, dispatcher.loader, dispatcher
        self._get_settings, self._bus = get_settings, bus
        self._reseeded = asyncio.Event()
        self._outage = Outage(self._me.log, "refresh.stalled", "refresh.resumed")
        self._trials: dict[str, tuple[int, float]] = {}
        self.is_leading = False
        """Whether this instance refreshes by schedule, and takes what people ask for."""
        self._lost: LostSpan | None = None
        self._forgotten = set[str]()  # the series that publish again what was lost then

    async def run(self) -> None:
        self._me.on_reseed(lambda _truth: self._reseeded.set())
        await lead(
            self._me,
            LEASE,
            lambda _lease: self._refresh(),
            self._outage,
            former=_FORMER_LEASE,
            get_bus=lambda: self._bus,
        )

    async def _refresh(self) -> None:
        """Refresh by schedule while the lease is held. Raise BusError."""
        self.is_leading = True
        try:
            await self._drop_unnamed()
            while True:
                await self._wait_for_run()
                await self.load_old()
        finally:
            self.is_leading = False

    async def _wait_for_run(self) -> None:
        """Wait for the first time of the schedule since the last completed run; try sources meanwhile.

        After a reseed the new schedule counts. Raise BusError.
        """
        while True:
            self._reseeded.clear()
            now = time.time()
            last = await self._loader.store.read_refreshed()
            if last is None or last > now:  # none yet, or by a clock that is ahead of ours
                last = now
                await self._loader.store.write_refreshed(now)
            at = parse_schedule(self._get_settings().settings.load.refresh).next_run(last)
            wait_sec = math.inf if at is None else at - now
            if wait_sec <= 0:
                return
            try:
                async with asyncio.timeout(min(wait_sec, TRY_EVERY_SEC)):
                    await self._reseeded.wait()
            except TimeoutError:
                await self.try_down(time.time())
                await self.publish_lost()
            # not only after a reseed: a load that ran meanwhile stores its series again
            await self._drop_unnamed()

    async def _drop_unnamed(self) -> None:
        """Forget the sources and series that the truth does not name. Raise BusError."""
        series = list_series(self._get_settings())
        named = {name for each in series for name in each.sources}
        await self._loader.store.drop_unnamed(named, {each.id for each in series})

    async def publish_lost(self) -> None:
        """Have the series of bars publish again what bars lost unread, if it noted a loss. Raise BusError.

        What is just being loaded comes with the next look. No series is asked for more than what may change.
        """
        span = await self._loader.store.read_lost()
        if span is None:
            return
        if span != self._lost:
            self._lost, self._forgotten = span, set()
            self._me.log.warning("refresh.lost", from_ms=span.from_ms, to_ms=span.to_ms)
        series = [each for each in list_series(self._get_settings()) if each.kind is RecordKind.BARS]
        for each in series:
            if each.id not in self._forgotten:
                result = await self._loader.publish_again(each, span)
                if result.outcome in (LoadOutcome.LOADED, LoadOutcome.UNUSED):
                    self._forgotten.add(each.id)
        if self._forgotten.issuperset(each.id for each in series):
            await self._loader.store.settle_lost(span)

    async def try_down(self, now: float) -> None:
        """Try each source that is down and was not asked for a while. Raise BusError.

        No load asks a source while one before it in the cascade is fresh, so its outage would not end. The
        pause grows; the series that name the source take turns. `now` is in epoch seconds.
        """
        by_source: dict[str, list[Series]] = {}
        for each in list_series(self._get_settings()):
            for source in each.sources:
                if not is_stream(each, source):
                    by_source.setdefault(source, []).append(each)
        down = await self._loader.store.read_down(by_source)
        self._trials = {name: each for name, each in self._trials.items() if name in down}
        for source, checked_at in down.items():
            count, tried_at = self._trials.get(source, (0, 0.0))
            asked = (each for each in (checked_at, tried_at) if not is_ahead(each, now))
            if now < min(max(asked, default=0.0), now) + TRY_BACKOFF.pause_sec(count + 1):
                continue
            series = by_source[source][count % len(by_source[source])]
            result = await self._loader.try_source(series, source)
            if result.outcome is not LoadOutcome.CLAIMED:
                self._trials[source] = (count + 1, now)
            if result.outcome not in (LoadOutcome.CLAIMED, LoadOutcome.UNUSED):
                self._dispatcher.note_load(series, result)

    async def load_old(self) -> None:
        """Load the series whose last answer is old enough, as many at a time as the settings say.

        While the bus is away each waits for it, until the lease is lost. Raise BusError.
        """
        begun, begun_at, settings = time.time(), time.monotonic(), self._get_settings().settings.load
        series = list_series(self._get_settings())
        states = await self._loader.store.read_states([each.id for each in series], begun)
        old = [each for each in series if needs_refresh(states[each.id], begun, settings.older_than_sec)]
        results = await self._load_all(old, forced=False)
        await self._loader.store.write_refreshed(begun)
        self._outage.end()
        loaded = [each for each in results if each.outcome is LoadOutcome.LOADED]
        records = sum(each.new for each in loaded)
        sec = round(time.monotonic() - begun_at, 1)
        self._me.log.info("refresh.done", series=len(series), loaded=len(loaded), records=records, sec=sec)

    async def load_asked(
        self, source: str | None, report: Callable[[int, LoadResult | None], Awaitable[None]]
    ) -> None:
        """Load the series of a source, or all, as a person asked: also those whose turn is later.

        Sources that were late, empty or wrong lately are asked, too; limits, pauses and open breakers count.
        `report` is told how many series there are, first with None, and then with the result of each.
        """
        series = [
            each for each in list_series(self._get_settings()) if source is None or source in each.sources
        ]
        await report(len(series), None)
        await self._load_all(series, forced=True, report=lambda result: report(len(series), result))

    async def _load_all(
        self,
        series: Sequence[Series],
        *,
        forced: bool,
        report: Callable[[LoadResult], Awaitable[None]] | None = None,
    ) -> list[LoadResult]:
        results: list[LoadResult] = []

        async def load(each: Series) -> None:
            result = await retry(self._outage, lambda: self._loader.load(each, forced=forced))
            self._dispatcher.note_load(each, result)
            results.append(result)
            if report is not None:
                await report(result)
            await retry(self._outage, lambda: self._dispatcher.complete_history(each, result))

        await load_concurrently(series, self._get_settings().settings.load.concurrency, load)
        return results
