"""`health:` keys are written anew in time, on a clock that the test moves."""

from math import inf
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.bus import BusError
from marketswarm.detector import TimingWheel
from marketswarm.monitor.health import BATCH_SIZE, HealthKeys
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


class FailingBus:
    """A bus that refuses the first write, and notes how many keys each other one writes."""

    def __init__(self) -> None:
        self.is_failing = True
        self.written: list[int] = []

    async def script(self, _, keys, __):
        if self.is_failing:
            raise BusError("bus", "timeout")
        self.written.append(len(keys) - 1)


async def test_many_keys_that_are_due_at_once_are_taken_in_portions_and_a_failed_write_delays_one(
    monkeypatch,
):
    names = [f"svc{n}" for n in range(5 * BATCH_SIZE)]
    hand = Hand(*(watch(svc, 10, TIMEOUT_SEC) for svc in names))
    clock = SimpleNamespace(monotonic=lambda: hand.now.mono, time=lambda: hand.now.wall)
    monkeypatch.setattr("marketswarm.monitor.health.time", clock)
    for svc in names:
        hand.beat(svc)
    keys, bus = HealthKeys(hand.detector, kind="heartbeat_ok", by="healer"), FailingBus()
    for verdict in hand.verdicts:
        keys.note_published(verdict, b"")
    hand.elapsed += LIFE_SEC / 3 + 1
    looks = []
    when = TimingWheel.pop_due
    monkeypatch.setattr(
        TimingWheel, "pop_due", lambda wheel, *args: looks.append((*args, inf)[1]) or when(wheel, *args)
    )
    with pytest.raises(BusError):
        await keys.refresh(bus, "healer:lease", UNFENCED)
    assert keys.has_unwritten
    bus.is_failing = False
    assert await keys.refresh(bus, "healer:lease", UNFENCED)
    assert sum(bus.written) == 4 * BATCH_SIZE
    hand.elapsed += 2
    assert await keys.refresh(bus, "healer:lease", UNFENCED)
    assert sum(bus.written) == len(names)
    assert max(looks) <= BATCH_SIZE
    assert max(bus.written) <= BATCH_SIZE
