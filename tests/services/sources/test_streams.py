"""Which series come over a stream, from where, and what a minute of a stream leaves."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.bus import BusError
from marketswarm.bus.outage import Outage
from marketswarm.keys import MARKET_BARS, MARKET_SERIES, MARKET_SOURCES, series_records_key
from marketswarm.net.retry import Backoff
from services.market.records import MINUTE_MS, AssetClass, Bar, RecordKind
from services.sources import streams as streams_module
from services.sources.access.circuit_breaker import CircuitBreaker
from services.sources.cascade.loader import MAX_BEHIND_SEC, LoadOutcome, SeriesLoader
from services.sources.cascade.series import Series
from services.sources.cascade.state import (
    STREAM_OVERDUE_SEC,
    WAITING,
    SeriesState,
    SeriesStatus,
    is_stream_wanted,
    parse_series_state,
    plan_after_stream,
)
from services.sources.cascade.store import SeriesStore, make_source_id
from services.sources.catalog.files import shipped_catalog
from services.sources.metrics import SourcesMetrics
from services.sources.settings import WorkSettings
from services.sources.streams import RETRY_SEC, SourceStream, find_stream_url, group_streamed
from services.sources.websocket import MAX_STREAMS, StreamedBar

CATALOG = shipped_catalog()
BINANCE = CATALOG["binance"]
NOW = 1_795_000_000.0
COIN = Series(
    "BTC/USDT",
    RecordKind.BARS,
    "1m",
    AssetClass.CRYPTO,
    "24x7",
    ("okx", "binance", "kraken"),
    300.0,
    5.0,
    60.0,
)


def streamed(*series, **base_urls):
    grouped = group_streamed(series, CATALOG, base_urls)
    return {
        source: {spelled: each.symbol for spelled, each in found.items()} for source, found in grouped.items()
    }


def test_minutes_that_a_source_streams_are_spelled_as_it_does_and_all_others_are_loaded():
    others = (
        replace(COIN, symbol="BTC/USD"),  # Binance has no dollars
        replace(COIN, symbol="SOL/USDT", timeframe="5m"),
        replace(COIN, symbol="XRP/USDT", kind=RecordKind.QUOTES, timeframe=""),
        replace(COIN, symbol="ADA/USDT", sources=("kraken", "replay")),
        replace(COIN, symbol="LTC/USDT", may_stream=False),
        replace(COIN, symbol="SPY", asset=AssetClass.STOCKS),
    )
    assert streamed(COIN, replace(COIN, symbol="ETH/BTC"), *others) == {
        "binance": {"BTCUSDT": "BTC/USDT", "ETHBTC": "ETH/BTC"}
    }


def test_no_more_is_streamed_than_one_connection_takes():
    series = [replace(COIN, symbol=f"A{n}/USDT") for n in range(MAX_STREAMS + 5)]
    assert len(streamed(*series)["binance"]) == MAX_STREAMS


@pytest.mark.parametrize(
    ("base_urls", "url"),
    [
        ({}, "wss://data-stream.binance.vision"),
        ({"kraken": "https://proxy.example"}, "wss://data-stream.binance.vision"),
        ({"binance": "https://proxy.example"}, None),  # the stream of the real one is another market
        (
            {"binance": "https://proxy.example", "binance_stream": "wss://proxy.example/b"},
            "wss://proxy.example/b",
        ),
        ({"binance_stream": "ws://127.0.0.1:9"}, "ws://127.0.0.1:9"),
    ],
)
def test_a_stream_is_where_the_source_is(base_urls, url):
    assert find_stream_url(BINANCE, base_urls) == url
    assert streamed(COIN, **base_urls) == ({} if url is None else {"binance": {"BTCUSDT": "BTC/USDT"}})
    assert find_stream_url(CATALOG["kraken"], {"kraken_stream": "wss://x.example"}) is None


@pytest.mark.parametrize(
    ("serving", "fresh_until", "is_wanted"),
    [
        ("", 0.0, True),
        ("okx", NOW + 60, False),  # it comes before Binance, and is fresh
        ("okx", NOW - 1, True),
        ("binance", NOW + 60, True),
        ("kraken", NOW + 60, True),  # the better one takes its place again
        ("gone", NOW + 60, True),
    ],
)
def test_a_stream_brings_nothing_while_a_source_before_it_serves(serving, fresh_until, is_wanted):
    state = SeriesState(SeriesStatus.FRESH, serving, fresh_until=fresh_until)
    assert is_stream_wanted(COIN, state, "binance", NOW) is is_wanted


def test_the_next_load_is_when_a_minute_is_overdue_or_the_series_is_no_longer_fresh():
    fresh = SeriesState(SeriesStatus.FRESH, "binance", due_at=NOW + 5, fresh_until=NOW + 100)
    assert plan_after_stream(fresh, NOW, NOW + STREAM_OVERDUE_SEC).due_at == NOW + STREAM_OVERDUE_SEC
    assert plan_after_stream(fresh, NOW, NOW + 300).due_at == NOW + 100
    assert plan_after_stream(fresh, NOW, NOW - 1) is fresh
    assert plan_after_stream(WAITING, NOW, NOW + 5) is WAITING


# -- minutes that a stream brought

MINUTE = round(1000 * NOW) // MINUTE_MS * MINUTE_MS - MINUTE_MS
"""The last minute that is over."""
SERVED = SeriesState(
    SeriesStatus.FRESH,
    "binance",
    since=1.0,
    newest_ms=MINUTE - 2 * MINUTE_MS,
    fresh_until=NOW + 200,
    due_at=NOW + 9,
)


def minute(start_ms, symbol="BTC/USDT", **prices):
    values = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, **prices}
    return StreamedBar(Bar(symbol, "1m", start_ms, **values), is_final=True, digest="d" * 64)


class Station:
    """A stream of Binance and the loader that publishes its minutes, at a clock that stands."""

    def __init__(self, bus, *series):
        self.bus, self.now, self.loads, self.metrics = bus, NOW, [], SourcesMetrics()
        self.series = {each.symbol.replace("/", ""): each for each in series}
        self.states = {each.id: SERVED for each in series}
        self.outage = Outage(
            SimpleNamespace(warning=lambda *_, **__: None, info=lambda *_, **__: None), "a", "b"
        )
        self.loader = SeriesLoader(
            None, SeriesStore(lambda: self.bus), CATALOG, WorkSettings, now=lambda: self.now
        )
        self.stream = self.restart()

    def load_now(self, names):
        self.loads += names

    def restart(self):
        """Another process, which knows of no stream yet."""
        self.loader.streamed.clear()
        self.stream = SourceStream(
            None, self.loader, self, self.metrics, source="binance", url="ws://x", series=self.series
        )
        return self.stream

    async def publish(self, *bars):
        """Publish these; return the series that must be loaded now."""
        self.loads.clear()
        await self.stream.publish_finished(bars, self.now)
        return list(self.loads)

    async def read_starts(self):
        return [int(fields[b"start"]) for _, fields in await self.bus.client.xrange(MARKET_BARS)]

    async def load(self, series=COIN):
        """Load a series while nobody outside can be asked."""
        await self.bus.client.hset(MARKET_SERIES, series.id, self.states[series.id].encode(series))
        return await self.loader.load(series)


@pytest.fixture
async def station(bus):
    """Streams a pair whose minutes are there but for the last one."""
    station = Station(bus, COIN)
    await station.publish(minute(MINUTE - 2 * MINUTE_MS))
    await station.publish(minute(MINUTE - MINUTE_MS))
    return station


async def test_a_minute_is_published_once_with_where_it_came_from_and_the_series_is_loaded_by_no_request(
    bus, station
):
    for count in (3, 3):
        assert await station.publish(minute(MINUTE)) == []
        assert len(await station.read_starts()) == count
    *_, (_, fields) = await bus.client.xrange(MARKET_BARS)
    assert (fields[b"source"], fields[b"digest"], fields[b"start"]) == (b"binance", b"d" * 64, b"%d" % MINUTE)
    result = await station.load(replace(COIN, sources=("binance",)))
    assert (result.outcome, result.requests, result.new) == (LoadOutcome.LOADED, (), 0)
    state = parse_series_state(await bus.client.hget(MARKET_SERIES, COIN.id))
    assert (state.newest_ms, state.due_at) == (MINUTE, NOW + STREAM_OVERDUE_SEC)
    assert (state.serving, state.since, state.status) == ("binance", 1.0, SeriesStatus.FRESH)
    source = orjson.loads(await bus.client.hget(MARKET_SOURCES, "binance"))
    assert (source["outcome"], source["state"]) == ("fresh", "unknown"), "nobody asked it for anything"


async def test_while_a_stream_goes_on_old_records_are_forgotten_and_new_ones_count_for_their_source(
    bus, station
):
    key, series = series_records_key(COIN.id), replace(COIN, sources=("binance",))
    names = await bus.client.hkeys(key)
    await bus.client.hset(key, "1", "0|kraken|digest;")
    await station.load(series)
    assert await bus.client.hkeys(key) == names
    await station.publish(minute(MINUTE))
    await station.publish(minute(MINUTE))
    assert orjson.loads(await bus.client.hget(MARKET_SOURCES, "binance"))["records"] == 1


async def test_a_minute_that_its_source_corrects_is_published_again_and_no_other_one_is_forgotten(
    bus, station
):
    await station.publish(minute(MINUTE))
    key = series_records_key(COIN.id)
    before = {name: len(records) for name, records in (await bus.client.hgetall(key)).items()}
    for start_ms in (MINUTE - 2 * MINUTE_MS, MINUTE - MINUTE_MS, MINUTE):
        for count in (1, 0):
            known = len(await station.read_starts())
            assert (
                await station.publish(minute(start_ms, close=10.5))
                == [COIN.id][: start_ms < MINUTE - MINUTE_MS]
            )
            assert len(await station.read_starts()) == known + count
    assert {name: len(records) for name, records in (await bus.client.hgetall(key)).items()} == before
    assert len(await station.read_starts()) == 6


async def test_the_minutes_of_many_series_are_published_in_one_step(bus, monkeypatch):
    series = [replace(COIN, symbol=f"A{n}/USDT") for n in range(40)]
    station, scripts = Station(bus, *series), []
    script = bus.script

    async def count(*args):
        scripts.append(args[0])
        return await script(*args)

    monkeypatch.setattr(bus, "script", count)
    await station.publish(*(minute(MINUTE - MINUTE_MS, each.symbol) for each in series))
    assert len(await station.read_starts()) == 40
    assert len(scripts) == 2, "one asks whether the source is paused"


@pytest.mark.parametrize(
    "state",
    [
        replace(SERVED, newest_ms=MINUTE - 4 * MINUTE_MS),
        WAITING,  # nothing was loaded yet
        replace(SERVED, replay=True),  # what was played is of another day
    ],
)
async def test_after_a_gap_a_minute_is_published_and_all_since_the_newest_one_is_loaded_at_once(bus, state):
    station = Station(bus, COIN)
    station.states[COIN.id] = state
    for start_ms in (MINUTE - MINUTE_MS, MINUTE):
        assert await station.publish(minute(start_ms)) == [COIN.id]
    assert await station.read_starts() == [MINUTE - MINUTE_MS, MINUTE]
    assert not station.loader.streamed, "the load asks the source"


async def test_minutes_that_the_bus_forgot_are_found_to_be_missing(bus, station):
    await bus.client.flushall()
    assert await station.publish(minute(MINUTE)) == [COIN.id]
    assert await station.read_starts() == [MINUTE]


async def test_a_process_that_begins_goes_on_where_the_last_one_was(station):
    station.restart()
    station.states[COIN.id] = replace(SERVED, newest_ms=MINUTE - MINUTE_MS)
    assert await station.publish(minute(MINUTE)) == []


async def test_a_series_that_another_source_serves_is_loaded_at_once_and_its_minute_is_there(station):
    station.states[COIN.id] = replace(SERVED, serving="kraken")
    assert await station.publish(minute(MINUTE)) == [COIN.id]
    assert (await station.read_starts())[-1] == MINUTE


async def test_a_minute_that_another_source_brought_is_left_to_a_load(bus, station):
    [name] = await bus.client.hkeys(series_records_key(COIN.id))
    records = (await bus.client.hget(series_records_key(COIN.id), name)).replace(
        make_source_id("binance").encode(), make_source_id("kraken").encode()
    )
    await bus.client.hset(series_records_key(COIN.id), name, records)
    assert await station.publish(minute(MINUTE - MINUTE_MS)) == [COIN.id]
    assert len(await station.read_starts()) == 2
    assert await station.publish(minute(MINUTE)) == [COIN.id], "until the load is done"


async def test_a_minute_is_not_used_while_a_source_before_it_serves_or_if_it_is_old(station):
    station.states[COIN.id] = replace(SERVED, serving="okx")
    await station.publish(minute(MINUTE))
    station.states[COIN.id] = SERVED
    await station.publish(minute(MINUTE - 60 * MINUTE_MS))
    assert len(await station.read_starts()) == 2


async def test_no_minute_is_published_from_the_moment_on_at_which_its_source_is_paused(bus, station):
    breaker = CircuitBreaker(bus, "binance")
    await breaker.pause(None)
    await station.publish(minute(MINUTE))
    assert len(await station.read_starts()) == 2
    await breaker.resume()
    await station.publish(minute(MINUTE))
    assert len(await station.read_starts()) == 3


async def test_a_minute_that_cannot_be_is_not_published_and_the_next_one_is_found_not_to_follow(station):
    await station.publish(minute(MINUTE, high=1.0))
    assert len(await station.read_starts()) == 2
    station.now += 60
    assert await station.publish(minute(MINUTE + MINUTE_MS)) == [COIN.id]


async def test_a_clock_that_is_a_little_behind_that_of_the_source_delays_nothing(station):
    end = (MINUTE + MINUTE_MS) / 1000
    station.now = end - MAX_BEHIND_SEC - 1
    await station.publish(minute(MINUTE))
    assert len(await station.read_starts()) == 2, "no clock is so wrong: the minute is not over"
    station.now = end - MAX_BEHIND_SEC + 1
    await station.publish(minute(MINUTE))
    assert len(await station.read_starts()) == 3


async def test_a_minute_waits_while_its_series_is_loaded(station):
    claim, _ = await station.loader.store.claim(COIN.id)
    assert await station.publish(minute(MINUTE)) == []
    assert len(await station.read_starts()) == 2
    await station.loader.store.release(claim)
    station.now += RETRY_SEC
    await station.publish(replace(minute(MINUTE + MINUTE_MS), is_final=False))
    assert await station.read_starts() == [MINUTE - 2 * MINUTE_MS, MINUTE - MINUTE_MS, MINUTE]


async def test_minutes_that_the_bus_does_not_take_are_loaded(station, monkeypatch):
    async def fail(*_args):
        raise BusError("market-redis", "refused")

    monkeypatch.setattr(station.loader.store, "publish_minutes", fail)
    assert await station.publish(minute(MINUTE)) == [COIN.id]
    assert not station.loader.streamed
    station.states[COIN.id] = replace(SERVED, serving="okx")
    await station.publish(minute(MINUTE))
    assert station.outage.problem == "market-redis refused", (
        "a minute that is not used says nothing of the bus"
    )
    station.states[COIN.id] = SERVED
    monkeypatch.undo()
    await station.publish(minute(MINUTE))
    assert station.outage.problem is None


async def test_a_stream_that_ends_with_an_error_of_ours_is_logged_once_and_tried_again(monkeypatch, bus):
    """The service goes on meanwhile, and is degraded."""
    tries, may_end = [], asyncio.Event()

    async def fail(*_args, **_more):
        tries.append(1)
        if len(tries) == 3:
            may_end.set()
        raise KeyError("u")

    monkeypatch.setattr(streams_module, "stream_klines", fail)
    monkeypatch.setattr(streams_module, "ERROR_BACKOFF", Backoff(0.001, 0.01))
    logged, degraded, metrics = [], [], SourcesMetrics()
    me = SimpleNamespace(
        log=SimpleNamespace(error=lambda event, **fields: logged.append((event, fields["source"]))),
        set_degraded=lambda why, *, part: degraded.append((why, part)),
    )
    loader = SeriesLoader(None, SeriesStore(lambda: bus), CATALOG, WorkSettings)
    stream = SourceStream(me, loader, None, metrics, source="binance", url="ws://x", series={"BTCUSDT": COIN})
    running = asyncio.create_task(stream.run())
    await asyncio.wait_for(may_end.wait(), 20)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert logged == [("source_stream.error", "binance")]
    assert degraded[0] == ("the stream of binance is away: error (KeyError)", "stream binance")
    assert metrics.stream_ends["binance", "error"] >= 2
