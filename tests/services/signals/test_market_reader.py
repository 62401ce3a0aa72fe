"""Bars are taken when they are known, whether a tick is decided or not."""

from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from services.market.entries import encode_entry
from services.market.records import MINUTE_MS, AssetClass, Bar, Provenance
from services.signals import market_reader as module
from services.signals.market_reader import MarketReader
from services.signals.metrics import SignalsMetrics
from services.signals.settings import SignalsSettings

START = 1_767_571_200_000
VOTERS = [
    {"voter": "trend", "rule": "trend", "weight": 1},
    {"voter": "volume", "rule": "volume", "weight": 1},
]


class Scene:
    """A reader on a bus in memory, of a process that decides no tick; its clock is `now_ms`."""

    def __init__(self, monkeypatch):
        self.bus, self.now_ms, self.logged = MemoryBus("market-redis"), START, []
        truth = parse_truth(b'{"services": {"signals": {}}}').truth
        me = SimpleNamespace(
            truth=truth,
            section=truth.services["signals"],
            bus=lambda _name: self.bus,
            log=SimpleNamespace(warning=lambda event, **fields: self.logged.append((event, fields))),
            waiting=self.wait,
        )
        settings = SignalsSettings.model_validate({"endpoints": VOTERS, "settings": {"symbols": ["SPY"]}})
        clock = SimpleNamespace(time_ns=lambda: self.now_ms * 1_000_000)
        monkeypatch.setattr(module, "time", clock)
        self.reader = MarketReader(me, lambda: settings, SignalsMetrics())

    @asynccontextmanager
    async def wait(self, _limit_sec):
        yield

    async def read(self, number, now_ms):
        """Read the bar of a minute, which comes at `now_ms`."""
        close = 100.0 + number
        bar = Bar("SPY", "1m", START + number * MINUTE_MS, close, close, close, close, volume=1.0)
        fields = encode_entry(bar, AssetClass.STOCKS, Provenance("one")) | {"final": "1"}
        await self.bus.client.xadd("bars:bars", fields)
        self.now_ms = now_ms
        await self.reader.read_next()

    @property
    def closes(self):
        return self.reader.market.see("SPY").close.tolist()


@pytest.fixture
def scene(monkeypatch):
    return Scene(monkeypatch)


async def test_a_process_that_stands_by_with_a_slow_clock_has_all_bars_up_to_that_clock(scene):
    for number in range(200):
        await scene.read(number, START + (number + 1) * MINUTE_MS - 1500)
        assert scene.closes == [100.0 + each for each in range(number)][-64:]
    assert scene.logged == []
    assert scene.reader.is_complete


async def test_a_bar_that_waits_counts_from_its_end_on_without_another_one_of_its_symbol(scene):
    await scene.read(0, START + MINUTE_MS - 1)
    assert scene.closes == []
    scene.now_ms = START + MINUTE_MS
    await scene.reader.read_next()
    assert scene.closes == [100.0]
