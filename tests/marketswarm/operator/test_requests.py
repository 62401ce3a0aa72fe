"""Asks and answers: what is written is read back, and nobody's bytes break the reading.

Requests to the notifier, and its answers on several buses.
"""

import asyncio
from dataclasses import replace

import orjson
import pytest
from pydantic import ValidationError

from marketswarm.bus import NoBusError
from marketswarm.keys import NOTIFIER_REQUESTS, answers_key, delivery_key
from marketswarm.operator.requests import (
    ALL,
    Answer,
    OperatorRequest,
    RequestKind,
    collect_answers,
    create_request,
    send_request,
)
from marketswarm.testing import MemoryBus

NOW = 1_762_433_458.5
ASK = OperatorRequest(id="4f2a", do=RequestKind.ACK, what="rss_agg", by="kim", ts=NOW)


@pytest.mark.parametrize(
    "wrong",
    [
        {"do": "dance"},
        {"do": "ACK"},
        {"id": "a b"},
        {"id": "a" * 201},
        {"what": ""},
        {"by": ""},
        {"ts": "now"},
        {"ts": 1e12},
        {"what": "x" * 201},
    ],
    ids=str,
)
def test_what_is_out_of_bounds_is_no_ask(wrong):
    assert OperatorRequest.parse(orjson.dumps(orjson.loads(ASK.encode()) | wrong)) is None


def test_an_answer_says_at_least_whether_it_went_well_and_what_was_said():
    assert Answer.parse(b'{"ok":true,"said":""}') == Answer(ok=True, said="")
    assert Answer.parse(b'{"ok":1,"said":""}') is None
    assert Answer.parse(b'{"ok":true}') is None


@pytest.mark.parametrize(
    ("do", "good_for_sec"), [(RequestKind.ACK, 86_400), (RequestKind.RESEND, 86_400), (RequestKind.TEST, 60)]
)
def test_an_ask_that_nobody_took_in_time_is_not_done_later(do, good_for_sec):
    ask = replace(ASK, do=do, what=ALL)
    assert not ask.is_expired(NOW - 10)
    assert not ask.is_expired(NOW + good_for_sec)
    assert ask.is_expired(NOW + good_for_sec + 1)


def test_keys_are_those_of_the_contract():
    assert answers_key("4f2a") == "notifier:answers:4f2a"
    assert delivery_key("heartbeat_miss.a.1") == "notifier:told:heartbeat_miss.a.1"


SLACK = Answer(ok=True, said="200 ok", channel="slack")
DONE = Answer(ok=True, said="250 queued", channel="email", done=True)
REQUEST = create_request(RequestKind.ACK, "mesh", "kim", 1_762_433_458.0)


@pytest.fixture
async def buses():
    found = [MemoryBus("system-redis"), MemoryBus("market-redis")]
    yield found
    for bus in found:
        await bus.aclose()


async def answer(buses, *answers):
    for bus in buses:
        await bus.client.rpush(answers_key(REQUEST.id), *(each.encode() for each in answers))


async def test_a_request_is_written_to_every_bus_that_takes_it(buses):
    buses[1].connected = False
    taken, failed = await send_request(buses, REQUEST)
    assert (taken, failed.keys()) == ((buses[0],), {"market-redis"})
    ((_, fields),) = await buses[0].client.xrange(NOTIFIER_REQUESTS)
    assert OperatorRequest.parse(fields[b"ask"]) == REQUEST
    buses[0].connected = False
    with pytest.raises(NoBusError):
        await send_request(buses, REQUEST)


async def test_an_entry_with_the_last_possible_id_keeps_no_request_out(buses):
    await buses[0].client.xadd(
        NOTIFIER_REQUESTS, {"ask": "{"}, id="18446744073709551615-18446744073709551615"
    )
    taken, failed = await send_request(buses[:1], REQUEST)
    assert (taken, failed) == ((buses[0],), {})
    ((_, fields),) = await buses[0].client.xrange(NOTIFIER_REQUESTS)
    assert OperatorRequest.parse(fields[b"ask"]) == REQUEST


async def test_answers_are_collected_up_to_the_last_one_and_each_is_shown_as_often_as_it_was_given(buses):
    await answer(buses[:1], SLACK, SLACK)
    await answer(buses[1:], SLACK, DONE)
    await buses[1].client.rpush(answers_key(REQUEST.id), b"\xff", b"{}")
    shown = []
    assert await collect_answers(buses, REQUEST.id, 5, shown.append) == [SLACK, SLACK, DONE]
    assert sorted(shown, key=repr) == sorted([SLACK, SLACK, DONE], key=repr)


async def test_an_answer_that_comes_later_is_waited_for(buses):
    waiting = asyncio.create_task(collect_answers(buses, REQUEST.id, 5))
    await asyncio.sleep(0)
    await answer(buses, DONE)
    assert await waiting == [DONE]


async def test_what_came_in_time_is_returned_without_a_last_one(buses):
    await answer(buses, SLACK)
    assert await collect_answers(buses, REQUEST.id, 0) == [SLACK]


@pytest.mark.parametrize("what", ["", "x" * 201])
def test_a_request_about_an_impossible_name_is_not_made(what):
    with pytest.raises(ValidationError):
        create_request(RequestKind.TEST, what, "kim", 0.0)
