"""Outboxes of two listeners on one bus: who leads tells, who stands by keeps count."""

import asyncio
import time

import orjson
import pytest

from marketswarm.detector import Publication, State, Subject, Verdict
from marketswarm.monitor import Fence
from marketswarm.tasks import end_tasks
from marketswarm.testing import MemoryBus
from support.fixtures import closed
from support.simulation.publishers import NOTICES, HeldLeadership, recording_publisher
from support.waiting import auntil

MINE, OTHER = Fence("mine", 3), Fence("other", 4)


def verdict(state: State, ts: float, svc: str = "a", **more) -> Verdict:
    return Verdict(svc, state, Publication.ALERT, ts, timeout_sec=30.0, **more)


def gap(ts: float, mark: str = "heartbeat_gap.a.1") -> Verdict:
    return verdict(State.UP, ts, gap_sec=60.0, restarted=True, event_id=mark, since=ts - 90)


bus = closed(MemoryBus)


async def lead(bus: MemoryBus, fence: Fence) -> None:
    await bus.client.hset("healer:lease", mapping={"boot": fence.boot, "epoch": fence.epoch})


async def logged(bus: MemoryBus) -> list[str]:
    return [
        orjson.loads(fields[b"event"])["type"] for _, fields in await bus.client.xrange("healer:alerts:log")
    ]


@pytest.mark.parametrize("lease", [None, OTHER, Fence("mine", 2), Fence("other", 3)])
async def test_who_believes_to_lead_and_does_not_is_turned_away_and_keeps_its_verdicts(bus, lease):
    if lease is not None:
        await lead(bus, lease)
    leadership, told = HeldLeadership(MINE), []
    box = recording_publisher(bus, NOTICES, told, leadership)
    box.enqueue(verdict(State.DOWN, 1.0))
    await box.work_off()  # takes over
    await box.work_off()
    assert (leadership.turned, told, len(box)) == (1, [], 1)
    assert await bus.client.keys("*") == ([] if lease is None else [b"healer:lease"])


async def test_what_the_leader_told_is_dropped_and_the_rest_is_told_on_taking_over(bus):
    await lead(bus, OTHER)
    leader, standby = recording_publisher(bus, NOTICES, [], HeldLeadership(OTHER)), HeldLeadership()
    box = recording_publisher(bus, NOTICES, told := [], standby)
    task = asyncio.create_task(box.record())
    box.enqueue(verdict(State.DOWN, 1.0))
    box.enqueue(verdict(State.DOWN, 1.0, "b"))
    leader.enqueue(verdict(State.DOWN, 1.2))
    await leader.work_off()
    await leader.work_off()
    await auntil(lambda: len(box) == 1)
    box.enqueue(verdict(State.UP, 5.0))
    await lead(bus, MINE)
    standby.now = MINE
    box.wake()
    await auntil(lambda: not len(box))
    assert [(each.svc, each.state) for each in told] == [("b", State.DOWN), ("a", State.UP)]
    assert await logged(bus) == ["heartbeat_miss", "heartbeat_miss", "heartbeat_ok"]
    await end_tasks(task)


@pytest.mark.parametrize(("heard_after_sec", "told"), [(0.1, []), (-20.0, ["bus_miss", "bus_ok"])])
async def test_a_loss_during_which_the_leader_heard_the_bus_is_told_by_nobody(bus, heard_after_sec, told):
    await lead(bus, OTHER)
    standby = HeldLeadership()
    box = recording_publisher(bus, NOTICES, [], standby)
    box.enqueue(verdict(State.DOWN, 1.0, "market-redis", subject=Subject.BUS))
    standby.hears = time.monotonic() + heard_after_sec  # later than its lease was last seen renewed
    await box.work_off()
    box.enqueue(verdict(State.UP, 5.0, "market-redis", subject=Subject.BUS))
    await lead(bus, MINE)
    standby.now = MINE
    await box.work_off()  # takes over
    await box.work_off()
    assert await logged(bus) == told


async def test_nothing_is_offered_before_all_that_was_told_is_taken_over(bus):
    await lead(bus, MINE)
    leadership = HeldLeadership(MINE)
    gate, seen = asyncio.Event(), []

    async def take_over(fence, queue):
        seen.append((fence, set(queue.fields)))
        await gate.wait()

    box = recording_publisher(bus, NOTICES, told := [], leadership, take_over)
    box.enqueue(verdict(State.DOWN, 1.0))
    task = asyncio.create_task(box.record())
    await auntil(lambda: seen)
    assert (seen, told) == ([(MINE, {"a"})], [])
    gate.set()
    await auntil(lambda: told)
    await end_tasks(task)


async def test_leadership_that_is_gained_while_the_last_verdict_is_dropped_is_taken_over_at_once(
    bus, monkeypatch
):
    await lead(bus, OTHER)
    leader, standby = recording_publisher(bus, NOTICES, [], HeldLeadership(OTHER)), HeldLeadership()
    for _ in range(2):  # takes over, then publishes
        leader.enqueue(verdict(State.DOWN, 1.2))
        await leader.work_off()
    taken_over = asyncio.Event()

    async def take_over(*_):
        taken_over.set()

    box = recording_publisher(bus, NOTICES, [], standby, take_over)
    load_entries = box.load_entries

    async def gain_leadership(fields):
        entries = await load_entries(fields)
        standby.now = MINE
        box.wake()
        return entries

    monkeypatch.setattr(box, "load_entries", gain_leadership)
    box.enqueue(verdict(State.DOWN, 1.0))
    task = asyncio.create_task(box.record())
    await auntil(taken_over.is_set, within=5)
    await end_tasks(task)


async def test_a_gap_is_told_once_whoever_tells_it(bus):
    box = recording_publisher(bus, NOTICES, [])
    for each in (verdict(State.UP, 1.0), gap(100.0), gap(100.4), gap(300.0, "heartbeat_gap.a.2")):
        box.enqueue(each)
        await box.work_off()
    assert await logged(bus) == ["heartbeat_ok", "heartbeat_gap", "heartbeat_gap"]
    assert orjson.loads(await bus.client.get("health:a"))["type"] == "heartbeat_ok"


async def test_of_one_that_was_told_down_meanwhile_no_gap_is_told(bus):
    box = recording_publisher(bus, NOTICES, [])
    for each in (verdict(State.UP, 1.0), verdict(State.DOWN, 90.0), gap(100.0), verdict(State.UP, 101.0)):
        box.enqueue(each)
        await box.work_off()
    assert await logged(bus) == ["heartbeat_ok", "heartbeat_miss", "heartbeat_ok"]
