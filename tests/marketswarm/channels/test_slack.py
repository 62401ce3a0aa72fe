"""Slack: its golden payloads, its limits, hostile names, threads, and a no of its API that comes as a 200."""

from html import unescape

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from marketswarm.channels.channel import SendError
from marketswarm.channels.http import Http
from marketswarm.channels.message import Message, Severity
from marketswarm.channels.slack import Options, Slack, build_payload
from marketswarm.channels.text import printable_line
from support.channel_messages import CASES, HOSTILE, MISS, OK, agrees, group_of, hostile
from support.chat_schemas import Slack as Documented
from support.chat_schemas import SlackPost
from support.rig.receiver import Answer, Receiver

BOT = {"token": "xoxb-s3cret", "channel": "#ops"}
POSTED = Answer(200, body=b'{"ok":true,"channel":"C1","ts":"1503435956.000247","message":{}}')

TEXTS = st.text(st.characters(), max_size=300)  # halves of characters too


def said(body: dict) -> list[str]:
    """All that people see, as it is sent: the line above, then each section."""
    blocks = [block for attachment in body["attachments"] for block in attachment["blocks"]]
    return [body["text"], *(block["text"]["text"] for block in blocks)]


def no(error: str) -> Answer:
    return Answer(200, body=orjson.dumps({"ok": False, "error": error}))


@pytest.mark.parametrize("case", CASES)
def test_the_payload_is_the_golden_one_and_as_documented(case):
    body = orjson.dumps(build_payload(CASES[case]))
    Documented.model_validate_json(body)
    agrees("slack", case, body)


@pytest.mark.parametrize("count", [1, 200, 5000])
@pytest.mark.parametrize("name", ["w", "x" * 63, "&" * 63, "\U0001f4a9" * 1000])
def test_however_many_and_long_the_names_the_limits_are_kept(count, name):
    message = group_of([f"{i}{name}" for i in range(count)])
    body = build_payload(message)
    Documented.model_validate(body)
    shown = "\n".join(said(body)[2:]).split("\n")
    left = int(shown.pop().split()[1].replace(",", "")) if shown[-1].endswith(" more") else 0
    assert len(shown) + left == count


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_calls_nobody_formats_nothing_and_is_shown_as_it_is(name):
    body = build_payload(hostile(name))
    Documented.model_validate(body)
    for text in said(body):
        assert "<" not in text
        assert ">" not in text
        assert printable_line(name).strip() in " ".join(unescape(text).splitlines())


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=30))
def test_whatever_a_message_says_the_payload_is_as_documented(title, text, lines):
    message = Message("x", title, text, Severity.INFO, 0.0, lines=tuple(lines))
    Documented.model_validate_json(orjson.dumps(build_payload(message)))


def test_it_wants_a_url_or_a_token_with_a_channel():
    Options(url="https://hooks.slack.com/services/T0/B0/s3cret")
    Options(**BOT)
    both = {"url": "https://hooks.slack.com/s3cret", **BOT}
    for wrong in ({}, {"token": "xoxb-s3cret"}, {"channel": "#ops"}, both, {"url": "s3cret"}):
        with pytest.raises(ValidationError) as caught:
            Options(**wrong)
        assert "s3cret" not in str(caught.value)


@pytest.fixture
async def bot():
    """What posts with a token to a receiver that answers by its script."""
    with Receiver() as receiver:
        receiver.always = POSTED
        options = Options(**BOT, api=receiver.url)
        http = Http(within_sec=2.0)
        yield Slack("slack", options, http), receiver
        await http.aclose()


async def test_with_a_token_the_first_message_begins_a_thread_and_later_ones_are_in_it(bot):
    slack, receiver = bot
    first = await slack.send(MISS)
    later = await slack.send(OK, first.anchor)
    assert (first.answer, first.anchor, later.anchor) == ("ok", "1503435956.000247", "1503435956.000247")
    one, two = (SlackPost.model_validate_json(request.body) for request in receiver.seen)
    assert (one.channel, one.thread_ts) == ("#ops", None)
    assert (two.channel, two.thread_ts, two.reply_broadcast) == ("#ops", first.anchor, True)
    assert {request.headers["authorization"] for request in receiver.seen} == {"Bearer xoxb-s3cret"}
    assert receiver.seen[0].path == "/hook/s3cret/chat.postMessage"


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        *((word, True) for word in ("channel_not_found", "invalid_auth", "not_in_channel", "is_archived")),
        *((word, True) for word in ("token_revoked", "missing_scope", "msg_blocks_too_long")),
        *((word, False) for word in ("ratelimited", "rate_limited", "internal_error", "service_unavailable")),
    ],
)
async def test_a_no_that_comes_as_200_is_a_refusal_which_says_whether_it_is_for_good(bot, error, permanent):
    slack, receiver = bot
    receiver.script.append(no(error))
    with pytest.raises(SendError) as caught:
        await slack.send(MISS)
    assert (caught.value.reason, caught.value.is_permanent) == (error, permanent)


@pytest.mark.parametrize(
    "body", [b"", b"ok", b"[]", b'{"ok":"true"}', b'{"ok":false,"error":"<x> y"}', b"\xff"]
)
async def test_an_answer_that_is_none_of_the_api_is_no_delivery(bot, body):
    slack, receiver = bot
    receiver.script.append(Answer(200, body=body))
    with pytest.raises(SendError) as caught:
        await slack.send(MISS)
    assert (caught.value.reason, caught.value.is_permanent) == ("bad_answer", False)


@pytest.mark.parametrize(
    "error", ["thread_not_found", "restricted_action_thread_locked", "cannot_reply_to_message"]
)
async def test_where_the_thread_is_gone_it_is_told_outside(bot, error):
    slack, receiver = bot
    receiver.script.append(no(error))
    receipt = await slack.send(OK, "1503435956.000247")
    assert receipt.anchor == "1503435956.000247"
    threads = [orjson.loads(request.body).get("thread_ts") for request in receiver.seen]
    assert threads == ["1503435956.000247", None]


async def test_another_refusal_in_a_thread_is_not_tried_outside(bot):
    slack, receiver = bot
    receiver.script.append(no("invalid_auth"))
    with pytest.raises(SendError):
        await slack.send(OK, "1503435956.000247")
    assert len(receiver.seen) == 1
