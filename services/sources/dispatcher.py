"""Load this instance's series when they are due, a limited number at a time; refresh all by schedule.

An instance loads the series of its share. The refresh is for one instance at a time, which holds a lease, and
goes over all series, also those without an interval of their own.
"""

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from marketswarm.agent import Agent, LeaseLost
from marketswarm.bus import BusError
from marketswarm.truth.schedule import parse_schedule
from services.sources.alerts import AlertSender
from services.sources.cascade import WAITING, SeriesState, find_status, is_stale, needs_refresh
from services.sources.concurrency import load_concurrently
from services.sources.loader import LoadOutcome, LoadResult, SeriesLoader
from services.sources.metrics import SourcesMetrics
from services.sources.series import Series, list_series
from services.sources.settings import SourcesSettings

RETRY_SEC: Final = 1.0
"""After how many seconds a load is tried again that the bus prevented."""
BACKLOG_SEC: Final = 10.0
"""The longest rest of the main loop."""
CRITICAL_EVERY_SEC: Final = 5.0
LEASE: Final = "sources:refresh"
SHOWN: Final = 3


class SeriesDispatcher:
    """Load the series of this instance's share when they are due.

    Attributes:
        series: by name; those of the share.
        states: the last known state of each.
        stalled: why the bus can't be used now, or None.
        is_full: whether no more loads may run: the end of one wakes the main loop.
    """

    def __init__(
        self, me: Agent[Any], loader: SeriesLoader, alerts: AlertSender, metrics: SourcesMetrics
    ) -> None:
        self.series: dict[str, Series] = {}
        self.states: dict[str, SeriesState] = {}
        self.stalled: str | None = None
        self._me, self._loader, self._alerts, self._metrics = me, loader, alerts, metrics
        self._due: list[tuple[float, str]] = []
        self._due_at: dict[str, float] = {}
        self._running: set[str] = set()
        self.is_full = False
        self._critical_read_at = float("-inf")
        self._has_events = True  # an earlier process may have left some
        self._is_sending = False

    async def follow(self, series: Iterable[Series]) -> None:
        """Load these series from now on: what is known of them is read from the bus."""
        wanted = {each.id: each for each in series}
        if wanted == self.series:
            return
        changed = [name for name, each in wanted.items() if self.series.get(name) != each]
        try:
            found = await self._loader.store.read_states(changed)
        except BusError as error:
            self.stalled = f"{error.bus} {error.reason}"
            return
        for name in self.series.keys() - wanted.keys():
            self.states.pop(name, None)
            self._due_at.pop(name, None)
            self._loader.forget(name)
        redefined = wanted.keys() & self.series.keys()
        self.series = wanted
        for name in changed:
            self.states[name] = found[name]
            self._schedule(name, 0.0 if name in redefined else _find_due(found[name], time.time()))

    def _schedule(self, name: str, at: float | None) -> None:
        """Set when a series is due, instead of when it was; None: by the refresh alone."""
        self._due_at.pop(name, None)
        if at is not None:
            self._due_at[name] = at
            heapq.heappush(self._due, (at, name))

    def start_due(self, now: float, at_once: int) -> None:
        """Start the loads that are due, as many as may run."""
        while self._due and self._due[0][0] <= now and len(self._running) < at_once:
            at, name = heapq.heappop(self._due)
            if self._due_at.get(name) == at and name not in self._running:
                del self._due_at[name]
                self._running.add(name)
                self._me.task(self._load(self.series[name]), name=f"load {name}")
        self.is_full = len(self._running) >= at_once
        if self._has_events and not self._is_sending:
            self._is_sending = True
            self._me.task(self._send_events(), name="source events")

    def rest_sec(self, now: float) -> float:
        """Return the seconds until the next load is due."""
        return min(BACKLOG_SEC, max(0.0, self._due[0][0] - now)) if self._due else BACKLOG_SEC

    async def _load(self, series: Series) -> None:
        """Load a series, and schedule its next load."""
        begun, due_at = time.monotonic(), time.time() + RETRY_SEC
        try:
            result = await self._loader.load(series)
            self.stalled = None
        except BusError as error:
            self.note_stalled(error)
            self._end_load(series, due_at)
            return
        self._metrics.count_load(series.kind.value, result, time.monotonic() - begun)
        self._end_load(series, self._take_result(series, result))

    def _take_result(self, series: Series, result: LoadResult) -> float | None:
        """Keep the state that a load left; return when the series is due next."""
        self._has_events = self._has_events or result.pending_events > 0
        if result.outcome is LoadOutcome.LOADED:
            self.states[series.id] = result.state
            return result.state.due_at
        return time.time() + max(RETRY_SEC, result.wait_sec)

    def update_streamed(self, series: Series, result: LoadResult) -> None:
        """Keep the state that a minute of a stream left, and schedule the next load by it."""
        self._has_events = self._has_events or result.pending_events > 0
        self.stalled = None
        if series != self.series.get(series.id):
            return
        self.states[series.id] = result.state
        self._schedule(series.id, result.state.due_at)
        if self._has_events or self.rest_sec(time.time()) == 0:
            self._me.wake()

    def load_now(self, names: Iterable[str]) -> None:
        """Load these series now: their stream has ended, or lost a minute."""
        now = time.time()
        for name in names:
            if name in self.series:
                self._schedule(name, now)
        self._me.wake()

    def note_stalled(self, error: BusError) -> None:
        """Note why the bus can't be used, and log a new reason."""
        why = f"{error.bus} {error.reason}"
        if self.stalled != why:
            self._me.log.warning("series.stalled", bus=error.bus, reason=error.reason, detail=error.detail)
        self.stalled = why

    def _end_load(self, series: Series, due_at: float | None) -> None:
        """Schedule the next load of a series, and wake the main loop."""
        self._running.discard(series.id)
        if series == self.series.get(series.id):
            self._schedule(series.id, due_at)
        elif series.id in self.series:  # the truth has changed it meanwhile
            self._schedule(series.id, 0.0)
        self._me.wake()

    def schedule_events(self) -> None:
        """Send the pending events with the next turn of the main loop."""
        self._has_events = True
        self._me.wake()

    async def _send_events(self) -> None:
        """Send the pending events; try again with the next turn of the main loop if a bus fails."""
        self._has_events = False
        try:
            await self._alerts.send_pending()
            self._me.set_degraded(None, part="events")
        except BusError as error:
            self._has_events = True
            self._me.set_degraded(f"events not sent: {error.bus} {error.reason}", part="events")
            await asyncio.sleep(RETRY_SEC)
            self._me.wake()
        finally:
            self._is_sending = False

    async def read_critical(self) -> None:
        """Read the states of the critical series again, which another instance may have refreshed."""
        if time.monotonic() < self._critical_read_at + CRITICAL_EVERY_SEC:
            return
        self._critical_read_at = time.monotonic()
        names = [name for name, each in self.series.items() if each.critical]
        try:
            self.states |= await self._loader.store.read_states(names) if names else {}
        except BusError as error:
            self.note_stalled(error)

    def find_problem(self, now: float) -> str | None:
        """Return why the work as a whole fails: a bus, or a critical series that is not fresh; else None."""
        stale = [
            name for name, each in self.series.items() if each.critical and is_stale(self.states[name], now)
        ]
        self._metrics.stale_critical = len(stale)
        if self.stalled:
            return f"series not loaded: {self.stalled}"
        if not stale:
            return None
        more = f" and {len(stale) - SHOWN} more" if len(stale) > SHOWN else ""
        return f"stale: {', '.join(stale[:SHOWN])}{more}"

    def summarize(self, now: float) -> str | None:
        """Return how many series there are by state, for a beat: `12 series: 10 fresh, 2 late`."""
        counts = Counter(
            find_status(each, self.states[name], now).value
            if now > self.states[name].fresh_until
            else self.states[name].status.value
            for name, each in self.series.items()
        )
        self._metrics.series_by_status = counts
        if not counts:
            return None
        words = ", ".join(f"{count} {word}" for word, count in counts.most_common())
        return f"{len(self.series)} series: {words}"


def _find_due(state: SeriesState, now: float) -> float | None:
    """Return when a series is due that this instance has not loaded before."""
    if state is WAITING or (state.due_at is None and now > state.fresh_until):
        return 0.0
    return state.due_at


class Refresh:
    """Load all series that are old enough by schedule, in one instance at a time.

    Args:
        me: the agent.
        loader: loads the series.
        get_settings: returns the settings in force.
        bus: the name of the bus that has the lease.
        on_events: called when events of sources wait.
    """

    def __init__(
        self,
        me: Agent[Any],
        loader: SeriesLoader,
        get_settings: Callable[[], SourcesSettings],
        bus: str,
        on_events: Callable[[], None],
    ) -> None:
        self._me, self._loader, self._get_settings, self._bus = me, loader, get_settings, bus
        self._on_events = on_events
        self._reseeded = asyncio.Event()

    async def run(self) -> None:
        """Refresh by schedule until cancelled."""
        self._me.on_reseed(lambda _truth: self._reseeded.set())
        while True:
            try:
                async with self._me.lease(LEASE, bus=self._bus):
                    await self._drop_unnamed()
                    while True:
                        await self._wait_for_run()
                        await self._load_old()
            except LeaseLost:
                continue
            except BusError as error:
                self._me.log.warning("refresh.stalled", bus=error.bus, reason=error.reason)
                await asyncio.sleep(RETRY_SEC)

    async def _wait_for_run(self) -> None:
        """Wait for the next time of the schedule; after a reseed by the new one."""
        while True:
            self._reseeded.clear()
            now = time.time()
            at = parse_schedule(self._get_settings().settings.load.refresh).next_run(now)
            try:
                async with asyncio.timeout(None if at is None else max(0.0, at - now)):
                    await self._reseeded.wait()
            except TimeoutError:
                return
            await self._drop_unnamed()

    async def _drop_unnamed(self) -> None:
        """Forget the sources and series that the truth does not name. Raise BusError."""
        settings = self._get_settings()
        series = list_series(settings)
        stored_sources, stored_series = await self._loader.store.list_stored()
        named = {name for each in series for name in each.sources}
        gone = [name for name in stored_sources if name not in named]
        left = [name for name in stored_series if name not in {each.id for each in series}]
        if (gone or left) and await self._loader.store.drop(gone, left):
            self._on_events()

    async def _load_old(self) -> None:
        """Load the series whose last answer is old enough, as many at a time as the settings say."""
        settings = self._get_settings().settings.load
        series = list_series(self._get_settings())
        states = await self._loader.store.read_states([each.id for each in series])
        now = time.time()
        old = [each for each in series if needs_refresh(states[each.id], now, settings.older_than_sec)]
        new = await load_all(self._loader, old, settings.concurrency)
        self._me.log.info("refresh.done", series=len(series), loaded=len(new), records=sum(new.values()))


async def load_all(loader: SeriesLoader, series: Sequence[Series], at_once: int) -> Mapping[str, int]:
    """Load series, `at_once` at a time; return how many new records each has. Raise BusError."""
    new: dict[str, int] = {}

    async def load(each: Series) -> None:
        """Load one series."""
        result = await loader.load(each)
        if result.outcome is LoadOutcome.LOADED:
            new[each.id] = result.new

    try:
        await load_concurrently(series, at_once, load)
    except* BusError as errors:
        raise _first_of(errors) from None
    return new


def _first_of(errors: BaseExceptionGroup[BusError]) -> BusError:
    """Return the first error of a group that may have groups in it."""
    first = errors.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
