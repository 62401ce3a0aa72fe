"""What is committed of a symbol: all or nothing, and by one instance only."""

from contextlib import nullcontext

from marketswarm.keys import CHECKED_BARS, INDICATORS, MARKET_QUARANTINE, SOURCE_BARS
from marketswarm.testing import MemoryBus
from services.bars.outputs import Outputs
from services.bars.settings import BarsOptions
from services.bars.store import BarsStore, SymbolCommit

STREAMS = {name: name for name in (CHECKED_BARS, SOURCE_BARS, INDICATORS, MARKET_QUARANTINE)}


def commit_of(symbol: str, version: int, rev: str) -> SymbolCommit:
    outputs = Outputs(bars=[{"sym": symbol, "rev": rev}])
    return SymbolCommit(symbol, version, outputs, {"position": rev.encode()}, ["old"])


async def test_a_state_that_another_instance_replaced_meanwhile_is_left_as_it_is_and_nothing_is_published():
    bus = MemoryBus("market-redis")
    store = BarsStore(bus, STREAMS, lambda _sec: nullcontext())
    assert await store.commit([commit_of("A", 0, "1"), commit_of("B", 0, "1")], BarsOptions()) == []
    assert await store.commit([commit_of("A", 0, "2"), commit_of("B", 1, "2")], BarsOptions()) == ["A"]
    stored, _ = await store.load(["A", "B"])
    assert {symbol: (fields[b"version"], fields[b"position"]) for symbol, fields in stored.items()} == {
        "A": (b"1", b"1"),
        "B": (b"2", b"2"),
    }
    published = [(fields[b"sym"], fields[b"rev"]) for _, fields in await bus.client.xrange(CHECKED_BARS)]
    assert published == [(b"A", b"1"), (b"B", b"1"), (b"B", b"2")]
    await bus.aclose()


async def test_bars_of_one_source_are_published_on_a_stream_of_their_own():
    bus = MemoryBus("market-redis")
    store = BarsStore(bus, STREAMS, lambda _sec: nullcontext())
    assert await store.commit([commit_of("A", 0, "1"), commit_of("A@one", 0, "5")], BarsOptions()) == []
    published = {
        stream: [fields[b"sym"] for _, fields in await bus.client.xrange(stream)]
        for stream in (CHECKED_BARS, SOURCE_BARS)
    }
    assert published == {CHECKED_BARS: [b"A"], SOURCE_BARS: [b"A@one"]}
