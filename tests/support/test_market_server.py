"""The market of our own, asked by the product's own client of sources: what it says is what there was."""

import asyncio
import contextlib
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx
import orjson
import pytest

from marketswarm.market.records import DAY_MS, MINUTE_MS, RecordKind
from services.sources.access import client as client_module
from services.sources.access.circuit_breaker import BreakerReading, BreakerState
from services.sources.access.client import AskContext, SourceClient
from services.sources.access.rate_limiter import Permission
from services.sources.catalog.answer import AnswerStatus
from services.sources.catalog.files import shipped_catalog
from services.sources.catalog.request import ApiKey, Question
from support.market_prices import DST_WEEK, Market, epoch_ms, truth_bars
from support.market_server import KEYS, ManualClock, MarketServer, key_of, run_market
from support.market_shapes import SHAPES
from support.market_view import MarketView, Vice, ViceKind
from support.waiting import auntil

NOW = datetime(2026, 3, 9, 15, 30, 20, tzinfo=UTC)
"""A Monday at 11:30 in New York, where clocks went forward on Sunday."""
MINUTE = NOW.replace(second=0)
FRIDAY = datetime(2026, 3, 6, 13, tzinfo=UTC)
MARKET = Market(DST_WEEK)
TESTS = Path(__file__).parents[1]
ASSETS = {each.symbol: each.asset for each in MARKET.instruments.values()}
EXTRAS = {
    "kraken": ("volume", "vwap", "trades"),
    "binance": ("volume", "trades"),
    "alpaca": ("volume", "vwap", "trades"),
    "massive": ("volume", "vwap", "trades"),
    "oanda": (),
    "cboe": (),
}
"""What a source has of a bar beside its four prices; the volume, where it is not said here."""


class Account:
    """Grants every request, and keeps what the source asked for."""

    def __init__(self):
        self.blocked = []

    async def take(self, _key, _windows):
        return Permission()

    async def count_left(self, _key, windows):
        return [count for _, count in windows]

    async def block(self, _key, sec, _windows):
        self.blocked.append(sec)

    async def ask(self):
        return BreakerReading(BreakerState.CLOSED)

    async def record_success(self):
        pass

    async def record_failure(self, *, is_trial=False):
        pass


@pytest.fixture(scope="module")
def clock():
    return ManualClock(epoch_ms(NOW))


@pytest.fixture(scope="module")
def shared(clock):
    with run_market(MARKET, clock) as server:
        yield server


@pytest.fixture
def server(shared, clock):
    """The server as at its start: honest, at 11:30 in New York."""
    clock.now_ms = epoch_ms(NOW)
    shared.requests.clear()
    for source in (*SHAPES, "binance_stream"):
        shared.set_vice(source)
    return shared


@pytest.fixture
def ask(server, monkeypatch):
    """Asks a source of the catalogue at the server, at the time of the market."""
    own_time = SimpleNamespace(time=lambda: server.now_ms() / 1000, monotonic=time.monotonic)
    monkeypatch.setattr(client_module, "time", own_time)
    keys = {source: (ApiKey(key_of(source), key_of(source)),) for source in KEYS.values()}

    async def ask_source(source, question, account=None):
        async with SourceClient(keys, orjson.loads(server.base_urls())) as client:
            return await client.ask(
                shipped_catalog()[source], question, account or Account(), AskContext(account or Account())
            )

    return ask_source


def bars_question(symbol, timeframe="1m", start=FRIDAY, end=MINUTE):
    return Question(symbol, ASSETS[symbol], RecordKind.BARS, start, end, timeframe)


def expected_bars(source, question):
    """What the market had, with what the source says of it."""
    start, end = epoch_ms(question.start), epoch_ms(question.end)
    extras = EXTRAS.get(source, ("volume",))
    view = MarketView(MARKET, epoch_ms(NOW))
    found = []
    for bar in MARKET.find_known(question.symbol, question.timeframe, epoch_ms(NOW)):
        said = {name: getattr(bar, name) if name in extras else None for name in ("volume", "vwap", "trades")}
        if source in {"yahoo", "finnhub"}:
            said["volume"] = bar.volume or 0.0  # they have a 0 where there is none
        said_bar = replace(bar, **said)
        if question.timeframe == "1d" and source == "yahoo":
            said_bar = replace(said_bar, start_ms=view.find_opening(bar))
        if question.timeframe == "1d" and source == "finnhub":
            said_bar = replace(said_bar, start_ms=bar.start_ms // DAY_MS * DAY_MS)
        if start <= said_bar.start_ms < end:
            found.append(said_bar)
    return tuple(found)


HALF_DAY = MINUTE - timedelta(hours=11)


@pytest.mark.parametrize(
    ("source", "symbol", "timeframe", "start"),
    [
        ("yahoo", "SPY", "1m", FRIDAY),
        ("yahoo", "BRK.B", "1m", FRIDAY),
        ("yahoo", "EUR/USD", "5m", FRIDAY),
        ("yahoo", "BTC/USD", "1h", FRIDAY),
        ("yahoo", "SPY", "1d", FRIDAY - timedelta(days=2)),
        ("yahoo", "VIX", "1m", FRIDAY),
        ("alpha_vantage", "AAPL", "1m", FRIDAY),
        ("alpha_vantage", "BRK.B", "15m", FRIDAY),
        ("alpha_vantage", "SPY", "1d", FRIDAY - timedelta(days=2)),
        ("alpha_vantage", "EUR/USD", "1d", FRIDAY),
        ("alpha_vantage", "BTC/USD", "1d", FRIDAY),
        ("twelve_data", "SPY", "1m", FRIDAY),
        ("twelve_data", "EUR/USD", "1m", FRIDAY),
        ("twelve_data", "ETH/USD", "1h", FRIDAY),
        ("twelve_data", "SPY", "1d", FRIDAY - timedelta(days=2)),
        ("kraken", "BTC/USD", "1m", HALF_DAY),
        ("kraken", "ETH/USD", "1h", FRIDAY),
        ("coinbase", "ETH/USD", "1m", HALF_DAY),
        ("coinbase", "BTC/USD", "15m", FRIDAY),
        ("binance", "BTC/USDT", "1m", FRIDAY),
        ("binance", "ETH/USDT", "4h", FRIDAY),
        ("bitstamp", "BTC/USD", "1m", FRIDAY),
        ("okx", "BTC/USDT", "1m", HALF_DAY),
        ("okx", "ETH/USD", "1d", FRIDAY),
        ("bybit", "BTC/USDT", "1m", FRIDAY),
        ("alpaca", "SPY", "1m", FRIDAY),
        ("alpaca", "ETH/USD", "1m", HALF_DAY),
        ("massive", "SPY", "1m", FRIDAY),
        ("massive", "BTC/USD", "1m", HALF_DAY),
        ("massive", "EUR/USD", "1h", FRIDAY),
        ("finnhub", "BRK.B", "1m", FRIDAY),
        ("finnhub", "BTC/USDT", "5m", FRIDAY),
        ("finnhub", "SPY", "1d", FRIDAY - timedelta(days=2)),
        ("oanda", "USD/JPY", "1m", FRIDAY),
        ("cboe", "VIX", "1d", FRIDAY - timedelta(days=2)),
    ],
)
async def test_the_bars_of_every_shape_are_those_of_the_market(ask, source, symbol, timeframe, start):
    end = NOW if timeframe == "1d" and source != "oanda" else MINUTE
    question = bars_question(symbol, timeframe, start, end)
    answer = await ask(source, question)
    assert (answer.outcome, answer.reason, answer.misfits) == (AnswerStatus.OK, "", ())
    assert answer.records == expected_bars(source, question)
    assert len(answer.records) > 1


@pytest.mark.parametrize(
    ("source", "symbol"),
    [
        ("frankfurter", "EUR/USD"),
        ("fred", "US.10Y"),
        ("fred", "US.CPI"),
        ("fred", "EUR/USD"),
        ("ecb", "EUR/JPY"),
        ("ecb", "EU.DEPOSIT_RATE"),
        ("us_treasury", "US.2Y"),
        ("bank_of_england", "GBP/USD"),
        ("bank_of_england", "GB.BANKRATE"),
        ("alpha_vantage", "US.UNRATE"),
    ],
)
async def test_the_observations_of_every_shape_are_those_of_the_market(ask, source, symbol):
    start = NOW - timedelta(days=420)
    series = MARKET.series[symbol]
    answer = await ask(source, Question(symbol, series.asset, RecordKind.OBSERVATIONS, start, NOW))
    assert (answer.outcome, answer.reason, answer.misfits) == (AnswerStatus.OK, "", ())
    known = MarketView(MARKET, epoch_ms(NOW)).find_observations(symbol, epoch_ms(start), epoch_ms(NOW))
    assert answer.records == tuple(known)
    assert len(known) > 10


@pytest.mark.parametrize(
    ("source", "symbol"),
    [
        ("yahoo", "SPY"),
        ("alpha_vantage", "EUR/USD"),
        ("twelve_data", "SPY"),
        ("coinbase", "BTC/USD"),
        ("kraken", "BTC/USD"),
        ("binance", "BTC/USDT"),
        ("bitstamp", "ETH/USD"),
        ("okx", "ETH/USDT"),
        ("bybit", "BTC/USDT"),
        ("alpaca", "AAPL"),
        ("alpaca", "BTC/USD"),
        ("massive", "MSFT"),
        ("massive", "GBP/USD"),
        ("massive", "ETH/USD"),
        ("massive", "VIX"),
        ("alpaca", "USD/JPY"),
        ("alpaca", "VIX"),
        ("finnhub", "SPY"),
        ("oanda", "EUR/USD"),
        ("cboe", "VIX"),
    ],
)
async def test_the_quote_of_every_shape_is_the_last_price(ask, source, symbol):
    question = Question(symbol, ASSETS[symbol], RecordKind.QUOTES, NOW - timedelta(days=1), NOW)
    answer = await ask(source, question)
    assert (answer.outcome, answer.misfits) == (AnswerStatus.OK, ())
    [quote] = answer.records
    true = MarketView(MARKET, epoch_ms(NOW)).find_quote(symbol)
    assert (quote.symbol, quote.price) == (symbol, pytest.approx(true.price))  # some say bid and ask only
    assert abs(quote.at_ms - true.at_ms) < 1000
    assert {quote.bid, quote.ask} <= {true.bid, true.ask, None}


def test_every_shape_is_asked_here():
    # pytest keeps what the tests above are given
    asked = {
        case[0]
        for test in (
            test_the_bars_of_every_shape_are_those_of_the_market,
            test_the_observations_of_every_shape_are_those_of_the_market,
        )
        for case in test.pytestmark[0].args[1]
    }
    assert asked == SHAPES.keys()
    assert len(asked) >= 10


async def test_pages_are_followed_and_a_key_is_asked_for(ask, server):
    answer = await ask("massive", bars_question("SPY"))
    assert len(answer.records) > 500
    assert [each.query.get("cursor", "") for each in server.requests] == ["", "500"]
    assert {each.key for each in server.requests} == {"massive-test-key-1"}
    server.requests.clear()
    async with SourceClient({"massive": (ApiKey("stolen"),)}, orjson.loads(server.base_urls())) as client:
        answer = await client.ask(
            shipped_catalog()["massive"], bars_question("SPY"), Account(), AskContext(Account())
        )
    assert (answer.outcome, answer.reason) == (AnswerStatus.FAILED, "401")


@pytest.mark.parametrize(
    ("source", "vice", "told"),
    [
        ("yahoo", Vice(ViceKind.LIMITED, retry_after="7"), ("limited", "429")),
        ("kraken", Vice(ViceKind.LIMITED), ("limited", "429")),
        ("binance", Vice(ViceKind.TEAPOT, retry_after="120"), ("limited", "418")),
        ("okx", Vice(ViceKind.BROKEN), ("failed", "500")),
        ("finnhub", Vice(ViceKind.CUT), ("failed", "broken")),
        ("alpaca", Vice(ViceKind.REDIRECT), ("failed", "302")),
        ("twelve_data", Vice(ViceKind.WRONG_JSON), ("failed", "no json")),
        ("coinbase", Vice(ViceKind.HTML), ("failed", "no json")),
        ("bitstamp", Vice(ViceKind.HUGE), ("failed", "too_long")),
        ("bybit", Vice(ViceKind.DEEP), ("failed", "no json")),
        *((source, Vice(ViceKind.REFUSED), ("limited", "")) for source in sorted(SHAPES)),
        ("ecb", Vice(ViceKind.HTML), ("failed", "no csv")),
        ("cboe", Vice(ViceKind.HTML), ("failed", "no csv")),
        ("bank_of_england", Vice(ViceKind.HTML), ("failed", "")),
        ("us_treasury", Vice(ViceKind.HTML), ("failed", "no xml")),
        ("us_treasury", Vice(ViceKind.WRONG_JSON), ("failed", "no xml")),
        ("fred", Vice(ViceKind.HTML), ("failed", "no json")),
    ],
)
async def test_a_vice_of_an_answer_is_what_the_client_says_of_it(ask, server, source, vice, told):
    outcome, reason = told
    account = Account()
    server.set_vice(source, vice)
    answer = await ask(source, any_question(source), account)
    assert answer.outcome == outcome, answer
    assert answer.reason.startswith(reason)
    assert answer.records == ()
    if outcome == "limited":
        assert account.blocked == [float(vice.retry_after or 60)]
    server.set_vice(source)
    answer = await ask(source, any_question(source))
    assert answer.outcome is AnswerStatus.OK


@pytest.mark.parametrize("source", sorted(SHAPES))
async def test_a_document_with_other_names_is_never_taken_for_records(ask, server, source):
    server.set_vice(source, ViceKind.OTHER_SHAPE)
    answer = await ask(source, any_question(source))
    assert answer.outcome in (AnswerStatus.EMPTY, AnswerStatus.FAILED)
    assert answer.records == ()


async def test_a_source_that_hangs_is_given_up_and_its_connection_let_go(ask, server, monkeypatch):
    monkeypatch.setattr(client_module, "TIMEOUT_SEC", 0.3)
    server.set_vice("massive", ViceKind.HANG)
    answer = await ask("massive", any_question("massive"))
    assert (answer.outcome, answer.reason) == (AnswerStatus.FAILED, "timeout")
    assert [each.status for each in server.requests] == [0]
    await auntil(lambda: server.connected == 0)


def any_question(source):
    """A question that a source answers."""
    if source == "cboe":
        return bars_question("VIX", "1d", FRIDAY - timedelta(days=2))
    for symbol in ("SPY", "BTC/USD", "BTC/USDT", "EUR/USD"):
        question = bars_question(symbol, start=MINUTE - timedelta(hours=1))
        endpoints = shipped_catalog()[source].find_endpoints(RecordKind.BARS, ASSETS[symbol], symbol, "1m")
        if source != "fred" and next(endpoints, None):
            return question
    symbol = {"us_treasury": "US.10Y", "fred": "US.10Y", "bank_of_england": "GBP/USD"}.get(source, "EUR/USD")
    asset = MARKET.series[symbol].asset
    return Question(symbol, asset, RecordKind.OBSERVATIONS, NOW - timedelta(days=40), NOW)


async def ask_binance(ask, minutes=60):
    answer = await ask("binance", bars_question("BTC/USDT", start=MINUTE - timedelta(minutes=minutes)))
    assert answer.outcome is AnswerStatus.OK
    return list(answer.records)


async def test_frozen_and_split_prices_begin_at_their_time(ask, server):
    honest = await ask_binance(ask)
    since = honest[30].start_ms
    server.set_vice("binance", Vice(ViceKind.FROZEN, since_ms=since))
    frozen = await ask_binance(ask)
    assert frozen[:30] == honest[:30]
    assert {price for bar in frozen[30:] for price in (bar.open, bar.high, bar.low, bar.close)} == {
        honest[29].close
    }
    server.set_vice("binance", Vice(ViceKind.SPLIT, since_ms=since))
    split = await ask_binance(ask)
    assert split[:30] == honest[:30]
    assert [bar.close for bar in split[30:]] == [pytest.approx(bar.close / 2) for bar in honest[30:]]


async def test_late_corrections_and_partial_bars_are_right_when_they_are_old(ask, server, clock):
    true = await ask_binance(ask)
    for kind in (ViceKind.LATE, ViceKind.PARTIAL):
        clock.now_ms = epoch_ms(NOW)
        server.set_vice("binance", Vice(kind, minutes=10))
        early = await ask_binance(ask)
        assert early[:50] == true[:50]
        assert all(before != after for before, after in zip(early[50:], true[50:], strict=True))
        assert all(
            bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in early
        )
        clock.now_ms += 10 * MINUTE_MS
        assert await ask_binance(ask) == true


async def test_vices_of_values_and_times_hit_the_same_rows_each_time(ask, server):
    true = await ask_binance(ask)
    hit = [bar for bar in true if bar.start_ms // MINUTE_MS % 10 == 0]
    assert len(hit) == 6
    for kind, is_wrong in {
        ViceKind.NEGATIVE: lambda bar: bar.close < 0,
        ViceKind.CROSSED: lambda bar: bar.high < bar.low,
        ViceKind.OFF_MINUTE: lambda bar: bar.start_ms % MINUTE_MS == 7000,
    }.items():
        server.set_vice("binance", kind)
        bars = await ask_binance(ask)
        wrong = [bar for bar in bars if is_wrong(bar)]
        assert [bar.start_ms // MINUTE_MS for bar in wrong] == [bar.start_ms // MINUTE_MS for bar in hit]
        assert [bar for bar in bars if bar not in wrong] == [bar for bar in true if bar not in hit]
    server.set_vice("binance", ViceKind.MISSING)
    assert await ask_binance(ask) == [bar for bar in true if bar not in hit]
    server.set_vice("binance", Vice(ViceKind.WRONG_ZONE, hours=-1))
    shifted = await ask_binance(ask, 120)
    assert [bar.start_ms + 3_600_000 for bar in shifted[:60]] == [bar.start_ms for bar in true]


async def test_the_client_puts_doubled_and_unordered_rows_right(ask, server):
    true = await ask_binance(ask)
    server.set_vice("binance", ViceKind.DUPLICATED, ViceKind.UNORDERED)
    assert await ask_binance(ask) == true
    view = MarketView(MARKET, epoch_ms(NOW), (Vice(ViceKind.DUPLICATED), Vice(ViceKind.UNORDERED)))
    starts = [bar.start_ms for bar in view.find_bars("BTC/USDT", "1m", last=3)]
    assert len(starts) == 6
    assert starts != sorted(starts)


async def test_a_vice_has_its_time_and_what_is_later_is_not_known(ask, server, clock):
    now = epoch_ms(NOW)
    server.set_vice("binance", Vice(ViceKind.BROKEN, since_ms=now, until_ms=now + MINUTE_MS))
    answer = await ask("binance", bars_question("BTC/USDT"))
    assert answer.reason == "500"
    clock.now_ms += MINUTE_MS
    last = (await ask_binance(ask))[-1]
    assert last.start_ms == epoch_ms(MINUTE) - MINUTE_MS
    server.set_vice("binance")
    clock.now_ms = epoch_ms(MINUTE) + 20_000
    start = MINUTE - timedelta(hours=1)
    answer = await ask("binance", bars_question("BTC/USDT", start=start, end=NOW + timedelta(minutes=5)))
    true = {bar.start_ms: bar for bar in truth_bars(MARKET)["BTC/USDT"]}
    partial = answer.records[-1]
    whole = true[partial.start_ms]
    assert partial.start_ms == epoch_ms(MINUTE)
    assert partial.open == whole.open
    assert partial.volume == pytest.approx(whole.volume / 3, abs=0.001)


async def test_the_server_ends_all_that_it_began_while_clients_are_there(clock):
    loop, errors = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _loop, context: errors.append(context))
    server = MarketServer(MARKET, clock)
    async with httpx.AsyncClient(trust_env=False) as client:
        async with server:
            server.set_vice("okx", ViceKind.HANG)
            url = f"{server.url('okx')}/api/v5/market/ticker?instId=BTC-USDT"
            hanging = asyncio.create_task(client.get(url))
            await client.get(f"{server.url('binance')}/api/v3/klines?symbol=BTCUSDT&interval=1m")
            await auntil(lambda: server.count_requests("okx") == 1)
            assert server.connected == 2
        with pytest.raises(httpx.RemoteProtocolError):
            await hanging
        with pytest.raises(httpx.ConnectError):
            await client.get(url)
    assert server.connected == 0
    assert errors == []


async def test_a_request_that_is_no_http_ends_its_connection_and_nothing_else(server):
    for nonsense in (b"\x00" * 100_000, b"GET\r\n\r\n", b"GET / HTTP/1.1\r\ncontent-length: -5\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(nonsense)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
    async with httpx.AsyncClient(trust_env=False) as client:
        for path in ("yahoo/v8/finance/chart/SPY", "coinbase/x", "massive/v2", "nobody/x", "kraken", ""):
            answer = await client.get(f"http://127.0.0.1:{server.port}/{path}")
            assert 200 <= answer.status_code < 500


async def test_what_a_source_was_asked_is_kept(ask, server):
    server.set_vice("kraken", ViceKind.BROKEN)
    for source in ("kraken", "okx", "okx", "fred"):
        await ask(source, any_question(source))
    assert [(each.source, each.status, each.vice) for each in server.requests] == [
        ("kraken", 500, "broken"),
        ("okx", 200, ""),
        ("okx", 200, ""),
        ("fred", 200, ""),
    ]
    assert server.requests[-1].key == "fred-test-key-1"
    assert server.requests[-1].at_ms == epoch_ms(NOW)
    assert server.count_requests("okx") == server.find_busiest("okx", 60.0) == 2
    assert server.find_busiest("okx", 1e-9) == 1


async def test_the_market_may_be_another_process_and_is_steered_there(tmp_path):
    truth = tmp_path / "truth.csv"
    program = [sys.executable, "-m", "support.market_server", "--week", "2026-03-05", "--truth", str(truth)]
    process = await asyncio.create_subprocess_exec(
        *program, "--skip-min", "6000", cwd=TESTS, stdout=asyncio.subprocess.PIPE
    )
    try:
        said = orjson.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        base = f"http://127.0.0.1:{said['port']}"
        async with httpx.AsyncClient(trust_env=False) as client:
            rows = (
                await client.get(f"{base}/binance/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=3")
            ).json()
            vices = {"binance": [{"kind": "limited", "retry_after": "7"}]}
            state = (await client.post(f"{base}/_market/vices", json=vices)).json()
            refused = await client.get(f"{base}/binance/api/v3/klines?symbol=BTCUSDT&interval=1m")
            wrong = await client.post(f"{base}/_market/vices", json={"binance": [{"kind": "unheard of"}]})
    finally:
        process.terminate()
        await process.wait()
    lines = truth.read_text().splitlines()
    assert len(lines) == 1 + sum(len(bars) for bars in truth_bars(MARKET).values())
    second = rows[-2]  # the last one is not over
    [line] = [line for line in lines if line.startswith(f"BTC/USDT,crypto,24x7,{second[0]},")]
    assert [float(each) for each in line.split(",")[4:9]] == [float(each) for each in second[1:6]]
    assert state["requests"] == {"binance": 1}
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
    assert wrong.status_code == 400
