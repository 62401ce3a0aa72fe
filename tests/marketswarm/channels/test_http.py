"""The client that channels share: what a receiver does to it costs that one request."""

import asyncio
from unittest.mock import Mock

import aiosmtplib
import httpx
import orjson
import pytest
from httpcore._backends.anyio import AnyIOStream
from pydantic import SecretStr

from marketswarm.channels import Failure, SendError, discord, pagerduty, slack, teams, telegram
from marketswarm.channels import exec as command
from marketswarm.channels.email import make_refusal_error
from marketswarm.channels.http import (
    Http,
    HttpResponse,
    classify_status,
    exchange_json,
    make_exception_error,
    parse_json_object,
    parse_pause_sec,
    post_json,
)
from support.channel_messages import MISS
from support.http_pool import connections
from support.rig.feed_site import Site, drip, endless
from support.rig.receiver import Answer as Scripted
from support.rig.receiver import Receiver

TEMPORARY, REJECTED, BROKEN = Failure.TEMPORARY, Failure.REJECTED, Failure.BROKEN


@pytest.mark.parametrize(
    ("failure", "statuses"),
    [
        (TEMPORARY, [302, 303, 307, 408, 425, 429, 500, 502, 503, 504, 507]),
        (REJECTED, [400, 409, 412, 413, 414, 416, 417, 422, 424, 428, 431]),
        (BROKEN, [300, 301, 304, 308, 401, 402, 403, 404, 405, 406, 407, 410, 411, 415, 421, 426, 451]),
    ],
)
def test_a_status_is_of_the_message_or_of_the_channel(failure, statuses):
    assert {status: classify_status(status) for status in statuses} == dict.fromkeys(statuses, failure)


def test_a_url_that_is_none_is_the_channels_and_a_bad_request_the_messages():
    assert make_exception_error(httpx.UnsupportedProtocol("x")).failure is BROKEN
    assert make_exception_error(httpx.InvalidURL("x")).failure is BROKEN
    assert make_exception_error(httpx.LocalProtocolError("x")).failure is REJECTED
    assert make_exception_error(httpx.ConnectTimeout("x")).failure is TEMPORARY


class Fixed:
    """An HTTP client that always gets the same answer."""

    within_sec = 5.0

    def __init__(self, status, body=b""):
        self.answer = HttpResponse(status, body if isinstance(body, bytes) else orjson.dumps(body))

    async def exchange(self, *_args, **_options):
        return self.answer


async def failure(channel):
    with pytest.raises(SendError) as caught:
        await channel.send(MISS)
    return caught.value.failure


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (200, {"ok": False, "error": "ratelimited"}, TEMPORARY),
        (200, {"ok": False, "error": "msg_too_long"}, REJECTED),
        (200, {"ok": False, "error": "invalid_blocks"}, REJECTED),
        (200, {"ok": False, "error": "channel_not_found"}, BROKEN),
        (200, {"ok": False, "error": "token_revoked"}, BROKEN),
        (413, b"", REJECTED),
        (403, b"", BROKEN),
    ],
)
async def test_slack(status, body, found):
    options = slack.Options(token="xoxb-1", channel="C1")  # noqa: S106 - no secret
    assert await failure(slack.Slack("slack", options, Fixed(status, body))) is found


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (400, {"ok": False, "description": "Bad Request: message is too long"}, REJECTED),
        (400, {"ok": False, "description": "Bad Request: can't parse entities"}, REJECTED),
        (400, {"ok": False, "description": "Bad Request: chat not found"}, BROKEN),
        (400, {"ok": False, "description": "Bad Request: not enough rights to send text messages"}, BROKEN),
        (401, {"ok": False, "description": "Unauthorized"}, BROKEN),
        (403, {"ok": False, "description": "Forbidden: bot was blocked by the user"}, BROKEN),
        (500, b"", TEMPORARY),
    ],
)
async def test_telegram(status, body, found):
    options = telegram.Options(token="1:x", chat="-1")  # noqa: S106 - no secret
    assert await failure(telegram.Telegram("telegram", options, Fixed(status, body))) is found


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (400, {"code": 50035}, REJECTED),
        (400, {"code": 50083}, BROKEN),
        (404, {"code": 10015}, BROKEN),
        (429, {"retry_after": 1}, TEMPORARY),
    ],
)
async def test_discord(status, body, found):
    options = discord.Options(url="https://discord.com/api/webhooks/1/x")
    assert await failure(discord.Discord("discord", options, Fixed(status, body))) is found


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (400, {"errors": ["'payload.summary' is missing or blank"]}, REJECTED),
        (400, {"errors": ["Invalid routing key"]}, BROKEN),
        (400, {"errors": ["'routing_key' is missing or blank"]}, BROKEN),
        (413, b"", REJECTED),
        (429, b"", TEMPORARY),
    ],
)
async def test_pagerduty(status, body, found):
    options = pagerduty.Options(routing_key="x")
    assert await failure(pagerduty.PagerDuty("pagerduty", options, Fixed(status, body))) is found


@pytest.mark.parametrize(("code", "found"), [(413, REJECTED), (404, BROKEN), (429, TEMPORARY)])
async def test_teams_with_a_refusal_in_a_200(code, found):
    options = teams.Options(url="https://example.org/x")
    answer = f"Webhook message delivery failed with error: HTTP error {code}".encode()
    assert await failure(teams.Teams("teams", options, Fixed(200, answer))) is found


def recipients(*codes):
    return aiosmtplib.SMTPRecipientsRefused(
        [aiosmtplib.SMTPRecipientRefused(code, "no", f"u{n}@example.org") for n, code in enumerate(codes)]
    )


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (aiosmtplib.SMTPDataError(554, "spam"), REJECTED),
        (aiosmtplib.SMTPDataError(451, "later"), TEMPORARY),
        (aiosmtplib.SMTPSenderRefused(552, "too big", "a@example.org"), REJECTED),
        (aiosmtplib.SMTPSenderRefused(550, "who are you", "a@example.org"), BROKEN),
        (aiosmtplib.SMTPAuthenticationError(535, "no"), BROKEN),
        (recipients(550, 550), BROKEN),
        (recipients(550, 450), TEMPORARY),
        (ValueError("a mail that can't be written"), REJECTED),
    ],
)
def test_email(error, found):
    assert make_refusal_error(error).failure is found


@pytest.mark.live
@pytest.mark.parametrize(
    ("line", "found"),
    [("sh -c 'exit 1'", TEMPORARY), ("sh -c 'exit 127'", BROKEN), ("/nowhere/at/all", BROKEN)],
)
async def test_exec(line, found):
    assert await failure(command.create("exec", command.Options(command=line))) is found


def test_each_channel_says_how_long_an_attempt_may_take():
    made = Mock(within_sec=5.0)
    hook = slack.Options(url="https://hooks.slack.com/x")
    assert slack.Slack("slack", hook, made).within_sec == 10
    assert command.create("exec", command.Options(command="true", within_sec=300)).within_sec > 300


async def test_a_time_that_is_over_while_a_connection_is_put_away_leaves_none_behind(monkeypatch):
    put_away = AnyIOStream.aclose

    async def slowly(stream):
        await asyncio.sleep(0.3)  # as on a busy machine
        await put_away(stream)

    monkeypatch.setattr(AnyIOStream, "aclose", slowly)
    http = Http(within_sec=0.15)
    with Site() as site:
        site.pages |= {"/endless": endless, "/drip": drip}

        async def sent(path):
            try:
                await http.request("GET", site.url(path))
            except SendError as error:
                return error.reason
            return "sent"

        reasons = await asyncio.gather(*(sent(path) for path in ("/endless", "/drip") * 5))
        assert "timeout" in reasons
        assert connections(http.client) == []
    await http.aclose()


@pytest.fixture
async def http():
    client = Http(within_sec=2.0)
    yield client
    await client.aclose()


@pytest.mark.parametrize("body", [b"", b"ok", b"[1]", b'"x"', b"null", b"{", b"\xff", b'{"a":NaN}'])
def test_an_answer_that_is_no_object_says_nothing(body):
    assert parse_json_object(HttpResponse(200, body)) == {}


def test_an_answer_says_what_is_in_its_object():
    assert parse_json_object(HttpResponse(500, b'{"ok":false}')) == {"ok": False}


@pytest.mark.parametrize(("value", "sec"), [(1, 1.0), ("0.25", 0.25), (0, 0.0), (64.57, 64.57)])
def test_a_pause_is_a_number_of_seconds(value, sec):
    assert parse_pause_sec(value) == sec


@pytest.mark.parametrize("value", [None, "", "soon", -1, "inf", "nan", [], {}, "1e999"])
def test_what_is_no_number_of_seconds_is_no_pause(value):
    assert parse_pause_sec(value) is None


async def test_a_refusal_can_be_read_or_raised(http):
    with Receiver(*[Scripted(429, {"Retry-After": "3", "X-Y": "z"}, b'{"a":1}')] * 2) as receiver:
        answer = await exchange_json(http, receiver.url, {"x": 1})
        assert (answer.status, parse_json_object(answer), answer.headers.get("x-y")) == (429, {"a": 1}, "z")
        with pytest.raises(SendError) as caught:
            await post_json(http, receiver.url, {"x": 1})
    assert (caught.value.reason, caught.value.retry_after_sec) == ("429", 3.0)


async def test_a_token_goes_into_a_header_and_nowhere_else(http):
    with Receiver() as receiver:
        await post_json(http, receiver.url, {"x": "ü"}, SecretStr("s3cret"))
        await post_json(http, receiver.url, {})
    first, second = receiver.seen
    assert first.headers["authorization"] == "Bearer s3cret"
    assert first.body == '{"x":"ü"}'.encode()
    assert first.headers["content-type"] == "application/json; charset=utf-8"
    assert "authorization" not in second.headers
