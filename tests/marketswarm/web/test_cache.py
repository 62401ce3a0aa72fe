"""Answers that are kept in memory and in Redis, and those that many ask for at the same time."""

import asyncio

import orjson
import pytest

from marketswarm.testing import MemoryBus
from marketswarm.web.cache import Cached, RedisShelf


class Answers:
    """Answers that the test gives; counts how many were asked for."""

    def __init__(self):
        self.asked, self.answer = 0, asyncio.get_running_loop().create_future()

    async def make(self):
        self.asked += 1
        return await self.answer


class Lengths:
    """Answers a question with its length, one of one letter with nothing; notes what was asked."""

    def __init__(self):
        self.asked, self.now = [], 0.0

    async def make(self, keys):
        self.asked.append(tuple(keys))
        return {key: len(key) for key in keys if len(key) > 1}

    async def find(self, cached, *keys, version=None):
        return await cached.find_each(keys, self.make, version)


@pytest.fixture
def lengths():
    return Lengths()


async def ask(cached, answers, count, key="SPY", version=None):
    """That many who ask, all of whom wait."""
    tasks = [asyncio.create_task(cached.find(key, answers.make, version)) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_all_who_ask_at_once_get_one_answer_and_it_is_kept_for_its_time(lengths):
    cached, answers = Cached(5.0, clock=lambda: lengths.now), Answers()
    tasks = await ask(cached, answers, 5)
    answers.answer.set_result(7)
    assert await asyncio.gather(*tasks) == [7] * 5
    for lengths.now, asked in ((4.9, 1), (5.0, 2)):
        assert await cached.find("SPY", answers.make) == 7
        assert answers.asked == asked
    assert (cached.counts.memory, cached.counts.source) == (1, 2)


async def test_different_questions_do_not_wait_for_each_other():
    cached, slow, quick = Cached(5.0, 2), Answers(), Answers()
    (waiting,) = await ask(cached, slow, 1)
    quick.answer.set_result(1)
    assert await cached.find("QQQ", quick.make) == 1
    assert not waiting.done()
    slow.answer.set_result(2)
    assert await waiting == 2


async def test_a_failure_is_shared_and_the_next_one_asks_again():
    cached, answers = Cached(5.0), Answers()
    tasks = await ask(cached, answers, 3)
    answers.answer.set_exception(ValueError("away"))
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in found] == ["away"] * 3
    again = Answers()
    again.answer.set_result(3)
    assert await cached.find("SPY", again.make) == 3


async def test_who_gives_up_takes_the_answer_from_nobody():
    cached, answers = Cached(5.0), Answers()
    first, second = await ask(cached, answers, 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    answers.answer.set_result(4)
    assert await second == 4
    assert answers.asked == 1


async def test_an_answer_of_another_version_is_made_anew_though_one_is_being_made():
    cached, old, new = Cached(5.0), Answers(), Answers()
    (early,) = await ask(cached, old, 1, version=1)
    new.answer.set_result("new")
    assert await cached.find("SPY", new.make, version=2) == "new"
    old.answer.set_result("old")
    assert await early == "old"
    assert cached.find_kept("SPY", 2) is None
    cached.keep("SPY", "kept", 3)
    assert (cached.find_kept("SPY", 3), cached.find_kept("SPY", 2)) == ("kept", None)


async def test_an_answer_that_was_being_made_when_all_were_forgotten_is_not_kept():
    cached, old, new = Cached(5.0), Answers(), Answers()
    (early,) = await ask(cached, old, 1)
    cached.clear()
    new.answer.set_result("new")
    assert await cached.find("SPY", new.make) == "new"
    old.answer.set_result("old")
    assert await early == "old"
    assert cached.find_kept("SPY") == "new"


async def test_that_there_is_no_answer_is_kept_as_well(lengths):
    cached = Cached(5.0, 10, clock=lambda: lengths.now)
    for lengths.now in (0.0, 4.0):
        assert await lengths.find(cached, "A", "SPY") == {"SPY": 3}
    assert await lengths.find(cached, "A", "QQ") == {"QQ": 2}
    lengths.now = 6.0
    await lengths.find(cached, "A")
    assert lengths.asked == [("A", "SPY"), ("QQ",), ("A",)]


async def test_those_that_were_asked_for_longest_ago_go_first_by_number_and_by_size(lengths):
    by_number = Cached(5.0, 2)
    for key in ("AA", "BB", "AA", "CC"):
        await lengths.find(by_number, key)
    assert [by_number.find_kept(key) for key in ("AA", "BB", "CC")] == [2, None, 2]
    by_size = Cached(5.0, 10, measure=lambda value: value, max_size=5)
    for key in ("AA", "BBB", "AA", "CC"):
        await lengths.find(by_size, key)
    assert [by_size.find_kept(key) for key in ("AA", "BBB", "CC")] == [2, None, 2]


def make_shelf(bus):
    return RedisShelf(lambda: bus, "len:{}".format, orjson.dumps, parse, 60)


def parse(key, text):
    """A length that is that of the key."""
    return len(key) if text == b"%d" % len(key) else None


async def test_what_is_not_in_memory_comes_from_redis_and_what_is_not_there_from_its_source(lengths):
    bus = MemoryBus("market-redis")
    await lengths.find(Cached(5.0, 10, shelf=make_shelf(bus)), "AA", "BBB")
    await bus.client.set("len:BBB", "no length")
    other = Cached(5.0, 10, shelf=make_shelf(bus))
    assert await lengths.find(other, "AA", "BBB", "CC") == {"AA": 2, "BBB": 3, "CC": 2}
    assert lengths.asked == [("AA", "BBB"), ("BBB", "CC")]
    assert (other.counts.redis, other.counts.source) == (1, 2)
    assert await bus.client.get("len:BBB") == b"3"
    assert 0 < await bus.client.ttl("len:CC") <= 60


async def test_what_is_not_right_any_more_is_made_anew_wherever_it_is_kept(lengths):
    bus, right = MemoryBus("market-redis"), [True]
    cached = Cached(5.0, shelf=make_shelf(bus), is_current=lambda _key, _value: right[0])
    for right[0] in (True, True, False):
        assert await lengths.find(cached, "AA") == {"AA": 2}
    assert len(lengths.asked) == 2


async def test_without_redis_the_source_answers(lengths):
    bus = MemoryBus("market-redis")
    bus.connected = False
    for shelf in (make_shelf(bus), make_shelf(None)):
        assert await lengths.find(Cached(5.0, shelf=shelf), "AA") == {"AA": 2}


async def test_an_answer_is_renewed_while_the_old_one_is_found_and_never_by_a_wrong_one(
    lengths,
):
    is_right = True
    cached = Cached(5.0, 3, clock=lambda: lengths.now, is_current=lambda _key, value: value == 1 or is_right)
    cached.keep("SPY", 1)
    answers = Answers()
    task = asyncio.create_task(cached.renew("SPY", answers.make))
    await asyncio.sleep(0)
    assert cached.find_kept("SPY") == 1
    lengths.now = 4.0
    answers.answer.set_result(2)
    await task
    lengths.now = 6.0
    assert cached.find_kept("SPY") == 2, "it is kept for a time of its own"
    cached.keep("SPY", 1)
    is_right = False
    await cached.renew("SPY", answers.make)
    assert cached.find_kept("SPY") == 1


async def test_what_was_renewed_while_all_was_cleared_is_not_kept():
    cached, answers = Cached(5.0), Answers()
    task = asyncio.create_task(cached.renew("SPY", answers.make))
    await asyncio.sleep(0)
    cached.clear()
    answers.answer.set_result(2)
    await task
    assert cached.find_kept("SPY") is None
