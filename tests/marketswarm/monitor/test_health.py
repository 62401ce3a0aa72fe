"""`health:` keys are written anew in time, on a clock that the test moves."""

from types import SimpleNamespace

import orjson
import pytest

from marketswarm.monitor.health import HealthKeys
from marketswarm.monitor.leadership import UNFENCED
from marketswarm.testing import MemoryBus
from support.simulation.manual_detector import Hand, watch

TIMEOUT_SEC = 30.0
LIFE_SEC = 90


@pytest.fixture
def hand(monkeypatch):
    hand = Hand(watch("alive", 10, TIMEOUT_SEC), watch("dead", 10, TIMEOUT_SEC))
    clock = SimpleNamespace(monotonic=lambda: hand.now.mono, time=lambda: hand.now.wall)
    monkeypatch.setattr("marketswarm.monitor.health.time", clock)
    return hand


@pytest.fixture
async def bus():
    bus = MemoryBus()
    yield bus
    await bus.aclose()


async def test_an_ok_gets_its_current_age_at_a_third_of_its_life_and_a_miss_stays_as_it_was(hand, bus):
    hand.beat("dead")
    hand.beating(TIMEOUT_SEC + 5, 5, "alive")
    keys = HealthKeys(hand.detector, kind="heartbeat_ok", by="healer")
    last = {verdict.svc: verdict for verdict in hand.verdicts}
    assert {svc: verdict.state for svc, verdict in last.items()} == {"alive": "up", "dead": "down"}
    for verdict in last.values():
        keys.note_published(verdict, b"the miss")

    async def refresh() -> tuple[bytes | None, bytes | None]:
        assert await keys.refresh(bus, "healer:lease", UNFENCED)
        return await bus.client.get("health:alive"), await bus.client.get("health:dead")

    hand.beating(0.79 * LIFE_SEC / 3, 5, "alive")
    assert await refresh() == (None, None), "what was published is not old yet"
    hand.beating(0.22 * LIFE_SEC / 3, 5, "alive")
    ok, miss = await refresh()
    assert miss == b"the miss"
    shown = orjson.loads(ok)
    assert (shown["type"], shown["svc"], shown["by"]) == ("heartbeat_ok", "alive", "healer")
    assert 0 <= shown["age_sec"] <= 5
    assert shown["ts"] == pytest.approx(hand.now.wall)
    for svc in ("alive", "dead"):
        assert LIFE_SEC - 30 < await bus.client.ttl(f"health:{svc}") <= LIFE_SEC

    await bus.client.delete("health:alive", "health:dead")
    hand.beating(0.79 * LIFE_SEC / 3, 5, "alive")
    assert await refresh() == (None, None)
    hand.beating(0.22 * LIFE_SEC / 3, 5, "alive")
    assert await refresh() == (await bus.client.get("health:alive"), b"the miss")
    assert await bus.client.get("health:alive")
