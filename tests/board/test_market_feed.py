"""The feed of the market on a real server: behind a wire that breaks, and beside an archive that is late."""

import asyncio
import contextlib
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.bus import Bus
from marketswarm.keys import CHECKED_BARS
from marketswarm.market.entries import encode_entry
from marketswarm.market.records import AssetClass, Bar, Provenance
from marketswarm.truth import parse_truth
from services.board.market import feed as feeds
from services.board.market.feed import MarketFeed
from services.board.market.live import NEVER, LiveMarket
from services.board.market.updates import UpdateHub
from support.rig.tcp_proxy import TcpProxy
from support.waiting import auntil

POINT = {"bus": "market-redis", "key": CHECKED_BARS}
TRUTH = parse_truth(orjson.dumps({"services": {"bars": {"access_points": {"publish_to": [POINT]}}}})).truth


@pytest.fixture
def wire(server):
    server.cmd("FLUSHALL")
    with contextlib.closing(TcpProxy(server.port)) as wire:
        yield wire


@pytest.fixture
async def live(wire, monkeypatch):
    """What a feed behind the wire has read."""
    for name in ("BLOCK_SEC", "POLL_SEC", "PAUSE_SEC"):
        monkeypatch.setattr(feeds, name, 0.1)
    live, bus = LiveMarket(), Bus("market-redis", wire.url, within_sec=0.5)
    feed = MarketFeed(SimpleNamespace(truth=TRUTH, bus=lambda _name: bus), live, UpdateHub("b"))
    task = asyncio.create_task(feed.run())
    yield live
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await bus.aclose()


def add(server, *starts, ident="*"):
    """Add bars to the stream as the service bars does; return the time of the last one."""
    for start in starts:
        bar = Bar("SPY", "1m", 60_000 * start, 1.0, 1.0, 1.0, 1.0)
        fields = encode_entry(bar, AssetClass.STOCKS, Provenance("yahoo")) | {"final": "1", "rev": "0"}
        added = server.cmd("XADD", CHECKED_BARS, ident, *(word for each in fields.items() for word in each))
    return int(added.partition("-")[0]) / 1000


async def wait_bars(live, *starts):
    def is_there():
        chart = live.find_chart("SPY", "1m")
        return chart and [one.bar.start_ms // 60_000 for one in chart.list_bars()] == list(starts)

    await auntil(is_there, what=f"bars {starts}")


async def test_what_was_trimmed_off_while_the_bus_was_out_of_reach_is_unknown(server, wire, live):
    add(server, 1)
    await wait_bars(live, 1)
    await auntil(lambda: live.began_at == NEVER, what="it to be known that nothing else was ever on it")
    wire.swallow()
    add(server, 2, 3, 4, 5)
    kept_at = add(server, 6)
    add(server, 7, 8)
    server.cmd("XTRIM", CHECKED_BARS, "MAXLEN", "=", 3)
    wire.heal()
    await wait_bars(live, 1, 6, 7, 8)
    await auntil(lambda: live.began_at == kept_at, what="what was lost to be known")


async def test_the_place_of_the_archive_is_followed(server, live):
    first = add(server, 1)
    await wait_bars(live, 1)
    assert live.archived_at == NEVER, "nobody archives it"
    read = ("XREADGROUP", "GROUP", "archive", "me", "STREAMS", CHECKED_BARS, ">")
    server.cmd("XGROUP", "CREATE", CHECKED_BARS, "archive", "0")
    await auntil(lambda: live.archived_at == 0.0, what="the group to be seen")
    server.cmd(*read)
    await auntil(lambda: live.archived_at == first, what="the pending entry to be seen")
    await asyncio.sleep(0.002)  # the next ones are of another millisecond
    last = add(server, 2, 3)
    server.cmd(*read)
    server.cmd("XACK", CHECKED_BARS, "archive", server.cmd("XRANGE", CHECKED_BARS, "-", "+")[0][0])
    await auntil(lambda: live.archived_at > first, what="the first entry to be in the database")
    assert live.archived_at <= last, "what was read and not committed is not in the database"
    for ident, _ in server.cmd("XRANGE", CHECKED_BARS, "-", "+"):
        server.cmd("XACK", CHECKED_BARS, "archive", ident)
    await auntil(lambda: live.archived_at == last, what="the archive to have caught up")
