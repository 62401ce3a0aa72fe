"""PagerDuty's Events API v2: what is sent is held to its schema and limits, and to when anybody is woken."""

import asyncio
from dataclasses import replace

import orjson
import pytest
from pydantic import SecretStr, ValidationError

from marketswarm.channels import Message, MessageKind, SendError, Severity, make_event_message, pagerduty
from marketswarm.channels.http import Http
from marketswarm.channels.pagerduty import ENQUEUE, Options, PagerDuty, build_requests
from marketswarm.event import Kind, encode_event
from support.channel_messages import (
    AT,
    CASES,
    FLAPPING,
    GROUP,
    HOSTILE,
    MISS,
    OK,
    REMINDER,
    agrees,
    event_of,
    hostile,
)
from support.rig.receiver import Answer, Receiver

KEY = "0123456789abcdef0123456789abcdef"
ACCEPTED = Answer(202, body=b'{"status":"success","message":"Event processed","dedup_key":"a"}')
TEXTS = {"summary": 1024, "timestamp": 30, "severity": 8, "source": 255, "component": 255, "class": 255}


def test_one_that_cannot_be_watched_wakes_somebody_and_that_no_bus_was_reached_nobody():
    refused = event_of(Kind.WATCH_MISS, "rss_agg", AT, reason="auth")
    (trigger,) = build_requests(replace(MISS, events=(encode_event(refused),))).values()
    assert (trigger["payload"]["class"], trigger["payload"]["component"]) == ("watch_miss", "rss_agg")
    as_documented(trigger)
    gap = event_of(Kind.REACH_GAP, "healer", AT, gap_sec=31.0)
    assert build_requests(make_event_message(gap, encode_event(gap), AT)) == {}


def in_order(requests: dict) -> list[tuple[str, str]]:
    return [(request["event_action"], request["dedup_key"]) for request in requests.values()]


def as_documented(request: dict) -> None:
    """What the schema of the Events API v2 asks of a request, and its limits in bytes and characters."""
    assert request["event_action"] in ("trigger", "acknowledge", "resolve")
    assert 1 <= len(request["dedup_key"]) <= 255
    assert len(orjson.dumps({"routing_key": KEY, **request})) <= 512 * 1024
    if request["event_action"] == "resolve":
        assert set(request) == {"event_action", "dedup_key"}
        return
    assert set(request) == {"event_action", "dedup_key", "client", "payload"}
    payload = orjson.loads(orjson.dumps(request["payload"]))
    assert set(payload) == {*TEXTS, "custom_details"}
    for name, longest in TEXTS.items():
        assert isinstance(payload[name], str)
        assert 1 <= len(payload[name]) <= longest
        assert payload[name].isprintable()
    assert payload["severity"] in ("critical", "error", "warning", "info")
    assert isinstance(payload["custom_details"], dict)


@pytest.mark.parametrize("case", CASES)
def test_what_is_sent_is_as_documented_and_that_of_its_golden_file(case):
    requests = build_requests(CASES[case])
    for request in requests.values():
        as_documented(request)
    agrees("pagerduty", case, orjson.dumps(list(requests.values())))


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


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_stranger_is_called_breaks_no_limit(name):
    (request,) = build_requests(hostile(name)).values()
    as_documented(request)


def test_the_longest_message_keeps_to_the_limits():
    huge = replace(GROUP, title="t" * 5000, text="é" * 500_000, lines=("z" * 500,) * 50_000, id="i" * 5000)
    as_documented(build_requests(replace(huge, thread="i" * 5000))["trigger"])


@pytest.fixture
async def channel():
    """Opens one that talks to a receiver."""
    made = []

    def of(receiver: Receiver) -> PagerDuty:
        options = Options(routing_key=SecretStr(KEY), url=receiver.url)
        made.append(PagerDuty("night", options, Http(within_sec=3.0)))
        return made[-1]

    yield of
    for one in made:
        await one.aclose()


async def test_an_event_is_enqueued_under_the_key_of_the_service(channel):
    with Receiver(ACCEPTED) as receiver:
        assert (await channel(receiver).send(MISS)).answer == "202"
        (request,) = receiver.seen
        assert request.method == "POST"
        assert request.headers["content-type"] == "application/json"
        assert orjson.loads(request.body) == {
            "routing_key": KEY,
            **orjson.loads(orjson.dumps(build_requests(MISS)["trigger"])),
        }


async def test_news_that_opens_and_closes_nothing_wakes_nobody(channel):
    with Receiver() as receiver:
        note = Message("a", "t", "t", Severity.CRITICAL, 0.0)
        assert (await channel(receiver).send(note)).answer == "nothing to do"
        assert receiver.seen == []


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (Answer(429, {"retry-after": "7"}), ("429", False, 7.0)),
        (Answer(500), ("500", False, None)),
        (Answer(400, body=b'{"status":"invalid event","errors":["no"]}'), ("400", True, None)),
        (Answer(403), ("403", True, None)),
        (Answer(hang=True), ("timeout", False, None)),
        (Answer(302, {"location": "http://127.0.0.1:1/inside"}), ("302", False, None)),
    ],
)
async def test_a_refusal_says_itself_whether_it_is_for_good(channel, answer, found):
    with Receiver(answer) as receiver:
        with pytest.raises(SendError) as caught:
            await channel(receiver).send(MISS)
        error = caught.value
        assert (error.reason, error.is_permanent, error.retry_after_sec) == found
        assert KEY not in repr(error)
        assert len(receiver.seen) == 1


async def test_what_was_accepted_of_a_message_is_not_asked_for_again_until_all_of_it_is(channel):
    message = replace(GROUP, closes=("a", "b"))
    with Receiver(ACCEPTED, ACCEPTED, 500) as receiver:
        pager = channel(receiver)
        with pytest.raises(SendError, match="500"):
            await pager.send(message)
        await pager.send(message)
        keys = [orjson.loads(request.body)["dedup_key"] for request in receiver.seen]
        assert keys == [GROUP.id, "a", "b", "b"]
        await pager.send(message)  # somebody means it
        assert len(receiver.seen) == 7


async def test_all_the_requests_of_a_message_together_take_no_longer_than_they_may(monkeypatch):
    monkeypatch.setattr(pagerduty, "WITHIN_SEC", 0.3)
    with Receiver(Answer(hang=True)) as receiver:
        options = Options(routing_key=SecretStr(KEY), url=receiver.url)
        pager = PagerDuty("night", options, Http(within_sec=60.0))
        with pytest.raises(SendError, match="timeout"):
            async with asyncio.timeout(10):
                await pager.send(MISS)
        await pager.aclose()


def test_the_key_shows_nowhere_and_the_host_is_the_documented_one():
    options = Options(routing_key=SecretStr(KEY))
    assert KEY not in repr(options) + repr(pagerduty.create("night", options).__dict__["_options"])
    assert (options.url, pagerduty.create("night", options).where) == (ENQUEUE, "events.pagerduty.com")
    with pytest.raises(ValidationError):
        Options(routing_key=SecretStr("a\r\nb"))
