"""PagerDuty's Events API v2: who is woken, by which alert, and which requests are made again."""

import asyncio
from dataclasses import replace

import httpx
import orjson
import pytest
from pydantic import SecretStr, ValidationError

from marketswarm.channels import Message, MessageKind, Severity, http, make_event_message, pagerduty
from marketswarm.channels.pagerduty import ENQUEUE, Options, PagerDuty, build_requests
from marketswarm.event import Kind, encode_event
from support.channel_kinds import KEY, URL, refused
from support.channel_messages import AT, FLAPPING, GROUP, MISS, OK, REMINDER, event_of
from support.chat_schemas import PagerDutyTrigger


def test_one_that_cannot_be_watched_wakes_somebody_and_that_no_bus_was_reached_nobody():
    refused = event_of(Kind.WATCH_MISS, "rss_agg", AT, reason="auth")
    (trigger,) = build_requests(replace(MISS, events=(encode_event(refused),))).values()
    assert (trigger["payload"]["class"], trigger["payload"]["component"]) == ("watch_miss", "rss_agg")
    gap = event_of(Kind.REACH_GAP, "healer", AT, gap_sec=31.0)
    assert build_requests(make_event_message(gap, encode_event(gap), AT)) == {}


def in_order(requests: dict) -> list[tuple[str, str]]:
    return [(request["event_action"], request["dedup_key"]) for request in requests.values()]


def test_what_is_down_triggers_reminds_and_resolves_one_and_the_same_alert():
    assert in_order(build_requests(MISS)) == [("trigger", MISS.id)]
    assert in_order(build_requests(REMINDER)) == [("trigger", MISS.id)]
    assert in_order(build_requests(OK)) == [("resolve", MISS.id)]
    assert in_order(build_requests(FLAPPING)) == [("trigger", FLAPPING.id)]


def test_what_goes_down_while_others_are_up_again_is_triggered_first():
    both = replace(GROUP, closes=("a", "b"))
    assert in_order(build_requests(both)) == [("trigger", GROUP.id), ("resolve", "a"), ("resolve", "b")]


def test_a_message_without_a_thread_is_its_own():
    assert in_order(build_requests(replace(MISS, thread=""))) == [("trigger", MISS.id)]


def test_a_test_is_over_when_it_has_come():
    message = Message("test.1", "a test", "all is well", Severity.INFO, 0.0, kind=MessageKind.TEST)
    assert in_order(build_requests(message)) == [("trigger", "test.1"), ("resolve", "test.1")]


def test_the_longest_message_keeps_to_the_limits():
    huge = replace(GROUP, title="t" * 5000, text="é" * 500_000, lines=("z" * 500,) * 50_000, id="i" * 5000)
    trigger = build_requests(replace(huge, thread="i" * 5000))["trigger"]
    PagerDutyTrigger.model_validate_json(orjson.dumps(trigger))


@pytest.fixture
def pager(http, receiver):
    receiver.answer(then=httpx.Response(202))
    return PagerDuty("night", Options(routing_key=SecretStr(KEY), url=URL), http)


async def test_news_that_opens_and_closes_nothing_wakes_nobody(pager, receiver):
    note = Message("a", "t", "t", Severity.CRITICAL, 0.0)
    assert (await pager.send(note)).answer == "nothing to do"
    assert receiver.requests == []


async def test_what_was_accepted_of_a_message_is_not_asked_for_again_until_all_of_it_is(pager, receiver):
    message = replace(GROUP, closes=("a", "b"))
    receiver.answer(*map(httpx.Response, (202, 202, 500)), then=httpx.Response(202))
    assert (await refused(pager, message)).reason == "500"
    await pager.send(message)
    assert [found["dedup_key"] for found in receiver.found] == [GROUP.id, "a", "b", "b"]
    await pager.send(message)  # somebody means it
    assert len(receiver.requests) == 7


async def test_all_the_requests_of_a_message_together_take_no_longer_than_they_may(
    pager, receiver, monkeypatch
):
    async def hang(_request):
        await asyncio.Event().wait()

    receiver.route.side_effect = hang
    monkeypatch.setattr(http, "PARTS_WITHIN_SEC", 0.0)
    assert (await refused(pager)).reason == "timeout"


def test_the_key_shows_nowhere_and_the_host_is_the_documented_one():
    options = Options(routing_key=SecretStr(KEY))
    assert KEY not in repr(options) + repr(pagerduty.PagerDuty("night", options).__dict__["_options"])
    assert (options.url, pagerduty.PagerDuty("night", options).where) == (ENQUEUE, "events.pagerduty.com")
    with pytest.raises(ValidationError):
        Options(routing_key=SecretStr("a\r\nb"))
