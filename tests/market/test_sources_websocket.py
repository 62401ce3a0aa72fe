"""Streaming klines from a real WebSocket server, which breaks off, falls silent and sends what it likes."""

import asyncio
import contextlib
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest

from marketswarm.net.retry import Backoff
from services.market.records import MINUTE_MS
from services.sources import websocket
from services.sources.websocket import Anomaly, KlineReader, stream_klines
from support.market_prices import Market, truth_bars
from support.market_server import MarketServer, PlayClock
from support.market_view import Vice, ViceKind
from support.rig import free_port
from support.waiting import auntil

SYMBOLS = {"BTCUSDT": "BTC/USDT", "ETHUSDT": "ETH/USDT"}


class KeptPauses(Backoff):
    """Keeps the pauses that it returned."""

    kept: ClassVar[list[float]] = []

    def pause_sec(self, failures, chance=0.5):
        self.kept.append(super().pause_sec(failures, chance))
        return self.kept[-1]


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses of all streams, which are short here."""
    KeptPauses.kept.clear()
    monkeypatch.setattr(websocket, "BACKOFF", KeptPauses(0.05, 0.2))
    return KeptPauses.kept


@pytest.fixture
def hasty(monkeypatch):
    """A stream that is given up soon when it brings nothing."""
    monkeypatch.setattr(websocket, "SILENT_SEC", 0.4)


class Client:
    """Streams, and keeps what it gets."""

    def __init__(self, url):
        self.url = url
        self.reader = KlineReader(SYMBOLS, Counter())
        self.bars, self.ends = [], []

    def note_end(self, reason, bars):
        self.ends.append((reason, bars))

    async def take(self, bars):
        self.bars += bars

    def finals(self):
        return [each.bar for each in self.bars if each.is_final]

    async def __aenter__(self):
        work = stream_klines(self.reader, self.take, self.note_end, url=self.url)
        self._task = asyncio.create_task(work)
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def wait_for_finals(self, count):
        await auntil(lambda: len(self.finals()) >= count, what=lambda: f"{self.ends} {self.reader.anomalies}")


@pytest.fixture
def clock():
    """Twenty hours ago, ten minutes a second: of a day that a client takes for plausible."""
    return PlayClock(round(1000 * time.time()) - 20 * 60 * MINUTE_MS, 600)


@pytest.fixture
async def server(clock):
    market = Market((datetime.now(UTC) - timedelta(days=2)).date(), 4)
    async with MarketServer(market, clock) as server:
        yield server


def true_bars(server, bars):
    """The minutes of the market at the times of these bars."""
    true = {(bar.symbol, bar.start_ms): bar for found in truth_bars(server.market).values() for bar in found}
    return [true[bar.symbol, bar.start_ms] for bar in bars]


def strip(bar):
    return (bar.symbol, bar.start_ms, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trades)


async def test_the_minutes_of_a_stream_are_those_of_the_market_and_none_is_left_out(server):
    async with Client(server.stream_url) as client:
        await client.wait_for_finals(20)
        finals = client.finals()
    assert [strip(bar) for bar in finals] == [strip(bar) for bar in true_bars(server, finals)]
    for symbol in SYMBOLS.values():
        starts = [bar.start_ms for bar in finals if bar.symbol == symbol]
        assert starts == list(range(starts[0], starts[0] + MINUTE_MS * len(starts), MINUTE_MS))
    early = [each.bar for each in client.bars if not each.is_final]
    assert early
    assert [bar.open for bar in early] == [bar.open for bar in true_bars(server, early)]
    assert client.reader.anomalies.total() == 0


async def test_a_stream_that_is_cut_is_opened_again(server, pauses):
    async with Client(server.stream_url) as client:
        await client.wait_for_finals(2)
        server.stream.cut()
        await auntil(lambda: client.ends)
        count = len(client.finals())
        await client.wait_for_finals(count + 4)
    [(reason, bars)] = client.ends
    assert reason == "broken"
    assert bars > 0
    assert pauses[0] <= 0.1  # the first pause: it was useful
    assert server.stream.connections == 2


async def test_pauses_grow_while_nobody_is_there_and_the_stream_begins_when_somebody_is(clock, pauses):
    port = free_port()
    market = Market((datetime.now(UTC) - timedelta(days=2)).date(), 4)
    async with Client(f"ws://127.0.0.1:{port}") as client:
        await auntil(lambda: len(client.ends) >= 4)
        assert {why for why, _ in client.ends} == {"refused"}
        assert pauses[0] <= 0.05 * 1.25 < 0.2 * 0.75 <= pauses[3]
        async with MarketServer(market, clock, stream_port=port):
            await client.wait_for_finals(2)


NIGHTLY = pytest.mark.nightly("the same test with a vice that has the same end")


@pytest.mark.parametrize(
    ("kind", "reason", "anomaly"),
    [
        pytest.param(ViceKind.HANG, "silent", None, marks=NIGHTLY),
        (ViceKind.HTML, "silent", Anomaly.MALFORMED),
        pytest.param(ViceKind.WRONG_JSON, "silent", Anomaly.MALFORMED, marks=NIGHTLY),
        pytest.param(ViceKind.OTHER_SHAPE, "silent", Anomaly.UNEXPECTED, marks=NIGHTLY),
        (ViceKind.HUGE, "too_big", None),
        pytest.param(ViceKind.DEEP, "too_big", None, marks=NIGHTLY),
        (ViceKind.LIMITED, "closed_1008", None),
        (ViceKind.CUT, "broken", None),
    ],
)
@pytest.mark.usefixtures("hasty")
async def test_a_stream_without_bars_is_given_up_and_tried_again(server, kind, reason, anomaly):
    server.set_vice("binance_stream", Vice(kind))
    async with Client(server.stream_url) as client:
        await auntil(lambda: len(client.ends) >= 2)
        assert {why for why, _ in client.ends} == {reason}
        assert client.bars == []
        assert anomaly is None or set(client.reader.anomalies) == {anomaly}
        server.set_vice("binance_stream")
        await client.wait_for_finals(2)


@pytest.mark.usefixtures("hasty")
async def test_a_minute_of_the_wrong_day_is_counted_and_not_taken(server):
    server.set_vice("binance_stream", Vice(ViceKind.WRONG_ZONE, hours=-12))
    async with Client(server.stream_url) as client:
        await auntil(lambda: client.ends and client.reader.anomalies)
    assert client.bars == []
    assert {why for why, _ in client.ends} == {"silent"}
    assert set(client.reader.anomalies) == {Anomaly.IMPLAUSIBLE}


async def test_whoever_takes_the_bars_ends_the_stream_by_raising(server):
    async def refuse(_bars):
        raise LookupError("the bus is away")

    with pytest.raises(LookupError, match="the bus is away"):
        await asyncio.wait_for(
            stream_klines(KlineReader(SYMBOLS, Counter()), refuse, print, url=server.stream_url), 20
        )
