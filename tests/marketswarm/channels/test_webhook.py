"""The webhook: its golden payload, its signature, and a real receiver that answers as receivers do."""

import asyncio
import time
from dataclasses import replace

import orjson
import pytest
from pydantic import SecretStr

from marketswarm.channels import Message, SendError, Severity
from marketswarm.channels.http import Http
from marketswarm.channels.message import encode_webhook_body
from marketswarm.channels.webhook import Options, Webhook, build_headers, parse_signing_key, sign_body
from support.channel_messages import CASES, HOSTILE, MISS, agrees, hostile
from support.http_pool import connections
from support.rig.certificates import Authority
from support.rig.process import HOST, NO_HOST, free_port
from support.rig.receiver import Answer, Receiver
from support.waiting import Stopwatch

STRANGE = b'{"type":"heartbeat_miss","svc":"rss_agg","later":{"key":1}}'


@pytest.mark.parametrize("case", CASES)
def test_the_payload_is_that_of_its_golden_file(case):
    agrees("webhook", case, encode_webhook_body(CASES[case]))


def test_the_payload_begins_as_the_contract_has_it_to_the_byte_and_the_rest_follows():
    assert encode_webhook_body(replace(MISS, events=(STRANGE,))) == (
        b'{"type":"marketswarm.alert","timestamp":"2025-11-06T12:50:58.300Z",'
        b'"data":{"title":"rss_agg is down","text":"no beat for 31.2 s (timeout 30 s)\\n'
        b'since 2025-11-06 12:50:27 UTC on web-3, fleet prod\\nnext: marketswarm health rss_agg",'
        b'"severity":"warning","late":false,"events":[' + STRANGE + b"],"
        b'"what":"down","lines":[],"thread":"heartbeat_miss.rss_agg.1762433458300"}}'
    )


def test_who_has_no_thread_begins_one():
    assert orjson.loads(encode_webhook_body(replace(MISS, thread="")))["data"]["thread"] == MISS.id


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_stranger_is_called_arrives_as_it_is_and_breaks_nothing(name):
    data = orjson.loads(encode_webhook_body(hostile(name)))["data"]
    assert data["title"] == f"{name} is down".replace("\ud800", "?")


def test_the_signature_is_that_of_the_standard_webhooks():
    """The example of their libraries' tests."""
    key = parse_signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = sign_body("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', key)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_that_is_not_marked_as_base64_signs_as_it_is():
    assert parse_signing_key("plain words") == b"plain words"


def test_headers_carry_the_id_and_a_signature_only_with_a_secret():
    assert build_headers(MISS, b"{}", 17, None) == {
        "content-type": "application/json",
        "webhook-id": MISS.id,
        "webhook-timestamp": "17",
    }
    assert build_headers(MISS, b"{}", 17, b"key")["webhook-signature"].startswith("v1,")


@pytest.mark.parametrize("ident", ["a\r\nx-evil: 1", "", "ü", "x" * 300, "a b"])
def test_an_id_that_no_header_can_carry_goes_as_its_hash_always_the_same(ident):
    message = Message(ident, "t", "t", Severity.INFO, 0.0)
    assert message.key == Message(ident, "u", "u", Severity.INFO, 1.0).key
    assert message.key.startswith("sha256.")
    assert message.key.isascii()


def hook(url: str, secret: SecretStr | None = None, http: Http | None = None) -> Webhook:
    return Webhook("webhook", Options(url=url, secret=secret), http)


@pytest.fixture
async def http():
    client = Http(within_sec=3.0)
    yield client
    await client.aclose()


async def refused(http: Http, url: str) -> SendError:
    """What sending a message there comes to."""
    with pytest.raises(SendError) as caught:
        await hook(url, http=http).send(MISS)
    assert "s3cret" not in f"{caught.value!r} {caught.value}"
    error = caught.value
    assert error.__context__ is None or error.__suppress_context__  # no URL in a traceback either
    return caught.value


async def test_a_receiver_gets_what_was_sent_signed(http):
    secret = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    with Receiver() as receiver:
        await hook(receiver.url, secret, http).send(MISS)
        (request,) = receiver.seen
    assert (request.method, request.path, request.body) == ("POST", "/hook/s3cret", encode_webhook_body(MISS))
    at = int(request.headers["webhook-timestamp"])
    assert at == pytest.approx(time.time(), abs=5)
    key = parse_signing_key(secret.get_secret_value())
    assert request.headers["webhook-signature"] == sign_body(MISS.id, at, request.body, key)
    assert request.id == MISS.id


@pytest.mark.parametrize(
    ("status", "permanent"),
    [
        *((status, False) for status in (500, 502, 503, 504, 408, 429, 302, 307)),
        *((status, True) for status in (400, 401, 403, 404, 405, 410, 422, 301, 308)),
    ],
)
async def test_a_refusal_says_itself_whether_it_is_for_good(http, status, permanent):
    with Receiver(status) as receiver:
        error = await refused(http, receiver.url)
    assert (error.reason, error.is_permanent, error.retry_after_sec) == (str(status), permanent, None)


async def test_what_a_receiver_refused_once_it_takes_the_next_time_over_the_same_connection(http):
    with Receiver(500) as receiver:
        sender = hook(receiver.url, http=http)
        with pytest.raises(SendError):
            await sender.send(MISS)
        await sender.send(MISS)
        assert receiver.statuses() == [500, 200]
        assert {request.id for request in receiver.seen} == {MISS.id}


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_that_wants_to_be_left_alone_says_for_how_long(http, status):
    with Receiver(Answer(status, {"retry-after": "7"})) as receiver:
        assert (await refused(http, receiver.url)).retry_after_sec == 7.0


def test_a_receiver_is_left_alone_for_an_hour_at_most():
    assert SendError("429", retry_after_sec=1e12).retry_after_sec == 3600


async def test_a_redirect_is_not_followed(http):
    with Receiver() as inside, Receiver(Answer(301, {"location": inside.url})) as receiver:
        assert (await refused(http, receiver.url)).is_permanent
        assert inside.seen == []


async def test_a_receiver_that_hangs_costs_its_time_and_no_more(http):
    with Receiver(Answer(hang=True)) as receiver:
        stopwatch = Stopwatch()
        error = await refused(http, receiver.url)
        assert (error.reason, error.is_permanent) == ("timeout", False)
        assert stopwatch.sec >= 2.9
        assert stopwatch.own_sec < 7
        await hook(receiver.url, http=http).send(MISS)  # the next one gets through


async def test_a_receiver_that_drips_costs_its_time_and_no_more(http):
    hung_up = asyncio.Event()

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.1)
        except OSError:
            writer.close()
            hung_up.set()

    server = await asyncio.start_server(drip, HOST, port := free_port())
    async with server:
        stopwatch = Stopwatch()
        assert (await refused(http, f"http://{HOST}:{port}/s3cret")).reason == "timeout"
        assert stopwatch.own_sec < 7
        async with asyncio.timeout(10):
            await hung_up.wait()


async def test_no_more_of_an_answer_is_read_than_it_takes(http):
    with Receiver(Answer(200, body=b"x" * 50_000_000)) as receiver:
        stopwatch = Stopwatch()
        await hook(receiver.url, http=http).send(MISS)
        assert stopwatch.own_sec < 3
        assert connections(http.client) == []  # given up rather than read to its end


async def test_nobody_there_is_refused_and_a_name_that_is_none_is_dns(http):
    assert (await refused(http, f"http://{HOST}:{free_port()}/s3cret")).reason == "refused"
    error = await refused(http, f"http://{NO_HOST}/s3cret")
    assert (error.reason, error.is_permanent) == ("dns", False)


@pytest.mark.needs("openssl")
async def test_a_certificate_that_is_not_trusted_is_no_receiver(http, tmp_path):
    context = Authority(tmp_path).untrusted("cert")

    async def never(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        raise AssertionError("spoken to")

    server = await asyncio.start_server(never, HOST, port := free_port(), ssl=context)
    async with server:
        error = await refused(http, f"https://{HOST}:{port}/s3cret")
    assert (error.reason, error.is_permanent) == ("tls", False)


def test_where_it_talks_to_is_shown_without_its_secrets():
    sender = hook("https://me:hunter2@hooks.example.org:8443/T0/B0/s3cret?token=s3cret")
    assert sender.where == "hooks.example.org:8443"
    asyncio.run(sender.aclose())
