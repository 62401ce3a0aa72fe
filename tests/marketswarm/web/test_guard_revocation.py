"""Answers that go on only while their client may read."""

import asyncio

import pytest

from marketswarm.web import guard
from marketswarm.web.guard import run_while_allowed
from marketswarm.web.limits import RefusedError


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(guard, "CHECK_SEC", 0.001)


async def test_an_answer_goes_on_while_nobody_can_say_and_ends_when_it_is_refused():
    answers = iter([True, RefusedError(503, "the bus does not answer"), True, False])
    asked, cancelled = [], []

    async def may_read():
        asked.append(next(answers))
        if isinstance(asked[-1], RefusedError):
            raise asked[-1]
        return asked[-1]

    async def answering():
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(len(asked))

    assert await run_while_allowed(answering(), may_read) is False
    assert cancelled == [4]


async def test_an_answer_that_ends_by_itself_is_asked_for_no_more(moved_time):
    asked = []

    async def may_read():
        asked.append(1)
        return True

    assert await run_while_allowed(asyncio.sleep(0), may_read) is True
    await asyncio.sleep(10)
    assert moved_time.ahead_sec >= 9
    assert asked == []


async def test_a_time_limit_of_the_answer_itself_is_no_refusal():
    async def answering():
        raise TimeoutError

    async def may_read():
        return True

    with pytest.raises(TimeoutError):
        await run_while_allowed(answering(), may_read)
