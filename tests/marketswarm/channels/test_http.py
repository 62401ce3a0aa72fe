"""The client that channels share: what a receiver does to it, over real sockets, costs that one request."""

import asyncio
import time
from contextlib import ExitStack

import httpx
import pytest
from httpcore._backends.anyio import AnyIOStream
from pydantic import SecretStr

from marketswarm.channels import Failure, SendError
from marketswarm.channels.http import (
    MAX_RESPONSE_BYTES,
    Http,
    HttpResponse,
    classify_status,
    exchange_json,
    make_exception_error,
    parse_json_object,
    parse_pause_sec,
    post_json,
)
from marketswarm.channels.webhook import Options, Webhook
from support.channel_kinds import URL, refused
from support.channel_messages import MISS
from support.http_pool import connections
from support.rig.certificates import Authority
from support.rig.feed_site import Site, drip, endless
from support.rig.process import HOST, NO_HOST, free_port
from support.rig.receiver import Answer, Receiver
from support.waiting import PATIENT_SEC

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


@pytest.fixture
async def real_http():
    client = Http(within_sec=1.0)
    yield client
    await client.aclose()


def hook(url: str, http: Http) -> Webhook:
    return Webhook("webhook", Options(url=url), http)


async def test_whatever_a_receiver_does_on_the_wire_costs_that_one_attempt_its_time_and_no_more(real_http):
    with ExitStack() as running:
        answers = Answer(hang=True), Answer(drip=True), Answer(reset=True)
        channels = [hook(running.enter_context(Receiver(answer)).url, real_http) for answer in answers]
        begun = time.monotonic()
        async with asyncio.timeout(PATIENT_SEC):  # they hang and drip for ever
            errors = await asyncio.gather(*map(refused, channels))
        assert [error.reason for error in errors] == ["timeout", "timeout", "broken"]
        assert not any(error.is_permanent for error in errors)
        assert time.monotonic() - begun > 0.9
        assert connections(real_http.client) == []
        for channel in channels:
            await channel.send(MISS)


async def test_a_redirect_to_the_inside_is_not_followed(real_http):
    with Receiver() as inside, Receiver(Answer(307, {"location": inside.url})) as receiver:
        assert (await refused(hook(receiver.url, real_http))).reason == "307"
        assert inside.seen == []


async def test_no_more_of_an_answer_is_read_than_it_takes():
    http = Http(within_sec=20.0)
    with Receiver(Answer(200, body=b"x" * 50_000_000)) as receiver:
        answer = await http.request("GET", receiver.url)
        assert len(answer.body) == MAX_RESPONSE_BYTES
        assert connections(http.client) == []  # given up rather than read to its end
    await http.aclose()


async def test_nobody_there_is_refused_and_a_name_that_is_none_is_dns(real_http):
    for where, reason in ((f"{HOST}:{free_port()}", "refused"), (NO_HOST, "dns")):
        error = await refused(hook(f"http://{where}/s3cret", real_http))
        assert (error.reason, error.is_permanent) == (reason, False)


@pytest.mark.needs("openssl")
async def test_a_certificate_that_is_not_trusted_is_no_receiver(real_http, tmp_path):
    spoken_to = asyncio.Event()

    async def listen(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        spoken_to.set()

    context = Authority(tmp_path).untrusted("cert")
    server = await asyncio.start_server(listen, HOST, port := free_port(), ssl=context)
    async with server:
        error = await refused(hook(f"https://{HOST}:{port}/s3cret", real_http))
    assert (error.reason, error.is_permanent) == ("tls", False)
    assert not spoken_to.is_set()


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


async def test_a_refusal_can_be_read_or_raised(http, receiver):
    receiver.answer(then=httpx.Response(429, headers={"Retry-After": "3", "X-Y": "z"}, json={"a": 1}))
    answer = await exchange_json(http, URL, {"x": 1})
    assert (answer.status, parse_json_object(answer), answer.headers.get("x-y")) == (429, {"a": 1}, "z")
    with pytest.raises(SendError) as caught:
        await post_json(http, URL, {"x": 1})
    assert (caught.value.reason, caught.value.retry_after_sec) == ("429", 3.0)


async def test_a_token_goes_into_a_header_and_nowhere_else(http, receiver):
    await post_json(http, URL, {"x": "ü"}, SecretStr("s3cret"))
    await post_json(http, URL, {})
    first, second = receiver.requests
    assert first.headers["authorization"] == "Bearer s3cret"
    assert first.content == '{"x":"ü"}'.encode()
    assert first.headers["content-type"] == "application/json; charset=utf-8"
    assert "authorization" not in second.headers
