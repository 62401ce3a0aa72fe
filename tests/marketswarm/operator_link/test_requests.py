"""Requests to the notifier, and its answers on several buses."""

import asyncio

import pytest
from pydantic import ValidationError

from marketswarm.bus import NoBusError
from marketswarm.keys import NOTIFIER_REQUESTS, answers_key
from marketswarm.operator import Answer, OperatorRequest, RequestKind
from marketswarm.operator_link import collect_answers, create_request, send_request
from marketswarm.testing import MemoryBus

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
