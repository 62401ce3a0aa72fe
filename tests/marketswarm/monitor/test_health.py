"""`health:` keys are written anew in time, on a clock that the test moves."""

from collections import Counter
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.bus import BusError
from marketswarm.event import Event, encode_event, make_event_id
from marketswarm.monitor.health import BATCH_SIZE, LONGEST_PERIOD_SEC, HealthKeys
from marketswarm.monitor.leadership import NOT_THE_LEADER, UNFENCED
from marketswarm.monitor.roster_entry import RosterEntry
from marketswarm.testing import MemoryBus
from support.simulation.manual_detector import Hand, watch

TIMEOUT_SEC = 30.0
LIFE_SEC = 90
PERIOD_SEC = LIFE_SEC // 2


class NotedBus:
    """A bus that notes which keys it was told to write when, with their values; it can fail and refuse."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self.is_failing = self.is_led_by_another = False
        self.written: list[tuple[float, str, bytes, int]] = []
        self.calls: list[int] = []

    async def script(self, _, keys, args):
        if self.is_failing:
            raise BusError("bus", "timeout")
        if self.is_led_by_another:
            return NOT_THE_LEADER
        values = args[len(UNFENCED) :]
        self.calls.append(len(keys) - 1)
        for key, event, life_sec in zip(keys[1:], values[::2], values[1::2], strict=True):
            self.written.append((self._hand.elapsed, key.removeprefix("health:"), event, life_sec))
        return len(keys) - 1

    def take(self) -> list[tuple[float, str, bytes, int]]:
        taken, self.written = self.written, []
        return taken


class Scene:
    """A detector moved by hand, its health keys, and the bus that they are written to."""

    def __init__(self, monkeypatch, *watches) -> None:
        self.hand = hand = Hand(*watches)
        clock = SimpleNamespace(monotonic=lambda: hand.now.mono, time=lambda: hand.now.wall)
        monkeypatch.setattr("marketswarm.monitor.health.time", clock)
        self.keys = HealthKeys(hand.detector, kind="heartbeat_ok", by="healer")
        self.bus = NotedBus(hand)

    def publish(self) -> None:
        """Each verdict so far is published; a miss as `the miss`."""
        for verdict in self.hand.verdicts:
            self.keys.note_published(verdict, b"the miss")
        self.hand.told.clear()

    async def refresh(self) -> bool:
        return await self.keys.refresh(self.bus, "healer:lease", UNFENCED)

    async def pass_time(self, sec: int) -> list[tuple[float, str, bytes, int]]:
        """Refresh each second; return what was written."""
        for _ in range(sec):
            self.hand.elapsed += 1
            assert await self.refresh()
        return self.bus.take()


def beating(monkeypatch, *watches) -> Scene:
    """Services that beat once and are published as up."""
    scene = Scene(monkeypatch, *watches)
    for each in watches:
        scene.hand.beat(each.svc)
    scene.publish()
    return scene


async def test_an_ok_gets_its_current_age_within_half_of_its_life_and_a_miss_stays_as_it_was(monkeypatch):
    scene = Scene(monkeypatch, watch("alive", 10, TIMEOUT_SEC), watch("dead", 10, TIMEOUT_SEC))
    scene.hand.beat("dead")
    scene.hand.beating(TIMEOUT_SEC + 5, 5, "alive")
    assert {verdict.svc: verdict.state for verdict in scene.hand.verdicts} == {"alive": "up", "dead": "down"}
    scene.publish()
    assert await scene.refresh()
    assert scene.bus.take() == [], "what was published is not old yet"
    for _ in range(3):
        written = await scene.pass_time(PERIOD_SEC)
        assert sorted(svc for _, svc, _, _ in written) == ["alive", "dead"]
        events = {svc: event for _, svc, event, _ in written}
        assert events["dead"] == b"the miss"
        assert {life_sec for *_, life_sec in written} == {LIFE_SEC}
        (at,) = (at for at, svc, *_ in written if svc == "alive")
        heard = scene.hand.detector.services["alive"].last_beat
        ok = orjson.loads(events["alive"])
        assert ok["age_sec"] == pytest.approx(at - (heard.mono - scene.hand.now.mono + scene.hand.elapsed))
        assert ok["since"] == pytest.approx(heard.wall)


@pytest.mark.parametrize(
    ("svc", "ago_sec", "up_sec"), [("a", 0.0, 0.0), ("a.b_c-D", 7.1234, 12.0), ("z" * 63, 29.9996, 1e6)]
)
async def test_an_ok_has_the_fields_types_and_order_of_an_event(monkeypatch, svc, ago_sec, up_sec):
    scene = Scene(monkeypatch, watch(svc, 10, TIMEOUT_SEC))
    scene.hand.beat(svc)
    (verdict,) = scene.hand.verdicts
    scene.publish()
    scene.hand.elapsed += up_sec
    scene.hand.beat(svc)
    heard = scene.hand.detector.services[svc].last_beat
    scene.hand.elapsed += ago_sec
    scene.keys.refresh_soon(svc)
    assert await scene.refresh()
    found = orjson.loads(scene.bus.take()[-1][2])
    event_id = make_event_id("heartbeat_ok", svc, verdict.ts)
    now = scene.hand.now.wall
    event = Event("heartbeat_ok", svc, now, event_id, "healer", age_sec=ago_sec, since=heard.wall)
    wanted = orjson.loads(encode_event(event))
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in wanted.items()
    }
    assert list(found) == list(wanted)
    assert found == wanted | {"age_sec": pytest.approx(wanted["age_sec"], abs=0.0011)}


async def test_the_keys_are_on_the_bus_for_their_life(monkeypatch):
    scene = beating(monkeypatch, watch("alive", 10, TIMEOUT_SEC))
    scene.bus = MemoryBus()
    scene.keys.refresh_soon("alive")
    assert await scene.refresh()
    assert orjson.loads(await scene.bus.client.get("health:alive"))["type"] == "heartbeat_ok"
    assert LIFE_SEC - 5 < await scene.bus.client.ttl("health:alive") <= LIFE_SEC
    await scene.bus.aclose()


async def test_keys_that_were_published_at_once_are_written_evenly_and_in_portions(monkeypatch):
    names = [f"svc{n}" for n in range(6 * BATCH_SIZE)]
    scene = beating(monkeypatch, *(watch(svc, 10, TIMEOUT_SEC) for svc in names))
    for _ in range(2):
        written = await scene.pass_time(PERIOD_SEC)
        assert sorted(svc for _, svc, *_ in written) == sorted(names)
        per_second = Counter(at for at, *_ in written)
        assert max(per_second.values()) < 2 * len(names) / PERIOD_SEC
    scene.bus.calls.clear()
    scene.hand.elapsed += 10 * PERIOD_SEC  # this process did not run
    assert await scene.refresh()
    assert sum(scene.bus.calls) == len(names)
    assert max(scene.bus.calls) == BATCH_SIZE
    scene.bus.take()
    per_second = Counter(at for at, *_ in await scene.pass_time(PERIOD_SEC))
    assert max(per_second.values()) < 2 * len(names) / PERIOD_SEC


async def test_a_failed_write_loses_no_key(monkeypatch):
    names = [f"svc{n}" for n in range(3 * BATCH_SIZE)]
    scene = beating(monkeypatch, *(watch(svc, 10, TIMEOUT_SEC) for svc in names))
    scene.hand.elapsed += PERIOD_SEC
    scene.bus.is_failing = True
    for _ in range(3):
        scene.hand.elapsed += PERIOD_SEC
        with pytest.raises(BusError):
            await scene.refresh()
        assert scene.keys.has_unwritten
    scene.bus.is_failing = False
    assert await scene.refresh()
    assert not scene.keys.has_unwritten
    assert sorted(svc for _, svc, *_ in scene.bus.take()) == sorted(names), "each of them once"


async def test_a_key_that_another_leader_refuses_stays_due(monkeypatch):
    scene = beating(monkeypatch, watch("alive", 10, TIMEOUT_SEC))
    scene.hand.elapsed += PERIOD_SEC
    scene.bus.is_led_by_another = True
    assert not await scene.refresh()
    scene.bus.is_led_by_another = False
    assert await scene.refresh()
    assert [svc for _, svc, *_ in scene.bus.take()] == ["alive"]


async def test_a_restored_key_is_written_at_once_and_then_in_its_turn(monkeypatch):
    scene = beating(monkeypatch, watch("alive", 10, TIMEOUT_SEC), watch("dead", 10, TIMEOUT_SEC))
    scene.hand.run(2 * TIMEOUT_SEC)
    scene.keys.restore("alive", RosterEntry("up", scene.hand.now.wall))
    scene.keys.restore("dead", RosterEntry("down", scene.hand.now.wall, event=b"an old miss"), replace=True)
    for _ in range(2):
        assert await scene.refresh()
        # the detector has missed both, and only the one's miss is known
        assert [(svc, event) for _, svc, event, _ in scene.bus.take()] == [("dead", b"an old miss")]
        written = await scene.pass_time(2 * PERIOD_SEC)
        assert [svc for _, svc, *_ in written] == ["dead", "dead"]
        scene.keys.restore("dead", RosterEntry("up", 1.0))  # without `replace`: the known one counts
        assert not await scene.pass_time(0)


async def test_a_service_that_is_watched_again_is_written_once_in_a_turn(monkeypatch):
    ours = watch("alive", 10, TIMEOUT_SEC)
    scene = beating(monkeypatch, ours, watch("other", 10, TIMEOUT_SEC))
    for _ in range(3):
        scene.hand.rewatch(watch("other", 10, TIMEOUT_SEC))
        scene.publish()
        scene.hand.rewatch(ours, watch("other", 10, TIMEOUT_SEC))
        scene.hand.beat("alive")
        scene.publish()
    written = await scene.pass_time(PERIOD_SEC)
    assert sorted(svc for _, svc, *_ in written) == ["alive", "other"]
    scene.hand.rewatch(watch("other", 10, TIMEOUT_SEC))
    scene.publish()
    assert {svc for _, svc, *_ in await scene.pass_time(2 * PERIOD_SEC)} == {"other"}
    scene.keys.refresh_soon("alive")
    assert [svc for _, svc, *_ in await scene.pass_time(PERIOD_SEC)] == ["other"]


async def test_a_key_that_is_due_while_a_reseed_changes_its_service_is_written_and_gets_turns(monkeypatch):
    scene = beating(monkeypatch, watch("alive", 10, TIMEOUT_SEC))
    scene.hand.elapsed += PERIOD_SEC
    scene.bus.is_failing = True
    with pytest.raises(BusError):
        await scene.refresh()
    scene.hand.rewatch(watch("alive", 10, TIMEOUT_SEC + 1))
    scene.bus.is_failing = False
    assert await scene.refresh()
    assert [svc for _, svc, *_ in scene.bus.take()] == ["alive"]
    for _ in range(2):
        written = await scene.pass_time(PERIOD_SEC + 1)
        assert {(svc, life_sec) for _, svc, _, life_sec in written} == {("alive", LIFE_SEC + 3)}


async def test_no_key_expires_when_a_reseed_shortens_its_life(monkeypatch):
    scene = beating(monkeypatch, watch("monthly", 10, 86_400 * 31))
    expires_at = scene.hand.elapsed + 3 * 86_400 * 31
    at, *_ = (await scene.pass_time(LONGEST_PERIOD_SEC))[-1]
    assert at <= expires_at
    scene.hand.rewatch(watch("monthly", 1, 3))
    scene.hand.beat("monthly", i=7)
    scene.keys.note_published(
        scene.hand.detector.declare_down(scene.hand.detector.services["monthly"], scene.hand.now), b"the miss"
    )
    expires_at = scene.hand.elapsed + 60
    for at, *_, life_sec in await scene.pass_time(10 * LONGEST_PERIOD_SEC):
        assert at <= expires_at
        assert life_sec == 60
        expires_at = at + life_sec
