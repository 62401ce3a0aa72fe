import asyncio

import pytest

from marketswarm.agent.progress import Progress


async def earned(progress):
    try:
        async with asyncio.timeout(0.01):
            await progress.since_last_beat()
    except TimeoutError:
        return False
    return True


async def test_joining_earns_one_beat_and_each_progress_another():
    progress = Progress(0)
    assert await earned(progress)
    assert not await earned(progress)
    progress.make(1)
    progress.make(2)
    assert await earned(progress)
    assert not await earned(progress)


async def test_resting_earns_beats_all_the_while_and_one_on_waking():
    progress = Progress(0)
    progress.rest(1)
    assert await earned(progress)
    assert await earned(progress)
    progress.resume(50)
    assert await earned(progress)
    assert not await earned(progress)


@pytest.mark.parametrize(("now", "silent"), [(5, 5), (0, 0)])
async def test_silence_runs_from_the_last_progress(now, silent):
    assert Progress(0).silent_sec(now) == silent


async def test_there_is_no_silence_in_a_rest_and_a_new_one_after_it():
    progress = Progress(0)
    progress.rest(1)
    assert progress.silent_sec(100) == 0
    progress.resume(100)
    assert progress.silent_sec(103) == 3
