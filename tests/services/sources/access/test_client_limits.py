"""Requests that wait for the limits of a source, and what it says of too many."""

import asyncio
import time

import pytest

from marketswarm.bus import BusError
from services.sources.access import client as module
from services.sources.access.client import AskContext, SourceClient
from services.sources.catalog.answer import AnswerStatus
from support.rig.receiver import Answer
from support.scenes.source_client import (
    Account,
    make_source,
    question,
    rows,
)


@pytest.mark.parametrize(
    ("headers", "wait_sec"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0"}, 1.0),
        ({"Retry-After": "Mon, 02 Nov 2026 00:00:00 GMT"}, 1.0),  # which is over
        ({}, module.LIMITED_SEC),
    ],
)
@pytest.mark.parametrize("status", [429, 418])
async def test_too_many_requests_are_no_failure_but_a_pause_for_everybody(
    ask, site, headers, wait_sec, status
):
    site.always, account = Answer(status, headers), Account()
    answer = await ask(account=account)
    assert (answer.outcome, answer.reason, answer.wait_sec) == (AnswerStatus.LIMITED, str(status), wait_sec)
    assert account.blocked == [(None, wait_sec)]
    assert account.outcomes == []


async def test_a_source_that_is_down_for_a_named_time_is_limited_and_else_it_has_failed(ask, site):
    site.always, account = Answer(503, {"Retry-After": "120"}), Account()
    answer = await ask(account=account)
    assert (answer.outcome, answer.reason, answer.wait_sec) == (AnswerStatus.LIMITED, "503", 120.0)
    assert (account.blocked, account.outcomes) == ([(None, 120.0)], [])
    site.always = Answer(503)
    answer = await ask(account=account)
    assert (answer.outcome, answer.reason, account.outcomes) == (AnswerStatus.FAILED, "503", ["fail"])


async def test_a_refused_request_is_reported_also_when_the_bus_cannot_be_told_of_the_pause(ask, site):
    class DeafAccount(Account):
        async def block(self, *_about):
            raise BusError("market-redis", "refused")

    site.always, seen = Answer(429), []
    with pytest.raises(BusError):
        await ask(account=DeafAccount(), seen=seen)
    assert [(each.status, each.outcome, each.reason) for each in seen] == [(429, AnswerStatus.LIMITED, "429")]


async def test_a_document_that_says_too_many_requests_is_the_same(ask, site):
    site.always, account = rows(note="call frequency"), Account()
    answer = await ask(make_source(limited=["note"]), account)
    assert (answer.outcome, answer.reason, account.outcomes) == (AnswerStatus.LIMITED, "call frequency", [])
    assert account.blocked == [(None, module.LIMITED_SEC)]


async def test_a_source_that_is_paused_while_a_question_waits_is_not_asked_and_has_not_failed(ask, site):
    account, readings = Account(0.01), iter([False, True])

    async def is_paused():
        return next(readings)

    answer = await ask(account=account, patience_sec=30, is_paused=is_paused)
    assert (answer.outcome, answer.reason) == (AnswerStatus.FAILED, "paused")
    assert (site.seen, account.outcomes) == ([], [])


async def test_requests_that_wait_for_the_limits_are_let_go_in_the_order_in_which_they_came(site):
    """Without turns the second one would be let go while the first one waits."""
    calls = []

    class NamedAccount(Account):
        """Writes down who takes a request: the server sees two that are let go at once in any order."""

        def __init__(self, name, *waits):
            super().__init__(*waits)
            self.name = name

        async def take(self, key, windows):
            calls.append(self.name)
            return await super().take(key, windows)

    accounts = (NamedAccount("first", 0.05, 0.0), NamedAccount("second", 0.0))
    where = {"example": f"http://127.0.0.1:{site.port}"}
    async with SourceClient({}, where) as client:
        asks = (client.ask(make_source(), question(), each, AskContext(each, 5.0)) for each in accounts)
        answers = await asyncio.gather(*asks)
    assert {answer.outcome for answer in answers} == {AnswerStatus.OK}
    assert calls == ["first", "first", "second"]


async def test_what_others_wait_for_the_limits_is_no_failure_of_the_source(site, monkeypatch):
    """Whoever waits in the queue in vain takes no request out of what the limits allow, and sends none."""
    monkeypatch.setattr(module, "QUEUE_SEC", 0.1)
    is_waiting = asyncio.Event()

    class WaitingAccount(Account):
        async def take(self, key, windows):
            is_waiting.set()
            return await super().take(key, windows)

    patient, others = WaitingAccount(1.5), [Account() for _ in range(3)]
    async with SourceClient({}, {"example": f"http://127.0.0.1:{site.port}"}) as client:

        async def ask(account, **how):
            return await client.ask(make_source(), question(), account, AskContext(account, **how))

        first = asyncio.create_task(ask(patient, patience_sec=60.0))
        await is_waiting.wait()
        deadline = time.monotonic() + 0.6
        answers = await asyncio.gather(*(ask(each, deadline=deadline) for each in others))
        assert (await first).outcome is AnswerStatus.OK
    assert {(each.outcome, each.reason) for each in answers} == {(AnswerStatus.LIMITED, "limited")}
    assert [(each.taken, each.outcomes) for each in others] == [([], [])] * 3
    assert len(site.seen) == 1


async def test_a_request_without_patience_waits_for_those_who_only_ask_the_bus(site):
    class SlowAccount(Account):
        async def take(self, key, windows):
            await asyncio.sleep(0.01)
            return await super().take(key, windows)

    account = SlowAccount()
    async with SourceClient({}, {"example": f"http://127.0.0.1:{site.port}"}) as client:
        asks = (client.ask(make_source(), question(), account, AskContext(account)) for _ in range(5))
        answers = await asyncio.gather(*asks)
    assert {answer.outcome for answer in answers} == {AnswerStatus.OK}


async def test_a_request_waits_for_the_limits_as_long_as_it_may(ask, site):
    begun = time.monotonic()
    answer = await ask(account=Account(0.2, 0.1), patience_sec=5.0)
    assert answer.outcome is AnswerStatus.OK
    assert time.monotonic() - begun >= 0.3
    answer = await ask(account=Account(60.0), patience_sec=5.0)
    assert (answer.outcome, answer.reason, answer.wait_sec) == (AnswerStatus.LIMITED, "limited", 60.0)
    assert len(site.seen) == 1
