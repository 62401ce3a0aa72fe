"""An outage in its log lines, and the loops that work through it."""

import asyncio
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from marketswarm import log as logs
from marketswarm.bus import BusError
from marketswarm.bus.outage import Outage, retry, retrying
from marketswarm.tasks import end_tasks
from support.fixtures import opened
from support.waiting import auntil

REFUSED = BusError("market-redis", "refused", "no route")


@pytest.fixture
def outage():
    return Outage(logs.get("part"), "thing.waiting", "thing.resumed", stream="a", count=lambda: 7)


logged = opened(capture_logs)


def fail(times, error=REFUSED):
    """A step that fails so many times, and then returns how often it was called."""
    calls = []

    async def step():
        calls.append(asyncio.get_running_loop().time())
        if len(calls) <= times:
            raise error
        return calls

    return step


def test_each_reason_is_logged_once_and_the_end_once(outage, logged):
    for reason in ("refused", "loading", "refused", "loading"):
        outage.record(BusError("market-redis", reason))
    outage.end()
    outage.end()
    assert [(line["event"], line["log_level"], line.get("reason")) for line in logged] == [
        ("thing.waiting", "warning", "refused"),
        ("thing.waiting", "warning", "loading"),
        ("thing.resumed", "info", None),
    ]


def test_the_next_outage_is_logged_anew(outage, logged):
    for _ in range(2):
        outage.record(REFUSED)
        outage.end()
    assert [line["event"] for line in logged] == ["thing.waiting", "thing.resumed"] * 2


async def test_both_events_name_the_bus_and_have_the_fields_of_the_outage(moved_time, outage, logged):
    outage.record(REFUSED)
    await asyncio.sleep(90)
    outage.end()
    begun, ended = logged
    shared = {"bus": "market-redis", "part": "part", "stream": "a", "count": 7}
    reason = {"reason": "refused", "detail": "no route"}
    assert begun == {"event": "thing.waiting", "log_level": "warning", **shared, **reason}
    assert ended == {
        "event": "thing.resumed",
        "log_level": "info",
        **shared,
        "after": "refused",
        "away_sec": pytest.approx(90, abs=1),
    }


def test_it_says_what_is_wrong_as_long_as_it_lasts():
    said = []
    outage = Outage(logs.get("part"), "thing.waiting", "thing.resumed", degrade=said.append)
    outage.end()
    outage.record(REFUSED)
    assert outage.problem == "market-redis refused"
    outage.record(BusError("market-redis", "oom"))
    outage.end()
    assert outage.problem is None
    assert said == ["market-redis refused", "market-redis oom", None]


async def test_a_loop_goes_on_after_a_failure_and_rests_longer_after_each(moved_time, outage):
    step, turns, failures = fail(4), [], []
    async for attempt in retrying(outage):
        turns.append(asyncio.get_running_loop().time())
        with attempt:
            await step()
            break
        failures.append(attempt.failures)
    assert failures == [1, 2, 3, 4]
    pauses = [later - earlier for earlier, later in pairwise(turns)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.5], abs=0.05)
    assert outage.problem is None


async def test_a_loop_does_not_rest_after_a_success(outage):
    rested, turns = [], 0
    async for attempt in retrying(outage, rested.append):
        with attempt:
            turns += 1
        if turns == 3:
            break
    assert not rested


async def test_a_loop_rests_as_it_is_told(outage):
    rested, step = [], fail(1)

    async def rest(seconds):
        rested.append(seconds)

    async for attempt in retrying(outage, rest):
        with attempt:
            await step()
            break
    assert rested == [0.1]


async def test_a_success_inside_the_block_ends_the_outage_and_the_long_pauses(moved_time, outage, logged):
    for _ in range(3):
        with outage:
            raise REFUSED
    with outage:
        outage.end()
        assert outage.problem is None
        raise REFUSED
    assert outage.failures == 1
    assert [line["event"] for line in logged] == ["thing.waiting", "thing.resumed", "thing.waiting"]


@pytest.mark.parametrize("error", [ValueError(), asyncio.CancelledError(), TimeoutError()])
async def test_any_other_error_leaves_the_loop_and_says_nothing_about_the_bus(outage, logged, error):
    async def run():
        async for attempt in retrying(outage):
            with attempt:
                raise error

    outage.record(REFUSED)
    with pytest.raises(type(error)):
        await run()
    assert outage.problem == "market-redis refused"
    assert len(logged) == 1


async def test_a_cancelled_loop_ends_in_its_rest(outage):
    resting = asyncio.Event()

    async def rest(_sec):
        resting.set()
        await asyncio.Event().wait()

    async def run():
        async for attempt in retrying(outage, rest):
            with attempt:
                raise REFUSED

    task = asyncio.create_task(run())
    await resting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_question_is_asked_again_until_the_bus_answers(moved_time, outage, logged):
    assert len(await retry(outage, fail(3))) == 4
    assert [line["event"] for line in logged] == ["thing.waiting", "thing.resumed"]


async def test_a_question_is_given_up_when_the_bus_is_away_for_too_long(moved_time, outage):
    begun = asyncio.get_running_loop().time()
    with pytest.raises(BusError):
        await retry(outage, fail(1000), patience_sec=30)
    assert 30 <= asyncio.get_running_loop().time() - begun < 35
    assert outage.problem is not None


async def test_questions_that_are_answered_end_no_outage_of_another_one(moved_time, outage, logged):
    failing = asyncio.create_task(retry(outage, fail(20)))
    while not failing.done():
        await retry(outage, fail(0))
        await asyncio.sleep(0.05)
    assert [line["event"] for line in logged] == ["thing.waiting", "thing.resumed"]


async def test_after_a_question_that_was_cancelled_the_next_answer_ends_the_outage(outage):
    failing = asyncio.create_task(retry(outage, fail(1000)))
    await auntil(lambda: outage.problem is not None)
    await end_tasks(failing)
    await retry(outage, fail(0))
    assert outage.problem is None
