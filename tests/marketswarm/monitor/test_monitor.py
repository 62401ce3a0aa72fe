"""When silences are saved, when a monitor distrusts itself, and when it says that it can't work."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest

from marketswarm.beat import Beat, encode_beat
from marketswarm.bus.listener import read_clocks
from marketswarm.bus.stored_values import count_unusable
from marketswarm.detector import Publication, State, Subject, UnheardBeat, Verdict
from marketswarm.monitor import Fence, Monitor, VerdictEncoder, state
from marketswarm.monitor.encoder import roster_field
from marketswarm.monitor.leadership import Leadership
from marketswarm.monitor.monitor import SOLE_LEADER
from marketswarm.monitor.publisher import Publisher
from marketswarm.monitor.store import StateStore
from marketswarm.monitor.witness import StoredBeats
from marketswarm.tasks import end_tasks
from marketswarm.testing import MemoryBus
from marketswarm.truth import JobRule, Watch
from support.fixtures import closed
from support.scenes.monitor import MonitorOwner
from support.simulation.publishers import HeldLeadership
from support.waiting import auntil

WATCH = Watch("bare", "system-redis", "bare:heartbeat", 10.0, 30.0)

bus = closed(lambda: MemoryBus("system-redis"))


async def drain(publisher: Publisher) -> None:
    async for _ in publisher.run():
        pass


def make_monitor(bus: MemoryBus, leadership: Leadership = SOLE_LEADER) -> Monitor:
    notices = VerdictEncoder(family="heartbeat", by="healer", channel="healer:alerts")
    monitor = Monitor(MonitorOwner(bus), notices, home="system-redis", leadership=leadership)
    monitor.set_roster([WATCH], listen_to={"system-redis": 10.0}, publish_to=["system-redis"])
    return monitor


async def saved(bus: MemoryBus, *, there: bool) -> None:
    async def is_so() -> bool:
        return bool(await bus.client.hexists("healer:silence", "bare")) is there

    await auntil(is_so)


async def test_the_end_of_a_silence_is_saved_at_once(bus, moved_time):
    monitor = make_monitor(bus)
    task = asyncio.create_task(monitor.state.run("system-redis"))
    await saved(bus, there=True)  # at its start a service counts as silent
    await asyncio.sleep(1.1 * state.SAVE_EVERY_SEC)
    begun_at = moved_time.ahead_sec
    monitor.feed.on_messages(
        "system-redis",
        [[b"message", b"bare:heartbeat", encode_beat(Beat("bare", 1, time.time()))]],
        read_clocks(),
    )
    await saved(bus, there=False)
    assert moved_time.ahead_sec - begun_at < state.SAVE_EVERY_SEC / 2
    await end_tasks(task)


@pytest.mark.parametrize(
    ("age_sec", "again", "distrusts"),
    [(0.1, False, False), (0.1, True, True), (0.3, False, True), (20.0, False, True)],
)
async def test_a_beat_that_may_still_be_on_its_way_is_no_reason_for_a_new_session(
    bus, age_sec, again, distrusts, monkeypatch
):
    monitor, rebuilt = make_monitor(bus), []
    monkeypatch.setattr(
        monitor.links["system-redis"].listener, "rebuild_session", lambda: rebuilt.append(True)
    )
    monitor.evaluator.reopen_deaf_session(UnheardBeat("bare", "system-redis", age_sec, is_repeated=again))
    assert bool(rebuilt) is distrusts


async def test_a_monitor_that_cannot_read_its_state_judges_nothing_and_says_so(bus):
    bus.connected = False
    monitor = make_monitor(bus)
    monitor.feed.describe_lost_buses = lambda _now: None  # no one listens in this test
    task = asyncio.create_task(monitor.state.run("system-redis"))
    await auntil(lambda: "nothing is judged: memory on system-redis" in (monitor.describe_trouble() or ""))
    assert monitor.detector.is_restoring
    bus.connected = True
    await auntil(lambda: monitor.describe_trouble() is None)
    assert not monitor.detector.is_restoring
    await end_tasks(task)


async def test_a_monitor_whose_verdicts_are_not_taken_says_how_many_wait(bus):
    monitor = make_monitor(bus)
    monitor.feed.describe_lost_buses = lambda _now: None
    bus.connected = False
    task = asyncio.create_task(drain(monitor.links["system-redis"].publisher))
    monitor.publish(Verdict("bare", State.DOWN, Publication.ALERT, 1.0, timeout_sec=30.0, reason="silent"))
    await auntil(lambda: monitor.describe_trouble() == "1 unpublished on system-redis (refused)")
    bus.connected = True
    await auntil(lambda: monitor.describe_trouble() is None)
    assert await bus.client.xlen("healer:alerts:log") == 1
    await end_tasks(task)


@pytest.mark.parametrize("of", Subject)
async def test_what_is_told_of_anything_is_known_to_the_next_run(bus, of):
    monitor = make_monitor(bus)
    name, state = ("healer", State.UP) if of is Subject.REACH else ("bare", State.DOWN)
    gap_sec, mark = (31.0, "reach_gap.healer.69000") if of is Subject.REACH else (None, None)
    verdict = Verdict(
        name, state, Publication.ALERT, 100.0, subject=of, since=69.0, gap_sec=gap_sec, event_id=mark
    )
    task = asyncio.create_task(drain(monitor.links["system-redis"].publisher))
    monitor.publish(verdict)
    await auntil(lambda: not monitor.links["system-redis"].publisher)
    before = count_unusable()
    roster = await StateStore(bus, "healer").load_roster()
    assert count_unusable() == before
    entry = roster[roster_field(verdict)]
    assert (entry.verdict, entry.ts, entry.since) == (state, 100.0, 69.0)
    await end_tasks(task)


async def test_a_failure_on_a_channel_that_was_refused_is_missed_once_that_is_allowed(bus):
    monitor = make_monitor(bus)
    job = Watch("job", "system-redis", "job:heartbeat", 10.0, 30.0, job=JobRule(max_run_sec=10.0))
    monitor.set_roster([WATCH, job], listen_to={"system-redis": 10.0}, publish_to=["system-redis"])
    task = asyncio.create_task(monitor.run())
    await auntil(lambda: not monitor.detector.is_restoring)
    monitor.feed.on_channels_refused("system-redis", {"job:heartbeat"}, read_clocks())
    failed = {"svc": "job", "ok": False, "code": 4, "ts": time.time()}
    await bus.client.set("run:job", orjson.dumps(failed))
    monitor.feed.on_channels_refused("system-redis", (), read_clocks())
    service = monitor.detector.services["job"]
    await auntil(lambda: service.state is State.DOWN)
    assert (service.miss_reason(), service.trouble.due_failure.exit_code) == ("failed", 4)
    await end_tasks(task)


@pytest.mark.parametrize(
    ("seen_after_sec", "is_silent", "published"),
    [
        (10.0, False, []),
        (10.0, True, ["heartbeat_miss"]),  # to the leader as well
        (1.0, False, ["heartbeat_miss"]),  # it had no time to publish the same
    ],
)
async def test_a_standby_publishes_no_miss_of_a_service_that_its_leader_heard(
    bus, seen_after_sec, is_silent, published
):
    leadership = HeldLeadership()
    monitor = make_monitor(bus, leadership)
    now = time.time()
    await bus.client.hset("healer:roster", "bare", orjson.dumps({"verdict": "up", "ts": now - 900}))
    if is_silent:
        await bus.client.hset("healer:silence", "bare", f"70.000 {now - 30:.3f} 1 system-redis")
    await monitor.state.restore(StateStore(bus, "healer"))
    service, publisher = monitor.detector.services["bare"], monitor.links["system-redis"].publisher
    monitor.publish(monitor.detector.declare_down(service, read_clocks()))
    leadership.seen = time.monotonic() + seen_after_sec
    leadership.now = Fence("mine", 2)
    await bus.client.hset("healer:lease", mapping={"boot": "mine", "epoch": 2})
    for _ in ("take over", "publish"):
        async for _ in publisher.publish_queued():
            pass
    events = [fields[b"event"] for _, fields in await bus.client.xrange("healer:alerts:log")]
    assert [orjson.loads(event)["type"] for event in events] == published
    assert service.state is (State.DOWN if published else State.UP)
    assert not publisher


def hear(monitor: Monitor, *numbers: int) -> None:
    """Have a monitor receive beats of the service together."""
    beats = [encode_beat(Beat("bare", i, time.time(), boot="b")) for i in numbers]
    messages = [(b"message", b"bare:heartbeat", beat) for beat in beats]
    monitor.feed.on_messages("system-redis", messages, read_clocks())


async def test_beats_that_waited_while_a_healer_stood_still_end_no_outage_that_began_after_them(bus):
    """A leader heard them in time, and could not publish what followed before the other one led."""
    monitors = []
    for boot in ("leader", "standby"):
        leadership = HeldLeadership()
        monitor = make_monitor(bus, leadership)
        await monitor.state.restore(StateStore(bus, "healer"))
        monitors.append((boot, monitor, leadership))
    (_, leader, leads), (_, standby, stands_by) = monitors
    for _, monitor, _ in monitors:
        hear(monitor, 1)
        monitor.publish(monitor.detector.declare_down(monitor.detector.services["bare"], read_clocks()))
    await publish_under(Fence("leader", 1), leader, leads, bus)
    async for _ in standby.links["system-redis"].publisher.publish_queued():
        pass
    assert not standby.links["system-redis"].publisher
    hear(leader, 2)
    hear(leader, 3)
    hear(standby, 2, 3)
    leader.publish(leader.detector.declare_down(leader.detector.services["bare"], read_clocks()))
    await publish_under(Fence("leader", 1), leader, leads, bus)
    await publish_under(Fence("standby", 2), standby, stands_by, bus)
    assert standby.detector.services["bare"].state is State.DOWN
    hear(standby, 4)
    await publish_under(Fence("standby", 2), standby, stands_by, bus)
    events = [orjson.loads(entry[b"event"]) for _, entry in await bus.client.xrange("healer:alerts:log")]
    expected = ["heartbeat_ok", *2 * ["heartbeat_miss", "heartbeat_ok"]]  # the first is of the start
    assert [event["type"] for event in events] == expected


async def test_a_bus_that_is_dropped_while_the_memory_is_read_is_no_trouble(bus, monkeypatch):
    monitor = make_monitor(bus)
    others = [replace(WATCH, svc=name, bus=name) for name in ("other", "third")]
    listen_to = {"system-redis": 10.0, "other": 10.0, "third": 10.0}
    monitor.set_roster([WATCH, *others], listen_to=listen_to, publish_to=["system-redis"])
    asked: list[int] = []

    async def reseeded(_bus: MemoryBus, timeouts: dict[str, float]) -> AsyncIterator[StoredBeats]:
        asked.append(len(timeouts))
        monitor.set_roster([WATCH], listen_to={"system-redis": 10.0}, publish_to=["system-redis"])
        yield StoredBeats([])

    monkeypatch.setattr(state, "read_last_beats", reseeded)
    task = asyncio.create_task(monitor.state.run("system-redis"))
    await auntil(lambda: monitor.state.restored.is_set() or task.done())
    assert not task.done()
    assert asked == [1]
    assert list(monitor.detector.services) == [WATCH.svc]
    assert set(monitor.detector.buses) == {"system-redis"}
    await end_tasks(task)


@pytest.mark.parametrize("leaves", ["before_the_start", "while_running"])
async def test_a_bus_that_was_published_as_lost_and_leaves_the_truth_is_closed(bus, leaves):
    miss = {"type": "bus_miss", "svc": "extra", "ts": 100.0}
    entry = {"verdict": "down", "ts": 100.0, "since": 69.0, "event": miss}
    await bus.client.hset("healer:roster", "bus:extra", orjson.dumps(entry))
    monitor, buses = make_monitor(bus), {"system-redis": 10.0, "extra": 10.0}
    if leaves == "while_running":
        monitor.set_roster([WATCH], listen_to=buses, publish_to=["system-redis"])
    tasks = [
        asyncio.create_task(monitor.state.run("system-redis")),
        asyncio.create_task(drain(monitor.links["system-redis"].publisher)),
    ]
    await auntil(lambda: not monitor.detector.is_restoring)
    if leaves == "while_running":
        assert monitor.detector.buses["extra"].state is State.DOWN
        monitor.set_roster([WATCH], listen_to={"system-redis": 10.0}, publish_to=["system-redis"])

    async def is_closed() -> bool:
        return bool(await bus.client.xlen("healer:alerts:log"))

    await auntil(is_closed)
    ((_, fields),) = await bus.client.xrange("healer:alerts:log")
    event = orjson.loads(fields[b"event"])
    assert (event["type"], event["svc"], event["reason"]) == ("bus_ok", "extra", "unwatched")
    assert event["since"] == 69.0
    assert "down_sec" not in event
    roster = await StateStore(bus, "healer").load_roster()
    assert roster["bus:extra"].verdict is State.UP
    await end_tasks(*tasks)


@pytest.mark.parametrize("key", ["roster", "silence", "heard"])
async def test_a_key_of_the_memory_that_holds_something_else_is_replaced_and_counted(bus, key):
    before = count_unusable()
    await bus.client.set(f"healer:{key}", "what somebody put there")
    monitor = make_monitor(bus)
    task = asyncio.create_task(monitor.state.run("system-redis"))
    await auntil(lambda: not monitor.detector.is_restoring)
    await saved(bus, there=True)
    assert await bus.client.type(f"healer:{key}") in (b"hash", b"none")
    assert count_unusable() > before
    await end_tasks(task)


def make_reach_gap(since: float, ts: float) -> Verdict:
    return Verdict(
        "healer",
        State.UP,
        Publication.ALERT,
        ts,
        subject=Subject.REACH,
        since=since,
        gap_sec=ts - since,
        event_id=f"reach_gap.healer.{round(1000 * since)}",
    )


async def publish_under(fence: Fence, monitor: Monitor, leadership: HeldLeadership, bus: MemoryBus) -> None:
    """Publish what is queued for `bus`, as the leader there."""
    await bus.client.hset("healer:lease", mapping={"boot": fence.boot, "epoch": fence.epoch})
    leadership.now = fence
    for _ in ("take over", "publish"):
        async for _ in monitor.links[bus.name].publisher.publish_queued():
            pass


@pytest.mark.parametrize("first", ["system-redis", "market-redis"])
@pytest.mark.parametrize("is_readable", [True, False])
async def test_a_gap_of_reach_that_the_leader_published_on_one_bus_only_is_told_once(first, is_readable):
    buses = {name: MemoryBus(name) for name in ("system-redis", "market-redis")}
    other = next(name for name in buses if name != first)
    monitors = []
    for boot in ("leader", "standby"):
        leadership = HeldLeadership()
        notices = VerdictEncoder(family="heartbeat", by="healer", channel="healer:alerts")
        owner = MonitorOwner(buses["system-redis"])
        owner.bus = buses.__getitem__
        monitor = Monitor(owner, notices, home="system-redis", leadership=leadership)
        monitor.set_roster([WATCH], listen_to=dict.fromkeys(buses, 10.0), publish_to=buses)
        await monitor.state.restore(StateStore(buses["system-redis"], "healer"))
        monitors.append((monitor, leadership, boot))
    (leader, leads, _), (standby, stands_by, _) = monitors
    now = time.time()
    leader.publish(make_reach_gap(now - 20.0, now - 2.0))
    standby.publish(make_reach_gap(now - 20.2, now - 1.9))
    await publish_under(Fence("leader", 1), leader, leads, buses[first])
    if not is_readable:
        buses[first].connected = False
    await publish_under(Fence("standby", 2), standby, stands_by, buses[other])
    buses[first].connected = True
    stands_by.now = None
    await publish_under(Fence("standby", 2), standby, stands_by, buses[first])
    found = {name: await bus.client.xrange("healer:alerts:log") for name, bus in buses.items()}
    events = {
        name: [orjson.loads(entry[b"event"]) for _, entry in entries] for name, entries in found.items()
    }
    assert [len(each) for each in events.values()] == [1, 1]
    (one,), (same,) = events.values()
    if is_readable:
        assert same == {**one, "gap_sec": pytest.approx(one["gap_sec"], abs=0.01)}
    else:  # better twice than not at all
        assert one["id"] != same["id"]
    for bus in buses.values():
        await bus.aclose()


async def test_a_leader_publishes_each_gap_of_reach_though_its_clock_was_set_back_meanwhile(bus):
    """By its clock, its last gap is later than this one; that it is its own, the id shows."""
    leadership = HeldLeadership()
    monitor = make_monitor(bus, leadership=leadership)
    await monitor.state.restore(StateStore(bus, "healer"))
    now = time.time()
    for begun in (now, now - 3600):
        monitor.publish(make_reach_gap(begun - 20.0, begun))
        await publish_under(Fence("leader", 1), monitor, leadership, bus)
    assert await bus.client.xlen("healer:alerts:log") == 2
