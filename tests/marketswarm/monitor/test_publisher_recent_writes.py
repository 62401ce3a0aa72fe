"""A bus that comes back without the last of what it took is told that again, in order, and nothing else."""

import asyncio
import random

import orjson
import pytest

from marketswarm.bus import BusError
from marketswarm.detector import State, Subject, Verdict
from marketswarm.detector.verdict import make_alert
from marketswarm.monitor.leadership import Fence
from marketswarm.monitor.verdict_queue import KEPT_SEC, RECENT_SEC, RecentWrites
from marketswarm.tasks import end_tasks
from marketswarm.testing import MemoryBus
from support.fixtures import closed
from support.simulation.manual_detector import stored
from support.simulation.publishers import (
    LOG,
    NOTICES,
    HeldLeadership,
    down,
    gone,
    logged,
    recording_publisher,
    up,
)
from support.waiting import auntil

ROSTER = "healer:roster"


bus = closed(MemoryBus)


async def held(bus) -> tuple[dict, list]:
    """All that a failover may lose."""
    return await bus.client.hgetall(ROSTER), await bus.client.xrange(LOG)


async def put_back(bus, roster: dict, log: list) -> None:
    await bus.client.delete(ROSTER, LOG)
    if roster:
        await bus.client.hset(ROSTER, mapping=roster)
    for ident, fields in log:
        await bus.client.xadd(LOG, fields, id=ident)


async def told(box, *verdicts: Verdict) -> None:
    for verdict in verdicts:
        box.enqueue(verdict)
    await box.work_off()


@pytest.mark.parametrize("kept", range(2, 7))
async def test_whatever_end_is_lost_the_log_is_made_whole_and_nothing_is_there_twice(bus, kept):
    box = recording_publisher(bus, NOTICES, [])
    verdicts = [up("a", 1.0), up("b", 2.0), down("a", 3.0), down("b", 4.0), up("a", 5.0), gone("b", 6.0)]
    before = [await held(bus)]
    for verdict in verdicts:
        await told(box, verdict)
        before.append(await held(bus))
    whole = await logged(bus)
    await put_back(bus, *before[kept])
    box.check_after_gap(asyncio.get_running_loop().time())
    await box.work_off()
    assert await logged(bus) == whole
    assert {field: orjson.loads(entry)["verdict"] for field, entry in (await held(bus))[0].items()} == {
        b"a": "up"
    }


async def test_a_verdict_whose_answer_was_lost_shows_that_those_before_it_are_there(bus):
    box = recording_publisher(bus, NOTICES, [])
    await told(box, up("a", 1.0), down("a", 2.0))
    other = recording_publisher(bus, NOTICES, [])
    await told(other, up("a", 3.0))  # the bus took it, and we were not told
    box.enqueue(up("a", 3.0))
    box.check_after_gap(asyncio.get_running_loop().time())
    await box.work_off()
    assert await logged(bus) == [("heartbeat_ok", "a"), ("heartbeat_miss", "a"), ("heartbeat_ok", "a")]


async def test_what_is_offered_before_anyone_looked_does_not_undo_what_follows(bus):
    """The first offer after a failover may come before the first session: an ok finds nothing to end."""
    box = recording_publisher(bus, NOTICES, [])
    await told(box, up("a", 1.0))
    before = await held(bus)
    await told(box, down("a", 2.0))
    await put_back(bus, *before)
    await told(box, up("a", 3.0))
    assert await logged(bus) == [("heartbeat_ok", "a")]
    box.check_after_gap(asyncio.get_running_loop().time())
    await box.work_off()
    assert await logged(bus) == [("heartbeat_ok", "a"), ("heartbeat_miss", "a"), ("heartbeat_ok", "a")]


async def test_a_bus_that_can_not_be_asked_stays_in_doubt(bus):
    box = recording_publisher(bus, NOTICES, [])
    before = await held(bus)
    await told(box, down("a", 2.0))
    await put_back(bus, *before)
    task = asyncio.create_task(box.record())
    bus.connected = False
    box.check_after_gap(asyncio.get_running_loop().time())
    await auntil(lambda: box.retries)
    bus.connected = True
    await auntil(lambda: not box.refusal)
    assert await logged(bus) == [("heartbeat_miss", "a")]
    await end_tasks(task)


async def test_who_did_not_lead_all_the_time_leaves_it_to_who_did(bus):
    leadership = HeldLeadership(Fence("me", 1))
    box = recording_publisher(bus, NOTICES, [], leadership)
    await bus.client.hset("healer:lease", mapping={"boot": "me", "epoch": "1"})
    await box.work_off()
    await told(box, up("a", 1.0), down("a", 2.0))
    for fence in (None, Fence("me", 3)):
        leadership.now = fence
        await box.work_off()
    await bus.client.hset("healer:lease", "epoch", "3")
    other = recording_publisher(bus, NOTICES, [])
    await told(other, up("a", 3.0))
    whole = await logged(bus)
    box.check_after_gap(asyncio.get_running_loop().time())
    await box.work_off()
    assert await logged(bus) == whole


async def test_who_came_and_went_all_in_what_was_lost_is_not_told_of_again(bus):
    """It can't be told from one whose whole story was kept; that one must not be missed anew."""
    box = recording_publisher(bus, NOTICES, [])
    await told(box, up("a", 1.0), down("a", 2.0), gone("a", 3.0))
    whole = await logged(bus)
    box.check_after_gap(asyncio.get_running_loop().time())
    await box.work_off()
    assert await logged(bus) == whole
    await put_back(bus, {}, [])
    box.check_after_gap(asyncio.get_running_loop().time())
    await box.work_off()
    assert await logged(bus) == []


async def test_a_channel_that_is_heard_again_is_told_of_again_only_if_that_was_lost(bus):
    """Without an entry, what was refused and is allowed is on the log."""
    box = recording_publisher(bus, NOTICES, [])
    await told(box, make_alert("a", State.DOWN, Subject.WATCH, 1.0))
    before = await held(bus)
    await told(box, make_alert("a", State.UP, Subject.WATCH, 2.0))
    for _ in range(2):
        box.check_after_gap(asyncio.get_running_loop().time())
        await box.work_off()
        assert await logged(bus) == [("watch_miss", "a"), ("watch_ok", "a")]
        await put_back(bus, *before)


def test_what_was_taken_long_before_the_gap_is_taken_for_kept():
    recent = RecentWrites()
    recent.record([down("a", 1.0)], 100.0)
    recent.record([down("b", 2.0)], 101.0)
    assert recent.find_doubtful_fields(100.0 + RECENT_SEC) == ["a", "b"]
    assert recent.find_doubtful_fields(100.5 + RECENT_SEC) == ["b"]
    assert recent.find_lost({"b": None}, ()) == [down("b", 2.0)]


def test_no_more_is_kept_in_mind_than_the_bound_and_what_goes_is_counted():
    recent = RecentWrites(limit=100)
    for n in range(105):
        recent.record([down(f"svc{n}", 1.0)], 1.0)
    assert recent.find_doubtful_fields(1.0) == [f"svc{n}" for n in range(5, 105)]
    assert recent.dropped == 5


def test_what_is_too_old_to_be_lost_goes_as_time_passes():
    recent = RecentWrites()
    recent.record([down("a", 1.0)], 100.0)
    recent.record([down("b", 2.0)], 101.0 + KEPT_SEC)
    assert recent.find_doubtful_fields(float("-inf")) == ["b"]
    assert recent.dropped == 0


def test_whatever_is_lost_of_any_history_telling_the_rest_again_ends_as_it_was():
    """Against the script's rule in two lines: what is there already is not told."""
    chance = random.Random(7)
    for _ in range(500):
        recent, history = RecentWrites(), []
        for ts in range(1, chance.randint(2, 12)):
            svc = chance.choice("ab")
            last = [each.state for each in history if each.svc == svc][-1:]
            makes = down if last == [State.UP] else up
            history.append(makes(svc, float(ts)))
            recent.record([history[-1]], 0.0)
        kept = history[: chance.randint(0, len(history))]
        roster = {each.svc: stored(verdict=each.state, ts=each.ts) for each in kept}
        lost = recent.find_lost({svc: roster.get(svc) for svc in "ab"}, ())
        assert lost == history[len(kept) :]


async def test_a_bus_that_refuses_to_be_asked_is_an_error_for_who_runs_it(bus):
    box = recording_publisher(bus, NOTICES, [])
    await told(box, down("a", 1.0))
    bus.connected = False
    box.check_after_gap(0.0)
    with pytest.raises(BusError):
        await box.work_off()
    bus.connected = True
    await put_back(bus, {}, [])
    await box.work_off()
    assert await logged(bus) == [("heartbeat_miss", "a")], "it is asked again once it answers"


async def test_a_gap_that_is_noted_during_an_offer_is_checked_after_it(bus, monkeypatch):
    """What the bus lost comes back without another verdict, though a session opened while the script ran."""
    box = recording_publisher(bus, NOTICES, [])
    await told(box, down("a", 1.0))
    await put_back(bus, {}, [])
    run_script = bus.script

    async def open_session(*args):
        outcomes = await run_script(*args)
        monkeypatch.undo()
        box.check_after_gap(asyncio.get_running_loop().time())
        return outcomes

    monkeypatch.setattr(bus, "script", open_session)
    await told(box, down("b", 2.0))
    task = asyncio.create_task(box.record())

    async def is_whole() -> bool:
        return await logged(bus) == [("heartbeat_miss", "b"), ("heartbeat_miss", "a")]

    await auntil(is_whole, within=5)
    await end_tasks(task)


async def test_a_standby_that_hears_of_a_gap_waits_for_work(bus, monkeypatch):
    leadership, looks = HeldLeadership(), 0

    def count_look(_bus: str) -> None:
        nonlocal looks
        looks += 1
        assert looks < 10, "the publisher never waits"

    monkeypatch.setattr(leadership, "fence", count_look)
    box = recording_publisher(bus, NOTICES, [], leadership)
    task = asyncio.create_task(box.record())
    box.check_after_gap(0.0)
    await auntil(lambda: looks)
    assert not task.done()
    await end_tasks(task)
