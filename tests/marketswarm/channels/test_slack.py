"""Slack: a webhook or a token, and threads."""

import httpx
import pytest
from pydantic import ValidationError

from marketswarm.channels.http import WITHIN_SEC
from marketswarm.channels.slack import Options, Slack
from support.channel_kinds import URL, refused
from support.channel_messages import MISS, OK
from support.chat_schemas import SlackPost

BOT = {"token": "xoxb-s3cret", "channel": "#ops"}
THREAD = "1503435956.000247"


def test_it_wants_a_url_or_a_token_with_a_channel():
    Options(url="https://hooks.slack.com/services/T0/B0/s3cret")
    Options(**BOT)
    both = {"url": "https://hooks.slack.com/s3cret", **BOT}
    for wrong in ({}, {"token": "xoxb-s3cret"}, {"channel": "#ops"}, both, {"url": "s3cret"}):
        with pytest.raises(ValidationError) as caught:
            Options(**wrong)
        assert "s3cret" not in str(caught.value)


@pytest.fixture
def bot(http):
    """What posts with a token."""
    return Slack("slack", Options(**BOT), http, api=URL)


def posted():
    return httpx.Response(200, json={"ok": True, "channel": "C1", "ts": THREAD, "message": {}})


def no(error):
    return httpx.Response(200, json={"ok": False, "error": error})


async def test_with_a_token_the_first_message_begins_a_thread_and_later_ones_are_in_it(bot, receiver):
    receiver.answer(then=posted())
    first = await bot.send(MISS)
    later = await bot.send(OK, first.anchor)
    assert (first.answer, first.anchor, later.anchor) == ("ok", THREAD, THREAD)
    one, two = map(SlackPost.model_validate_json, receiver.bodies)
    assert (one.channel, one.thread_ts) == ("#ops", None)
    assert (two.channel, two.thread_ts, two.reply_broadcast) == ("#ops", THREAD, True)
    assert {request.headers["authorization"] for request in receiver.requests} == {"Bearer xoxb-s3cret"}
    assert receiver.requests[0].url.path == "/hook/s3cret/chat.postMessage"


@pytest.mark.parametrize(
    "error", ["thread_not_found", "restricted_action_thread_locked", "cannot_reply_to_message"]
)
async def test_where_the_thread_is_gone_a_message_goes_to_the_channel(bot, receiver, error):
    receiver.answer(no(error), posted())
    assert (await bot.send(OK, THREAD)).anchor == THREAD
    assert [found.get("thread_ts") for found in receiver.found] == [THREAD, None]


async def test_another_refusal_in_a_thread_is_not_tried_outside(bot, receiver):
    receiver.answer(no("invalid_auth"))
    assert (await refused(bot, OK, THREAD)).reason == "invalid_auth"
    assert len(receiver.requests) == 1


def test_an_attempt_may_take_two_requests(http):
    hook = Slack("slack", Options(url="https://hooks.slack.com/x"), http)
    assert hook.within_sec == 2 * WITHIN_SEC
