"""When targets are probed. Who is probed when: each target by itself, whatever becomes of the others."""

import asyncio
import contextlib

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from services.massive.probes.probers.context import ProbeContext
from services.massive.probes.result import CONFIG, Finding, Result
from services.massive.probes.scheduler import (
    AT_ONCE,
    SLOW_MS,
    Lanes,
    Plan,
    ProbeScheduler,
    first_wait_sec,
    next_due,
)
from services.massive.probes.targets import Tcp
from support.waiting import auntil

CHANCE = st.floats(0, 1)


@settings(max_examples=50)
@given(CHANCE, st.floats(0.1, 1000))
def test_the_next_probe_is_up_to_a_tenth_off(chance, every_sec):
    assert 0.9 * every_sec <= next_due(0.0, 0.0, every_sec, chance) <= 1.1 * every_sec + 1e-9


def test_what_was_missed_is_not_made_up_for():
    assert next_due(100.0, 500.0, 10.0, 0.5) == 500.0


def test_a_probe_that_took_its_time_does_not_shift_the_rhythm():
    assert next_due(100.0, 104.0, 10.0, 0.5) == 110.0


def test_the_first_probes_of_many_are_spread_and_those_of_a_few_come_at_once():
    assert first_wait_sec(15.0, 2, 1.0) <= 0.05
    assert first_wait_sec(15.0, 500, 1.0) == 10.0
    assert first_wait_sec(1.0, 500, 1.0) == 1.0
    assert first_wait_sec(15.0, 500, 0.0) == 0.0


WELL = Result("tcp", "h:1", ms={"total": 1.0})


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
async def rounds():
    lanes, tasks, found = Lanes(), [], []

    def start(work, *, name):
        tasks.append(asyncio.create_task(work, name=name))
        return tasks[-1]

    rounds = ProbeScheduler(
        start,
        lanes,
        means=lambda plan, _last: ProbeContext(plan.within_sec, lanes.look_up(None)),
        placed=lambda target: target,
        deliver=lambda _plan, finding: found.append(finding),
    )
    rounds.found, rounds._modules["tcp"] = found, Probes()
    yield rounds
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, asyncio.CancelledError), outcome
    lanes.close()


def plan(name, every_sec=0.02, within_sec=1.0, **more):
    return Plan(Tcp(name=name, host="h", port=1, **more), every_sec, within_sec)


def seen(rounds, name):
    return [each for each in rounds.found if each.target == name]


async def test_each_is_probed_again_and_again(rounds):
    rounds.follow([plan("a"), plan("b")])
    await auntil(lambda: len(seen(rounds, "a")) >= 3 and len(seen(rounds, "b")) >= 3, 10)


async def test_one_that_hangs_stops_nobody_else_and_is_a_result_in_the_end(rounds):
    rounds._modules["tcp"].does["a"] = asyncio.Event().wait
    rounds.follow([plan("a", within_sec=60), plan("b")])
    await auntil(lambda: len(seen(rounds, "b")) >= 5, 10)
    assert seen(rounds, "a") == []
    rounds.follow([plan("a", within_sec=0.05), plan("b")])
    await auntil(lambda: seen(rounds, "a"), 10)
    assert seen(rounds, "a")[0].result.error == "broken"


async def test_a_probe_that_breaks_stops_nobody_else_and_goes_on(rounds):
    async def broken():
        raise ZeroDivisionError

    rounds._modules["tcp"].does["a"] = broken
    rounds.follow([plan("a"), plan("b")])
    await auntil(lambda: len(seen(rounds, "a")) >= 2 and len(seen(rounds, "b")) >= 2, 10)
    result = seen(rounds, "a")[0].result
    assert (result.stage, result.error) == (CONFIG, "broken")


async def test_what_can_not_be_placed_is_a_result_without_a_probe(rounds):
    rounds._placed = lambda _target: Result("tcp", "b", CONFIG, "dns")
    rounds.follow([plan("a")])
    await auntil(lambda: seen(rounds, "a"), 10)
    assert rounds._modules["tcp"].most == 0


async def test_of_a_new_truth_only_what_is_new_begins_anew(rounds):
    rounds.follow([plan("a"), plan("b")])
    await auntil(lambda: len(rounds.latest()) == 2, 10)
    before = {name: each.task for name, each in rounds.standing.items()}
    rounds.follow([plan("a"), plan("b", every_sec=0.03), plan("c")])
    assert rounds.standing["a"].task is before["a"]
    assert rounds.standing["b"].task is not before["b"]
    assert set(rounds.latest()) == {"a"}
    rounds.follow([])
    rounds.found.clear()
    with contextlib.suppress(asyncio.CancelledError):
        await before["a"]
    assert (rounds.standing, rounds.found) == ({}, [])


async def test_so_many_are_probed_at_once_and_no_more(rounds):
    release = asyncio.Event()

    async def wait():
        await release.wait()
        return WELL

    names = [f"t{n}" for n in range(AT_ONCE + 20)]
    rounds._modules["tcp"].does |= dict.fromkeys(names, wait)
    rounds.follow([plan(name, every_sec=60.0, within_sec=30.0) for name in names])
    await auntil(lambda: rounds._modules["tcp"].under_way == AT_ONCE, 10)
    release.set()
    await auntil(lambda: len(rounds.found) == len(names), 10)
    assert rounds._modules["tcp"].most == AT_ONCE


async def test_many_that_hang_delay_nobody_once_they_are_known_to(rounds):
    async def hang():
        await asyncio.sleep(0.3)
        return Result("tcp", "h", "tcp", "timeout", ms={"total": 5000.0})

    names = [f"t{n}" for n in range(3 * AT_ONCE)]
    rounds._modules["tcp"].does |= dict.fromkeys(names, hang)
    rounds.follow([plan(name, every_sec=0.01) for name in names])
    await auntil(lambda: len(rounds.latest()) == len(names), 10)
    rounds.follow([*(plan(name, every_sec=0.01) for name in names), plan("quick")])
    hung = len(rounds.found)
    await auntil(lambda: len(seen(rounds, "quick")) >= 10, 10)
    assert len(rounds.found) - hung <= 3 * AT_ONCE, "ten rounds of 0.02 s take less than three of theirs"


def test_what_is_slow_waits_for_what_is_slow_and_nothing_else_does():
    lanes = Lanes()
    quick = Finding("a", 1.0, Result("tcp", "h", ms={"dns": 1.0, "total": SLOW_MS}))
    slow = Finding("a", 1.0, Result("tcp", "h", ms={"dns": 1.0, "total": SLOW_MS + 1}))
    slow_name = Finding("a", 1.0, Result("tcp", "h", ms={"dns": SLOW_MS + 1, "total": SLOW_MS + 2}))
    gates = [lanes.gate(each) for each in (None, quick, slow, slow_name)]
    assert gates == [lanes.quick.gate, lanes.quick.gate, lanes.slow.gate, lanes.slow.gate]
    threads = [lanes.look_up(each) for each in (None, quick, slow, slow_name)]
    assert threads == [*[lanes.quick.look_up] * 3, lanes.slow.look_up]
    lanes.close()


async def test_who_had_no_result_for_three_rounds_is_late(rounds):
    rounds.follow([plan("a", every_sec=10.0), plan("b", every_sec=10.0)])
    await auntil(lambda: len(rounds.latest()) == 2, 10)
    assert rounds.late() == 0
    rounds.standing["a"].at -= 3 * 10.0 + 1.0 + 6.0
    rounds.standing["a"].since = rounds.standing["a"].at
    assert rounds.late() == 1
