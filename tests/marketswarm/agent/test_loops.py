"""Work that only the holder of a lease does, in a whole agent over buses in memory."""

import asyncio
import contextlib
import time

import orjson
import pytest
from structlog.testing import capture_logs

from marketswarm.agent import agent
from marketswarm.agent.lease import Lease, LeaseLost
from marketswarm.agent.loops import LOST_REST_SEC, lead
from marketswarm.bus import BusError
from marketswarm.bus.outage import Outage
from marketswarm.settings import CommonSettings
from support.memory_truth import put_truth
from support.waiting import PATIENT_SEC, auntil

SETTINGS = CommonSettings(truth_wait_sec=5, log_format="json")
RAW = orjson.dumps({"services": {"mine": {"heartbeat": {"interval_sec": 0.5, "timeout_sec": 5}}}})


@pytest.fixture
async def me(buses):
    bus = buses("market-redis")
    await put_truth(bus, RAW)
    await bus.aclose()
    async with agent("mine", SETTINGS, open_bus=buses) as me:
        with me.work_progress.resting():  # a test is no work loop: what it waits for counts as progress
            yield me


class Work:
    """Does nothing while it leads; each turn ends as the test says."""

    def __init__(self):
        self.turns, self.cancelled, self.is_leading = 0, 0, False
        self.began_at = []
        self.end = asyncio.Event()
        self.error = None

    async def __call__(self, _lease):
        self.turns += 1
        self.began_at.append(time.monotonic())
        self.is_leading = True
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.is_leading = False
        self.end.clear()
        if self.error is not None:
            raise self.error


@contextlib.asynccontextmanager
async def leading(me, work):
    outage = Outage(me.log, "thing.waiting", "thing.resumed")
    me.task(lead(me, "nightly", work, outage, life_sec=3.0), name="lead")
    await auntil(lambda: work.is_leading, PATIENT_SEC)
    yield outage


async def test_it_leads_again_once_it_has_lost_the_lease(me, system):
    work = Work()
    async with leading(me, work) as outage:
        await system.client.delete("lease:nightly")
        await auntil(lambda: work.turns == 2 and work.is_leading, PATIENT_SEC)
        assert work.cancelled == 1
        assert outage.problem is None


async def test_it_does_nothing_while_another_process_leads(me, system):
    other = Lease("nightly", 5.0, system, "mine", "other")
    assert await other.acquire()
    work = Work()
    me.task(lead(me, "nightly", work, Outage(me.log, "a.b", "a.c"), life_sec=3.0), name="lead")
    await asyncio.sleep(1)
    assert not work.turns
    await other.release()
    await auntil(lambda: work.is_leading, PATIENT_SEC)


async def test_a_bus_that_fails_is_logged_once_and_work_begins_again(me):
    work = Work()
    with capture_logs() as lines:
        async with leading(me, work) as outage:
            work.error = BusError("market-redis", "oom")
            for turns in (2, 3):
                work.end.set()
                await auntil(lambda turns=turns: work.turns == turns and work.is_leading, PATIENT_SEC)
            assert outage.problem == "market-redis oom"
            work.error = None
            work.end.set()
            await auntil(lambda: work.turns == 4 and work.is_leading, PATIENT_SEC)
            assert outage.problem is None
    assert [line["event"] for line in lines if line["event"].startswith("thing.")] == [
        "thing.waiting",
        "thing.resumed",
    ]


async def test_work_that_finds_its_epoch_refused_begins_again_after_a_pause(me):
    work = Work()
    async with leading(me, work) as outage:
        work.error = LeaseLost("another process has written")
        work.end.set()
        await auntil(lambda: work.turns == 2, PATIENT_SEC)
        assert work.began_at[1] - work.began_at[0] >= LOST_REST_SEC
        assert outage.problem is None


async def test_it_gives_the_lease_back_between_two_turns(me, system):
    work = Work()
    async with leading(me, work):
        first = int(await system.client.get("lease-epoch:nightly"))
        work.end.set()
        await auntil(lambda: work.turns == 2 and work.is_leading, PATIENT_SEC)
        assert int(await system.client.get("lease-epoch:nightly")) > first
