"""The client that channels share: what an answer, or none, means for a channel and its message."""

import time

import httpx
import pytest
from pydantic import SecretStr

from marketswarm.channels import Failure, SendError
from marketswarm.channels.http import (
    MAX_RESPONSE_BYTES,
    classify_status,
    exchange_json,
    make_exception_error,
    parse_pause_sec,
    require_success,
)
from marketswarm.net.http import HttpError, HttpResponse
from support.channel_kinds import URL

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


@pytest.mark.parametrize(
    ("error", "reason", "failure"),
    [
        (httpx.UnsupportedProtocol("x"), "bad_request (UnsupportedProtocol)", BROKEN),
        (httpx.InvalidURL("x"), "bad_request (InvalidURL)", BROKEN),
        (httpx.LocalProtocolError("x"), "bad_request (LocalProtocolError)", REJECTED),
        (httpx.ConnectTimeout("x"), "timeout", TEMPORARY),
    ],
)
def test_a_url_that_is_none_is_the_channels_and_a_bad_request_the_messages(error, reason, failure):
    found = make_exception_error(HttpError(error, HttpResponse(0, b"")))
    assert (found.reason, found.failure) == (reason, failure)


async def test_no_more_of_an_answer_is_read_than_it_takes(http, receiver):
    receiver.answer(then=httpx.Response(200, content=b"x" * 1_000_000))
    assert len((await http.exchange("POST", URL)).body) == MAX_RESPONSE_BYTES


@pytest.mark.parametrize(("value", "sec"), [(1, 1.0), ("0.25", 0.25), (0, 0.0), (64.57, 64.57)])
def test_a_pause_is_a_number_of_seconds(value, sec):
    assert parse_pause_sec(value) == sec


def test_a_pause_until_an_epoch_time_is_a_pause_until_a_date():
    assert 50 < parse_pause_sec(time.time() + 60) <= 60
    assert 50 < parse_pause_sec(str(int(1000 * time.time()) + 60_000)) <= 60
    assert parse_pause_sec(time.time() - 60) == 0.0


@pytest.mark.parametrize("value", [None, "", "soon", -1, "inf", "nan", [], {}, "1e999"])
def test_what_is_no_number_of_seconds_is_no_pause(value):
    assert parse_pause_sec(value) is None


async def test_a_refusal_can_be_read_or_raised(http, receiver):
    receiver.answer(then=httpx.Response(429, headers={"Retry-After": "3", "X-Y": "z"}, json={"a": 1}))
    answer = await exchange_json(http, URL, {"x": 1})
    assert (answer.status, answer.body, answer.headers.get("x-y")) == (429, b'{"a":1}', "z")
    with pytest.raises(SendError) as caught:
        require_success(await exchange_json(http, URL, {"x": 1}))
    assert (caught.value.reason, caught.value.retry_after_sec) == ("429", 3.0)


async def test_a_token_goes_into_a_header_and_nowhere_else(http, receiver):
    await exchange_json(http, URL, {"x": "ü"}, SecretStr("s3cret"))
    await exchange_json(http, URL, {})
    first, second = receiver.requests
    assert first.headers["authorization"] == "Bearer s3cret"
    assert first.content == '{"x":"ü"}'.encode()
    assert first.headers["content-type"] == "application/json; charset=utf-8"
    assert "authorization" not in second.headers
