"""The breaker of a source, on a real bus: all instances leave a source alone together that fails."""

import pytest

from marketswarm.bus.circuit_breaker import DEFAULT_LIMITS, BreakerLimits, BreakerState, CircuitBreaker
from marketswarm.keys import source_breaker_key
from support.waiting import auntil

KEY = source_breaker_key("kraken")


@pytest.fixture
async def breaker(bus):
    return CircuitBreaker(bus, KEY)


async def open_breaker(breaker):
    for _ in range(DEFAULT_LIMITS.open_after):
        await breaker.record_failure()


async def test_a_breaker_opens_after_failures_in_a_row_and_only_one_instance_tries(bus):
    limits = BreakerLimits(first_open_sec=2.0)
    breaker, other = (CircuitBreaker(bus, KEY, limits) for _ in range(2))
    assert [await breaker.record_failure() for _ in range(3)] == [
        BreakerState.CLOSED,
        BreakerState.CLOSED,
        BreakerState.OPEN,
    ]
    refused = await other.ask()
    assert (refused.refusal, 0 < refused.wait_sec <= 2.0) == ("breaker_open", True)
    readings = []

    async def is_tried():
        readings[:] = [await breaker.ask()]
        return readings[0].is_trial

    await auntil(is_tried)
    readings += [await breaker.ask() for _ in range(2)]
    assert [reading.is_trial for reading in readings] == [True, False, False]
    assert [reading.refusal for reading in readings] == ["", "breaker_open", "breaker_open"]
    assert 0 < readings[1].wait_sec <= limits.trial_sec
    await breaker.record_success()
    assert not any([(await other.ask()).refusal for _ in range(3)])


async def test_each_failed_trial_doubles_the_time_for_which_it_is_open_up_to_the_longest(bus, server):
    breaker = CircuitBreaker(bus, KEY, BreakerLimits(first_open_sec=100.0, longest_open_sec=350.0))
    await open_breaker(breaker)
    waits = []
    for _ in range(4):
        waits.append(round((await breaker.ask()).wait_sec / 50))
        await breaker.record_failure(is_trial=True)
    assert waits == [2, 4, 7, 7]
    # it outlives a restart of everybody, and is forgotten in the end
    assert 0 < server.cmd("PTTL", KEY) <= 86_400_000


async def test_requests_that_were_under_way_when_it_opened_do_not_open_it_for_longer(breaker):
    """Ten loads are let through, and all fail in one moment."""
    assert not any([(await breaker.ask()).refusal for _ in range(10)])
    states = [await breaker.record_failure() for _ in range(10)]
    assert states[DEFAULT_LIMITS.open_after - 1 :] == [BreakerState.OPEN] * 8
    assert (await breaker.ask()).wait_sec <= DEFAULT_LIMITS.first_open_sec


async def test_a_success_forgets_the_failures_before_it(breaker):
    for _ in range(4):
        assert [await breaker.record_failure() for _ in range(2)] == [BreakerState.CLOSED] * 2
        await breaker.record_success()


async def test_a_clock_that_was_ahead_and_was_set_back_keeps_it_open_no_longer(breaker, bus, server):
    breaker = CircuitBreaker(bus, KEY, BreakerLimits(first_open_sec=0.3))
    await open_breaker(breaker)
    server.cmd("HSET", KEY, "opened", str(int(server.cmd("HGET", KEY, "opened")) + 3_600_000))

    async def is_tried():
        return (await breaker.ask()).is_trial

    await auntil(is_tried)


async def test_a_clock_that_was_ahead_and_was_set_back_keeps_it_paused_no_longer(breaker, server):
    await breaker.pause(0.3)
    ends_ms = int(server.cmd("HGET", KEY, "paused")) + 3_600_000
    server.cmd("HSET", KEY, "paused", str(ends_ms), "pause_length", f"{ends_ms}:300")
    reading = await breaker.read()
    assert (reading.refusal, 0 < reading.wait_sec <= 0.3) == ("paused", True)

    async def is_over():
        return not (await breaker.read()).refusal

    await auntil(is_over)
    await breaker.pause(None)
    assert (await breaker.read()).wait_sec is None
    assert not server.cmd("HEXISTS", KEY, "pause_length")


async def test_an_operator_pauses_it_for_a_time_or_until_it_is_resumed(breaker, server):
    await breaker.pause(0.2)
    assert (await breaker.read()).refusal == "paused"

    async def is_over():
        return (await breaker.ask()).refusal == ""

    await auntil(is_over)
    await breaker.pause(None)
    await breaker.record_success()
    reading = await breaker.ask()
    assert (reading.refusal, reading.wait_sec) == ("paused", None)
    assert server.cmd("PTTL", KEY) == -1
    await breaker.resume()
    assert (await breaker.ask()).refusal == ""
