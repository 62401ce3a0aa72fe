"""The webhook: its payload to the byte, its id and its signature."""

import time
from dataclasses import replace

import orjson
import pytest
from pydantic import SecretStr

from marketswarm.channels import Message, SendError, Severity
from marketswarm.channels.message import encode_webhook_body
from marketswarm.channels.webhook import Options, Webhook, build_headers, parse_signing_key, sign_body
from support.channel_kinds import URL
from support.channel_messages import MISS

STRANGE = b'{"type":"heartbeat_miss","svc":"rss_agg","later":{"key":1}}'


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


async def test_a_receiver_gets_what_was_sent_signed(http, receiver):
    secret = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    await Webhook("webhook", Options(url=URL, secret=secret), http).send(MISS)
    (request,) = receiver.requests
    assert (request.url, request.content) == (URL, encode_webhook_body(MISS))
    at = int(request.headers["webhook-timestamp"])
    assert at == pytest.approx(time.time(), abs=5)
    signature = sign_body(MISS.id, at, request.content, parse_signing_key(secret.get_secret_value()))
    assert request.headers["webhook-signature"] == signature
    assert request.headers["webhook-id"] == MISS.id


def test_a_receiver_is_left_alone_for_an_hour_at_most():
    assert SendError("429", retry_after_sec=1e12).retry_after_sec == 3600


def test_where_it_talks_to_is_shown_without_its_secrets(http):
    url = "https://me:hunter2@hooks.example.org:8443/T0/B0/s3cret?token=s3cret"
    assert Webhook("webhook", Options(url=url), http).where == "hooks.example.org:8443"
