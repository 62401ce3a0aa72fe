"""To have sources asked again: which breakers are closed, and that a pause of an operator's stays."""

import time

import orjson
import pytest

from marketswarm.agent.lease import clock
from marketswarm.bus.circuit_breaker import DEFAULT_LIMITS, BreakerState, CircuitBreaker
from marketswarm.keys import MARKET_SOURCES, last_beat_key, source_breaker_key
from marketswarm.testing import MemoryBuses
from marketswarm.truth import parse_truth
from services.medic.remedies import REMEDIES, OrderResult, Remedy, RemedyContext, RemedyOrder

ORDER = RemedyOrder("sources", Remedy.RESUME_SOURCES, "b1")


@pytest.fixture
async def buses():
    opened = MemoryBuses()
    found = {name: opened(name) for name in ("system-redis", "market-redis")}
    beat = {"svc": "sources", "i": 1, "ts": time.time(), "boot": "b1", "status": "degraded"}
    await found["system-redis"].client.set(last_beat_key("sources"), orjson.dumps(beat))
    return found


@pytest.fixture
def carry_out(buses):
    truth = parse_truth(orjson.dumps({"services": {"sources": {}, "feed": {}}})).truth

    def carry_out(until=None):
        return REMEDIES[ORDER.remedy].carry_out(ORDER, RemedyContext(truth, buses.__getitem__, until=until))

    return carry_out


async def fail(bus, name):
    await bus.client.hset(MARKET_SOURCES, name, "{}")
    for _ in range(DEFAULT_LIMITS.open_after):
        await CircuitBreaker(bus, source_breaker_key(name)).record_failure()


async def test_open_breakers_are_closed_and_a_source_that_an_operator_paused_stays_paused(buses, carry_out):
    bus = buses["market-redis"]
    for name in ("yahoo", "stooq", "held"):
        await fail(bus, name)
    await CircuitBreaker(bus, source_breaker_key("held")).pause(None)
    await bus.client.hset(MARKET_SOURCES, "well", "{}")
    await bus.client.hset(MARKET_SOURCES, "../junk:*", "{}")
    assert await carry_out() == (OrderResult.DONE, "asked again: stooq, yahoo")
    states = {
        name: (await CircuitBreaker(bus, source_breaker_key(name)).read()).state
        for name in ("yahoo", "stooq", "held")
    }
    assert states == {
        "yahoo": BreakerState.CLOSED,
        "stooq": BreakerState.CLOSED,
        "held": BreakerState.PAUSED,
    }
    assert await carry_out() == (OrderResult.REFUSED, "no breaker is open")


async def test_a_breaker_that_can_not_be_read_is_left_alone(buses, carry_out):
    bus = buses["market-redis"]
    for name, value in (("a", "1e9"), ("b", "junk"), ("c", "9" * 99), ("d", b"\xff")):
        await bus.client.hset(MARKET_SOURCES, name, "{}")
        await bus.client.hset(source_breaker_key(name), "open_ms", value)
    await bus.client.hset(MARKET_SOURCES, "e", "{}")
    await bus.client.set(source_breaker_key("e"), "a string")
    assert await carry_out() == (OrderResult.REFUSED, "no breaker is open")


async def test_a_bus_refuses_what_a_medic_sends_that_stood_still_until_its_lease_had_ended(
    buses, carry_out, monkeypatch
):
    bus = buses["market-redis"]
    await fail(bus, "yahoo")
    monkeypatch.setattr("services.medic.remedies.leased_write.clock", lambda: clock() + 60)
    assert await carry_out(until=clock() + 50) == (OrderResult.REFUSED, "the request came too late")
    assert (await CircuitBreaker(bus, source_breaker_key("yahoo")).read()).state is BreakerState.OPEN
