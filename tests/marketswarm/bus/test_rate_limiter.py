"""What a source allows, on a real bus: no two processes overdraw it together."""

import asyncio
import time

import pytest

from marketswarm.bus import Bus
from marketswarm.bus.rate_limiter import SHORTEST_BLOCK_SEC, SharedRateLimiter, account_key
from marketswarm.keys import source_account_key
from support.waiting import auntil

KEY = source_account_key("kraken")
ONE, TWO = "the-secret", "another-secret"


@pytest.fixture
async def limiter(bus):
    return SharedRateLimiter(bus, KEY)


async def test_no_more_requests_pass_than_the_narrowest_limit_allows(limiter, server):
    taken = [await limiter.take(None, [(60, 3), (3600, 100)]) for _ in range(5)]
    assert [wait_sec > 0 for wait_sec in taken] == [False] * 3 + [True] * 2
    # a window is kept in twenty slots: it is over a slot after its length
    assert 0 < taken[3] <= 63
    assert 0 < server.cmd("PTTL", KEY) <= 7_200_000


async def test_an_account_says_its_limits_and_that_of_the_source_names_those_of_its_secrets(limiter, bus):
    await limiter.take(ONE, [(60, 3), (3600, 100)])
    await limiter.block(TWO, 30, [(60, 5)])
    owner = await bus.ask(bus.client.hgetall(KEY))
    accounts = [account_key(KEY, secret) for secret in (ONE, TWO)]
    assert sorted(owner) == sorted(f"key:{each.rpartition(':')[2]}".encode() for each in accounts)
    limits = [await bus.ask(bus.client.hget(each, "limits")) for each in accounts]
    assert limits == [b"60:3 3600:100", b"60:5"]
    await limiter.take(None, [(1, 2)])  # as before a key was set
    assert await bus.ask(bus.client.hget(KEY, "limits")) == b"1:2"


@pytest.mark.usefixtures("bus")
async def test_processes_do_not_overdraw_together(server):
    buses = [Bus("market-redis", server.url, within_sec=60) for _ in range(5)]  # two hundred at once
    try:
        taken = await asyncio.gather(
            *(SharedRateLimiter(each, KEY).take(None, [(3600, 50)]) for each in buses for _ in range(40))
        )
    finally:
        await asyncio.gather(*(each.aclose() for each in buses))
    assert taken.count(0) == 50


async def test_a_window_that_is_over_lets_requests_pass_again_and_no_stretch_of_it_has_more(limiter):
    granted = []

    async def take():
        begun = time.time()
        if await limiter.take(None, [(1, 5)]) == 0:
            granted.append((begun, time.time()))
        return len(granted) >= 15

    await auntil(take)
    for (begun, _), (_, ended) in zip(granted, granted[5:], strict=False):
        assert ended - begun >= 1, "six requests within a second"


async def test_the_wait_that_is_said_is_enough(limiter):
    windows = [(3, 1)]
    assert await limiter.take(None, windows) == 0
    wait_sec = await limiter.take(None, windows)
    assert 0 < wait_sec <= 3.2
    await asyncio.sleep(wait_sec)  # the clock is the server's
    assert await limiter.take(None, windows) == 0


async def test_each_secret_has_an_account_of_its_own_and_is_not_on_the_bus(limiter, server):
    assert await limiter.take(ONE, [(3600, 1)]) == 0
    assert await limiter.take(ONE, [(3600, 1)]) > 0
    assert await limiter.take(TWO, [(3600, 1)]) == 0
    keys = server.cmd("KEYS", "*")
    assert set(keys) == {KEY, *(account_key(KEY, secret) for secret in (ONE, TWO))}
    assert not any(word in key for key in keys for word in (ONE, TWO))


async def test_a_source_that_asks_for_a_pause_gets_it_from_all_and_the_longer_one_counts(limiter, server):
    await limiter.block(None, 30.0, [(60, 100)])
    await limiter.block(None, 5.0, [(60, 100)])
    other = Bus("market-redis", server.url)
    try:
        wait_sec = await SharedRateLimiter(other, KEY).take(None, [(60, 100)])
    finally:
        await other.aclose()
    assert 25 < wait_sec <= 30


async def test_a_source_without_limits_is_asked_at_any_time_but_in_a_pause_that_it_asked_for(limiter):
    assert all([await limiter.take(None, []) == 0 for _ in range(20)])
    await limiter.block(None, 30.0, [])
    assert await limiter.take(None, []) > 0


async def test_counts_of_a_clock_that_was_set_back_stop_nobody(limiter, server):
    ahead = int(time.time() + 86_400) // 3  # slots of the 60 s window, of a day ahead
    server.cmd("HSET", KEY, f"60:{ahead}", "100")
    assert await limiter.take(None, [(60, 1)]) == 0


@pytest.mark.parametrize("ahead_sec", [3600, 365 * 86_400])
async def test_a_pause_that_a_source_asked_for_of_a_clock_that_was_ahead_is_no_longer_than_it_was_to_be(
    limiter, server, ahead_sec
):
    await limiter.block(None, 1.5, [(60, 100)])
    ends_ms = int(server.cmd("HGET", KEY, "blocked")) + 1000 * ahead_sec
    server.cmd("HSET", KEY, "blocked", str(ends_ms), "block_length", f"{ends_ms}:1500")
    wait_sec = await limiter.take(None, [(60, 100)])
    assert 0 < wait_sec <= 1.5
    assert 0 < server.cmd("PTTL", KEY) <= 3_600_000

    async def is_over():
        return await limiter.take(None, [(60, 100)]) == 0

    await auntil(is_over)


async def test_a_pause_of_a_process_of_an_older_release_is_a_day_at_most_and_ends(limiter, server):
    await limiter.block(None, 1.5, [(60, 100)])
    ends_ms = int(server.cmd("HGET", KEY, "blocked")) + 365 * 86_400_000
    server.cmd("HSET", KEY, "blocked", str(ends_ms))  # it writes no length, and leaves that of another pause
    waits = [await limiter.take(None, []) for _ in range(2)]
    assert waits[0] <= 86_400
    await asyncio.sleep(0.01)  # the clock is the server's
    assert await limiter.take(None, []) < waits[1] <= waits[0]
    await limiter.block(None, 100_000.0, [])
    assert await limiter.take(None, []) <= 86_400


async def test_a_pause_of_no_time_is_a_pause_and_takes_no_request(limiter, server):
    """A server may say `Retry-After: 0`, or a date that is over."""
    await limiter.block(None, 0.0, [(60, 1)])
    wait_sec = await limiter.take(None, [(60, 1)])
    assert 0 < wait_sec <= SHORTEST_BLOCK_SEC
    await asyncio.sleep(wait_sec + 0.01)  # the clock is the server's
    assert await limiter.take(None, [(60, 1)]) == 0


async def test_what_is_left_is_said_for_each_window_and_taken_by_nobody(limiter):
    windows = [(60, 5), (86_400, 8)]
    for taken in range(3):
        assert await limiter.count_left(ONE, windows) == [5 - taken, 8 - taken]
        await limiter.take(ONE, windows)
    await limiter.block(ONE, 30.0, windows)
    assert await limiter.count_left(ONE, windows) == [0, 0]
    assert await limiter.count_left(ONE, windows, 29.0) == [0, 0]
    assert await limiter.count_left(ONE, windows, 30.0) == [2, 5]  # a pause that is waited for
    assert await limiter.count_left(TWO, windows) == [5, 8]
    assert await limiter.count_left(TWO, []) == []
