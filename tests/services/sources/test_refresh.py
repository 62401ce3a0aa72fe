"""What is loaded beside the schedule of each series: by the refresh, and on request.

What the refresh loads comes to the dispatcher, and a run that was broken off is made up for.
"""

import asyncio
import contextlib
import itertools
import time
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.bus import BusError
from marketswarm.bus.circuit_breaker import CircuitBreaker
from marketswarm.keys import (
    BARS_LOST,
    MARKET_ALERTS,
    MARKET_BARS,
    MARKET_SERIES,
    MARKET_SOURCES,
    SOURCES_REFRESHED,
    source_breaker_key,
)
from marketswarm.net.retry import Backoff
from marketswarm.tasks import end_tasks
from services.sources import refresh as module
from services.sources.cascade.loader import LoadOutcome
from services.sources.cascade.series import list_series
from services.sources.dispatcher import SeriesDispatcher
from services.sources.metrics import SourcesMetrics
from services.sources.refresh import Refresh
from services.sources.settings import SourcesSettings
from support.rig.receiver import Answer
from support.scenes.sources import SourcesMarket, answer_as_coinbase, answer_as_kraken
from support.waiting import auntil

SERIES = "BTC/USD:bars:1m"


class Log:
    """Keeps the events that were logged."""

    def __init__(self):
        self.events = []

    def info(self, event, **fields):
        self.events.append((event, fields))

    warning = info

    def named(self, name):
        return [fields for event, fields in self.events if event == name]


class Me:
    """Runs tasks and gives leases, as an agent does."""

    name = "sources"

    def __init__(self):
        self.truth = SimpleNamespace(services={"sources": None})
        self.tasks, self.log, self.degraded = [], Log(), {}

    def task(self, work, *, name):
        self.tasks.append(asyncio.create_task(work, name=name))

    def wake(self):
        pass

    def set_degraded(self, detail, *, part=None):
        self.degraded[part] = detail

    def on_reseed(self, _callback):
        pass

    @contextlib.asynccontextmanager
    async def lease(self, _name, *, bus, **_life):
        yield SimpleNamespace(bus=bus)


class RefreshScene:
    """A dispatcher and a refresh over a market, with a series of Kraken that has no interval of its own."""

    def __init__(self, market, client, **load):
        entry = {"symbol": "BTC/USD", "asset": "crypto", "from": ["kraken"], "history_days": 0.1}
        settings = {"load": {"older_than_sec": 0, **load}}
        self.config = SourcesSettings.model_validate({"endpoints": [entry], "settings": settings})
        self.market, self.me, self.metrics = market, Me(), SourcesMetrics()
        self.loader = market.make_loader(client)
        self.dispatcher = SeriesDispatcher(self.me, self.loader, market.alerts, self.metrics)
        self.refresh = Refresh(self.dispatcher, lambda: self.config, "market-redis")

    async def follow(self):
        series = list_series(self.config)
        self.dispatcher.follow_sources(series, 3)
        await self.dispatcher.follow(series)

    async def turn(self):
        """One turn of the main loop, without loads that are due."""
        self.dispatcher.start_due(0.0, 10)
        await asyncio.gather(*self.me.tasks)
        await self.market.settle()
        self.dispatcher.log_changes(time.time())

    def pending_loads(self):
        return [task.get_name() for task in self.me.tasks if not task.done()]

    def count(self, name):
        family = next(each for each in self.metrics.collect() if each.name == name)
        return dict(family.values)


@pytest.fixture
async def market():
    async with SourcesMarket() as market:
        yield market


@pytest.fixture
async def scene(market):
    async with market.make_client() as client:
        scene = RefreshScene(market, client)
        await scene.follow()
        yield scene
        for task in scene.me.tasks:
            task.cancel()
        await asyncio.gather(*scene.me.tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def running(scene):
    """Run the refresh while the block runs."""
    task = asyncio.create_task(scene.refresh.run())
    try:
        yield
    finally:
        await end_tasks(task)


async def test_what_the_refresh_loads_is_known_to_the_dispatcher_and_counted(scene):
    assert scene.dispatcher.summarize(time.time()) == "1 series: 1 waiting"
    await scene.refresh.load_old()
    assert scene.dispatcher.summarize(time.time()) == "1 series: 1 fresh"
    assert scene.count("marketswarm_sources_loads_total") == {("loaded",): 1.0}
    assert scene.count("marketswarm_sources_records_total")["kraken", "bars"] >= 29
    await scene.turn()
    scene.dispatcher.start_due(time.time(), 10)
    assert scene.pending_loads() == [], "it is loaded by the refresh alone"


async def test_a_source_that_only_the_refresh_finds_failed_is_an_alert_and_its_series_is_due_soon(scene):
    scene.market["kraken"].choose = lambda _request: Answer(500)
    for _ in range(3):
        await scene.refresh.load_old()
    await scene.turn()
    assert [each["type"] for each in await list_alerts(scene)] == ["source_miss"]
    state = scene.dispatcher.states[SERIES]
    scene.dispatcher.start_due(state.due_at + 1, 10)
    assert scene.pending_loads() == [f"load {SERIES}"]


async def test_what_the_truth_does_not_name_is_forgotten(scene):
    client = scene.market.bus.client
    await scene.refresh.load_old()
    await client.hset(MARKET_SOURCES, "gone", b"{}")
    await client.hset(MARKET_SERIES, "GONE:bars:1m", b"{}")

    async def is_forgotten():
        names = [await client.hkeys(key) for key in (MARKET_SOURCES, MARKET_SERIES)]
        return names == [[b"kraken"], [SERIES.encode()]]

    async with running(scene):
        await auntil(is_forgotten)


async def list_alerts(scene):
    await scene.turn()
    entries = await scene.market.bus.client.xrange(MARKET_ALERTS)
    return [orjson.loads(fields[b"event"]) for _, fields in entries]


async def test_a_bus_that_fails_for_a_moment_does_not_end_a_run(scene, monkeypatch):
    load, errors = scene.loader.load, [BusError("market-redis", "timeout")] * 3

    async def load_later(series, **how):
        if errors:
            raise errors.pop()
        return await load(series, **how)

    monkeypatch.setattr(scene.loader, "load", load_later)
    await scene.refresh.load_old()
    [done] = scene.me.log.named("refresh.done")
    assert done["loaded"] == 1
    assert 0 <= done["sec"] < 60


async def test_a_run_that_was_missed_is_made_up_for_at_once_and_no_other(scene):
    await scene.market.bus.client.set(SOURCES_REFRESHED, time.time() - 2 * 3600)
    async with running(scene):
        await auntil(lambda: scene.me.log.named("refresh.done"))
        assert abs(float(await scene.market.bus.client.get(SOURCES_REFRESHED)) - time.time()) < 20
    scene.me.log.events.clear()
    async with running(scene):
        await asyncio.sleep(0.1)  # nothing is missed now, so nothing comes to be awaited
    assert scene.me.log.named("refresh.done") == []


async def test_a_run_that_was_broken_off_is_made_up_for_by_the_next_holder_of_the_lease(scene):
    await scene.market.bus.client.set(SOURCES_REFRESHED, time.time() - 2 * 3600)
    scene.market["kraken"].choose = lambda _request: Answer(hang=True)
    async with running(scene):
        await auntil(lambda: scene.market["kraken"].seen)
    scene.market["kraken"].choose = answer_as_kraken
    async with running(scene):
        await auntil(lambda: scene.me.log.named("refresh.done"))


@pytest.mark.parametrize("stored", [b"soon", b"", b"-1", b"nan", b"1e300", b"99999999999"])
async def test_when_the_last_run_was_is_read_from_what_anyone_may_have_written(scene, stored):
    await scene.market.bus.client.set(SOURCES_REFRESHED, stored)
    async with running(scene):

        async def is_mended():
            at = await scene.loader.store.read_refreshed()
            return at is not None and abs(at - time.time()) < 20

        await auntil(is_mended)
    assert scene.me.log.named("refresh.done") == []


# -- sources that are down, and that no load asks


@pytest.fixture
async def down(market):
    """Coinbase serves, and Kraken behind it is down since it failed while Coinbase was away."""
    async with market.make_client() as client:
        scene = RefreshScene(market, client)
        entry = {"symbol": "BTC/USD", "asset": "crypto", "from": ["coinbase", "kraken"], "history_days": 0.1}
        scene.config = SourcesSettings.model_validate({"endpoints": [entry], "settings": {}})
        (series,) = list_series(scene.config)
        await scene.follow()
        for site in (market["coinbase"], market["kraken"]):
            site.choose = lambda _request: Answer(500)
        for _ in range(3):
            scene.dispatcher.note_load(series, await scene.loader.load(series))
        market["coinbase"].choose = answer_as_coinbase
        for name in ("coinbase", "kraken"):
            await CircuitBreaker(market.bus, source_breaker_key(name)).resume()
        scene.dispatcher.note_load(series, await scene.loader.load(series))
        scene.series = series
        yield scene
        await asyncio.gather(*scene.me.tasks)


async def count_requests(scene, now):
    """How many requests Kraken gets when the sources that are down are looked at."""
    await scene.market.settle()
    before = len(scene.market["kraken"].seen)
    await scene.refresh.try_down(now)
    return len(scene.market["kraken"].seen) - before


async def test_the_outage_of_a_source_behind_one_that_serves_ends_when_it_answers_again(down):
    down.market["kraken"].choose = answer_as_kraken
    (before,) = (await down.loader.store.read_states([SERIES], time.time())).values()
    now = time.time()
    assert await count_requests(down, now + 200) == 0
    assert await count_requests(down, now + 310) == 1
    assert (await down.market.read_source("kraken"))["state"] == "up"
    after = await down.loader.store.read_states([SERIES], time.time())
    assert after == {SERIES: before}, "its series stays as it is"
    bars = await down.market.bus.client.xrange(MARKET_BARS)
    assert {fields[b"source"] for _, fields in bars} == {b"coinbase"}
    assert await count_requests(down, now + 9999) == 0
    assert sorted((each["type"], each["svc"]) for each in await list_alerts(down)) == [
        ("source_miss", "source:coinbase"),
        ("source_miss", "source:kraken"),
        ("source_ok", "source:coinbase"),
        ("source_ok", "source:kraken"),
    ]


async def test_a_source_that_stays_down_is_tried_less_and_less_often_and_within_its_breaker(down):
    now = time.time()
    tried = []
    for minute in range(0, 6 * 60, 2):
        if await count_requests(down, now + 60 * minute):
            tried.append(minute)
        await CircuitBreaker(down.market.bus, source_breaker_key("kraken")).resume()
    assert tried[0] <= 6
    pauses = [after - before for before, after in itertools.pairwise(tried)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (10, 60)
    await CircuitBreaker(down.market.bus, source_breaker_key("kraken")).pause(None)
    assert await count_requests(down, now + 9 * 3600) == 0


async def test_a_source_that_went_down_while_a_clock_was_ahead_is_tried_once_that_is_set_back(down):
    now = time.time()
    assert await count_requests(down, now - 30) == 0, "clocks differ by a minute"
    assert await count_requests(down, now - 1800) == 1
    await CircuitBreaker(down.market.bus, source_breaker_key("kraken")).resume()
    assert await count_requests(down, now - 1700) == 0
    assert await count_requests(down, now - 3600) == 1, "it was tried half an hour later, too"


async def test_while_the_refresh_waits_for_its_time_it_tries_what_is_down(down, monkeypatch):
    monkeypatch.setattr(module, "TRY_EVERY_SEC", 0.05)
    monkeypatch.setattr(module, "TRY_BACKOFF", Backoff(0.1, 1.0))
    down.market["kraken"].choose = answer_as_kraken
    async with running(down):

        async def is_up():
            return (await down.market.read_source("kraken"))["state"] == "up"

        await auntil(is_up)
    assert down.me.log.named("refresh.done") == []


async def test_a_series_that_a_load_stored_after_it_left_the_truth_is_forgotten_at_the_next_look(
    down, monkeypatch
):
    """The load began before the reseed and ended after it."""
    monkeypatch.setattr(module, "TRY_EVERY_SEC", 0.05)
    client = down.market.bus.client

    async def is_gone():
        return not await client.hexists(MARKET_SERIES, "ETH/USD:bars:1m")

    async with running(down):
        for _ in range(2):  # the first one may be forgotten at the start
            await client.hset(MARKET_SERIES, "ETH/USD:bars:1m", b"{}")
            await auntil(is_gone)


# -- what is loaded on request


def reload(scene):
    return scene.dispatcher.reload_stale(10)


async def test_a_series_that_is_not_fresh_is_loaded_on_request_though_it_is_not_due(scene):
    assert (await reload(scene)).why == "every series is fresh"
    scene.market["kraken"].choose = lambda _request: Answer(500)
    await scene.refresh.load_old()
    asked = len(scene.market["kraken"].seen)
    done = await reload(scene)
    assert (done.loaded, done.why) == (0, ""), "it is not critical, so what is left is no failure"
    assert len(scene.market["kraken"].seen) == asked + 1
    scene.market["kraken"].choose = answer_as_kraken
    assert (await reload(scene)).loaded == 1
    assert scene.dispatcher.summarize(time.time()) == "1 series: 1 fresh"
    assert (await reload(scene)).why == "every series is fresh"


async def test_a_source_that_had_nothing_is_asked_again_on_request_and_by_no_other_load(scene):
    empty = orjson.dumps({"error": [], "result": {"XXBTZUSD": [], "last": 0}})
    scene.market["kraken"].choose = lambda _request: Answer(200, {}, empty)
    await scene.refresh.load_old()
    asked = len(scene.market["kraken"].seen)
    scene.market["kraken"].choose = answer_as_kraken
    await scene.refresh.load_old()
    assert len(scene.market["kraken"].seen) == asked
    assert (await reload(scene)).loaded == 1


async def test_a_critical_series_that_stays_stale_is_a_request_that_failed_and_so_is_a_bus_that_is_away(
    scene, monkeypatch
):
    entry = {"symbol": "BTC/USD", "asset": "crypto", "from": ["kraken"], "critical": True}
    scene.config = SourcesSettings.model_validate({"endpoints": [entry], "settings": {}})
    await scene.follow()
    scene.market["kraken"].choose = lambda _request: Answer(500)
    await scene.refresh.load_old()
    assert (await reload(scene)).why.startswith(f"not fresh: {SERIES} (kraken ")

    async def fail(_series, **_terms):
        raise BusError("market-redis", "timeout")

    with monkeypatch.context() as patch:
        patch.setattr(scene.loader, "load", fail)
        assert "market-redis timeout" in (await reload(scene)).why
    scene.market["kraken"].choose = answer_as_kraken
    assert (await reload(scene)).why == ""


async def test_a_series_that_another_load_has_is_waited_for(scene, monkeypatch):
    scene.market["kraken"].choose = lambda _request: Answer(500)
    await scene.refresh.load_old()
    scene.market["kraken"].choose = answer_as_kraken
    claim, _ = await scene.loader.store.claim(SERIES)
    load, outcomes = scene.loader.load, []

    async def note(series, **terms):
        result = await load(series, **terms)
        outcomes.append(result.outcome)
        return result

    monkeypatch.setattr(scene.loader, "load", note)
    task = asyncio.create_task(reload(scene))
    await auntil(lambda: LoadOutcome.CLAIMED in outcomes)
    asked = len(scene.market["kraken"].seen)
    await scene.loader.store.release(claim)
    assert (await task).loaded == 1
    assert len(scene.market["kraken"].seen) == asked + 1


async def test_what_bars_has_lost_is_forgotten_of_each_series_and_comes_with_its_next_load(scene, market):
    (series,) = list_series(scene.config)
    await scene.loader.load(series)
    before, now_ms = await market.bus.client.xlen(MARKET_BARS), round(1000 * time.time())
    await scene.refresh.publish_lost()
    assert scene.me.log.events == []
    await market.bus.client.hset(BARS_LOST, "market:bars", f"{now_ms - 60_000} {now_ms}")
    await scene.refresh.publish_lost()
    await scene.refresh.publish_lost()
    await scene.loader.load(series)
    lost = await market.bus.client.xlen(MARKET_BARS) - before
    assert 15 <= lost <= 20 < before, "a quarter of an hour, and not all"
