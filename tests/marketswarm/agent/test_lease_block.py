"""A block under a lease, in a whole agent over buses in memory: how it begins, and all the ways it ends."""

import asyncio
import contextlib
import os
import signal

import orjson
import pytest

from marketswarm.agent import LeaseHeld, LeaseLost, agent
from marketswarm.agent.lease import Lease
from marketswarm.settings import CommonSettings
from support.memory_truth import put_truth
from support.waiting import PATIENT_SEC, auntil

SETTINGS = CommonSettings(truth_wait_sec=5, log_format="json")
RAW = orjson.dumps({"services": {"mine": {"heartbeat": {"interval_sec": 0.5, "timeout_sec": 5}}}})


@pytest.fixture
async def buses(buses):
    bus = buses("market-redis")
    await put_truth(bus, RAW)
    await bus.aclose()
    return buses


@pytest.fixture
async def me(buses):
    async with agent("mine", SETTINGS, open_bus=buses) as me:
        with me.work_progress.resting():  # a test is no work loop: what it waits for counts as progress
            yield me


def other(system, name="nightly", life_sec=5.0):
    return Lease(name, life_sec, system, "mine", "other")


async def test_a_block_has_its_lease_and_gives_it_back(me, system):
    async with me.lease("nightly", life_sec=3.0) as lease:
        assert (lease.name, lease.held) == ("nightly", True)
        await asyncio.sleep(30)
        assert not await other(system).acquire()
        first = lease.epoch
    assert not lease.held
    assert not await system.client.exists("lease:nightly")
    async with me.lease("nightly") as lease:
        assert lease.epoch > first


async def test_who_would_not_wait_hears_that_it_is_held(me, system):
    await other(system).acquire()
    with pytest.raises(LeaseHeld, match="nightly: mine other has it"):
        async with me.lease("nightly", wait_sec=0):
            pytest.fail("it is somebody else's")
    assert await system.client.hget("lease:nightly", "boot") == b"other"


async def test_who_waits_has_it_as_soon_as_it_is_given_back(me, system, moved_time):
    theirs = other(system, life_sec=60.0)
    await theirs.acquire()
    entered = asyncio.Event()

    async def wait():
        async with me.lease("nightly", life_sec=60.0):
            entered.set()

    waiting = me.task(wait(), name="waits")
    await asyncio.sleep(5)
    assert not entered.is_set()
    given_back_at = moved_time.ahead_sec
    await theirs.release()
    await entered.wait()
    assert moved_time.ahead_sec - given_back_at < 0.5
    await waiting


async def test_who_waits_has_it_when_the_life_of_a_dead_one_is_over(me, system):
    await other(system, life_sec=40.0).acquire()
    async with asyncio.timeout(50), me.lease("nightly", wait_sec=1000) as lease:
        assert lease.held


async def test_waiting_is_bounded(me, system):
    await other(system, life_sec=60.0).acquire()
    with pytest.raises(LeaseHeld):
        async with asyncio.timeout(35), me.lease("nightly", wait_sec=30):
            pytest.fail("it is somebody else's")


async def test_while_the_bus_is_away_it_waits_and_the_beats_say_for_what(me, system):
    system.connected = False
    entered = asyncio.Event()

    async def wait():
        async with me.lease("nightly", life_sec=0.5):
            entered.set()

    waiting = me.task(wait(), name="waits")
    await auntil(lambda: "waits for the lease nightly: system-redis refused" in (me.trouble() or ""))
    system.connected = True
    async with asyncio.timeout(PATIENT_SEC):
        await entered.wait()
    await waiting
    assert "lease" not in (me.trouble() or "")
    system.connected = False
    with pytest.raises(LeaseHeld, match="system-redis refused"):
        async with me.lease("nightly", wait_sec=0):
            pytest.fail("nobody could have given it")
    system.connected = True


async def under_a_lease(me, body, life_sec=5.0):
    async with me.lease("nightly", life_sec=life_sec):
        await body()


async def test_a_lost_lease_cancels_the_block_and_says_so_in_its_place(me, system):
    ended = []

    async def body():
        await system.client.delete("lease:nightly")
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(asyncio.current_task().cancelling())

    with pytest.raises(LeaseLost, match="nightly: it is gone from the bus"):
        await under_a_lease(me, body)
    assert ended == [1]
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)  # and nothing of it is left


async def test_what_another_one_took_is_not_given_back(me, system):
    async def body():
        await system.client.delete("lease:nightly")
        assert await other(system).acquire()
        await asyncio.sleep(10)

    with pytest.raises(LeaseLost, match="mine other has it"):
        await under_a_lease(me, body)
    assert await system.client.hget("lease:nightly", "boot") == b"other"


async def test_a_block_that_swallows_its_cancellation_is_not_told_that_all_was_well(me, system):
    async def body():
        await system.client.delete("lease:nightly")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10)

    with pytest.raises(LeaseLost):
        await under_a_lease(me, body)
    assert asyncio.current_task().cancelling() == 0


async def test_a_block_that_held_the_loop_past_the_end_is_not_told_that_all_was_well(me, moved_time):
    async def body():
        moved_time.advance(5.1)

    with pytest.raises(LeaseLost, match="not renewed in time"):
        await under_a_lease(me, body)


async def test_what_the_block_raises_comes_out_and_the_lease_is_free(me, system):
    with pytest.raises(ZeroDivisionError):
        async with me.lease("nightly"):
            raise ZeroDivisionError
    assert not await system.client.exists("lease:nightly")


@pytest.mark.parametrize("lost", [False, True])
async def test_a_cancellation_of_somebody_else_stays_one_and_the_lease_is_free(me, system, moved_time, lost):
    entered = asyncio.Event()

    async def work():
        async with me.lease("nightly", life_sec=1.5):
            entered.set()
            await asyncio.sleep(10)

    task = asyncio.create_task(work())
    await entered.wait()
    if lost:  # both at once, and the loop stands still until both are due
        await system.client.delete("lease:nightly")
        moved_time.advance(0.6)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not await system.client.exists("lease:nightly")


async def test_who_is_cancelled_while_it_waits_leaves_nothing_behind(me, system):
    theirs = other(system)
    await theirs.acquire()
    task = asyncio.create_task(entering(me))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await theirs.release()
    await asyncio.sleep(0.05)
    assert not await system.client.exists("lease:nightly")


async def entering(me):
    async with me.lease("nightly"):
        pytest.fail("it is somebody else's")


async def test_two_blocks_of_one_process_take_turns(me):
    inside, most = 0, 0

    async def work():
        nonlocal inside, most
        async with me.lease("nightly", life_sec=2):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.01)
            inside -= 1

    async with asyncio.timeout(PATIENT_SEC), asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(work())
    assert most == 1


async def test_a_stop_in_the_block_ends_the_agent_as_asked_and_frees_the_lease(buses, system):
    async with agent("mine", SETTINGS, open_bus=buses) as me:
        async with me.lease("nightly"):
            asyncio.get_running_loop().call_later(0.1, signal_stop)
            await asyncio.sleep(30)
        pytest.fail("it was asked to stop")
    assert me.exit_code == 0
    assert not await system.client.exists("lease:nightly")


def signal_stop():
    os.kill(os.getpid(), signal.SIGTERM)


async def test_waiting_in_the_work_loop_is_progress_and_beside_it_is_none(buses, system):
    theirs = other(system)
    await theirs.acquire()
    async with agent("mine", SETTINGS, open_bus=buses) as me:
        with contextlib.suppress(LeaseHeld):
            beside = me.task(quietly(me), name="waits")
            await asyncio.sleep(0.1)
            assert not me.work_progress.is_resting
            asyncio.get_running_loop().call_later(0.1, lambda: seen.append(me.work_progress.is_resting))
            seen = []
            async with me.lease("nightly", wait_sec=0.3):
                pytest.fail("it is somebody else's")
        assert seen == [True]
        assert not me.work_progress.is_resting
        beside.cancel()


async def quietly(me):
    with contextlib.suppress(LeaseHeld):
        async with me.lease("nightly", wait_sec=5):
            pytest.fail("it is somebody else's")
