"""When beats go out, and what counts as progress."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.agent.heartbeat import JITTER, BeatSchedule, Progress


async def earned(progress):
    try:
        async with asyncio.timeout(0.01):
            await progress.wait_for_progress()
    except TimeoutError:
        return False
    return True


async def test_joining_earns_one_beat_and_each_progress_another():
    progress = Progress(0)
    assert await earned(progress)
    assert not await earned(progress)
    progress.record(1)
    progress.record(2)
    assert await earned(progress)
    assert not await earned(progress)


async def test_resting_earns_beats_all_the_while_and_one_on_waking():
    progress = Progress(0)
    with progress.resting(iter([1, 50]).__next__):
        assert await earned(progress)
        assert await earned(progress)
    assert await earned(progress)
    assert not await earned(progress)


@pytest.mark.parametrize(("now", "silent"), [(5, 5), (0, 0)])
async def test_silence_runs_from_the_last_progress(now, silent):
    assert Progress(0).silent_sec(now) == silent


async def test_there_is_no_silence_in_a_rest_and_a_new_one_after_it():
    progress = Progress(0)
    with progress.resting(iter([1, 100]).__next__):
        assert progress.silent_sec(100) == 0
    assert progress.silent_sec(103) == 3


CHANCE = st.floats(0, 1, exclude_max=True)


@given(st.floats(0.01, 1000), CHANCE, st.lists(st.tuples(CHANCE, st.floats(0, 5)), max_size=30))
def test_a_beat_is_due_on_the_grid_and_in_the_future(interval_sec, phase, steps):
    schedule = BeatSchedule(interval_sec, 100.0, phase)
    now = due = schedule.advance(100.0, 0.0)
    grid = due
    assert 0.499 * interval_sec <= due - 100.0 <= 1.001 * interval_sec
    for chance, late in steps:
        now = max(now, due + late * interval_sec)
        due = schedule.advance(now, chance)
        slots = (due + JITTER * interval_sec * chance - grid) / interval_sec
        assert abs(slots - round(slots)) < 1e-6
        assert now - JITTER * interval_sec <= due <= now + (1 + 2 * JITTER) * interval_sec


def test_beats_on_time_keep_their_number():
    schedule, now = BeatSchedule(10, 0.0, 0.5), 0.0
    for _ in range(1000):
        now = schedule.advance(now, 0.3) + 0.01
    assert 9980 < now < 10000


def test_slots_that_were_slept_through_are_not_made_up_for():
    schedule = BeatSchedule(10, 0.0, 1.0)
    assert schedule.advance(0.0, 0) == 10
    assert schedule.advance(47.0, 0) == 50
    assert schedule.advance(50.0, 0) == 60


def test_two_that_begin_together_come_apart():
    assert BeatSchedule(10, 0.0, 0.1).advance(0.0, 0) != BeatSchedule(10, 0.0, 0.9).advance(0.0, 0)
