"""When targets are probed. Who is probed when: each target by itself, whatever becomes of the others."""

import asyncio
import contextlib

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from structlog.testing import capture_logs

from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.result import CONFIG, NOT_MADE, ProbeFinding, ProbeResult
from services.massive.probes.scheduler import (
    LATE_SEC,
    MAX_CONCURRENT,
    SLOW_MS,
    ConcurrencyLimits,
    ProbePlan,
    ProbeScheduler,
    first_delay_sec,
    next_due,
)
from services.massive.targets import Tcp
from support.examples import examples
from support.waiting import auntil

CHANCE = st.floats(0, 1)


@settings(max_examples=examples(125))
@given(CHANCE, st.floats(0.1, 1000))
def test_the_next_probe_is_up_to_a_tenth_off(chance, every_sec):
    assert 0.9 * every_sec <= next_due(0.0, 0.0, every_sec, chance) <= 1.1 * every_sec + 1e-9


def test_what_was_missed_is_not_made_up_for():
    assert next_due(100.0, 500.0, 10.0, 0.5) == 500.0


def test_a_probe_that_took_its_time_does_not_shift_the_rhythm():
    assert next_due(100.0, 104.0, 10.0, 0.5) == 110.0


def test_the_first_probes_of_many_are_spread_and_those_of_a_few_come_at_once():
    assert first_delay_sec(15.0, 2, 1.0) <= 0.05
    assert first_delay_sec(15.0, 500, 1.0) == 10.0
    assert first_delay_sec(1.0, 500, 1.0) == 1.0
    assert first_delay_sec(15.0, 500, 0.0) == 0.0


WELL = ProbeResult("tcp", "h:1", ms={"total": 1.0})


class Probes:
    """Stands in for a module of probes: what a target's probe does is said by name."""

    def __init__(self):
        self.does, self.under_way, self.most = {}, 0, 0

    async def probe(self, target, _means):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            does = self.does.get(target.name)
            return await does() if does is not None else WELL
        finally:
            self.under_way -= 1


@pytest.fixture
async def scheduler(moved_time):
    limits, tasks, found, probes = ConcurrencyLimits(), [], [], Probes()

    def start(work, *, name):
        tasks.append(asyncio.create_task(work, name=name))
        return tasks[-1]

    scheduler = ProbeScheduler(
        start,
        limits,
        make_context=lambda plan, _last: ProbeContext(plan.timeout_sec, limits.look_up_for(None)),
        resolve_target=lambda target: scheduler.unresolved or target,
        deliver=lambda _plan, finding: found.append(finding),
        load_prober=lambda _kind: probes,
    )
    scheduler.found, scheduler.probes, scheduler.unresolved = found, probes, None
    yield scheduler
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, asyncio.CancelledError), outcome
    limits.close()


def plan(name, every_sec=0.02, timeout_sec=1.0, **more):
    return ProbePlan(Tcp(name=name, host="h", port=1, **more), every_sec, timeout_sec)


def seen(scheduler, name):
    return [each for each in scheduler.found if each.target == name]


async def test_each_is_probed_again_and_again(scheduler):
    scheduler.follow([plan("a"), plan("b")])
    await auntil(lambda: len(seen(scheduler, "a")) >= 3 and len(seen(scheduler, "b")) >= 3)


async def test_one_that_hangs_stops_nobody_else_and_is_a_result_in_the_end(scheduler):
    scheduler.probes.does["a"] = asyncio.Event().wait
    scheduler.follow([plan("a", timeout_sec=60), plan("b")])
    await auntil(lambda: len(seen(scheduler, "b")) >= 5)
    assert seen(scheduler, "a") == []
    scheduler.follow([plan("a", timeout_sec=0.05), plan("b")])
    with capture_logs():
        await auntil(lambda: seen(scheduler, "a"))
    assert seen(scheduler, "a")[0].result.error == "broken"


async def test_a_probe_that_breaks_stops_nobody_else_and_goes_on(scheduler):
    async def broken():
        raise ZeroDivisionError

    scheduler.probes.does["a"] = broken
    with capture_logs() as logged:
        scheduler.follow([plan("a"), plan("b")])
        await auntil(lambda: len(seen(scheduler, "a")) >= 2 and len(seen(scheduler, "b")) >= 2)
    assert (logged[0]["event"], logged[0]["target"]) == ("probe.broken", "a")
    result = seen(scheduler, "a")[0].result
    assert (result.stage, result.error) == (CONFIG, "broken")


async def test_a_probe_that_can_not_be_made_is_no_result_and_is_said_once(scheduler):
    async def starved():
        return ProbeResult("tcp", "h:1", "tcp", NOT_MADE)

    scheduler.probes.does |= {"a": starved, "b": starved}
    with capture_logs() as logged:
        scheduler.follow([plan("a"), plan("b"), plan("c")])
        await auntil(lambda: len(seen(scheduler, "c")) >= 5 and scheduler.not_made == {"a", "b"})
        assert {each.target for each in scheduler.found} == {"c"}
        assert [each["event"] for each in logged] == ["probe.not_made"]
    scheduler.probes.does.pop("a")
    scheduler.follow([plan("a"), plan("c")])
    await auntil(lambda: seen(scheduler, "a"))
    assert scheduler.not_made == set()


async def test_what_can_not_be_placed_is_a_result_without_a_probe(scheduler):
    scheduler.unresolved = ProbeResult("tcp", "b", CONFIG, "dns")
    scheduler.follow([plan("a")])
    await auntil(lambda: seen(scheduler, "a"))
    assert scheduler.probes.most == 0


async def test_of_a_new_truth_only_what_is_new_begins_anew(scheduler):
    scheduler.follow([plan("a"), plan("b")])
    await auntil(lambda: len(scheduler.latest()) == 2)
    before = {name: each.task for name, each in scheduler.scheduled.items()}
    scheduler.follow([plan("a"), plan("b", every_sec=0.03), plan("c")])
    assert scheduler.scheduled["a"].task is before["a"]
    assert scheduler.scheduled["b"].task is not before["b"]
    assert set(scheduler.latest()) == {"a"}
    scheduler.follow([])
    scheduler.found.clear()
    with contextlib.suppress(asyncio.CancelledError):
        await before["a"]
    assert (scheduler.scheduled, scheduler.found) == ({}, [])


async def test_so_many_are_probed_at_once_and_no_more(scheduler):
    release = asyncio.Event()

    async def wait():
        await release.wait()
        return WELL

    names = [f"t{n}" for n in range(MAX_CONCURRENT + 20)]
    scheduler.probes.does |= dict.fromkeys(names, wait)
    scheduler.follow([plan(name, every_sec=60.0, timeout_sec=30.0) for name in names])
    await auntil(lambda: scheduler.probes.under_way == MAX_CONCURRENT)
    release.set()
    await auntil(lambda: len(scheduler.found) == len(names))
    assert scheduler.probes.most == MAX_CONCURRENT


@pytest.mark.slow
async def test_many_that_hang_delay_nobody_once_they_are_known_to(scheduler):
    async def hang():
        if len(scheduler.latest()) >= len(names):  # all are known to be slow, and hang from now on
            await asyncio.Event().wait()
        return ProbeResult("tcp", "h", "tcp", "timeout", ms={"total": 5000.0})

    names = [f"t{n}" for n in range(3 * MAX_CONCURRENT)]
    scheduler.probes.does |= dict.fromkeys(names, hang)
    plans = [plan(name, every_sec=0.01, timeout_sec=60) for name in names]
    scheduler.follow(plans)
    await auntil(lambda: scheduler.probes.under_way == MAX_CONCURRENT)
    scheduler.follow([*plans, plan("quick")])
    await auntil(lambda: len(seen(scheduler, "quick")) >= 10)


def test_what_is_slow_waits_for_what_is_slow_and_nothing_else_does():
    limits = ConcurrencyLimits()
    quick = ProbeFinding("a", 1.0, ProbeResult("tcp", "h", ms={"dns": 1.0, "total": SLOW_MS}))
    slow = ProbeFinding("a", 1.0, ProbeResult("tcp", "h", ms={"dns": 1.0, "total": SLOW_MS + 1}))
    slow_name = ProbeFinding("a", 1.0, ProbeResult("tcp", "h", ms={"dns": SLOW_MS + 1, "total": SLOW_MS + 2}))
    gates = [limits.semaphore_for(each) for each in (None, quick, slow, slow_name)]
    assert gates[0] is gates[1] is not gates[2] is gates[3]
    threads = [limits.look_up_for(each) for each in (None, quick, slow, slow_name)]
    assert threads[0] is threads[1] is threads[2] is not threads[3]
    limits.close()


async def test_who_had_no_result_for_three_rounds_is_late(scheduler, moved_time):
    scheduler.follow([plan("a", every_sec=10.0), plan("b", every_sec=10.0)])
    await auntil(lambda: len(scheduler.latest()) == 2)
    moved_time.advance(3 * 10.0 + 1.0 + LATE_SEC - 1.0)
    assert scheduler.count_late() == 0
    moved_time.advance(2.0)
    assert scheduler.count_late() == 2
    await auntil(lambda: scheduler.count_late() == 0)
