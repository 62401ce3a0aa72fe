"""A block cut from outside: whose the cancellation was is told right, whatever else happens."""

import asyncio
import contextlib

import pytest

from marketswarm.agent import tasks as module
from marketswarm.agent.tasks import CancelScope
from support.waiting import PATIENT_SEC


async def block(said, inside, *, after=None):
    """Run `inside` in a block that says how it ended; `after` follows it in the same task."""
    scope = CancelScope()
    said.append(scope)
    try:
        await inside()
    except asyncio.CancelledError:
        if not scope.end():
            raise
        said.append("cut")
    finally:
        scope.end()
    if after is not None:
        await after()


async def forever():
    await asyncio.Event().wait()


async def begun(coroutine):
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


async def test_a_block_that_is_cut_ends_and_its_task_goes_on_as_if_nothing_was():
    said = []
    task = await begun(block(said, forever, after=lambda: asyncio.sleep(0)))
    said[0].cancel()
    await task
    assert said[1:] == ["cut"]
    assert task.cancelling() == 0


async def test_a_block_that_is_not_cut_ends_as_it_would():
    said = []
    await (await begun(block(said, lambda: asyncio.sleep(0))))
    assert said[1:] == []


@pytest.mark.parametrize("order", ["cut first", "other first"])
async def test_the_cancellation_of_somebody_else_is_not_swallowed(order):
    said = []
    task = await begun(block(said, forever))
    if order == "cut first":
        said[0].cancel()
        task.cancel()
    else:
        task.cancel()
        said[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said[1:] == []
    assert task.cancelling() == 1  # theirs, to settle themselves


async def test_a_cancellation_from_before_the_block_does_not_count():
    said = []

    async def late():
        with contextlib.suppress(asyncio.CancelledError):
            await forever()
        await block(said, forever)

    task = await begun(late())
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    said[0].cancel()
    await task
    assert said[1:] == ["cut"]
    assert task.cancelling() == 1


async def test_once_the_block_is_over_nothing_is_cut_any_more():
    said, gate = [], asyncio.Event()
    task = await begun(block(said, lambda: asyncio.sleep(0), after=gate.wait))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    said[0].cancel()
    gate.set()
    await task
    assert said[1:] == []


async def test_a_block_whose_wait_was_just_over_is_cut_all_the_same_and_the_next_wait_is_not():
    said, gate = [], asyncio.Event()
    task = await begun(block(said, gate.wait, after=lambda: asyncio.sleep(0)))
    gate.set()
    said[0].cancel()
    await task
    assert said[1:] == ["cut"]
    assert task.cancelling() == 0


async def test_a_block_that_loses_its_cancellation_gets_another(monkeypatch):
    monkeypatch.setattr(module, "CANCEL_AGAIN_SEC", 0.01)
    said = []

    async def deaf():
        for _ in range(3):
            with contextlib.suppress(asyncio.CancelledError):
                await forever()
        await forever()

    task = await begun(block(said, deaf))
    said[0].cancel()
    await asyncio.wait_for(task, PATIENT_SEC)
    assert said[1:] == ["cut"]
    assert task.cancelling() == 0


async def test_a_timeout_inside_the_block_is_told_apart_from_the_cut():
    said = []

    async def timed():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await forever()
        said.append("timed out")

    task = await begun(block(said, timed))
    said[0].cancel()
    await task
    assert said[1:] == ["cut"]


async def test_a_timeout_around_the_block_is_told_apart_from_the_cut():
    said = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await block(said, forever)
    assert said[1:] == []


async def test_a_task_group_in_the_block_ends_with_it():
    said, ended = [], []

    async def child():
        try:
            await forever()
        finally:
            ended.append("child")

    async def grouped():
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    task = await begun(block(said, grouped))
    await asyncio.sleep(0)
    said[0].cancel()
    await task
    assert said[1:] == ["cut"]
    assert ended == ["child"]


def test_it_lives_in_a_task():
    with pytest.raises(RuntimeError):
        CancelScope()
