"""Load this instance's series when they are due, a limited number at a time, or when the medic asks for it.

An instance loads the series of its share. The result of every load comes to `note_load`, wherever it was
begun; what other instances did is read from the bus from time to time.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from marketswarm.agent import Agent
from marketswarm.agent.outage_alerts import OutageAlerts
from marketswarm.agent.outage_state import Thresholds
from marketswarm.agent.requests import RequestOutcome
from marketswarm.bus import BusError
from marketswarm.bus.outage import Outage
from marketswarm.bus.stored_values import is_ahead
from marketswarm.due_queue import NEVER, DueWork
from services.sources.cascade.loader import (
    CLAIMED_PAUSE_SEC,
    LoadOutcome,
    LoadResult,
    SeriesLoader,
    load_concurrently,
)
from services.sources.cascade.series import Series
from services.sources.cascade.state import (
    WAITING,
    SeriesState,
    explain_sources,
    find_status,
    forget_future,
    is_stale,
)
from services.sources.metrics import SourcesMetrics

RETRY_SEC: Final = 1.0
"""After how many seconds a load is tried again that the bus prevented."""
LONGEST_REST_SEC: Final = 10.0
"""The longest rest of the main loop."""
CRITICAL_EVERY_SEC: Final = 5.0
STATES_EVERY_SEC: Final = 30.0
"""The time between two looks at what is stored of the critical series, and of all series."""
FIRST_LOAD_SEC: Final = 180.0
"""How long a series may wait for its first load before it counts as stale."""
SHOWN: Final = 3
LOGGED: Final = 20
MAX_RELOADED: Final = 50
"""The most series that one request has loaded."""
RELOAD_SEC: Final = 45.0
"""How long all of it may take. What was not loaded by then is loaded by its schedule."""


class SeriesDispatcher:
    """Load the series of this instance's share when they are due.

    Attributes:
        series: by name; those of the share.
        outage: what the bus of the market keeps from being loaded.
        me, loader, metrics: those of the process, also for what loads beside the dispatcher.
    """

    def __init__(
        self, me: Agent[Any], loader: SeriesLoader, alerts: OutageAlerts, metrics: SourcesMetrics
    ) -> None:
        self.series: dict[str, Series] = {}
        self.states: dict[str, SeriesState] = {}
        self.outage = Outage(me.log, "series.stalled", "series.resumed")
        self.me, self.loader, self.alerts, self.metrics = me, loader, alerts, metrics
        self._work = DueWork(lambda name: self.series[name].sources[0])
        self._followed_at: dict[str, float] = {}
        self._stale: set[str] = set()
        self._recording: set[str] = set()
        self._critical_read_at = self._states_read_at = float("-inf")
        self._looked_at = 0.0  # when the last loads were started, in epoch seconds

    async def follow(self, series: Iterable[Series]) -> None:
        """Load these series from now on; read from the bus what is known of them."""
        wanted = {each.id: each for each in series}
        if wanted == self.series:
            return
        changed = [name for name, each in wanted.items() if self.series.get(name) != each]
        now = time.time()
        try:
            found = await self.loader.store.read_states(changed, now)
        except BusError as error:
            self.outage.record(error)
            return
        for name in self.series.keys() - wanted.keys():
            for kept in (self.states, self._followed_at):
                kept.pop(name, None)
            self._work.put(name, NEVER)
            self._stale.discard(name)
            self.loader.forget(name)
        redefined = wanted.keys() & self.series.keys()
        self.series = wanted
        for name in changed:
            self.states[name] = found[name]
            self._followed_at.setdefault(name, now)
            self._schedule(name, 0.0 if name in redefined else _find_due(found[name], now))

    def follow_sources(self, series: Iterable[Series], miss_after: int) -> None:
        """Alert on the sources of these series, which are those of all shares, from now on."""
        self.alerts.follow({name: Thresholds(miss_after, 1) for each in series for name in each.sources})

    def _schedule(self, name: str, at: float | None) -> None:
        self._work.put(name, NEVER if at is None else at)

    def start_due(self, now: float, at_once: int) -> None:
        """Start the loads that are due, as many as may run.

        Half of the places are the most that the series of one source take, by the first source of each, if
        there are others: a source that answers late or never keeps no other waiting. If the clock was set
        back since the last call, what waits by the time that was is scheduled anew.
        """
        if is_ahead(self._looked_at, now):
            self.states = {series: forget_future(state, now) for series, state in self.states.items()}
            for series, state in self.states.items():
                self._schedule(series, _find_due(state, now))
        self._looked_at = now
        firsts = {each.sources[0] for each in self.series.values()}
        self._work.limit(at_once, at_once if len(firsts) < 2 else max(1, at_once // 2))
        while (name := self._work.begin(now)) is not None:
            self.me.task(self._load(self.series[name]), name=f"load {name}")

    def rest_sec(self, now: float) -> float:
        """Return how many seconds may pass before the next load starts, unless one ends earlier."""
        return min(LONGEST_REST_SEC, max(0.0, self._work.next_at(now) - now))

    async def _load(self, series: Series) -> None:
        retry_sec, is_loaded = RETRY_SEC, False
        try:
            result = await self.loader.load(series)
            self.note_load(series, result)
            is_loaded, retry_sec = result.outcome is LoadOutcome.LOADED, max(RETRY_SEC, result.wait_sec)
            await self.complete_history(series, result)
        except BusError as error:
            self.outage.record(error)
        self._work.finish(series.id, time.time())
        if (current := self.series.get(series.id)) is not None:
            if current != series:  # the truth has changed it meanwhile
                self._schedule(series.id, 0.0)
            elif not is_loaded:
                self._schedule(series.id, time.time() + retry_sec)
            else:  # it may have fallen due while its history was completed
                self._schedule(series.id, self.states[series.id].due_at)
        self.me.wake()

    async def complete_history(self, series: Series, loaded: LoadResult) -> None:
        """Load a part of the history that is missing after a load. Raise BusError."""
        older = await self.loader.complete_history(series, loaded)
        if older is not None:
            self.note_load(series, older)

    def record_left(self) -> None:
        """Begin to record the requests of broken-off loads whose series have no next load here.

        Those are the series that this instance has given up meanwhile, and those of others that the refresh
        loaded.
        """
        for series in self.loader.store.list_unrecorded():
            if series.id not in self.series.keys() | self._recording:
                self._recording.add(series.id)
                self.me.task(self._record(series), name=f"record {series.id}")

    async def _record(self, series: Series) -> None:
        """Record the requests of a series; leave it to the next turn if another load of it runs."""
        try:
            await self.loader.record_requests(series)
        except BusError as error:
            self.outage.record(error)
        finally:
            self._recording.discard(series.id)

    def note_load(self, series: Series, result: LoadResult) -> None:
        """Take the result of a load of this process: count it, keep the state of the series, schedule by it.

        The refresh loads series of all shares; states of others are counted, and not kept.
        """
        self.metrics.count_load(series.kind.value, result)
        self._take_result(series, result)

    def update_streamed(self, series: Series, result: LoadResult) -> None:
        """Keep the state that a minute of a stream left, and schedule the next load by it."""
        self._take_result(series, result)
        if self.rest_sec(time.time()) == 0:
            self.me.wake()

    def _take_result(self, series: Series, result: LoadResult) -> None:
        """Keep the state that a load left, and schedule by it; take the outcomes of its sources."""
        for source, error in result.outcomes.items():
            is_replaced = error is not None and result.source not in ("", source)
            detail = f"meanwhile {result.source} serves {series.id}" if is_replaced else None
            self.alerts.add_outcome(source, result.answered_at, error, detail)
        self.outage.end()
        if result.outcome is LoadOutcome.LOADED and series == self.series.get(series.id):
            self.states[series.id] = result.state
            self._schedule(series.id, result.state.due_at)

    def load_now(self, names: Iterable[str]) -> None:
        """Load these series now, because their stream has ended or lost a minute."""
        now = time.time()
        for name in names:
            if name in self.series:
                self._schedule(name, now)
        self.me.wake()

    async def reload_stale(self, at_once: int) -> RequestOutcome:
        """Load the series of this instance that are not fresh, `at_once` at a time, critical ones first.

        Their next turn may be a quarter of an hour away. Sources that were late, empty or wrong lately are
        asked, too; those that are paused, at their limits, or have an open breaker are not. It has failed if
        a critical series is stale afterwards. Raises nothing.
        """
        stale = self.list_stale(time.time())[:MAX_RELOADED]
        if not stale:
            return RequestOutcome(why="every series is fresh")

        async def load(series: Series) -> None:
            with self.outage:
                result = await self.loader.load(series, forced=True)
                while result.outcome is LoadOutcome.CLAIMED:
                    await asyncio.sleep(CLAIMED_PAUSE_SEC)
                    result = await self.loader.load(series, forced=True)
                self.note_load(series, result)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELOAD_SEC):
                await load_concurrently(stale, at_once, load)
        now = time.time()
        left = {each.id for each in self.list_stale(now)}
        loaded = sum(each.id not in left for each in stale)
        return RequestOutcome(loaded=loaded, why=self.find_problem(now) or "")

    async def read_states(self) -> None:
        """Read the stored states again, which other instances write, too; of critical series more often.

        A state that is new to this process is scheduled by, unless the series is just being loaded here.
        """
        now, passed_sec = time.time(), time.monotonic()
        if passed_sec >= self._states_read_at + STATES_EVERY_SEC:
            self._states_read_at = self._critical_read_at = passed_sec
            names = list(self.series)
        elif passed_sec >= self._critical_read_at + CRITICAL_EVERY_SEC:
            self._critical_read_at = passed_sec
            names = [name for name, each in self.series.items() if each.critical]
        else:
            return
        before = {name: self.states[name] for name in names}
        try:
            found = await self.loader.store.read_states(names, now) if names else {}
        except BusError as error:
            self.outage.record(error)
            return
        for name, state in found.items():
            is_known = state == before[name] or self.states.get(name) is not before[name]
            if not is_known and name not in self._work.running:
                self.states[name] = state
                self._schedule(name, _find_due(state, now))

    def log_changes(self, now: float) -> None:
        """Log which series have no fresh source since the last call, and which have one again."""
        stale = {each.id for each in self.list_stale(now)}
        gone, back = stale - self._stale, (self._stale - stale) & self.series.keys()
        if gone:
            self.me.log.warning("series.stale", series=self._describe(gone, LOGGED), count=len(gone))
        if back:
            self.me.log.info("series.fresh", series=sorted(back)[:LOGGED], count=len(back))
        self._stale = stale

    def _is_stale(self, name: str, now: float) -> bool:
        """Return True if a series is not fresh, or waits for its first load for too long."""
        state = self.states[name]
        if state.asked_at > 0:
            return is_stale(state, now)
        return now > self._followed_at[name] + FIRST_LOAD_SEC

    def _describe(self, names: Iterable[str], at_most: int) -> list[str]:
        """Return series with the reasons why they are not fresh: `SPY:bars:1m (yahoo limited)`."""
        found = []
        for name in sorted(names)[:at_most]:
            why = explain_sources(self.states[name], self.series[name].sources) or "not loaded yet"
            found.append(f"{name} ({why})")
        return found

    def list_stale(self, now: float) -> list[Series]:
        """Return the series that are not fresh, or wait too long for a first load; critical ones first."""
        stale = [each for name, each in self.series.items() if self._is_stale(name, now)]
        return sorted(stale, key=lambda each: not each.critical)

    def find_problem(self, now: float) -> str | None:
        """Return why the work fails: a bus, or a critical series that is not fresh; otherwise None."""
        stale = [
            name
            for name, each in self.series.items()
            if each.critical and self._is_stale(name, now) and not self.loader.reader.is_excused(each)
        ]
        self.metrics.stale_critical = len(stale)
        if self.outage.problem:
            return f"series not loaded: {self.outage.problem}"
        if not stale:
            return None
        more = f" and {len(stale) - SHOWN} more" if len(stale) > SHOWN else ""
        return f"not fresh: {', '.join(self._describe(stale, SHOWN))}{more}"

    def summarize(self, now: float) -> str | None:
        """Return how many series there are by state, for a beat: `12 series: 10 fresh, 2 late`."""
        counts = Counter(
            find_status(each, self.states[name], now).value
            if now > self.states[name].fresh_until
            else self.states[name].status.value
            for name, each in self.series.items()
        )
        self.metrics.series = counts
        if not counts:
            return None
        words = ", ".join(f"{count} {word}" for word, count in counts.most_common())
        return f"{len(self.series)} series: {words}"


def _find_due(state: SeriesState, now: float) -> float | None:
    """Return when a series is due that another process loaded last, or that was never loaded."""
    if state is WAITING or (state.due_at is None and now > state.fresh_until):
        return 0.0
    return state.due_at
