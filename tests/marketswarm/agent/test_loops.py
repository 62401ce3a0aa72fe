"""Work that only the holder of a lease does, in a whole agent over buses in memory."""

import asyncio
import contextlib
import time

import orjson
import pytest
from structlog.testing import capture_logs

from marketswarm.agent import agent
from marketswarm.agent.lease import Lease, LeaseLost
from marketswarm.agent.loops import LEADERLESS_SEC, LOST_REST_SEC, PROVEN_SEC, lead
from marketswarm.bus import BusError
from marketswarm.bus.outage import Outage
from marketswarm.keys import own_lease_epoch_key, own_lease_key
from marketswarm.settings import CommonSettings
from support.memory_truth import put_truth
from support.waiting import PATIENT_SEC, auntil

LEASE, EPOCH = own_lease_key("mine", "nightly"), own_lease_epoch_key("mine", "nightly")
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
        await system.client.delete(LEASE)
        await auntil(lambda: work.turns == 2 and work.is_leading, PATIENT_SEC)
        assert work.cancelled == 1
        assert outage.problem is None


async def test_it_does_nothing_while_another_process_leads(me, system):
    other = Lease("nightly", 5.0, system, "mine", "other", own=True)
    assert await other.acquire()
    work, seen = Work(), []
    outage = Outage(me.log, "a.b", "a.c")
    leading = lead(me, "nightly", work, outage, life_sec=3.0, on_other_holder=lambda: seen.append(1))
    me.task(leading, name="lead")
    await asyncio.sleep(1)
    assert not work.turns
    assert seen
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
        first = int(await system.client.get(EPOCH))
        work.end.set()
        await auntil(lambda: work.turns == 2 and work.is_leading, PATIENT_SEC)
        assert int(await system.client.get(EPOCH)) > first


SOON_SEC = 13.0


@pytest.fixture
def soon(monkeypatch):
    """After a shorter time than a minute; longer than work has to go on to count."""
    assert PROVEN_SEC < SOON_SEC < LEADERLESS_SEC == 60
    monkeypatch.setattr("marketswarm.agent.loops.LEADERLESS_SEC", SOON_SEC)


@contextlib.contextmanager
def refused_work(me, told):
    """Lead with work that a store refuses until `work.is_taken`."""
    work = Work()

    async def attempt(lease):
        if not work.is_taken:
            raise LeaseLost("a newer one has written")
        await work(lease)

    work.is_taken = False
    outage = Outage(me.log, "a.b", "a.c")
    me.task(lead(me, "nightly", attempt, outage, life_sec=3.0, on_leaderless=told.append), name="lead")
    yield work


async def test_work_that_is_refused_for_a_minute_is_said_in_the_beats_until_it_goes_on(me, soon):
    told = []
    with refused_work(me, told) as work, capture_logs() as lines:
        await asyncio.sleep(SOON_SEC - 3)
        assert (me.trouble(), told) == (None, [])
        await asyncio.sleep(6)
        assert me.trouble().startswith("no process leads (nightly) for 1")
        assert me.trouble().endswith(" s: a newer one has written")
        assert told[-1].startswith("no process leads")
        work.is_taken = True
        await auntil(lambda: me.trouble() is None, PATIENT_SEC)
        count = len(told)
        await asyncio.sleep(2 * SOON_SEC)
        assert (me.trouble(), len(told)) == (None, count), "it leads, as long as it may take"
    said = [line["event"] for line in lines if line["event"].startswith("lease.le")]
    assert said == ["lease.leaderless", "lease.led_again"]


async def test_two_that_are_refused_in_turn_don_t_take_each_other_for_a_leader(me, system, soon):
    told = []

    async def refuse():
        while True:
            other = Lease("nightly", 3.0, system, "mine", "other", own=True)
            if await other.acquire():
                await asyncio.sleep(0.1)
                await other.release()
            await asyncio.sleep(0.7)

    me.task(refuse(), name="other")
    with refused_work(me, told):
        await asyncio.sleep(SOON_SEC + 10)
    assert me.trouble().startswith("no process leads")


async def test_a_lease_that_nobody_renews_is_no_leader(me, system, soon):
    """As one whose key somebody wrote who may: it says that it is held, and for how long."""
    held = {"claim": "x", "epoch": int(time.time() * 1000), "boot": "x", "svc": "mine"}
    await system.client.hset(LEASE, mapping=held)
    await system.client.pexpire(LEASE, 80_000_000)
    work = Work()
    me.task(lead(me, "nightly", work, Outage(me.log, "a.b", "a.c"), life_sec=3.0), name="lead")
    await asyncio.sleep(SOON_SEC + 5)
    assert me.trouble().startswith("no process leads (nightly)")
    await system.client.delete(LEASE)
    await auntil(lambda: work.is_leading and me.trouble() is None, PATIENT_SEC)


async def test_who_stands_by_beside_a_leader_that_works_is_well(me, system, soon):
    other = Lease("nightly", 3.0, system, "mine", "other", own=True)
    assert await other.acquire()
    renewing = asyncio.ensure_future(other.renew_until_lost())
    work = Work()
    me.task(lead(me, "nightly", work, Outage(me.log, "a.b", "a.c"), life_sec=3.0), name="lead")
    for _ in range(5):
        await asyncio.sleep(SOON_SEC / 3)
        assert me.trouble() is None
    renewing.cancel()
    assert not work.turns


async def test_work_that_returns_and_is_begun_again_is_led(me, soon):
    turns = []

    async def do_a_little(_lease):
        turns.append(1)
        await asyncio.sleep(0.5)

    me.task(lead(me, "nightly", do_a_little, Outage(me.log, "a.b", "a.c"), life_sec=3.0), name="lead")
    await asyncio.sleep(2 * SOON_SEC)
    assert me.trouble() is None
    assert len(turns) > 10


async def test_a_bus_that_fails_the_work_for_a_minute_leaves_nobody_who_leads(me, soon):
    async def fail(_lease):
        raise BusError("market-redis", "oom")

    me.task(lead(me, "nightly", fail, Outage(me.log, "a.b", "a.c"), life_sec=3.0), name="lead")
    await asyncio.sleep(SOON_SEC + 5)
    assert me.trouble().startswith("no process leads (nightly)")
