import asyncio
import time
from types import SimpleNamespace

import pytest

from marketswarm import time_slice as module
from marketswarm.time_slice import StepSize, TimeSlice, wait_until_due


async def test_long_work_lets_others_run_whenever_its_slice_is_over(monkeypatch):
    now, turns = 0, list[int]()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(now)))

    async def other() -> None:
        while True:
            turns.append(now)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    time_slice = TimeSlice(10.0)
    for _ in range(100):  # each step of the work takes a second
        now += 1
        await time_slice.pause()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert turns == list(range(10, 101, 10))


async def test_what_becomes_due_as_the_time_runs_out_is_not_lost():
    due = asyncio.Event()
    waiting = asyncio.create_task(wait_until_due(due, 0.0))
    await asyncio.sleep(0)  # it waits, and its time is over
    due.set()
    assert await waiting
    assert not due.is_set()
    assert not await wait_until_due(due, 0.0)


async def test_what_is_due_early_waits_for_the_least_time_and_covers_what_comes_meanwhile():
    due, began = asyncio.Event(), time.monotonic()
    due.set()
    asyncio.get_running_loop().call_later(0.01, due.set)
    assert await wait_until_due(due, 60.0, least_sec=0.03)
    assert time.monotonic() - began >= 0.03
    assert not due.is_set()


async def test_while_nothing_is_due_a_wait_with_a_least_time_takes_one_timer(monkeypatch):
    slept = list[float]()
    monkeypatch.setattr(asyncio, "sleep", slept.append)
    began = time.monotonic()
    assert not await wait_until_due(asyncio.Event(), 0.0, least_sec=0.03)
    assert time.monotonic() - began >= 0.03
    assert slept == []


def test_a_step_becomes_as_small_as_the_machine_is_slow_and_grows_again():
    step = StepSize(25, 250, slice_sec=0.005)
    assert step.size == 25  # until it is known that more do no harm
    for _ in range(5):  # 100 µs an item
        step.note_step(step.size, step.size * 100e-6)
    assert step.size == 50
    for _ in range(5):  # ten times as slow: never fewer than the fewest
        step.note_step(step.size, step.size * 1e-3)
    assert step.size == 25
    for _ in range(5):
        step.note_step(step.size, step.size * 10e-6)
    assert step.size == 250


def test_one_step_that_a_standing_machine_held_up_only_halves_the_next_one():
    step = StepSize(25, 250, slice_sec=0.005)
    for _ in range(5):
        step.note_step(step.size, 0.0)
    step.note_step(250, 10.0)
    assert step.size == 125
