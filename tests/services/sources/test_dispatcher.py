"""When series are loaded, by a loader of the test's own."""

import asyncio
import time
from dataclasses import replace

import pytest

from marketswarm.bus import BusError
from services.market.records import AssetClass, RecordKind
from services.sources import dispatcher as module
from services.sources.cascade.loader import LoadOutcome, LoadResult
from services.sources.cascade.series import Series
from services.sources.cascade.state import (
    WAITING,
    Attempt,
    SeriesState,
    SeriesStatus,
    SourceVerdict,
    forget_future,
)
from services.sources.dispatcher import SeriesDispatcher
from services.sources.metrics import SourcesMetrics
from support.waiting import auntil

SERIES = Series(
    "SPY", RecordKind.BARS, "1m", AssetClass.STOCKS, "24x7", ("a",), 900.0, 5.0, 60.0, critical=True
)


class Loader:
    """Keeps which series are loaded; each load waits until the test lets it end."""

    def __init__(self):
        self.store, self.stored, self.loaded, self.running = self, {}, [], 0
        self.reader, self.excused = self, set()
        self.most, self.may_end, self.error, self.older = 0, asyncio.Event(), None, None

    def is_excused(self, series):
        return series.symbol in self.excused

    async def read_states(self, names, now):
        return {name: forget_future(self.stored.get(name, WAITING), now) for name in names}

    async def load(self, series):
        self.loaded.append(series)
        self.running += 1
        self.most = max(self.most, self.running)
        await self.may_end.wait()
        self.running -= 1
        if self.error is not None:
            raise self.error
        now = time.time()
        state = SeriesState(SeriesStatus.FRESH, "a", asked_at=now, fresh_until=now + 9, due_at=now + 60)
        return LoadResult(LoadOutcome.LOADED, state, new=1)

    async def complete_history(self, _series, _loaded):
        return await self.older() if self.older is not None else None

    def forget(self, name):
        pass


class Me:
    """Runs tasks, as an agent does."""

    def __init__(self):
        self.tasks, self.woken, self.log, self.logged = [], 0, self, []

    def task(self, work, *, name):
        self.tasks.append(asyncio.create_task(work, name=name))

    def wake(self):
        self.woken += 1

    def set_degraded(self, *_args, **_more):
        pass

    def warning(self, event, **fields):
        self.logged.append((event, fields))

    info = warning


class Alerts:
    def __init__(self):
        self.added = []

    def add_outcome(self, source, ts, error, detail=None):
        self.added.append((source, ts, error, *filter(None, [detail])))


@pytest.fixture
async def scene():
    me, loader = Me(), Loader()
    dispatcher = SeriesDispatcher(me, loader, Alerts(), SourcesMetrics())
    yield dispatcher, loader, me
    for task in me.tasks:
        task.cancel()
    await asyncio.gather(*me.tasks, return_exceptions=True)


async def finish(loader, me):
    loader.may_end.set()
    await asyncio.gather(*me.tasks)
    loader.may_end.clear()


async def start(dispatcher, at_once=10, now=None):
    dispatcher.start_due(time.time() if now is None else now, at_once)
    await asyncio.sleep(0)


async def test_a_series_is_loaded_once_however_often_the_truth_comes_and_goes(scene):
    dispatcher, loader, me = scene
    for _ in range(3):
        await dispatcher.follow([SERIES])
        await dispatcher.follow([])
    await dispatcher.follow([SERIES])
    await start(dispatcher)
    await start(dispatcher)
    assert loader.loaded == [SERIES]
    await finish(loader, me)
    await start(dispatcher, now=time.time() + 59)
    assert len(loader.loaded) == 1
    await start(dispatcher, now=time.time() + 61)
    assert len(loader.loaded) == 2
    assert dispatcher.rest_sec(0.0) > 59 or dispatcher.rest_sec(0.0) == 10


async def test_the_alerts_get_each_outcome_with_the_time_of_the_answer(scene):
    dispatcher, _, _ = scene
    result = LoadResult(LoadOutcome.LOST, outcomes={"a": "timeout", "b": None}, answered_at=7.0)
    dispatcher.note_load(SERIES, result)
    assert dispatcher.alerts.added == [("a", 7.0, "timeout"), ("b", 7.0, None)]


async def test_the_failure_of_a_source_says_who_serves_its_series_meanwhile(scene):
    dispatcher, _, _ = scene
    outcomes = {"a": "timeout", "b": None}
    served = LoadResult(LoadOutcome.LOADED, outcomes=outcomes, answered_at=7.0, source="b")
    dispatcher.note_load(SERIES, served)
    assert dispatcher.alerts.added[0] == ("a", 7.0, "timeout", f"meanwhile b serves {SERIES.id}")
    nobody = LoadResult(LoadOutcome.LOADED, outcomes={"a": "timeout"}, answered_at=8.0)
    dispatcher.note_load(SERIES, nobody)
    assert dispatcher.alerts.added[2] == ("a", 8.0, "timeout")


async def test_what_is_known_on_the_bus_is_not_loaded_again_before_it_is_due(scene):
    dispatcher, loader, _ = scene
    now = time.time()
    loader.stored[SERIES.id] = SeriesState(
        SeriesStatus.FRESH, "a", asked_at=now, due_at=now + 30, loaded_at=now
    )
    await dispatcher.follow([SERIES])
    await start(dispatcher, now=now + 29)
    assert loader.loaded == []
    await start(dispatcher, now=now + 30)
    assert loader.loaded == [SERIES]


async def test_one_without_an_interval_is_left_to_the_refresh_unless_it_is_stale(scene):
    dispatcher, loader, _ = scene
    now = time.time()
    fresh = SeriesState(SeriesStatus.FRESH, "a", asked_at=now, due_at=None, fresh_until=now + 60)
    stale = replace(fresh, fresh_until=now - 60)
    both = [SERIES, replace(SERIES, symbol="QQQ")]
    loader.stored = {each.id: state for each, state in zip(both, (fresh, stale), strict=True)}
    await dispatcher.follow(both)
    await start(dispatcher)
    assert [each.symbol for each in loader.loaded] == ["QQQ"]


async def test_no_more_loads_run_at_once_than_the_settings_say(scene):
    dispatcher, loader, me = scene
    await dispatcher.follow([replace(SERIES, symbol=f"S{n}") for n in range(7)])
    await start(dispatcher, at_once=3)
    assert loader.running == 3
    assert dispatcher.rest_sec(time.time()) == 10, "the end of a load wakes the loop"
    await finish(loader, me)
    await start(dispatcher, at_once=3)
    await finish(loader, me)
    assert (len(loader.loaded), loader.most) == (6, 3)


async def test_a_source_that_hangs_takes_half_of_the_places_and_keeps_no_other_waiting(scene):
    dispatcher, loader, _ = scene
    slow = [replace(SERIES, symbol=f"A{n}") for n in range(9)]
    quick = [replace(SERIES, symbol=f"B{n}", sources=("b", "a")) for n in range(1)]
    await dispatcher.follow([*slow, *quick])
    dispatcher.start_due(time.time(), 4)
    await asyncio.sleep(0)
    assert sorted(each.sources[0] for each in loader.loaded) == ["a", "a", "b"]
    assert dispatcher.rest_sec(time.time()) > 0
    loader.loaded.clear()
    await dispatcher.follow(slow)  # no other source: it may have all places
    dispatcher.start_due(time.time(), 6)
    await asyncio.sleep(0)
    assert loader.running == 6


async def test_a_series_that_the_truth_changes_while_it_is_loaded_is_loaded_anew(scene):
    dispatcher, loader, me = scene
    await dispatcher.follow([SERIES])
    await start(dispatcher)
    changed = replace(SERIES, sources=("b",))
    await dispatcher.follow([changed])
    await start(dispatcher)
    await finish(loader, me)
    await start(dispatcher)
    assert loader.loaded == [SERIES, changed]


async def test_a_bus_that_is_away_is_a_problem_until_a_load_comes_through(scene):
    dispatcher, loader, me = scene
    await dispatcher.follow([SERIES])
    loader.error = BusError("market-redis", "refused")
    await start(dispatcher)
    await finish(loader, me)
    assert dispatcher.find_problem(time.time()) == "series not loaded: market-redis refused"
    loader.error = None
    await start(dispatcher, now=time.time() + 2)
    await finish(loader, me)
    assert dispatcher.find_problem(time.time()) is None
    assert dispatcher.summarize(time.time()) == "1 series: 1 fresh"
    assert dispatcher.find_problem(time.time() + 10) == "not fresh: SPY:bars:1m (not loaded yet)"


# -- what other instances did


def state_of(status=SeriesStatus.FRESH, *, fresh_sec=60.0, due_sec=30.0, **verdicts):
    now = time.time()
    attempts = {name: Attempt(verdict) for name, verdict in verdicts.items()}
    return SeriesState(
        status,
        "a",
        newest_ms=1,
        asked_at=now,
        fresh_until=now + fresh_sec,
        due_at=now + due_sec,
        attempts=attempts,
    )


@pytest.fixture
def often(monkeypatch):
    """The stored states are read at each turn."""
    monkeypatch.setattr(module, "STATES_EVERY_SEC", 0.0)


@pytest.mark.usefixtures("often")
async def test_what_another_instance_stored_is_known_here_and_scheduled_by(scene):
    dispatcher, loader, _ = scene
    quiet = replace(SERIES, critical=False, every_sec=None)
    loader.stored[quiet.id] = state_of(SeriesStatus.LATE, fresh_sec=-60, due_sec=3600, a=SourceVerdict.LATE)
    await dispatcher.follow([quiet])
    assert dispatcher.summarize(time.time()) == "1 series: 1 late"
    loader.stored[quiet.id] = state_of(due_sec=20)
    await dispatcher.read_states()
    assert dispatcher.summarize(time.time()) == "1 series: 1 fresh"
    await start(dispatcher, now=time.time() + 21)
    assert loader.loaded == [quiet]


@pytest.mark.usefixtures("often")
async def test_what_is_stored_counts_no_more_once_the_series_is_loaded_here(scene):
    dispatcher, loader, me = scene
    await dispatcher.follow([SERIES])
    await start(dispatcher)
    loader.stored[SERIES.id] = state_of(due_sec=5)
    await dispatcher.read_states()
    assert dispatcher.states[SERIES.id] is WAITING, "it is just being loaded"
    await finish(loader, me)
    loaded = dispatcher.states[SERIES.id]
    loader.stored[SERIES.id] = replace(loaded)
    await dispatcher.read_states()
    assert dispatcher.states[SERIES.id] is loaded


@pytest.mark.usefixtures("often")
async def test_what_a_bus_has_lost_is_loaded_again_at_once(scene):
    dispatcher, loader, me = scene
    await dispatcher.follow([SERIES])
    await start(dispatcher)
    await finish(loader, me)
    await dispatcher.read_states()  # nothing is stored any more
    await start(dispatcher)
    assert len(loader.loaded) == 2


async def test_what_was_loaded_by_a_clock_that_was_ahead_is_loaded_again_at_once_after_a_restart(scene):
    dispatcher, loader, _ = scene
    ahead, now = time.time() + 3600, time.time()
    loader.stored[SERIES.id] = SeriesState(
        SeriesStatus.FRESH, "a", asked_at=ahead, loaded_at=ahead, fresh_until=ahead + 120, due_at=ahead + 60
    )
    await dispatcher.follow([SERIES])
    await start(dispatcher, now=now)
    assert loader.loaded == [SERIES]


async def test_what_is_queued_by_a_clock_that_was_ahead_is_loaded_at_once_when_it_is_set_back(
    scene, monkeypatch
):
    dispatcher, loader, me = scene
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now + 3600)
        await dispatcher.follow([SERIES])
        await start(dispatcher)
        await finish(loader, me)
        await start(dispatcher)
    assert len(loader.loaded) == 1
    await start(dispatcher, now=now)
    assert len(loader.loaded) == 2, "not in an hour"


async def test_a_critical_series_that_is_not_loaded_for_long_is_a_problem(scene):
    dispatcher, _, _ = scene
    await dispatcher.follow([SERIES])
    now = time.time()
    assert dispatcher.find_problem(now + module.FIRST_LOAD_SEC - 1) is None
    assert (
        dispatcher.find_problem(now + module.FIRST_LOAD_SEC + 1) == "not fresh: SPY:bars:1m (not loaded yet)"
    )


async def test_a_critical_series_whose_keys_need_not_be_there_is_no_problem(scene):
    dispatcher, loader, _ = scene
    await dispatcher.follow([SERIES, replace(SERIES, symbol="QQQ")])
    loader.excused = {"SPY"}
    at = time.time() + module.FIRST_LOAD_SEC + 1
    assert dispatcher.find_problem(at) == "not fresh: QQQ:bars:1m (not loaded yet)"
    loader.excused = {"SPY", "QQQ"}
    assert dispatcher.find_problem(at) is None


async def test_a_series_without_a_fresh_source_is_logged_once_with_the_reasons_and_so_is_its_return(scene):
    dispatcher, loader, me = scene
    both = [replace(SERIES, critical=False), replace(SERIES, symbol="QQQ", sources=("a", "b"))]
    for each in both:
        loader.stored[each.id] = state_of(a=SourceVerdict.LIMITED, b=SourceVerdict.NO_KEY)
    await dispatcher.follow(both)
    now = time.time()
    for at in (now, now + 61, now + 62, now, now):
        dispatcher.log_changes(at)
    assert me.logged == [
        (
            "series.stale",
            {"series": ["QQQ:bars:1m (a limited, b no_key)", "SPY:bars:1m (a limited)"], "count": 2},
        ),
        ("series.fresh", {"series": ["QQQ:bars:1m", "SPY:bars:1m"], "count": 2}),
    ]
    assert dispatcher.find_problem(now + 61) == "not fresh: QQQ:bars:1m (a limited, b no_key)"


async def test_a_series_whose_load_ended_with_an_error_of_ours_is_loaded_again_after_its_pause(scene):
    dispatcher, loader, me = scene
    await dispatcher.follow([SERIES])

    async def fail(_series):
        return LoadResult(LoadOutcome.ERROR, wait_sec=60.0, reason="ValueError")

    loader.load = fail
    await start(dispatcher)
    await finish(loader, me)
    del loader.load
    await start(dispatcher, now=time.time() + 55)
    assert loader.loaded == []
    await start(dispatcher, now=time.time() + 61)
    assert loader.loaded == [SERIES]


@pytest.mark.parametrize("comes", [True, False])
async def test_a_load_is_taken_before_its_history_is_completed_and_the_next_one_comes_after_that(
    scene, comes
):
    dispatcher, loader, me = scene
    may_end, now = asyncio.Event(), time.time()

    async def complete():
        await may_end.wait()
        if not comes:
            raise BusError("market-redis", "timeout")
        return LoadResult(
            LoadOutcome.LOADED, SeriesState(SeriesStatus.FRESH, "a", due_at=now + 60), source="a"
        )

    loader.older = complete
    await dispatcher.follow([SERIES])
    await start(dispatcher)
    loader.may_end.set()
    await auntil(lambda: dispatcher.states[SERIES.id].serving == "a")
    await start(dispatcher, now=now + 61)
    assert len(loader.loaded) == 1, "a second load of it beside the first"
    may_end.set()
    await asyncio.gather(*me.tasks)
    await start(dispatcher, now=now + 59)
    assert len(loader.loaded) == 1
    await start(dispatcher, now=now + 61)
    assert len(loader.loaded) == 2
