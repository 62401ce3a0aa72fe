"""Telegram: replies in a thread, a chat that moves, and a token that stays in its place."""

import httpx
import pytest
from pydantic import ValidationError

from marketswarm.channels.telegram import Options, Telegram, build_payload
from support.channel_kinds import URL
from support.channel_messages import MISS, OK
from support.chat_schemas import Telegram as Documented

SENT = {"ok": True, "result": {"message_id": 77, "date": 1, "chat": {"id": -1001}}}


@pytest.mark.parametrize("anchor", [None, "", "x", "-5", "1.5", "9" * 40, "٣"])
def test_an_anchor_that_is_no_message_is_no_reply(anchor):
    assert "reply_parameters" not in build_payload(OK, anchor)


@pytest.mark.parametrize(
    "wrong", [{}, {"chat": "1"}, {"token": "s3cret"}, {"token": "s3cret\n", "chat": "1"}]
)
def test_it_wants_a_token_and_a_chat(wrong):
    with pytest.raises(ValidationError) as caught:
        Options.model_validate(wrong)
    assert "s3cret" not in str(caught.value)


@pytest.fixture
def bot(http, receiver):
    receiver.answer(then=httpx.Response(200, json=SENT))
    options = Options.model_validate({"token": "123456:s3cret", "chat": "-1001", "url": URL})
    return Telegram("telegram", options, http)


async def test_later_messages_of_a_thread_are_replies_to_its_first(bot, receiver):
    first = await bot.send(MISS)
    later = await bot.send(OK, first.anchor)
    assert (first.answer, first.anchor, later.anchor) == ("ok", "77", "77")
    one, two = map(Documented.model_validate_json, receiver.bodies)
    assert one.reply_parameters is None
    assert two.reply_parameters
    assert two.reply_parameters.message_id == 77
    assert one.chat_id == "-1001"
    assert receiver.requests[0].url.path == "/hook/s3cret/bot123456:s3cret/sendMessage"


async def test_a_group_that_has_become_a_supergroup_is_followed_to_its_new_id(bot, receiver):
    moved = {"ok": False, "error_code": 400, "parameters": {"migrate_to_chat_id": -100200}}
    receiver.answer(httpx.Response(400, json=moved), then=httpx.Response(200, json=SENT))
    assert (await bot.send(MISS)).answer == "ok"
    await bot.send(OK)
    assert [found["chat_id"] for found in receiver.found] == ["-1001", -100200, -100200]


async def test_a_token_can_not_lead_elsewhere_than_to_its_bot(bot, http, receiver):
    options = Options.model_validate({"token": "1/../../x?y#z", "chat": 5, "url": URL})
    await Telegram("telegram", options, http).send(MISS)
    (request,) = receiver.requests
    assert request.url.raw_path == b"/hook/s3cret/bot1%2F..%2F..%2Fx%3Fy%23z/sendMessage"


@pytest.mark.parametrize("rest", ["/bot1:evil/sendMessage?chat_id=1&text=", "?", "/#"])
def test_a_url_has_no_query_of_which_the_token_would_be_a_part(rest):
    with pytest.raises(ValidationError, match="must have no") as caught:
        Options.model_validate({"token": "123456:s3cret", "chat": 5, "url": f"{URL}{rest}"})
    assert "s3cret" not in str(caught.value)
