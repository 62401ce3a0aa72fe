"""What a run restores of the one before it, and in which order."""

import time
from collections.abc import AsyncIterator

import orjson
import pytest

from marketswarm.beat import Beat, encode_beat
from marketswarm.bus.listener import read_clocks
from marketswarm.detector import SavedJob, Stage, State, Subject
from marketswarm.detector.verdict import make_alert
from marketswarm.monitor import Fence, Monitor, VerdictEncoder, state
from marketswarm.monitor.job_entry import encode_job_entry
from marketswarm.monitor.store import StateStore
from marketswarm.testing import MemoryBus
from marketswarm.truth import JobRule, Watch
from support.fixtures import closed
from support.scenes.monitor import MonitorOwner
from support.simulation.publishers import HeldLeadership, logged, recording_publisher

HOME = "system-redis"
TS = time.time() - 100.0


def watch(svc: str, job: JobRule | None = None) -> Watch:
    return Watch(svc, HOME, f"{svc}:heartbeat", 10.0, 30.0, job=job)


bus = closed(lambda: MemoryBus(HOME))


@pytest.fixture
def monitor(bus: MemoryBus) -> Monitor:
    encoder = VerdictEncoder(family="heartbeat", by="healer", channel="healer:alerts")
    return Monitor(MonitorOwner(bus), encoder, home=HOME)


async def save(bus: MemoryBus, svc: str, verdict: str = "up", **more: object) -> None:
    entry = {"verdict": verdict, "ts": TS, "since": TS - 10, "boot": "x", "i": 5, **more}
    await bus.client.hset("healer:roster", svc, orjson.dumps(entry))


async def test_what_was_down_silent_or_a_job_comes_first_and_nobody_else_is_evaluated_before_its_turn(
    bus: MemoryBus, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
):
    for svc in ("up", "silent", "job", "gone"):
        await save(bus, svc)
    await save(bus, "down", "down")
    await bus.client.hset("healer:silence", mapping={"silent": f"70 {TS} 1 {HOME}", f"@{HOME}": f"99 {TS}"})
    await bus.client.hset("healer:jobs", "job", encode_job_entry(SavedJob(TS, runs=(("r", TS),))))
    await bus.client.hset("healer:jobs", "up", encode_job_entry(SavedJob(TS)))  # it was a job once
    rule = JobRule(max_run_sec=500.0)
    watches = [*map(watch, ("up", "silent", "down", "new")), watch("job", rule)]
    monitor.set_roster(watches, {HOME: 10.0}, [HOME])
    stages: list[dict[str, Stage]] = []
    read = state.read_last_beats

    async def note_stages(on: MemoryBus, timeouts: dict[str, float]) -> AsyncIterator[object]:
        stages.append({svc: monitor.detector.services[svc].stage for svc in timeouts})
        assert monitor.detector.is_restoring is (len(stages) == 1)
        async for answer in read(on, timeouts):
            yield answer

    monkeypatch.setattr(state, "read_last_beats", note_stages)
    await monitor.state.restore(StateStore(bus, "healer"))
    assert [sorted(each) for each in stages] == [["down", "job", "silent"], ["new", "up"]]
    services = monitor.detector.services
    assert {each.stage for each in services.values()} == {Stage.EVALUATED}
    assert {svc: each.state for svc, each in services.items()} == {
        "up": State.UP,
        "silent": State.UP,
        "down": State.DOWN,
        "new": State.UNKNOWN,
        "job": State.UP,
    }
    assert services["silent"].last_beat is not None
    assert services["silent"].last_beat.at == -29.0
    assert services["job"].job is not None
    assert list(services["job"].job.runs) == ["r"]
    assert services["up"].job is None
    assert monitor.state.restored.is_set()


async def test_what_is_saved_of_one_that_was_up_is_restored_with_its_last_beat(
    bus: MemoryBus, monitor: Monitor
):
    await save(bus, "a")
    await bus.client.hset("healer:heard", "a", b'{"boot":"x","i":7,"ts":%.3f,"wall":%.3f}' % (TS, TS))
    await bus.client.hset("healer:heard", "gone", b"{}")
    await bus.client.set("beat:a", encode_beat(Beat("a", 9, TS, boot="x")), px=55_000)
    monitor.set_roster([watch("a")], {HOME: 10.0}, [HOME])
    await monitor.state.restore(StateStore(bus, "healer"))
    service = monitor.detector.services["a"]
    assert service.instances.to_dict() == {"x": 9}
    assert service.last_beat is not None
    assert -5.5 < service.last_beat.at - service.clock.read(time.monotonic()) < -4.9
    assert monitor.detector.observer.take_unsaved(time.monotonic())["gone"] is None


async def test_what_is_down_and_dropped_before_it_is_restored_is_closed(
    bus: MemoryBus, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
):
    for svc in ("a", "b"):
        await save(bus, svc, "down")
    await save(bus, "up")
    monitor.set_roster(list(map(watch, ("a", "b", "up"))), {HOME: 10.0}, [HOME])
    read = state.read_last_beats

    async def reseed(on: MemoryBus, timeouts: dict[str, float]) -> AsyncIterator[object]:
        monitor.set_roster([watch("b")], {HOME: 10.0}, [HOME])
        async for answer in read(on, timeouts):
            yield answer

    monkeypatch.setattr(state, "read_last_beats", reseed)
    await monitor.state.restore(StateStore(bus, "healer"))
    publisher = monitor.links[HOME].publisher
    assert publisher is not None
    async for _ in publisher.publish_queued():
        pass
    assert await logged(bus) == [("heartbeat_unwatched", "a")]
    assert await bus.client.hkeys("healer:roster") == [b"b"]


@pytest.mark.parametrize(
    ("refused", "closing"),
    [
        ([], "watch_ok"),
        (["a:heartbeat"], None),
        (None, "watch_unwatched"),  # the service left the truth as well
    ],
)
async def test_a_channel_that_only_the_leader_published_as_refused_is_taken_over(
    bus: MemoryBus, refused: list[str] | None, closing: str | None
):
    leadership = HeldLeadership()
    encoder = VerdictEncoder(family="heartbeat", by="healer", channel="healer:alerts")
    monitor = Monitor(MonitorOwner(bus), encoder, home=HOME, leadership=leadership)
    monitor.set_roster([watch("a")], {HOME: 10.0}, [HOME])
    await monitor.state.restore(StateStore(bus, "healer"))
    monitor.detector.set_refused_channels(HOME, refused or [], read_clocks())
    if refused is None:
        monitor.set_roster([], {HOME: 10.0}, [HOME])
    leader = recording_publisher(bus, encoder, [])
    leader.enqueue(make_alert("a", State.DOWN, Subject.WATCH, TS, reason="auth"))
    await leader.work_off()
    await bus.client.hset("healer:lease", mapping={"boot": "b", "epoch": 2})
    leadership.now = Fence("b", 2)
    publisher = monitor.links[HOME].publisher
    assert publisher is not None
    for _ in ("take over", "publish"):
        async for _ in publisher.publish_queued():
            pass
    assert await logged(bus) == [("watch_miss", "a"), *([(closing, "a")] if closing else [])]
    assert await bus.client.hexists("healer:roster", "watch:a") is (closing is None)


async def test_a_change_of_the_roster_between_the_two_parts_of_a_restore_is_no_trouble(
    bus: MemoryBus, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
):
    for svc in ("a", "b"):
        await save(bus, svc)
    await save(bus, "down", "down")
    monitor.set_roster(list(map(watch, ("a", "b", "down"))), {HOME: 10.0}, [HOME])
    read = state.read_last_beats

    async def reseed(on: MemoryBus, timeouts: dict[str, float]) -> AsyncIterator[object]:
        if "a" in timeouts:
            monitor.set_roster(list(map(watch, ("a", "c", "down"))), {HOME: 10.0}, [HOME])
        async for answer in read(on, timeouts):
            yield answer

    monkeypatch.setattr(state, "read_last_beats", reseed)
    await monitor.state.restore(StateStore(bus, "healer"))
    services = monitor.detector.services
    assert {svc: each.state for svc, each in services.items()} == {
        "a": State.UP,
        "down": State.DOWN,
        "c": State.UNKNOWN,
    }
    assert {each.stage for each in services.values()} == {Stage.EVALUATED}
