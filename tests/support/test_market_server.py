"""The market of our own, asked by the product's own client of sources, is what it is scripted to be."""

import asyncio
import contextlib
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import orjson
import pytest

from marketswarm.bus.circuit_breaker import BreakerReading, BreakerState
from services.market.records import RecordKind
from services.sources.access import client as client_module
from services.sources.access.client import AskContext, SourceClient
from services.sources.catalog.answer import AnswerStatus
from services.sources.catalog.files import shipped_catalog
from services.sources.catalog.request import ApiKey, Question
from support.market_prices import DST_WEEK, Market, epoch_ms
from support.market_server import KEYS, ManualClock, MarketServer, key_of, run_market
from support.market_shapes import SHAPES, Answer, Shape
from support.market_view import Vice, ViceKind
from support.waiting import auntil

NOW = datetime(2026, 3, 9, 15, 30, 20, tzinfo=UTC)
"""A Monday at 11:30 in New York, where clocks went forward on Sunday."""
MARKET = Market(DST_WEEK)
SERIES = {"us_treasury": "US.10Y", "fred": "US.10Y", "bank_of_england": "GBP/USD"}


class Account:
    """Grants every request, and keeps what the source asked for."""

    def __init__(self):
        self.blocked = []

    async def take(self, _key, _windows):
        return 0.0

    async def count_left(self, _key, windows, _waited_for_sec=0.0):
        return [count for _, count in windows]

    async def block(self, _key, sec, _windows):
        self.blocked.append(sec)

    async def ask(self):
        return BreakerReading(BreakerState.CLOSED)

    async def record_success(self):
        pass

    async def record_failure(self, *, is_trial=False):
        pass


@pytest.fixture
def clock():
    return ManualClock(epoch_ms(NOW))


@pytest.fixture
async def server(clock):
    async with MarketServer(MARKET, clock) as server:
        yield server


@pytest.fixture
async def ask(server, monkeypatch):
    """Asks a source of the catalogue at the server, at the time of the market."""
    own_time = SimpleNamespace(time=lambda: server.now_ms() / 1000, monotonic=time.monotonic)
    monkeypatch.setattr(client_module, "time", own_time)
    keys = {source: (ApiKey(key_of(source), key_of(source)),) for source in KEYS.values()}
    async with SourceClient(keys, orjson.loads(server.base_urls())) as client:

        async def ask_source(source, question=None, account=None):
            account = account or Account()
            question = question or any_question(source)
            return await client.ask(shipped_catalog()[source], question, account, AskContext(account))

        yield ask_source


def bars_of(symbol, days=0.1, timeframe="1m"):
    asset = MARKET.instruments[symbol].asset
    return Question(symbol, asset, RecordKind.BARS, NOW - timedelta(days=days), NOW, timeframe)


def any_question(source):
    """A question that a source answers."""
    if source == "cboe":
        return bars_of("VIX", 5, "1d")
    for symbol in ("SPY", "BTC/USD", "BTC/USDT", "EUR/USD"):
        asset = MARKET.instruments[symbol].asset
        if source != "fred" and any(
            shipped_catalog()[source].find_endpoints(RecordKind.BARS, asset, symbol, "1m")
        ):
            return bars_of(symbol)
    symbol = SERIES.get(source, "EUR/USD")
    asset = MARKET.series[symbol].asset
    return Question(symbol, asset, RecordKind.OBSERVATIONS, NOW - timedelta(days=40), NOW)


async def test_every_source_answers_and_refuses_as_the_client_understands_it(ask, server):
    for source in SHAPES:
        answer = await ask(source)
        assert (answer.outcome, answer.reason, answer.misfits) == (AnswerStatus.OK, "", ()), source
        assert answer.records, source
        account = Account()
        server.set_vice(source, ViceKind.REFUSED)
        answer = await ask(source, account=account)
        assert (answer.outcome, account.blocked) == (AnswerStatus.LIMITED, [60.0]), source
        server.set_vice(source, ViceKind.OTHER_SHAPE)
        answer = await ask(source)
        assert answer.outcome in (AnswerStatus.EMPTY, AnswerStatus.FAILED), source
        assert answer.records == (), source
    assert {each.source for each in server.requests if each.key == key_of(each.source)} == set(KEYS.values())
    server.requests.clear()
    server.set_vice("massive")
    answer = await ask("massive", bars_of("SPY", 4))
    assert len(answer.records) > 500
    assert [each.query.get("cursor", "") for each in server.requests] == ["", "500"]
    async with SourceClient({"massive": (ApiKey("stolen"),)}, orjson.loads(server.base_urls())) as client:
        account = Account()
        answer = await client.ask(
            shipped_catalog()["massive"], any_question("massive"), account, AskContext(account)
        )
    assert (answer.outcome, answer.reason) == (AnswerStatus.FAILED, "401")


VICES = [
    ("yahoo", Vice(ViceKind.LIMITED, retry_after="7"), "limited", "429"),
    ("binance", Vice(ViceKind.TEAPOT), "limited", "418"),
    ("okx", Vice(ViceKind.BROKEN), "failed", "500"),
    ("finnhub", Vice(ViceKind.CUT), "failed", "broken"),
    ("alpaca", Vice(ViceKind.REDIRECT), "failed", "302"),
    ("twelve_data", Vice(ViceKind.WRONG_JSON), "failed", "no json"),
    ("coinbase", Vice(ViceKind.HTML), "failed", "no json"),
    ("bitstamp", Vice(ViceKind.HUGE), "failed", "too_long"),
    ("bybit", Vice(ViceKind.DEEP), "failed", "no json"),
    ("ecb", Vice(ViceKind.HTML), "failed", "no csv"),
    ("us_treasury", Vice(ViceKind.WRONG_JSON), "failed", "no xml"),
    ("massive", Vice(ViceKind.HANG), "failed", "timeout"),
]


async def test_each_vice_of_an_answer_has_its_time_and_is_kept_account_of(ask, server, clock, monkeypatch):
    monkeypatch.setattr(client_module, "TIMEOUT_SEC", 5.0)
    for source, vice, outcome, reason in VICES:
        if vice.kind is ViceKind.HANG:
            monkeypatch.setattr(client_module, "TIMEOUT_SEC", 0.3)
        account = Account()
        server.set_vice(source, vice)
        answer = await ask(source, account=account)
        assert answer.outcome == outcome, answer
        assert answer.reason.startswith(reason), answer
        assert (answer.records, server.requests[-1].vice) == ((), vice.kind.value)
        assert account.blocked == ([float(vice.retry_after or 60)] if outcome == "limited" else [])
        server.set_vice(source)
    assert server.requests[-1].status == 0
    assert server.count_requests("okx") == server.find_busiest("okx", 60.0) == 1
    server.set_vice("okx", Vice(ViceKind.BROKEN, until_ms=epoch_ms(NOW) + 60_000))
    assert (await ask("okx")).reason == "500"
    clock.now_ms += 60_000
    assert (await ask("okx")).outcome is AnswerStatus.OK
    assert server.requests[-1].at_ms == clock.now_ms


async def test_nonsense_and_hanging_clients_end_with_their_connections_and_nothing_else(clock):
    loop, errors = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _loop, context: errors.append(context))
    server = MarketServer(MARKET, clock)
    async with httpx.AsyncClient(trust_env=False) as client:
        async with server:
            for nonsense in (
                b"\x00" * 100_000,
                b"GET\r\n\r\n",
                b"GET / HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(nonsense)
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), 20) == b""
                writer.close()
            for path in ("yahoo/v8/finance/chart/SPY", "coinbase/x", "massive/v2", "nobody/x", "kraken", ""):
                answer = await client.get(f"http://127.0.0.1:{server.port}/{path}")
                assert 200 <= answer.status_code < 500
            server.set_vice("okx", ViceKind.HANG)
            hanging = asyncio.create_task(client.get(server.url("okx")))
            await auntil(lambda: server.count_requests("okx") == 1)
        with pytest.raises(httpx.RemoteProtocolError):
            await hanging
    assert (server.connected, errors) == (0, [])


def test_what_a_killed_client_sent_is_a_request_once_all_is_read(monkeypatch):
    """It is in the buffers of the server while that makes another's answer."""
    is_making, may_go_on = threading.Event(), threading.Event()

    def answer_late(_shape, _view, _asked):
        is_making.set()
        assert may_go_on.wait(30)
        return Answer(200, b"[]")

    monkeypatch.setattr(Shape, "answer", answer_late)
    with run_market(MARKET, ManualClock(epoch_ms(NOW))) as site:
        first = socket.create_connection(("127.0.0.1", site.port))
        first.sendall(b"GET /okx/api/v5/market/ticker?instId=BTC-USDT HTTP/1.1\r\n\r\n")
        assert is_making.wait(30)
        second = socket.create_connection(("127.0.0.1", site.port))
        second.sendall(b"GET /okx/api/v5/market/ticker?instId=ETH-USDT HTTP/1.1\r\n\r\n")
        for client in (first, second):
            client.close()
        assert site.requests == []
        threading.Timer(0.1, may_go_on.set).start()
        site.read_all()
        assert [each.query["instId"] for each in site.requests] == ["BTC-USDT", "ETH-USDT"]
