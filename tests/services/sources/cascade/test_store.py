"""What a store publishes of loads, and what it remembers, over a bus in memory."""

import time
from dataclasses import replace
from datetime import date

import orjson
import pytest

from marketswarm.bus import BusError
from marketswarm.keys import (
    MARKET_ACTIONS,
    MARKET_BARS,
    MARKET_DOWNLOADS,
    MARKET_OBSERVATIONS,
    MARKET_QUOTES,
    MARKET_SERIES,
    MARKET_SOURCES,
    series_records_key,
)
from services.bars.store import KEPT_SEC as BARS_KEPT_SEC
from services.market.entries import parse_action, parse_quote
from services.market.records import (
    DAY_MS,
    MINUTE_MS,
    ActionKind,
    AssetClass,
    Bar,
    CorporateAction,
    Observation,
    Quote,
    RecordKind,
    VolumeKind,
)
from services.sources.cascade import store as store_module
from services.sources.cascade.series import Series
from services.sources.cascade.state import WAITING, SourceFinding, SourceVerdict, conclude_load
from services.sources.cascade.store import BUCKET_RECORDS, Load, SeriesStore
from services.sources.catalog.answer import AnswerStatus, SourceAnswer
from services.sources.settings import WorkSettings

NOW_MS = 1_795_000_020_000
PRICES = Series(
    "US.CPI", RecordKind.OBSERVATIONS, "", AssetClass.ECONOMIC, "24x7", ("bls",), 172_800.0, 3650.0
)
MINUTES = Series("BTC/USD", RecordKind.BARS, "1m", AssetClass.CRYPTO, "24x7", ("kraken",), 300.0, 1.0, 60.0)
QUOTES = replace(MINUTES, kind=RecordKind.QUOTES, timeframe="", sources=("kraken", "okx"))


@pytest.fixture
def publish(bus):
    store = SeriesStore(lambda: bus)

    async def publish_records(series, *records, **how):
        """Publish records as a load does; return how many were new."""
        return (await publish_load(series, *records, **how)).new

    async def publish_load(
        series, *records, source=None, remember_from_ms=0, withdrawn=(), volume_kind=None, newest_ms=1, **how
    ):
        """Publish records as a load does, of a finding that is as `how` says."""
        claim, _ = await store.claim(series.id)
        name = source or series.sources[0]
        answer = SourceAnswer(name, AnswerStatus.OK, volume_kind=volume_kind)
        served = SourceFinding(
            name, SourceVerdict.FRESH, records=records, newest_ms=newest_ms, asked_at=1.0, answer=answer
        )
        served = replace(served, **how)
        state = conclude_load(series, WAITING, [served], 1.0)
        load = Load(
            series, state, (served,), served, (), remember_from_ms=remember_from_ms, withdrawn=withdrawn
        )
        try:
            return await store.publish(claim, load, WorkSettings())
        finally:
            await store.release(claim)

    publish_records.load = publish_load
    return publish_records


ACTIONS = replace(
    PRICES, symbol="AAPL", kind=RecordKind.ACTIONS, asset=AssetClass.STOCKS, sources=("massive", "yahoo")
)


def minute(at_ms, close=2.0):
    return Bar("BTC/USD", "1m", at_ms, 2.0, 3.0, 1.0, close)


async def count_remembered(bus, series):
    buckets = await bus.client.hvals(series_records_key(series.id))
    return sum(bucket.count(b";") for bucket in buckets)


async def values(bus, stream, field):
    return [fields[field] for _, fields in await bus.client.xrange(stream)]


async def test_after_a_reseed_that_puts_another_source_in_front_the_old_one_still_corrects_itself(
    bus, publish
):
    assert await publish(PRICES, Observation("US.CPI", 0, 100.0)) == 1
    reseeded = replace(PRICES, sources=("fred", "bls"))  # fred has no key
    assert await publish(reseeded, Observation("US.CPI", 0, 101.0), source="bls") == 1
    assert await publish(reseeded, Observation("US.CPI", 0, 102.0), source="bls") == 1
    assert await values(bus, MARKET_OBSERVATIONS, b"value") == [b"100", b"101", b"102"]


async def test_a_bar_says_whose_volume_it_has_and_the_same_bar_of_another_kind_is_no_change(bus, publish):
    assert await publish(MINUTES, minute(NOW_MS), volume_kind=VolumeKind.VENUE) == 1
    assert await publish(MINUTES, minute(NOW_MS), volume_kind=VolumeKind.CONSOLIDATED) == 0
    assert await publish(MINUTES, minute(NOW_MS, 2.5), volume_kind=None) == 1
    entries = [fields for _, fields in await bus.client.xrange(MARKET_BARS)]
    assert [fields.get(b"volume_kind") for fields in entries] == [b"venue", None]


async def test_only_bars_that_were_known_and_are_other_now_count_as_corrected(bus, publish):
    async def count(*bars, **how):
        result = await publish.load(stocks, *bars, **how)
        return result.new, result.known, result.corrected

    stocks = replace(MINUTES, sources=("yahoo", "stooq"))
    first, second, third = (minute(NOW_MS + number * MINUTE_MS) for number in range(3))
    assert await count(first, second) == (2, 0, 0)
    assert await count(first, replace(second, close=2.5), third) == (2, 2, 1)
    assert await count(replace(first, close=2.5), source="stooq") == (0, 1, 0)
    await SeriesStore(lambda: bus).forget_bars(stocks, 0, NOW_MS)
    assert await count(first, second) == (2, 1, 1), "the first one is published again, and no other one"


async def test_each_value_that_a_period_ever_had_is_published_once(bus, publish):
    printed, revised = Observation("US.CPI", 0, 100.0, 10), Observation("US.CPI", 0, 101.0, 20)
    following = Observation("US.CPI", DAY_MS, 7.0, 30)
    assert await publish(PRICES, printed) == 1
    assert await publish(PRICES, revised, printed, following) == 3  # the first one may come again
    assert await publish(PRICES, printed, revised, following) == 0
    entries = [fields for _, fields in await bus.client.xrange(MARKET_OBSERVATIONS)]
    assert [(fields[b"value"], fields[b"known_at"]) for fields in entries[1:]] == [
        (b"100", b"10"), (b"101", b"20"), (b"7", b"30")
    ]  # fmt: skip
    # a source after it, which knows the newest value only, still has no word
    both = replace(PRICES, sources=(*PRICES.sources, "ecb"))
    assert await publish(both, Observation("US.CPI", 0, 99.0), source="ecb") == 0


async def test_the_newest_value_of_an_economic_series_has_a_key_that_expires(bus, publish):
    key = "observations:US.CPI"
    newest = Observation("US.CPI", DAY_MS, 101.5, 30)
    await publish(
        PRICES, newest, Observation("US.CPI", 0, 100.0, 10), Observation("US.CPI", DAY_MS, 99.0, 20)
    )
    found = orjson.loads(await bus.client.get(key))
    assert (found["value"], found["start"], found["source"]) == ("101.5", str(DAY_MS), "bls")
    assert 0 < await bus.client.ttl(key) <= store_module.OBSERVATION_SEC
    await bus.client.delete(key)
    await publish(PRICES, newest)  # nothing new, and the key is written again
    assert orjson.loads(await bus.client.get(key))["value"] == "101.5"
    await publish(PRICES, Observation("US.CPI", 0, 98.0, 40), newest_ms=DAY_MS)  # of an older part
    assert orjson.loads(await bus.client.get(key))["value"] == "101.5"
    await publish(MINUTES, minute(0))
    assert await bus.client.keys("observations:*") == [key.encode()]


async def test_a_source_before_another_has_the_last_word_in_the_order_of_now(publish):
    both = replace(PRICES, sources=("fred", "bls"))
    assert await publish(both, Observation("US.CPI", 0, 100.0), source="fred") == 1
    assert await publish(both, Observation("US.CPI", 0, 99.0), source="bls") == 0
    turned = replace(both, sources=("bls", "fred"))
    assert await publish(turned, Observation("US.CPI", 0, 99.0), source="bls") == 1
    assert await publish(turned, Observation("US.CPI", 0, 98.0), source="fred") == 0
    # fred is gone: whatever it said may be replaced
    alone = replace(both, sources=("ecb",))
    assert await publish(alone, Observation("US.CPI", 0, 97.0), source="ecb") == 1


@pytest.mark.slow
async def test_only_what_can_be_asked_for_again_is_remembered_and_nothing_is_published_twice(bus, publish):
    """Of 1920 minutes, 300 can be asked for again, ten before the newest each time."""
    loads = range(NOW_MS, NOW_MS + 1920 * MINUTE_MS, 120 * MINUTE_MS)
    published = 0
    for at in loads:
        known_from = at - 300 * MINUTE_MS
        answer = [minute(start) for start in range(at - 130 * MINUTE_MS, at, MINUTE_MS)]
        published += await publish(MINUTES, *answer, remember_from_ms=known_from)
        assert await count_remembered(bus, MINUTES) <= 300 + 130 + BUCKET_RECORDS
    assert published == 1920 + 10
    # a source that answers more than it was asked
    newest = minute(loads[-1] - MINUTE_MS)
    assert await publish(MINUTES, minute(NOW_MS), newest, remember_from_ms=known_from) == 0


async def test_the_newest_record_is_remembered_however_old_it_is(publish):
    old = minute(NOW_MS - 30 * DAY_MS)
    assert await publish(MINUTES, old, remember_from_ms=NOW_MS) == 1
    assert await publish(MINUTES, old, remember_from_ms=NOW_MS) == 0


async def test_what_was_published_is_forgotten_before_bars_forgets_the_symbol(bus, publish):
    """Of a symbol that is enabled after that, bars would have the days since then alone."""
    await publish(MINUTES, minute(NOW_MS))
    # a load with nothing new renews this time and not that of bars: a market may be closed for days before it
    assert 0 < await bus.client.ttl(series_records_key(MINUTES.id)) <= BARS_KEPT_SEC - 10 * DAY_MS // 1000
    await bus.client.delete(series_records_key(MINUTES.id))  # as if it had expired
    assert await publish(MINUTES, minute(NOW_MS)) == 1


async def test_of_quotes_the_latest_of_each_symbol_is_remembered(bus, publish):
    def quote(at_ms, price, symbol="BTC/USD"):
        return Quote(symbol, at_ms, price)

    assert await publish(QUOTES, quote(1000, 5.0), quote(1000, 1.0, "BTC|X")) == 2
    assert await publish(QUOTES, quote(1000, 5.0), quote(1000, 1.0, "BTC|X")) == 0
    assert await publish(QUOTES, quote(1000, 5.5)) == 1, "corrected"
    assert await publish(QUOTES, quote(1000, 5.6), source="okx") == 0, "the same one, of a later source"
    assert await publish(QUOTES, quote(2000, 6.0), source="okx") == 1
    assert await publish(QUOTES, quote(1500, 5.8)) == 0, "older than what was published"
    assert await publish(QUOTES, quote(3000, 6.0)) == 1
    assert await count_remembered(bus, QUOTES) == 2
    assert await values(bus, MARKET_QUOTES, b"at") == [b"1000", b"1000", b"1000", b"2000", b"3000"]


async def test_a_quote_that_was_dated_by_a_clock_that_was_ahead_keeps_none_of_now_from_being_published(
    bus, publish
):
    now_ms = round(1000 * time.time())
    ahead, now = (Quote("BTC/USD", at_ms, 5.0) for at_ms in (now_ms + 3_600_000, now_ms))
    assert await publish(QUOTES, ahead) == 1
    assert await publish(QUOTES, now) == 1
    assert await publish(QUOTES, now) == 0
    assert await publish(QUOTES, replace(now, at_ms=now_ms - 1)) == 0
    assert await count_remembered(bus, QUOTES) == 1


async def test_a_stored_state_is_read_without_what_a_clock_planned_that_was_ahead(bus, publish):
    await publish(MINUTES, minute(NOW_MS))  # the series was asked at 1.0
    store = SeriesStore(lambda: bus)
    for now, asked_at in ((1.0, 1.0), (-60.0, 0.0)):
        assert (await store.read_states([MINUTES.id], now))[MINUTES.id].asked_at == asked_at


async def test_what_others_wrote_among_the_remembered_records_stops_nothing(bus, publish):
    key = series_records_key(MINUTES.id)
    await bus.client.zadd(key, {"junk": 1})
    assert await publish(MINUTES, minute(NOW_MS)) == 1
    (bucket,) = await bus.client.hkeys(key)
    await bus.client.hset(key, mapping={bucket: b"junk;|;0|x;", b"soon": b"\xff", b"-7": b"0|a|b;"})
    assert await publish(MINUTES, minute(NOW_MS), remember_from_ms=1) == 1
    assert await publish(MINUTES, minute(NOW_MS), remember_from_ms=1) == 0
    assert await bus.client.hkeys(key) == [bucket]


async def test_more_records_than_a_stretch_of_time_can_have_are_nonsense(bus, publish, monkeypatch):
    monkeypatch.setattr(store_module, "MAX_BUCKET_BYTES", 1000)
    days = replace(MINUTES, timeframe="1d")
    bars = [replace(minute(NOW_MS + number), timeframe="1d") for number in range(200)]
    published = await publish(days, *bars)
    assert 40 < published < 60
    assert await publish(days, *bars) == 0


async def test_a_series_of_minutes_takes_little_memory(bus, publish):
    """110 series filled a bus of 512 MB. This is their memory as a real server has it, without its own."""
    start_ms = NOW_MS // (width_ms := BUCKET_RECORDS * MINUTE_MS) * width_ms
    await publish(MINUTES, *(minute(start_ms + MINUTE_MS * number) for number in range(BUCKET_RECORDS)))
    stored = await bus.client.hgetall(series_records_key(MINUTES.id))
    assert sum(len(name) + len(bucket) for name, bucket in stored.items()) < 24 * BUCKET_RECORDS


async def test_a_symbol_of_quotes_is_forgotten_once_no_answer_names_it_and_its_quote_is_old(bus, publish):
    """Each day has options of its own: those of all days before would stay for ever."""
    chain = replace(QUOTES, symbol="SPY", asset=AssetClass.OPTIONS)
    for day in range(6):
        at, oldest = NOW_MS + day * DAY_MS, NOW_MS + (day - 1) * DAY_MS
        quotes = [Quote(f"SPY{day}C{strike}", at, 1.0) for strike in range(5)]
        still = Quote("SPY-LEAP", NOW_MS - 9 * DAY_MS, 2.0)  # nobody trades it, but each answer has it
        assert await publish(chain, *quotes, still, remember_from_ms=oldest) == 5 + (day == 0)
        assert await count_remembered(bus, chain) <= 11


@pytest.mark.parametrize(
    ("underlying", "source", "options"),
    [
        ("SPX", "cboe", ("SPXW261218C06600000", "SPX261218P05000000")),
        ("BTC", "deribit", ("BTC-25DEC26-100000-C", "BTC-25DEC26-90000-P")),
    ],
)
async def test_quotes_of_a_chain_have_the_symbols_of_its_options_and_not_that_of_the_underlying(
    bus, publish, underlying, source, options
):
    chain = replace(QUOTES, symbol=underlying, asset=AssetClass.OPTIONS, sources=(source,))
    quotes = [Quote(option, NOW_MS, 101.5 + number) for number, option in enumerate(options)]
    assert await publish(chain, *quotes) == 2
    entries = [fields for _, fields in await bus.client.xrange(MARKET_QUOTES)]
    assert [parse_quote(fields) for fields in entries] == quotes
    assert {fields[b"asset"] for fields in entries} == {b"options"}


@pytest.mark.parametrize("key", [MARKET_BARS, MARKET_DOWNLOADS, MARKET_SERIES, MARKET_SOURCES])
async def test_a_key_that_somebody_else_uses_for_another_thing_stops_a_load_before_it_adds_anything(
    bus, publish, key
):
    await bus.client.set(key, "mine")
    for _ in range(2):
        with pytest.raises(BusError):
            await publish(MINUTES, minute(NOW_MS))
    if key != MARKET_BARS:
        assert await bus.client.exists(MARKET_BARS) == 0
    await bus.client.delete(key)
    assert await publish(MINUTES, minute(NOW_MS)) == 1
    assert await bus.client.xlen(MARKET_BARS) == 1


async def test_an_action_is_known_by_its_day_and_kind_and_one_that_is_withdrawn_may_come_back(bus, publish):
    store, day = SeriesStore(lambda: bus), date(2020, 8, 31)
    split = CorporateAction("AAPL", ActionKind.SPLIT, day, ratio=4.0)
    dividend = CorporateAction("AAPL", ActionKind.DIVIDEND, day, amount=0.82)
    gone = CorporateAction("AAPL", ActionKind.DIVIDEND, day)
    split_key, dividend_key = (day, ActionKind.SPLIT), (day, ActionKind.DIVIDEND)

    assert await publish(ACTIONS, split, dividend) == 2
    assert await publish(ACTIONS, dividend, split, source="yahoo") == 0
    assert await publish(ACTIONS, replace(dividend, amount=0.8), source="yahoo") == 0, "a later source"
    assert await store.read_published(ACTIONS) == {split_key: "massive", dividend_key: "massive"}
    assert await publish(ACTIONS, split, withdrawn=(gone,)) == 1
    assert await publish(ACTIONS, split, withdrawn=(gone,)) == 0
    assert await publish(ACTIONS, dividend, source="yahoo") == 0
    assert await store.read_published(ACTIONS) == {split_key: "massive"}
    assert await publish(ACTIONS, split, dividend) == 1
    assert await store.read_published(replace(ACTIONS, sources=("yahoo",))) == dict.fromkeys(
        (split_key, dividend_key), ""
    )
    entries = [parse_action(fields) for _, fields in await bus.client.xrange(MARKET_ACTIONS)]
    assert entries[-2:] == [gone, dividend]
    assert sorted(map(str, entries[:2])) == sorted(map(str, [split, dividend]))


async def test_bars_of_one_source_have_its_name_and_are_remembered_apart_from_those_of_all(bus, publish):
    own = replace(MINUTES, is_separate=True)
    bar = Bar("BTC/USD", "1m", NOW_MS - 20_000, 1.0, 3.0, 0.5, 2.0)
    assert [await publish(each, bar) for each in (MINUTES, own, own)] == [1, 1, 0]
    assert await publish(own, replace(bar, close=2.5)) == 1
    found = [fields for _, fields in await bus.client.xrange(MARKET_BARS)]
    assert [(each[b"sym"], each[b"source"], each[b"close"]) for each in found] == [
        (b"BTC/USD", b"kraken", b"2"),
        (b"BTC/USD@kraken", b"kraken", b"2"),
        (b"BTC/USD@kraken", b"kraken", b"2.5"),
    ]
    states = await bus.client.hkeys(MARKET_SERIES)
    assert set(states) == {b"BTC/USD:bars:1m", b"BTC/USD:bars:1m@kraken"}


async def test_what_a_stream_brings_is_no_reason_of_a_source_whose_requests_fail(bus, publish):
    async def read():
        state = orjson.loads(await bus.client.hget(MARKET_SOURCES, "kraken"))
        return state["outcome"], state["reason"], state["records"]

    await publish(MINUTES, minute(NOW_MS), is_asked=False)
    assert await read() == ("fresh", "", 1)
    await publish(MINUTES, verdict=SourceVerdict.WRONG, reason="a time that lies ahead")
    await publish(MINUTES, minute(NOW_MS + MINUTE_MS), is_asked=False)
    assert await read() == ("wrong", "a time that lies ahead", 2)
    await publish(MINUTES, minute(NOW_MS + 2 * MINUTE_MS))
    assert await read() == ("fresh", "", 3)
