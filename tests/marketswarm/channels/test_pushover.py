"""Pushover: which outage rings until it is over, what ends that, and what is sent again."""

import asyncio
from dataclasses import replace

import httpx
import pytest

from marketswarm.channels import Message, MessageKind, Severity, http
from marketswarm.channels.pushover import Options, Pushover, build_payload, make_tag
from support.channel_kinds import KEY, PUSHOVER, PUSHOVER_TAKEN, refused
from support.channel_messages import FLAPPING, GROUP, MISS, OK, REMINDER

TAKEN = httpx.Response(200, content=PUSHOVER_TAKEN)
TAG = make_tag(MISS.id)


def rings(message: Message, **how: bool) -> tuple[int, str | None]:
    found = build_payload(message, **how)
    return found["priority"], found.get("tags")


def test_a_critical_outage_rings_until_it_is_over_and_all_else_once():
    assert rings(replace(MISS, severity=Severity.CRITICAL)) == rings(REMINDER) == (2, TAG)
    assert rings(GROUP) == (2, make_tag(GROUP.id))
    for message in (MISS, OK, FLAPPING, replace(OK, severity=Severity.CRITICAL)):
        assert rings(message) == (0, None)
    assert rings(replace(REMINDER, opens=False)) == (1, None)
    assert rings(REMINDER, emergency=False) == (1, None)
    assert rings(Message("t", "a test", "well", Severity.INFO, 0.0, kind=MessageKind.TEST)) == (0, None)


@pytest.fixture
def make_phone(http, receiver):
    receiver.answer(then=TAKEN)
    return lambda **more: Pushover("phone", Options.model_validate({**PUSHOVER, **more}), http)


def paths(receiver):
    return [request.url.path.removeprefix("/hook/s3cret/1/") for request in receiver.requests]


async def test_what_is_over_is_told_and_then_rings_no_more(make_phone, receiver):
    await make_phone().send(replace(OK, closes=(MISS.id, "other")))
    cancels = [f"receipts/cancel_by_tag/{tag}.json" for tag in (TAG, make_tag("other"))]
    assert paths(receiver) == ["messages.json", *cancels]
    assert receiver.found[1:] == [{"token": KEY}] * 2


async def test_without_emergencies_there_is_nothing_to_cancel_and_some_devices_may_be_named(
    make_phone, receiver
):
    await make_phone(emergency=False, device="pager").send(OK)
    assert paths(receiver) == ["messages.json"]
    assert receiver.found[0]["device"] == "pager"


async def test_what_was_accepted_is_not_sent_again_until_all_of_it_is(make_phone, receiver):
    phone = make_phone()
    receiver.answer(TAKEN, httpx.Response(503), then=TAKEN)
    assert (await refused(phone, OK)).reason == "503"
    await phone.send(OK)
    assert paths(receiver) == ["messages.json", *[f"receipts/cancel_by_tag/{TAG}.json"] * 2]


async def test_an_emergency_that_pushover_knows_no_more_holds_up_nothing(make_phone, receiver):
    receiver.answer(TAKEN, httpx.Response(404, content=b'{"status":0}'))
    assert (await make_phone().send(OK)).answer == "ok"


async def test_all_the_requests_of_a_message_together_take_no_longer_than_they_may(
    make_phone, receiver, monkeypatch
):
    async def hang(_request):
        await asyncio.Event().wait()

    receiver.route.side_effect = hang
    monkeypatch.setattr(http, "PARTS_WITHIN_SEC", 0.0)
    assert (await refused(make_phone())).reason == "timeout"


def test_a_time_that_no_clock_shows_is_left_out():
    for at in (float("nan"), float("inf"), -1.0, 1e300):
        assert "timestamp" not in build_payload(replace(MISS, timestamp=at))


def test_the_host_is_the_documented_one():
    options = Options.model_validate({"token": "a", "user": "u"})
    assert Pushover("phone", options).where == "api.pushover.net"
