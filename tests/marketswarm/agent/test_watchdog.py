import asyncio
import threading
import time

import pytest

from marketswarm.agent.heartbeat import Progress
from marketswarm.agent.watchdog import Watchdog, format_task_stacks
from marketswarm.tasks import end_tasks
from support.waiting import PATIENT_SEC


@pytest.fixture
async def watchdog():
    now = time.monotonic()
    watchdog = Watchdog(asyncio.get_running_loop(), progress := Progress(now))
    watchdog.limit_sec = 3
    watchdog.record_tick(now)
    watchdog.now, watchdog.progress = now, progress
    return watchdog


async def test_as_long_as_both_are_heard_of_all_is_well(watchdog):
    assert watchdog.find_hang(watchdog.now + 2.9) is None


async def test_a_loop_that_does_not_tick_hangs(watchdog):
    watchdog.progress.record(watchdog.now + 3)
    assert watchdog.find_hang(watchdog.now + 3.1) == "loop_hung"


async def test_work_without_progress_hangs(watchdog):
    watchdog.record_tick(watchdog.now + 3)
    assert watchdog.find_hang(watchdog.now + 3.1) == "work_hung"


async def test_a_loop_that_stands_still_is_the_reason_though_the_work_was_heard_of_before_it(watchdog):
    watchdog.record_tick(watchdog.now + 0.3)
    assert watchdog.find_hang(watchdog.now + 3.1) == "loop_hung"


async def test_work_at_rest_does_not(watchdog):
    watchdog.record_tick(watchdog.now + 100)
    with watchdog.progress.resting():
        assert watchdog.find_hang(watchdog.now + 100) is None


async def test_a_stop_that_takes_too_long_hangs(watchdog):
    watchdog.begin_stop()
    assert watchdog.find_hang(time.monotonic() + 4) == "loop_hung"
    watchdog.limit_sec = float("inf")
    assert watchdog.find_hang(time.monotonic() + 4) is None
    assert watchdog.find_hang(time.monotonic() + 4.6) == "stop_hung"


async def test_time_in_which_nobody_ran_does_not_count(watchdog):
    later = watchdog.now + 60
    watchdog.discount_pause(58, later)
    assert watchdog.find_hang(later) is None
    assert watchdog.find_hang(later + 2) == "loop_hung"
    watchdog.discount_pause(1000, later)
    assert watchdog.last_alive_at(later) == later


async def test_time_in_which_nobody_ran_does_not_count_for_a_stop_either(watchdog):
    watchdog.limit_sec = float("inf")
    watchdog.discount_pause(30, time.monotonic())
    assert watchdog.find_hang(time.monotonic() + 1000) is None, "nobody has asked for a stop"
    watchdog.begin_stop()
    watchdog.discount_pause(30, time.monotonic() + 30)
    assert watchdog.find_hang(time.monotonic() + 34) is None
    assert watchdog.find_hang(time.monotonic() + 35) == "stop_hung"


async def test_it_ends_the_process_with_5_when_the_loop_stands_still(capsys):
    codes, died = [], threading.Event()

    def die(code):
        codes.append(code)
        died.set()

    watchdog = Watchdog(asyncio.get_running_loop(), Progress(time.monotonic()), end_process=die)
    watchdog.limit_sec = 0.1
    with watchdog:
        assert died.wait(PATIENT_SEC)  # the loop stands still here, in a test on purpose
    assert codes == [5]


async def test_the_stack_of_a_task_reaches_down_to_what_it_waits_for():
    async def inner():
        await asyncio.Event().wait()

    async def outer():
        await inner()

    task = asyncio.create_task(outer(), name="deep")
    await asyncio.sleep(0)
    shown = await asyncio.to_thread(format_task_stacks, asyncio.get_running_loop())
    assert [line.split()[-1].rpartition(".")[2] for line in shown["deep"].splitlines()] == [
        "outer",
        "inner",
        "wait",
    ]
    await end_tasks(task)


async def test_from_where_it_begins_both_have_all_their_time(watchdog):
    """Joining may have taken longer than the work may be silent, and the loop ticks only after it."""
    watchdog.record_tick(time.monotonic() - 100)
    watchdog.progress.record(time.monotonic())
    watchdog.start(3)
    assert watchdog.find_hang(time.monotonic()) is None
    assert time.monotonic() - watchdog.last_alive_at(time.monotonic()) < 3
