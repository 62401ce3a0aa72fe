import asyncio

import pytest

from services.board.market.flight import SingleFlight


class Answers:
    """Answers that the test gives; counts how many were asked for."""

    def __init__(self):
        self.asked, self.answer = 0, asyncio.get_running_loop().create_future()

    async def make(self):
        self.asked += 1
        return await self.answer


async def ask(flight, answers, count, key="SPY"):
    """That many who ask, all of whom wait."""
    tasks = [asyncio.create_task(flight.ask(key, answers.make)) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_all_who_ask_at_once_get_one_answer_and_the_next_one_a_new_one():
    flight, answers = SingleFlight(), Answers()
    tasks = await ask(flight, answers, 5)
    answers.answer.set_result(7)
    assert await asyncio.gather(*tasks) == [7] * 5
    assert answers.asked == 1
    assert await flight.ask("SPY", answers.make) == 7
    assert answers.asked == 2


async def test_different_questions_do_not_wait_for_each_other():
    flight, slow, quick = SingleFlight(), Answers(), Answers()
    (waiting,) = await ask(flight, slow, 1)
    quick.answer.set_result(1)
    assert await flight.ask("QQQ", quick.make) == 1
    assert not waiting.done()
    slow.answer.set_result(2)
    assert await waiting == 2


async def test_a_failure_is_shared_and_the_next_one_asks_again():
    flight, answers = SingleFlight(), Answers()
    tasks = await ask(flight, answers, 3)
    answers.answer.set_exception(ValueError("away"))
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in found] == ["away"] * 3
    again = Answers()
    again.answer.set_result(3)
    assert await flight.ask("SPY", again.make) == 3


async def test_who_gives_up_takes_the_answer_from_nobody():
    flight, answers = SingleFlight(), Answers()
    first, second = await ask(flight, answers, 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    answers.answer.set_result(4)
    assert await second == 4
    assert answers.asked == 1
