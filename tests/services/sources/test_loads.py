"""Loads of series from stand-ins of sources, over a bus in memory."""

import time
from dataclasses import replace

import orjson
import pytest

from marketswarm.keys import MARKET_SOURCES
from marketswarm.market.records import AssetClass, RecordKind
from marketswarm.testing import MemoryBus
from services.sources.cascade import SeriesStatus, SourceVerdict
from services.sources.catalog import shipped_catalog
from services.sources.client import SourceClient
from services.sources.loader import LoadOutcome, SeriesLoader
from services.sources.rate_limiter import RateLimiter
from services.sources.request import ApiKey
from services.sources.series import Series
from services.sources.settings import WorkSettings
from services.sources.store import SeriesStore
from support.rig.receiver import Answer, Receiver

COIN = Series(
    "BTC/USD", RecordKind.BARS, "1m", AssetClass.CRYPTO, "24x7", ("coinbase", "kraken"), 300.0, 5.0, 60.0
)
STOCK = replace(COIN, symbol="AAPL", asset=AssetClass.STOCKS, sources=("twelve_data",), history_days=0.1)


def last_minutes(count=30):
    now = int(time.time()) // 60 * 60
    return range(now - 60 * count, now, 60)


def answer_as_kraken(_request):
    rows = [[at, "2", "3", "1", "2", "2", "5", 1] for at in last_minutes()]
    return Answer(200, {}, orjson.dumps({"error": [], "result": {"XXBTZUSD": rows, "last": 1}}))


def answer_as_coinbase(_request):
    return Answer(200, {}, orjson.dumps([[at, 1, 3, 2, 2, 5] for at in last_minutes()]))


def answer_as_twelve_data(_request):
    rows = [
        {
            "datetime": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at)),
            "open": "1",
            "high": "2",
            "low": "1",
            "close": "1",
            "volume": "1",
        }
        for at in last_minutes()
    ]
    return Answer(200, {}, orjson.dumps({"meta": {}, "values": rows, "status": "ok"}))


class Market:
    """A bus, sites of sources, and a loader that finds them."""

    def __init__(self, bus, sites):
        self.bus, self.sites, self.keys, self.work = bus, sites, {}, {}

    def __getitem__(self, source):
        return self.sites[source]

    async def load(self, series, **more):
        """Load a series by a process of its own, and return what became of it."""
        urls = {name: f"http://127.0.0.1:{site.port}" for name, site in self.sites.items()}
        settings = WorkSettings.model_validate(self.work)
        async with SourceClient(self.keys, urls) as client:
            loader = SeriesLoader(client, SeriesStore(lambda: self.bus), shipped_catalog(), lambda: settings)
            return await loader.load(series, **more)

    async def read_source(self, name):
        return orjson.loads(await self.bus.client.hget(MARKET_SOURCES, name) or b"{}")


@pytest.fixture
async def market():
    answers = {
        "coinbase": answer_as_coinbase,
        "kraken": answer_as_kraken,
        "twelve_data": answer_as_twelve_data,
    }
    bus = MemoryBus("market-redis")
    sites = {name: Receiver() for name in answers}
    for name, site in sites.items():
        site.__enter__()
        site.choose = answers[name]
    yield Market(bus, sites)
    for site in sites.values():
        site.__exit__(None, None, None)
    await bus.aclose()


async def test_a_slow_source_has_its_part_of_the_time_and_the_next_one_serves(market):
    """Each of its answers is in time, but there are a dozen parts."""

    def answer_slowly(request):
        time.sleep(0.4)
        return answer_as_coinbase(request)

    market["coinbase"].choose = answer_slowly
    market.work = {"load": {"timeout_sec": 3}}
    result = await market.load(COIN)
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
    await RateLimiter(market.bus, "twelve_data").block(keys[0], 72_000, windows)
    for symbol in ("A", "B", "A", "B"):
        result = await market.load(replace(STOCK, symbol=symbol))
        assert [finding.verdict for finding in result.findings] == [SourceVerdict.FRESH]


async def test_a_new_key_is_used_at_once_by_whoever_is_started_with_it(market):
    old, new = ApiKey("old"), ApiKey("new")
    market.keys = {"twelve_data": (old,)}
    windows = shipped_catalog()["twelve_data"].limits.windows()
    await RateLimiter(market.bus, "twelve_data").block(old, 72_000, windows)
    result = await market.load(STOCK)
    assert (result.state.status, result.findings[0].wait_sec > 70_000) == (SeriesStatus.LIMITED, True)
    market.keys = {"twelve_data": (new,)}
    assert (await market.load(STOCK)).state.status is SeriesStatus.FRESH
