"""sources and its gate over a market of our own that speaks as nineteen public sources do."""

import time
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from marketswarm.keys import MARKET_BARS, MARKET_OBSERVATIONS, MARKET_SERIES, source_breaker_key
from services.market.entries import parse_bar, parse_entry, parse_observation
from services.market.records import MINUTE_MS
from support.fixtures import opened
from support.market_prices import Market
from support.market_server import PlayClock, run_market
from support.market_view import Vice, ViceKind
from support.scenes.agent import Scene, seed
from support.waiting import until

pytestmark = pytest.mark.live
BARS = [
    ("BTC/USD", "crypto", "kraken"),
    ("ETH/USD", "crypto", "coinbase"),
    ("BTC/USDT", "crypto", "binance"),
    ("ETH/USDT", "crypto", "okx"),
    ("SPY", "stocks", "yahoo"),
    ("AAPL", "stocks", "twelve_data"),
    ("MSFT", "stocks", "alpaca"),
    ("BRK.B", "stocks", "finnhub"),
    ("EUR/USD", "forex", "oanda"),
]
OBSERVATIONS = [
    ("US.10Y", "economic", "us_treasury"),
    ("US.2Y", "economic", "fred"),
    ("EUR/GBP", "forex", "ecb"),
    ("EUR/USD", "forex", "frankfurter"),
]


def entry(symbol, asset, *sources, **more):
    return {"symbol": symbol, "asset": asset, "from": sources, "max_age_sec": 300, **more}


class MarketScene(Scene):
    """Two buses, and the truth that names series of the market."""

    def __init__(self, folder, site):
        super().__init__(folder)
        self.site, self.revision = site, 0

    def wish(self, *endpoints, **settings):
        self.revision += 1
        section = {
            "replicas": 2,
            "heartbeat": {"interval_sec": 0.2, "timeout_sec": 5},
            "endpoints": endpoints,
            "settings": settings,
        }
        seed(self.buses, {"services": {"sources": section}}, self.revision)

    def start(self, module="services.sources", **env):
        return self.module(module, **(self.site.environment() | env))

    def serving(self):
        raw = self.market.cmd("HGET", MARKET_SERIES, "BTC/USDT:bars:1m")
        return orjson.loads(raw).get("serving") if raw else None

    def records(self, stream, parse):
        """What a stream has, each with its source."""
        entries = [fields for _, fields in self.market.cmd("XRANGE", stream, "-", "+", within=20.0)]
        raw = [{name.encode(): value.encode() for name, value in fields.items()} for fields in entries]
        parsed = [parse_entry(parse, each) for each in raw]
        return [(record, provenance.source) for record, _, provenance in parsed]


site = opened(lambda: run_market(Market(datetime.now(UTC).date() - timedelta(days=5), 8)))
"""A market that goes by the wall clock, as the agents do."""

scene = opened(lambda tmp_path, site: MarketScene(tmp_path, site))


def test_the_gate_loads_every_shape_and_what_it_publishes_is_what_there_was(scene, site):
    scene.wish(
        *(entry(*each, history_days=0.5 if each[1] == "crypto" else 4) for each in BARS),
        *(entry(*each, kind="observations", history_days=60, max_age_sec=864_000) for each in OBSERVATIONS),
        gate={"share": 1.0, "fresh_sec": 864_000},
    )
    gate = scene.start("services.sources.gate")
    assert gate.wait(90) == 0, gate.text()
    bars = scene.records(MARKET_BARS, parse_bar)
    assert {(bar.symbol, source) for bar, source in bars} == {(symbol, source) for symbol, _, source in BARS}
    for symbol, _, source in BARS:
        got = [bar for bar, by in bars if by == source]
        true = {bar.start_ms: bar for bar in site.market.bars(symbol, "1m")}
        assert [(bar.open, bar.high, bar.low, bar.close) for bar in got] == [
            (bar.open, bar.high, bar.low, bar.close) for bar in (true[each.start_ms] for each in got)
        ]
        starts = [bar.start_ms for bar in got]
        # from its first bar to its last none is left out, and none is unfinished
        assert starts == [each for each in true if starts[0] <= each <= starts[-1]]
        assert starts[-1] + MINUTE_MS <= 1000 * time.time()
        assert len(starts) > 60
    values = scene.records(MARKET_OBSERVATIONS, parse_observation)
    for symbol, _, source in OBSERVATIONS:
        got = [each for each, by in values if by == source]
        assert len(got) > 30
        assert set(got) <= set(site.market.observations(symbol))


def test_two_instances_ask_a_source_no_more_often_than_it_allows(scene, site):
    # Kraken takes one request a second; eight series want it all the time
    spans = ("1m", "5m", "15m", "1h")
    scene.wish(
        *(
            entry(symbol, "crypto", "kraken", timeframe=each, every_sec=0.2)
            for symbol in ("BTC/USD", "ETH/USD")
            for each in spans
        )
    )
    for number in range(2):
        scene.start(INSTANCE_ID=f"sources-{number}")
    until(lambda: site.count_requests("kraken") >= 8, 60, scene.programs[0].text)
    # permission is given by the second, but a request may be long on its way: three may catch up
    assert site.find_busiest("kraken", 5.0) <= 8  # with an account for each instance there were ten


OTHER_VICES = ViceKind.CUT, ViceKind.REFUSED, ViceKind.OFF_MINUTE
NIGHTLY = pytest.mark.nightly(
    "the same test with another vice; tests/services/sources/cascade has all of them"
)


@pytest.mark.parametrize(
    "kind",
    [
        ViceKind.HTML,
        ViceKind.CROSSED,
        *(pytest.param(kind, marks=NIGHTLY) for kind in OTHER_VICES),
    ],
)
def test_the_next_source_serves_while_one_has_a_vice_and_what_is_published_stays_right(scene, site, kind):
    site.set_vice("binance", Vice(kind, every=1))
    scene.wish(
        entry("BTC/USDT", "crypto", "binance", "okx", every_sec=0.3, history_days=0.1),
        load={"patience_sec": 0},
    )
    agent = scene.start()

    until(lambda: scene.serving() == "okx", 60, lambda: agent.text()[-3000:])
    bars = scene.records(MARKET_BARS, parse_bar)
    true = {bar.start_ms: bar for bar in site.market.bars("BTC/USDT", "1m")}
    assert {source for _, source in bars} == {"okx"}
    assert len(bars) > 60
    for bar, _ in bars:
        assert (bar.open, bar.close) == (true[bar.start_ms].open, true[bar.start_ms].close)
    assert site.count_requests("binance") >= 1


@pytest.fixture
def played():
    """A market of twenty hours ago, of which two minutes pass in a second."""
    clock = PlayClock(round(1000 * time.time()) - 20 * 60 * MINUTE_MS, 120)
    with run_market(Market(datetime.now(UTC).date() - timedelta(days=3), 5), clock) as site:
        yield site


def test_a_stream_brings_each_minute_and_what_it_misses_is_asked_for(tmp_path, played):
    symbols = ("BTC/USDT", "ETH/USDT")
    urls = orjson.loads(played.base_urls()) | {"binance_stream": played.stream_url}
    with MarketScene(tmp_path, played) as scene:
        scene.wish(
            *(
                entry(each, "crypto", "binance", "okx", every_sec=3600, history_days=1.0)
                | {"max_age_sec": 90_000}
                for each in symbols
            )
        )
        agent = scene.start(SOURCES_BASE_URLS=orjson.dumps(urls).decode())

        def starts(symbol):
            return [bar.start_ms for bar, _ in scene.records(MARKET_BARS, parse_bar) if bar.symbol == symbol]

        def wait_for_more(count):
            least = {symbol: len(starts(symbol)) + count for symbol in symbols}
            until(
                lambda: all(len(starts(each)) >= least[each] for each in symbols),
                60,
                lambda: agent.text()[-3000:],
            )

        until(lambda: agent.logs("source_stream.opened"), 60, agent.text)
        wait_for_more(4)
        asked = played.count_requests("binance")
        wait_for_more(8)
        assert played.count_requests("binance") < asked + 4, "sixteen minutes, which the stream brought"

        played.set_vice("binance_stream", Vice(ViceKind.CUT))
        until(lambda: agent.logs("source_stream.closed"), what=agent.text)
        until(lambda: played.count_requests("binance") > asked, what=agent.text)
        scene.wait_beat(30, svc="sources", status="degraded", detail="the stream of binance is away: broken")
        played.set_vice("binance_stream")
        until(lambda: len(agent.logs("source_stream.opened")) >= 2, 60, agent.text)
        scene.wait_beat(30, svc="sources", status="ok")
        wait_for_more(4)

        bars = scene.records(MARKET_BARS, parse_bar)
        assert {source for _, source in bars} == {"binance"}
        assert len(set(bars)) == len(bars), "a record that is there twice"
        # by the agent's clock each minute of that time is over: the last of an answer is corrected later
        minutes = {(bar.symbol, bar.start_ms) for bar, _ in bars}
        # or not at all, if the stream was opened in the next minute alone: the agent takes it for complete
        unfinished = {each.at_ms - each.at_ms % MINUTE_MS for each in played.requests}
        assert len(bars) - len(minutes) <= played.count_requests("binance")
        for symbol in symbols:
            got = {bar.start_ms: bar for bar, _ in bars if bar.symbol == symbol}
            true = {bar.start_ms: bar for bar in played.market.bars(symbol, "1m")}
            assert sorted(got) == list(range(min(got), max(got) + 1, MINUTE_MS)), "a minute that is missing"
            del got[max(got)]
            wrong = {
                at for at, bar in got.items() if (bar.open, bar.close) != (true[at].open, true[at].close)
            }
            assert wrong <= unfinished

        scene.market.cmd("HSET", source_breaker_key("binance"), "paused", "-1")
        until(lambda: scene.serving() == "okx", what=lambda: agent.text()[-3000:])
        asked = played.stream.connections
        scene.market.cmd("DEL", source_breaker_key("binance"))
        until(lambda: scene.serving() == "binance", what=lambda: agent.text()[-3000:])
        assert played.stream.connections == asked + 1
        assert "Traceback" not in agent.text()
