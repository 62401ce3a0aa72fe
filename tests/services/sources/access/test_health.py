"""How sources are, over a bus in memory."""

from marketswarm.bus.circuit_breaker import DEFAULT_LIMITS, BreakerState, CircuitBreaker
from marketswarm.bus.rate_limiter import SharedRateLimiter
from marketswarm.keys import MARKET_SOURCES, source_account_key, source_breaker_key
from services.sources.access.health import SourceHealth, read_health
from services.sources.catalog.files import shipped_catalog
from services.sources.catalog.request import ApiKey
from services.sources.metrics import SourcesMetrics

KEYS = {"twelve_data": (ApiKey("one"), ApiKey("two"))}


async def test_states_breakers_and_what_is_left_of_limits_are_read_and_become_metrics(bus):
    states = {
        "kraken": b'{"state": "up"}',
        "twelve_data": b'{"state": "down"}',
        "okx": b"[",
        "ecb": b'{"state": 5}',
    }
    await bus.client.hset(MARKET_SOURCES, mapping=states)
    for _ in range(DEFAULT_LIMITS.open_after):
        await CircuitBreaker(bus, source_breaker_key("twelve_data")).record_failure()
    await CircuitBreaker(bus, source_breaker_key("okx")).pause(None)
    windows = shipped_catalog()["twelve_data"].limits.windows()
    await SharedRateLimiter(bus, source_account_key("twelve_data")).take(KEYS["twelve_data"][0].key, windows)
    names = ["kraken", "twelve_data", "okx", "ecb", "replay_a"]
    health = await read_health(bus, names, shipped_catalog(), KEYS)
    assert {name: each.is_up for name, each in health.items()} == {
        "kraken": True,
        "twelve_data": False,
        "okx": None,
        "ecb": None,
        "replay_a": None,
    }
    assert health["twelve_data"] == SourceHealth(False, BreakerState.OPEN, {60: 15, 86_400: 1599})
    assert health["okx"].breaker is BreakerState.PAUSED
    assert health["replay_a"] == SourceHealth(None, BreakerState.CLOSED)

    metrics = SourcesMetrics()
    metrics.health = health
    found = {each.name: dict(each.values) for each in metrics.collect() if each.labels}
    assert found["marketswarm_sources_source_up"] == {("kraken",): 1.0, ("twelve_data",): 0.0}
    assert found["marketswarm_sources_breaker_state"]["okx", "paused"] == 1.0
    assert found["marketswarm_sources_requests_left"]["twelve_data", "86400"] == 1599.0


async def test_of_no_source_nothing_is_read(bus):
    assert await read_health(bus, [], {}, {}) == {}
