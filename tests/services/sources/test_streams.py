"""Which series come over a stream, from where, and what a minute of a stream leaves."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.bus.circuit_breaker import CircuitBreaker
from marketswarm.bus.stream_length import READ_WITHIN_SEC
from marketswarm.keys import MARKET_BARS, MARKET_SERIES, MARKET_SOURCES, source_breaker_key, source_claim_key
from marketswarm.net.retry import Backoff
from marketswarm.tasks import end_tasks
from services.market.records import MINUTE_MS, AssetClass, Bar, RecordKind
from services.sources import streams as streams_module
from services.sources.cascade.loader import LoadOutcome, SeriesLoader
from services.sources.cascade.series import Series
from services.sources.cascade.source_reader import MAX_BEHIND_SEC, SourceReader
from services.sources.cascade.state import (
    STREAM_OVERDUE_SEC,
    WAITING,
    SeriesState,
    SeriesStatus,
    is_stream_wanted,
    parse_series_state,
    plan_after_stream,
)
from services.sources.cascade.store import SeriesStore
from services.sources.catalog.answer import AnswerStatus, SourceAnswer
from services.sources.catalog.files import shipped_catalog
from services.sources.dispatcher import SeriesDispatcher
from services.sources.metrics import SourcesMetrics
from services.sources.settings import WorkSettings
from services.sources.streams import SourceStream, find_stream_url, group_streamed
from services.sources.websocket import MAX_STREAMS, StreamedBar
from support.waiting import auntil

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


def test_the_next_load_is_when_a_minute_is_overdue_or_at_once_if_one_is_missing():
    fresh = SeriesState(SeriesStatus.FRESH, "binance", due_at=NOW + 5)
    assert plan_after_stream(fresh, NOW, is_complete=True).due_at == NOW + STREAM_OVERDUE_SEC
    assert plan_after_stream(fresh, NOW, is_complete=False).due_at == NOW
    assert plan_after_stream(WAITING, NOW, is_complete=True) is WAITING


# -- a minute that a stream brought

MINUTE = round(1000 * NOW) // MINUTE_MS * MINUTE_MS - MINUTE_MS
"""The last minute that is over."""
SERVED = SeriesState(
    SeriesStatus.FRESH,
    "binance",
    since=1.0,
    newest_ms=MINUTE - MINUTE_MS,
    fresh_until=NOW + 200,
    due_at=NOW + 9,
)


@pytest.fixture
def publish(bus):
    """Publish a minute of Binance's stream after this state; return the result, and the stored state."""

    async def run(state, *, start_ms=MINUTE, now=NOW, **prices):
        await bus.client.hset(MARKET_SERIES, COIN.id, state.encode(COIN))
        loader = SeriesLoader(
            SourceReader(None, SeriesStore(lambda: bus), CATALOG, WorkSettings, now=lambda: now)
        )
        values = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, **prices}
        bar = Bar("BTC/USDT", "1m", start_ms, **values)
        answer = SourceAnswer("binance", AnswerStatus.OK, records=(bar,), asked_at=now, digest="d" * 64)
        result = await loader.publish_streamed(COIN, answer)
        return result, parse_series_state(await bus.client.hget(MARKET_SERIES, COIN.id))

    return run


async def read_starts(bus):
    return [int(fields[b"start"]) for _, fields in await bus.client.xrange(MARKET_BARS)]


async def test_a_minute_that_follows_the_newest_one_is_published_once_and_the_next_one_is_waited_for(
    bus, publish
):
    for new in (1, 0):
        result, stored = await publish(SERVED)
        assert (result.outcome, result.new) == (LoadOutcome.LOADED, new)
        assert (stored.newest_ms, stored.due_at) == (MINUTE, NOW + STREAM_OVERDUE_SEC)
        assert (stored.serving, stored.since, stored.status) == ("binance", 1.0, SeriesStatus.FRESH)
    [(_, fields)] = await bus.client.xrange(MARKET_BARS)
    assert (fields[b"source"], fields[b"digest"], fields[b"start"]) == (b"binance", b"d" * 64, b"%d" % MINUTE)
    source = orjson.loads(await bus.client.hget(MARKET_SOURCES, "binance"))
    assert (source["outcome"], source["state"]) == ("fresh", "unknown"), "nobody asked it for anything"


@pytest.mark.parametrize(
    "before",
    [
        replace(SERVED, newest_ms=MINUTE - 3 * MINUTE_MS),
        WAITING,  # nothing was loaded yet
        replace(SERVED, replay=True),  # what was played is of another day
    ],
)
async def test_after_a_gap_a_minute_is_published_and_all_since_the_newest_one_is_loaded_at_once(
    bus, publish, before
):
    _, stored = await publish(before)
    assert await read_starts(bus) == [MINUTE]
    assert stored.newest_ms == (None if before.replay else before.newest_ms), "nothing is missing up to there"
    assert (stored.status, stored.due_at, stored.replay) == (SeriesStatus.FRESH, NOW, False)


async def test_a_minute_is_not_used_while_a_source_before_it_serves_or_if_it_is_old(bus, publish):
    result, stored = await publish(replace(SERVED, serving="okx"))
    assert (result.outcome, stored.serving) == (LoadOutcome.UNUSED, "okx")
    result, _ = await publish(SERVED, start_ms=MINUTE - 60 * MINUTE_MS)
    assert result.outcome is LoadOutcome.UNUSED
    assert await read_starts(bus) == []
    result, stored = await publish(replace(SERVED, serving="kraken"))
    assert (stored.serving, stored.reason) == ("binance", "")
    assert await read_starts(bus) == [MINUTE]


async def test_no_minute_is_published_from_the_moment_on_at_which_its_source_is_paused(bus, publish):
    breaker = CircuitBreaker(bus, source_breaker_key("binance"))
    await breaker.pause(None)
    result, _ = await publish(SERVED)
    assert (result.outcome, await read_starts(bus)) == (LoadOutcome.UNUSED, [])
    await breaker.resume()
    result, _ = await publish(SERVED)
    assert (result.outcome, await read_starts(bus)) == (LoadOutcome.LOADED, [MINUTE])


async def test_a_minute_that_cannot_be_is_a_fault_of_its_source_and_says_nothing_of_its_answers(bus, publish):
    _, stored = await publish(SERVED, high=1.0)
    assert await read_starts(bus) == []
    assert stored.attempts["binance"].reason == "a price outside of low and high"
    assert orjson.loads(await bus.client.hget(MARKET_SOURCES, "binance"))["fails"] == 0


async def test_a_clock_that_is_a_little_behind_that_of_the_source_delays_nothing(bus, publish):
    end = (MINUTE + MINUTE_MS) / 1000
    result, _ = await publish(SERVED, now=end - MAX_BEHIND_SEC - 1)
    assert result.outcome is LoadOutcome.UNUSED, "no clock is so wrong: the minute is not over"
    result, _ = await publish(SERVED, now=end - MAX_BEHIND_SEC + 1)
    assert (result.outcome, result.new) == (LoadOutcome.LOADED, 1)


async def test_a_minute_waits_while_its_series_is_loaded(bus, publish):
    claim, _ = await SeriesStore(lambda: bus).claim(COIN.id)
    result, _ = await publish(SERVED)
    assert (result.outcome, result.wait_sec > 0) == (LoadOutcome.CLAIMED, True)
    await SeriesStore(lambda: bus).release(claim)
    result, _ = await publish(SERVED)
    assert result.outcome is LoadOutcome.LOADED


async def test_a_minute_costs_four_requests_of_which_the_last_gives_its_claim_back(bus, publish, monkeypatch):
    ask, asked = bus.ask, []

    def count(*args, **options):
        asked.append(args)
        return ask(*args, **options)

    monkeypatch.setattr(bus, "ask", count)
    result, _ = await publish(SERVED)
    assert result.outcome is LoadOutcome.LOADED
    # the claim, the state, whether the source is paused, the minute; and at times how long the streams are
    assert sum(READ_WITHIN_SEC not in args for args in asked) == 4
    assert not await bus.client.exists(source_claim_key(COIN.id))


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
    loader = SeriesLoader(SourceReader(None, SeriesStore(lambda: bus), CATALOG, WorkSettings))
    dispatcher = SeriesDispatcher(me, loader, None, metrics)
    stream = SourceStream(dispatcher, "binance", "ws://x", {"BTCUSDT": COIN})
    running = asyncio.create_task(stream.run())
    await asyncio.wait_for(may_end.wait(), 20)
    await end_tasks(running)
    assert logged == [("source_stream.error", "binance")]
    assert degraded[0] == ("the stream of binance is away: error (KeyError)", "stream binance")
    assert metrics.stream_ends_total["binance", "error"] >= 2


async def test_a_streamed_minute_says_whose_volume_it_has(monkeypatch, bus):
    await bus.client.hset(MARKET_SERIES, COIN.id, SERVED.encode(COIN))
    tasks = []

    async def stream(_reader, on_bars, _on_end, **_more):
        bar = Bar("BTC/USDT", "1m", MINUTE, 10.0, 12.0, 9.0, 11.0, 5.0)
        await on_bars([StreamedBar(bar, is_final=True)])
        await asyncio.gather(*tasks)
        await asyncio.Event().wait()

    monkeypatch.setattr(streams_module, "stream_klines", stream)
    me = SimpleNamespace(
        log=SimpleNamespace(info=lambda _event, **_fields: None),
        set_degraded=lambda _why, *, part: part,
        task=lambda work, *, name: tasks.append(asyncio.create_task(work, name=name)),
    )
    reader = SourceReader(None, SeriesStore(lambda: bus), CATALOG, WorkSettings, now=lambda: NOW)
    dispatcher = SimpleNamespace(
        me=me,
        loader=SeriesLoader(reader),
        metrics=SourcesMetrics(),
        update_streamed=lambda _series, _result: None,
        load_now=lambda _series: None,
    )
    running = asyncio.create_task(SourceStream(dispatcher, "binance", "ws://x", {"BTCUSDT": COIN}).run())
    await auntil(lambda: bus.client.xlen(MARKET_BARS))
    await end_tasks(running)
    [(_, fields)] = await bus.client.xrange(MARKET_BARS)
    assert (fields[b"volume"], fields[b"volume_kind"]) == (b"5", b"venue")
