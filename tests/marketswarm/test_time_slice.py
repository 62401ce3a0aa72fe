import asyncio
import time

from marketswarm.time_slice import TimeSlice


async def test_long_work_lets_others_run_when_its_turn_is_over():
    longest, seen = 0.0, 0
    done = asyncio.Event()

    async def other() -> None:
        nonlocal longest, seen
        last = time.monotonic()
        while not done.is_set():
            await asyncio.sleep(0)
            now = time.monotonic()
            longest, seen, last = max(longest, now - last), seen + 1, now

    task = asyncio.create_task(other())
    time_slice, ends_at = TimeSlice(0.01), time.monotonic() + 0.3
    while time.monotonic() < ends_at:
        await time_slice.pause()
    done.set()
    await task
    assert seen > 5
    assert longest < 0.2
