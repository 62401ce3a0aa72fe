"""Asking a long question in parts: which of them are asked, what is waited for, and what is kept."""

import time
from dataclasses import replace

import pytest

from services.sources.access import client as module
from services.sources.catalog.answer import AnswerStatus
from support.rig.receiver import Answer
from support.scenes.source_client import START, Account, hours_of, make_source, question, rows


async def test_a_long_question_is_asked_in_parts_and_each_part_takes_a_request(ask, site):
    site.choose = lambda asked: rows(int(asked.path.split("from=")[1].split("&")[0]) % 86_400 // 3600)
    account = Account()
    answer = await ask(make_source(limit=1), account, question=question(3))
    assert hours_of(answer) == [0, 1, 2]
    assert len(account.taken) == len(site.seen) == 3
    assert answer.parts_left == 0


class ScarceAccount(Account):
    """Has so many requests left, in one window of so many seconds."""

    def __init__(self, left, sec):
        super().__init__()
        self.left, self.sec = left, sec

    async def count_left(self, _key, _windows, waited_for_sec=0.0):
        return [0 if sum(self.waits) > waited_for_sec else self.left]


def answer_parts(site):
    """Answer each part with the bar of its first hour; return the hours that are asked for, in order."""
    hours = []

    def choose(request):
        hours.append(int(request.path.split("from=")[1].split("&")[0]) % 86_400 // 3600)
        return rows(hours[-1])

    site.choose = choose
    return hours


@pytest.mark.parametrize(
    ("limits", "left", "asked"),
    [
        ({"per_minute": 3}, 3, [9, 8, 7]),
        ({"per_month": 100}, 6, [9, 8, 7]),  # others need some, too, and so does this series tomorrow
        ({"per_month": 100}, 0, [9]),
        ({"per_second": 1}, 0, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),  # it is waited for
    ],
)
async def test_a_history_that_the_limits_do_not_allow_is_shorter(ask, site, limits, left, asked):
    hours, account = answer_parts(site), ScarceAccount(left, 0)
    answer = await ask(make_source(limits=limits, limit=1), account, question=question(10))
    assert hours == asked
    assert (answer.outcome, answer.parts_left) == (AnswerStatus.OK, 10 - len(asked))
    assert hours_of(answer) == asked[::-1]


async def test_a_pause_that_the_first_part_waits_for_makes_no_history_shorter(ask, site):
    """While it lasts no request may be sent; but all that may be sent after it count."""
    hours, account = answer_parts(site), ScarceAccount(4, 60)
    account.waits = [0.1]
    answer = await ask(make_source(limit=1), account, question=question(3), patience_sec=1.0)
    assert (hours, answer.parts_left) == ([2, 1, 0], 0)


class PausedAccount(Account):
    """Grants none of a key's requests while the source wants a pause, as the limiter on the bus does."""

    def __init__(self):
        super().__init__()
        self.pauses = []

    async def take(self, key, windows):
        await super().take(key, windows)
        until = max((begun + sec for each, begun, sec in self.pauses if each == key), default=0.0)
        return max(0.0, until - time.monotonic())

    async def block(self, key, sec, windows):
        await super().block(key, sec, windows)
        self.pauses.append((key, time.monotonic(), sec))


async def test_what_came_before_the_limits_were_used_up_is_kept(ask, site):
    """Others sent requests meanwhile; and the last part, of which a page is missing, is no part."""
    site.script += [rows(3), rows(2, next="p2"), Answer(429, {"Retry-After": "3600"})]
    account = PausedAccount()
    answer = await ask(make_source(limit=1, paging={"next": "next", "param": "page"}), account)
    assert (answer.outcome, answer.parts_left) == (AnswerStatus.OK, 3)
    assert hours_of(answer) == [3]
    assert account.blocked == [(None, 3600.0)]
    assert account.outcomes == ["ok"]


@pytest.mark.parametrize(("pauses", "hours"), [(1, [0, 1, 2]), (3, [0, 1, 2]), (4, [2])])
async def test_once_a_part_came_short_pauses_that_the_source_asks_for_are_waited_out(
    ask, site, monkeypatch, pauses, hours
):
    """What comes next is older; but a source that goes on like that is left alone."""
    monkeypatch.setattr(module, "SHORTEST_BLOCK_SEC", 0.01)
    pause = Answer(429, {"Retry-After": "0"})
    site.script += [rows(2), *[pause] * pauses, rows(1), rows(0)]
    answer = await ask(make_source(limit=1), PausedAccount(), question=question(3))
    assert (answer.outcome, hours_of(answer)) == (AnswerStatus.OK, hours)
    assert answer.parts_left == 3 - len(hours)
    assert len(site.seen) == 1 + min(pauses, 4) + len(hours) - 1


async def test_before_a_part_came_no_pause_is_waited_out(ask, site):
    site.script.append(Answer(429, {"Retry-After": "1"}))
    answer = await ask(make_source(limit=1), PausedAccount(), question=question(3))
    assert (answer.outcome, answer.wait_sec, len(site.seen)) == (AnswerStatus.LIMITED, 1.0, 1)


async def test_once_a_part_came_the_next_one_waits_for_longer(ask, site):
    answer_parts(site)
    answer = await ask(make_source(limit=1), Account(0.0, 0.3, 0.3), question=question(3), patience_sec=0.1)
    assert (answer.outcome, len(answer.records)) == (AnswerStatus.OK, 3)
    answer = await ask(make_source(limit=1), Account(0.3), question=question(3), patience_sec=0.1)
    assert (answer.outcome, answer.reason) == (AnswerStatus.LIMITED, "limited")


async def test_half_a_series_is_none(ask, site):
    site.script += [rows(0), Answer(500)]
    account = Account()
    answer = await ask(make_source(limit=1), account)
    assert (answer.outcome, answer.records, account.outcomes) == (AnswerStatus.FAILED, (), ["fail"])


# -- a question that can wait


@pytest.mark.parametrize(
    ("limits", "left", "asked"),
    [
        ({"per_minute": 60}, 7, [9, 8, 7, 6]),
        ({"per_minute": 60}, 1, [9]),
        ({"per_month": 100}, 6, [9, 8, 7]),
        ({"per_second": 1}, 0, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
    ],
)
async def test_a_question_that_can_wait_leaves_others_half_of_each_limit(ask, site, limits, left, asked):
    hours, account = answer_parts(site), ScarceAccount(left, 0)
    answer = await ask(make_source(limits=limits, limit=1), account, question=question(10), can_wait=True)
    assert (hours, answer.parts_left) == (asked, 10 - len(asked))
    assert answer.since_ms == 1000 * START.timestamp() + 3_600_000 * asked[-1]


@pytest.mark.parametrize("hours", [1, 3])
async def test_a_question_that_can_wait_is_not_asked_while_the_limits_allow_nothing(ask, site, hours):
    account = ScarceAccount(0, 0)
    answer = await ask(make_source(limit=1), account, question=question(hours), can_wait=True)
    assert (answer.outcome, site.seen, account.taken) == (AnswerStatus.LIMITED, [], [])


async def test_a_question_that_can_wait_waits_out_no_pause_and_keeps_what_came_before_a_failure(ask, site):
    for answer in (Answer(429, {"Retry-After": "1"}), Answer(500), Answer(400)):
        site.script += [rows(2), answer]
        account = PausedAccount()
        found = await ask(make_source(limit=1), account, question=question(3), can_wait=True)
        assert (found.outcome, hours_of(found), found.parts_left) == (AnswerStatus.OK, [2], 2)
        assert account.outcomes == ["ok"]
    site.script.append(Answer(500))
    found = await ask(make_source(limit=1), account, question=question(3), can_wait=True)
    assert (found.outcome, found.since_ms) == (AnswerStatus.FAILED, None)


async def test_a_question_that_can_wait_takes_no_more_parts_at_once_than_it_may(ask, site, monkeypatch):
    monkeypatch.setattr(module, "SPARE_PARTS", 3)
    answer_parts(site)
    answer = await ask(make_source(limit=1), question=question(10), can_wait=True)
    assert (len(site.seen), answer.parts_left) == (3, 7)


async def test_what_a_source_does_not_have_by_its_file_takes_no_request(ask, site):
    source = make_source(history_days=1)
    answer = await ask(source, ScarceAccount(0, 0), question=question(10), can_wait=True)
    assert (answer.outcome, answer.parts_left, answer.since_ms) == (AnswerStatus.EMPTY, 0, None)
    assert site.seen == []


async def test_only_the_answer_to_a_question_for_a_history_says_from_when_on_it_is(ask):
    answer = await ask()
    assert answer.since_ms == round(1000 * START.timestamp())
    answer = await ask(question=replace(question(), known_until=START))
    assert (answer.outcome, answer.since_ms) == (AnswerStatus.OK, None)


@pytest.mark.parametrize(
    ("can_wait", "expected"),
    [(False, (AnswerStatus.FAILED, "timeout", [])), (True, (AnswerStatus.OK, "", [2]))],
)
async def test_time_that_its_own_parts_used_up_is_a_timeout(ask, site, can_wait, expected):
    """Also between two requests: an answer just before the end does not differ from one just after it."""
    hours_asked = answer_parts(site)
    deadline = time.monotonic() + 1.0

    def use_up(_sent):
        time.sleep(max(0.0, deadline - time.monotonic()))

    answer = await ask(
        make_source(limit=1), question=question(3), deadline=deadline, on_request=use_up, can_wait=can_wait
    )
    assert hours_asked == [2]
    assert (answer.outcome, answer.reason, hours_of(answer)) == expected
