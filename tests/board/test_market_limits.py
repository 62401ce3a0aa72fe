"""What the board says of a limit, held against the script that keeps it, on a real server."""

import time

import pytest

from marketswarm.bus import Bus
from marketswarm.keys import source_account_key
from services.board.market.limits import LimitStore
from services.sources.access.rate_limiter import TAKE_REQUEST

LIMITS = [60, 7, 3600, 9]


@pytest.fixture
async def market_bus(server):
    server.cmd("FLUSHALL")
    bus = Bus("market-redis", server.url)
    yield bus
    await bus.aclose()


async def take_request(bus):
    """Return the seconds to wait for a request; 0 if it was taken."""
    key = source_account_key("alpaca")
    await bus.ask(bus.client.hset(key, "limits", "60:7 3600:9"))
    return int(await bus.script(TAKE_REQUEST, [key], ["take", 0, *LIMITS])) / 1000


async def test_what_is_left_is_what_the_sources_may_still_take(market_bus):
    for taken in range(8):
        (found,) = (await LimitStore().read(market_bus, ["alpaca"]))["alpaca"] if taken else [None]
        if found is not None:
            assert [one.left for one in found.windows] == [7 - taken, 9 - taken]
            assert (found.again_at is None) is (taken < 7)
        wait_sec = await take_request(market_bus)
        assert (wait_sec == 0) is (taken < 7)
    assert found.again_at - time.time() == pytest.approx(wait_sec, abs=2.5)
    assert 57 < wait_sec < 64, "a slot longer than the window"
