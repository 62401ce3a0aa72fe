"""Loads of series from stand-ins of sources, over a bus in memory."""

import asyncio
import threading
import time
from dataclasses import replace

import orjson
import pytest

from marketswarm.bus.circuit_breaker import CircuitBreaker
from marketswarm.bus.rate_limiter import SharedRateLimiter
from marketswarm.keys import (
    MARKET_BARS,
    MARKET_DOWNLOADS,
    MARKET_SOURCES,
    source_account_key,
    source_breaker_key,
    source_claim_key,
)
from services.market.records import Bar, RecordKind
from services.sources.access import client as client_module
from services.sources.cascade import loader as loader_module
from services.sources.cascade import source_reader
from services.sources.cascade import store as store_module
from services.sources.cascade.evaluation import MOST_REFUSALS
from services.sources.cascade.loader import LoadOutcome, SeriesLoader
from services.sources.cascade.source_reader import SourceReader
from services.sources.cascade.state import SeriesStatus, SourceVerdict
from services.sources.cascade.store import SeriesStore
from services.sources.catalog.answer import AnswerStatus, SourceAnswer
from services.sources.catalog.files import shipped_catalog
from services.sources.catalog.request import ApiKey
from services.sources.metrics import SourcesMetrics
from services.sources.preload import GateProgress, evaluate_gate, load_within_time, pass_gate
from services.sources.settings import WorkSettings
from support.rig.receiver import Answer
from support.scenes import sources as scene
from support.scenes.sources import STOCK, SourcesMarket, answer_as_coinbase, answer_as_kraken, last_minutes

COIN = replace(scene.COIN, history_days=0.1)


@pytest.fixture
async def market():
    async with SourcesMarket() as market:
        yield market


async def test_a_slow_source_has_its_part_of_the_time_and_the_next_one_serves(market):
    """Each of its answers is in time, but there are a dozen parts."""

    def answer_slowly(request):
        time.sleep(0.4)
        return answer_as_coinbase(request)

    market["coinbase"].choose = answer_slowly
    market.work = {"load": {"timeout_sec": 3}}
    result = await market.load(replace(COIN, history_days=5.0))
    assert result.outcome is LoadOutcome.LOADED
    assert [(each.source, each.verdict, each.reason) for each in result.findings] == [
        ("coinbase", SourceVerdict.FAILED, "timeout"),
        ("kraken", SourceVerdict.FRESH, ""),
    ]
    assert (result.state.status, result.state.serving) == (SeriesStatus.FRESH, "kraken")


async def test_a_source_that_never_answers_is_missed_and_its_breaker_opens(market):
    market["coinbase"].choose = lambda _request: Answer(hang=True)
    market.work = {"load": {"timeout_sec": 1}}
    for failures in (1, 2, 3):
        assert (await market.load(COIN)).state.serving == "kraken"
        assert (await market.read_source("coinbase"))["fails"] == failures
    result = await market.load(COIN)
    assert result.findings[0].verdict is SourceVerdict.BREAKER_OPEN


async def test_a_source_that_takes_longer_than_it_may_keeps_the_next_one_from_nothing(market, monkeypatch):
    ask = client_module.SourceClient.ask

    async def overrun(self, source, *more):
        if source.name == "coinbase":
            await asyncio.sleep(2.5)
            return SourceAnswer("coinbase", AnswerStatus.FAILED, "timeout")
        return await ask(self, source, *more)

    monkeypatch.setattr(client_module.SourceClient, "ask", overrun)
    market.work = {"load": {"timeout_sec": 2.4}}
    result = await market.load(COIN)
    assert [each.verdict for each in result.findings] == [SourceVerdict.FAILED, SourceVerdict.FRESH]
    assert result.took_sec > 2.5


async def test_a_load_that_lost_its_claim_says_so_and_leaves_nothing_behind(market, monkeypatch):
    ask = client_module.SourceClient.ask

    async def lose_claim(*args):
        await market.bus.client.set(source_claim_key(COIN.id), "another")
        return await ask(*args)

    monkeypatch.setattr(client_module.SourceClient, "ask", lose_claim)
    result = await market.load(COIN)
    assert (result.outcome, result.new, result.outcomes) == (LoadOutcome.LOST, 0, {})
    assert not await market.bus.client.exists(MARKET_BARS, MARKET_SOURCES)


async def test_the_minutes_of_a_stream_hide_no_outage_of_the_source_that_brings_them(market):
    market["coinbase"].choose = lambda _request: Answer(500)
    states = []
    for _ in range(4):
        await CircuitBreaker(market.bus, source_breaker_key("coinbase")).resume()
        await market.load(replace(COIN, symbol="ETH/USD", sources=("coinbase",)))
        async with market.make_client() as client:
            minute = Bar(COIN.symbol, "1m", 1000 * last_minutes()[-1], 1.0, 1.0, 1.0, 1.0)
            answer = SourceAnswer("coinbase", AnswerStatus.OK, records=(minute,), asked_at=time.time())
            result = await market.make_loader(client).publish_streamed(COIN, answer)
            assert result.outcome is LoadOutcome.LOADED
        state = await market.read_source("coinbase")
        states.append((state["state"], state["fails"]))
    assert states == [("unknown", 1), ("unknown", 2), ("down", 3), ("down", 4)]


async def test_a_source_that_refuses_or_takes_no_more_requests_is_up_and_limits_of_ours_say_nothing(market):
    series = replace(COIN, sources=("coinbase",))
    for answer, state in ((Answer(404), "up"), (Answer(500), "down"), (Answer(429), "up")):
        market["coinbase"].choose = lambda _request, answer=answer: answer
        for _ in range(3 if answer.status == 500 else 1):
            await CircuitBreaker(market.bus, source_breaker_key("coinbase")).resume()
            await market.load(series, forced=True)
        assert (await market.read_source("coinbase"))["state"] == state
    stored = await market.read_source("coinbase")
    assert {name: stored[name] for name in ("answers", "failures", "limited")} == {
        "answers": 2,
        "failures": 3,
        "limited": 1,
    }
    await market.bus.client.hset(MARKET_SOURCES, "coinbase", b'{"state": "down", "fails": 5}')
    result = await market.load(series, forced=True)
    assert (result.findings[0].verdict, result.requests) == (SourceVerdict.LIMITED, ())
    assert (await market.read_source("coinbase"))["state"] == "down"


async def test_a_source_that_refuses_each_request_though_our_count_has_room_is_down(market):
    series = replace(COIN, sources=("coinbase",))

    async def load(answer):
        market["coinbase"].choose = answer
        await market.bus.client.delete(source_account_key("coinbase"))  # its pause is over
        assert (await market.load(series, forced=True)).requests
        return (await market.read_source("coinbase"))["state"]

    def limited(_request):
        return Answer(429)

    states = [await load(limited) for _ in range(MOST_REFUSALS + 1)]
    assert states == ["up"] * (MOST_REFUSALS - 1) + ["down"] * 2
    assert await load(answer_as_coinbase) == "up"
    assert await load(limited) == "up"


async def test_a_quote_without_a_time_is_as_old_as_its_values(market):
    """Kraken says no time: the price of a pair whose trading is halted must not be new each time."""

    def answer_as_ticker(price):
        pair = {"c": [price, "1"], "b": [price], "a": [price], "v": ["1", "2"]}
        return lambda _request: Answer(200, {}, orjson.dumps({"error": [], "result": {"XXBTZUSD": pair}}))

    clock = [time.time() - 900]
    series = replace(COIN, kind=RecordKind.QUOTES, timeframe="", sources=("kraken",), max_age_sec=60.0)
    async with market.make_client() as client:
        loader = SeriesLoader(
            SourceReader(
                client, SeriesStore(lambda: market.bus), shipped_catalog(), WorkSettings, now=lambda: clock[0]
            )
        )

        async def load(price, later_sec):
            clock[0] += later_sec
            market["kraken"].choose = answer_as_ticker(price)
            await market.bus.client.delete(source_account_key("kraken"))
            result = await loader.load(series, forced=True)
            return result.findings[0].verdict, result.new

        assert await load("100", 0) == (SourceVerdict.FRESH, 1)
        assert await load("100", 30) == (SourceVerdict.FRESH, 0)
        assert await load("100", 60) == (SourceVerdict.LATE, 0)
        assert await load("101", 30) == (SourceVerdict.FRESH, 1)
        loader.forget(series.id)
        assert await load("101", 30) == (SourceVerdict.FRESH, 1)


async def test_an_outcome_has_the_time_of_the_answer_not_that_at_which_the_bus_took_it(market, monkeypatch):
    clock, publish = [time.time()], SeriesStore.publish

    async def publish_late(*args):
        clock[0] += 3600
        return await publish(*args)

    monkeypatch.setattr(SeriesStore, "publish", publish_late)
    async with market.make_client() as client:
        loader = SeriesLoader(
            SourceReader(
                client, SeriesStore(lambda: market.bus), shipped_catalog(), WorkSettings, now=lambda: clock[0]
            )
        )
        begun = clock[0]
        loaded = await loader.load(COIN)
        assert (loaded.outcomes, loaded.answered_at) == ({"coinbase": None}, begun)
        tried = await loader.try_source(COIN, "kraken")
        assert (tried.outcomes, tried.answered_at) == ({"kraken": None}, begun + 3600)


async def test_the_last_source_of_a_cascade_may_use_all_the_time_that_is_left(market):
    market["kraken"].choose = lambda request: time.sleep(1.2) or answer_as_kraken(request)
    market["coinbase"].choose = lambda _request: Answer(500)
    market.work = {"load": {"timeout_sec": 2}}
    result = await market.load(COIN)
    assert [finding.verdict for finding in result.findings] == [SourceVerdict.FAILED, SourceVerdict.FRESH]


async def test_a_key_that_is_used_up_keeps_no_series_from_its_source(market):
    keys = (ApiKey("one"), ApiKey("two"))
    market.keys = {"twelve_data": keys}
    windows = shipped_catalog()["twelve_data"].limits.windows()
    await SharedRateLimiter(market.bus, source_account_key("twelve_data")).block(keys[0].key, 72_000, windows)
    for symbol in ("A", "B", "A", "B"):
        result = await market.load(replace(STOCK, symbol=symbol))
        assert [finding.verdict for finding in result.findings] == [SourceVerdict.FRESH]


async def test_a_new_key_is_used_at_once_by_whoever_is_started_with_it(market):
    old, new = ApiKey("old"), ApiKey("new")
    market.keys = {"twelve_data": (old,)}
    windows = shipped_catalog()["twelve_data"].limits.windows()
    await SharedRateLimiter(market.bus, source_account_key("twelve_data")).block(old.key, 72_000, windows)
    result = await market.load(STOCK)
    assert (result.state.status, result.findings[0].answer.wait_sec > 70_000) == (SeriesStatus.LIMITED, True)
    market.keys = {"twelve_data": (new,)}
    assert (await market.load(STOCK)).state.status is SeriesStatus.FRESH


async def test_misspelled_symbols_are_held_against_their_series_alone(market):
    def answer(request):
        is_gone = "GONE" in request.path
        return Answer(404, {}, b'{"message": "NotFound"}') if is_gone else answer_as_coinbase(request)

    market["coinbase"].choose = answer
    for number in range(4):
        result = await market.load(replace(COIN, symbol=f"GONE{number}/USD", sources=("coinbase",)))
        (finding,) = result.findings
        assert (finding.verdict, finding.reason) == (SourceVerdict.REFUSED, "404")
        assert result.outcomes == {"coinbase": None}
        attempt = result.state.attempts["coinbase"]
        assert attempt.retry_at > attempt.at, "it is asked less often"
    result = await market.load(replace(COIN, sources=("coinbase",)))
    assert result.state.status is SeriesStatus.FRESH
    assert (await market.read_source("coinbase"))["state"] == "up"


async def test_a_history_that_needs_more_requests_than_a_source_takes_is_loaded_and_others_have_some_left(
    market,
):
    """Twelve Data takes 8 requests a minute; its answers have 5000 minutes."""
    market.keys = {"twelve_data": (ApiKey("one"),)}
    result = await market.load(replace(STOCK, history_days=100.0))
    assert result.state.status is SeriesStatus.FRESH
    assert len(market["twelve_data"].seen) == 8


async def test_a_key_has_the_limits_that_the_settings_say_instead_of_all_those_of_the_file(market):
    """Twelve Data takes 8 requests a minute and 800 a day of a free key."""
    market.keys = {"twelve_data": (ApiKey("paid"),)}
    market.work = {"limits": {"twelve_data": {"per_minute": 12}}}
    async with market.make_client() as client:
        loader = market.make_loader(client)
        result = await loader.load(replace(STOCK, history_days=100.0))
        assert result.state.status is SeriesStatus.FRESH
        assert len(market["twelve_data"].seen) == 12
        assert (await loader.reader.read_health(["twelve_data"]))["twelve_data"].left.keys() == {60}


async def test_while_a_large_answer_is_read_and_published_the_loop_goes_on(market, monkeypatch):
    """What takes seconds is done in a thread."""
    rows = [[at, "2", "3", "1", "2", "2", "5", 1] for at in last_minutes(3_000)]
    body = orjson.dumps({"error": [], "result": {"XXBTZUSD": rows, "last": 1}})
    market["kraken"].choose = lambda _request: Answer(200, {}, body)
    threads = set()

    def note_thread(function):
        def noted(*args, **named):
            threads.add((function.__name__, threading.current_thread() is threading.main_thread()))
            return function(*args, **named)

        return noted

    monkeypatch.setattr(client_module, "read_page", note_thread(client_module.read_page))
    monkeypatch.setattr(source_reader, "evaluate_answer", note_thread(source_reader.evaluate_answer))
    monkeypatch.setattr(store_module, "encode_records", note_thread(store_module.encode_records))
    result = await market.load(replace(COIN, sources=("kraken",), history_days=20.0))
    assert result.new >= 2_900
    assert threads == {(name, False) for name in ("read_page", "evaluate_answer", "encode_records")}
    threads.clear()
    market["kraken"].choose = answer_as_kraken
    await market.load(replace(COIN, symbol="ETH/USD", sources=("kraken",)))
    assert {is_main for _, is_main in threads} == {True}, "a small answer is read at once"


async def test_new_records_are_counted_for_the_source_that_brought_them_and_a_replay_sends_no_requests(
    market,
):
    metrics = SourcesMetrics()

    def count(name):
        family = next(each for each in metrics.collect() if each.name == f"marketswarm_sources_{name}_total")
        return dict(family.values)

    minutes = list(last_minutes())
    gap = [[at, 1, 3, 2, 2, 5] for at in minutes if at != minutes[-6]]
    market["coinbase"].choose = lambda _request: Answer(200, {}, orjson.dumps(gap))
    assert (await market.load(COIN)).state.serving == "coinbase"
    market["coinbase"].choose = lambda _request: Answer(500)
    rows = [[at, "2", "3", "1", "2", "2", "5", 1] for at in minutes[:-5]]
    body = orjson.dumps({"error": [], "result": {"XXBTZUSD": rows, "last": 1}})
    market["kraken"].choose = lambda _request: Answer(200, {}, body)
    result = await market.load(replace(COIN, max_age_sec=0.0), forced=True)
    assert (result.state.serving, result.new) == ("coinbase", 1), "kraken fills a gap, and is behind"
    played = replace(result.requests[0], source="replay", is_replay=True)
    metrics.count_load("bars", replace(result, requests=(*result.requests, played)))
    assert count("records") == {("kraken", "bars"): result.new}
    assert {source for source, _ in count("requests")} == {"coinbase", "kraken"}


# -- errors of ours


async def test_an_error_in_evaluating_an_answer_is_logged_once_and_the_next_source_serves(
    market, monkeypatch, load_errors
):
    evaluate_answer = source_reader.evaluate_answer

    def fail_for_coinbase(series, session, answer, clock):
        if answer.source == "coinbase":
            raise RecursionError("too deep")
        return evaluate_answer(series, session, answer, clock)

    monkeypatch.setattr(source_reader, "evaluate_answer", fail_for_coinbase)
    async with market.make_client() as client:
        loader = market.make_loader(client)
        for failures in (1, 2, 3):
            result = await loader.load(COIN, forced=True)
            assert (result.outcome, result.state.serving) == (LoadOutcome.LOADED, "kraken")
            attempt = result.state.attempts["coinbase"]
            assert (attempt.verdict, attempt.reason) == (SourceVerdict.ERROR, "RecursionError")
            assert attempt.failures == failures or attempt.retry_at > time.time()
        assert attempt.retry_at > attempt.at + 100, "the pause grows"
    assert [(series, source, type(error)) for series, source, error in load_errors] == [
        (COIN.id, "coinbase", RecursionError)
    ]
    load_errors.clear()
    assert (await market.read_source("coinbase"))["state"] == "unknown", "it is no fault of the source"


async def test_an_error_in_a_load_ends_that_load_alone_and_its_requests_are_recorded_with_the_next_one(
    market, monkeypatch, load_errors
):
    async with market.make_client() as client:
        loader = market.make_loader(client)
        with monkeypatch.context() as broken:
            broken.setattr(loader_module, "conclude_load", lambda *_: 1 / 0)
            pauses = []
            for _ in range(6):
                result = await loader.load(COIN)
                assert (result.outcome, result.reason) == (LoadOutcome.ERROR, "ZeroDivisionError")
                pauses.append(result.wait_sec)
        assert pauses == [60, 120, 240, 480, 900, 900]
        assert [(series, source) for series, source, _ in load_errors] == [(COIN.id, "")], "once"
        load_errors.clear()
        sent = len(market["coinbase"].seen)
        assert (await loader.load(COIN)).outcome is LoadOutcome.LOADED
        assert await market.bus.client.xlen(MARKET_DOWNLOADS) == len(market["coinbase"].seen) > sent


async def test_an_error_in_a_load_is_a_row_in_the_table_of_the_gate(market, monkeypatch, load_errors):
    conclude_load = loader_module.conclude_load

    def fail_for_bitcoin(series, *more):
        if series is COIN:
            raise ValueError("math domain error")
        return conclude_load(series, *more)

    monkeypatch.setattr(loader_module, "conclude_load", fail_for_bitcoin)
    other = replace(COIN, symbol="ETH/USD")
    progress = GateProgress(2, time.time())
    async with market.make_client() as client:
        await load_within_time(market.make_loader(client), [COIN, other], WorkSettings(), progress)
    report = evaluate_gate([COIN, other], progress, 0.5, time.time())
    assert [failure.describe() for failure in report.failures] == [
        f"{COIN.id} not loaded: error (ValueError)"
    ]
    assert (report.is_open, report.loaded) == (True, 1)
    load_errors.clear()


@pytest.mark.parametrize("need_keys", [True, False])
async def test_a_critical_series_without_its_key_closes_the_gate_unless_keys_are_not_needed(
    market, capsys, need_keys
):
    market.work = {"gate": {"need_keys": need_keys, "patience_sec": 0.0}}
    paid = replace(STOCK, critical=True)
    async with market.make_client() as client:
        loader = market.make_loader(client)
        code = await pass_gate(loader, [COIN, paid], loader.reader.get_settings(), market.bus)
    assert code == (1 if need_keys else 0)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["TWELVE_DATA_API_KEY", "twelve_data", "AAPL:bars:1m", "(critical)"] in lines
    assert any(line[:1] == ["AAPL:bars:1m"] for line in lines) is need_keys


async def test_the_truth_says_after_how_many_failures_a_source_is_left_alone_and_for_how_long(market):
    market["coinbase"].choose = lambda _request: Answer(500)
    market.work = {"failures": {"coinbase": {"failure_threshold": 1, "recovery_sec": 300}}}
    first, second = [(await market.load(COIN)).findings[0] for _ in range(2)]
    assert (first.verdict, second.verdict) == (SourceVerdict.FAILED, SourceVerdict.BREAKER_OPEN)
    breaker = await CircuitBreaker(market.bus, source_breaker_key("coinbase")).read()
    assert 290 < breaker.wait_sec <= 300
    assert len(market["coinbase"].seen) == 1


async def test_the_truth_says_how_often_a_request_is_sent_again_that_the_server_failed(market):
    market["coinbase"].choose = lambda _request: Answer(500)
    market.work = {"failures": {"coinbase": {"retries": 1}}}
    assert (await market.load(COIN)).state.serving == "kraken"
    assert len(market["coinbase"].seen) == 2
