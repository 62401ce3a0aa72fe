"""Tasks that end together: the first one's end is that of all, and its failure is raised."""

import asyncio

import pytest

from marketswarm.tasks import end_tasks, run_beside, run_until_first


async def test_tasks_that_are_ended_have_cleaned_up():
    done = []

    async def work(name):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            done.append(name)

    tasks = [asyncio.create_task(work(name)) for name in "ab"]
    await asyncio.sleep(0)
    await end_tasks(*tasks)
    assert sorted(done) == ["a", "b"]


async def test_the_first_end_ends_the_others_and_its_failure_is_raised():
    ended = asyncio.Event()

    async def fail():
        raise ValueError("first")

    async def wait():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(ValueError, match="first"):
        await run_until_first(wait(), fail())
    assert ended.is_set()
    await run_until_first(wait(), asyncio.sleep(0))


async def test_all_end_with_the_task_that_runs_them():
    ended = []

    async def wait():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    running = asyncio.create_task(run_until_first(wait(), wait()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == [True, True]


@pytest.mark.parametrize("is_failing", [False, True])
async def test_what_runs_beside_a_block_has_ended_with_it_and_its_failure_is_ignored(is_failing):
    ended = []

    async def work():
        try:
            if is_failing:
                raise ValueError
            await asyncio.sleep(60)
        finally:
            ended.append("work")

    async with run_beside(work()) as task:
        await asyncio.sleep(0)
        assert task.done() == is_failing
    assert ended == ["work"]
