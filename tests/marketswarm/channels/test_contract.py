"""What holds for every kind of channel: its payload, its limits, and how a receiver fails it.

The rows are in `support.channel_kinds`. Nothing here opens a socket; test_http.py does.
"""

import logging
from importlib import import_module
from itertools import product

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.channels import KINDS as NAMES
from marketswarm.channels import Channel, ChannelError, Message, Severity, create_channel
from support.channel_kinds import BROKEN, HOST, KINDS, OVER_HTTP, REJECTED, SECRETS, TEMPORARY, refused
from support.channel_messages import CASES, HOSTILE, MISS, agrees, group_of, hostile

TEXTS = st.text(st.characters(), max_size=300)  # halves of characters too
BY_STATUS = {
    **dict.fromkeys((302, 303, 307, 408, 429, 500, 502, 503, 504), TEMPORARY),
    **dict.fromkeys((413, 422), REJECTED),
    **dict.fromkeys((301, 308, 401, 403, 404, 405, 410), BROKEN),
}

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
over_http = pytest.mark.parametrize("kind", OVER_HTTP, ids=lambda kind: kind.name)


def squeeze(text):
    return " ".join(text.split())


@every_kind
def test_the_payload_is_the_golden_one_and_as_documented(kind):
    for case, message in CASES.items():
        payload = kind.build(message)
        kind.check(payload)
        if kind.has_golden:
            agrees(kind.name, case, payload, "txt" if kind.name == "email" else "json")


@every_kind
def test_a_hostile_name_calls_nobody_formats_nothing_and_is_shown_as_it_is(kind):
    for name in HOSTILE:
        payload = kind.build(hostile(name))
        kind.check(payload)
        title, *others = map(squeeze, kind.read(payload))
        shown = squeeze(kind.show(name))
        assert f"{shown} is down" in title
        assert any(shown in text for text in others), name


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.widest], ids=lambda kind: kind.name)
def test_however_many_and_long_the_names_the_limits_are_kept_and_none_is_forgotten(kind):
    names = ("w", "x" * 63, kind.widest, "\U0001f4a9" * 1000)
    for count, name in (*product((1, 200), names), (5000, "w")):
        payload = kind.build(group_of([f"{i}{name}" for i in range(count)]))
        kind.check(payload)
        _title, _text, *shown = kind.read(payload)
        left = int(shown.pop().split()[1].replace(",", "")) if shown[-1].endswith(" more") else 0
        assert len(shown) + left == count


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=8), st.floats())
def test_whatever_a_message_says_each_payload_is_as_documented(title, text, lines, at):
    message = Message("x", title, text, Severity.INFO, at, lines=tuple(lines), opens=True)
    for kind in KINDS:
        payload = kind.build(message)
        kind.check(payload)
        kind.read(payload)


def make(kind, http) -> Channel:
    options = import_module(kind.module).Options.model_validate(kind.options)
    return kind.make(kind.name, options, http)


def accepted(kind):
    status, body = kind.accepted
    return httpx.Response(status, content=body)


@over_http
async def test_a_message_that_is_accepted_is_posted_as_its_payload(kind, http, receiver, caplog):
    caplog.set_level(logging.WARNING)
    for message in CASES.values():
        sent_before = len(receiver.requests)
        receiver.answer(then=accepted(kind))
        assert (await make(kind, http).send(message)).answer == kind.answer
        assert orjson.loads(kind.sent(receiver.bodies[sent_before:])) == orjson.loads(kind.build(message))
    for request in receiver.requests:
        assert request.headers["content-type"].startswith("application/json")
    assert not any(secret in caplog.text for secret in SECRETS)


@over_http
async def test_a_refusal_says_itself_whether_it_is_for_good(kind, http, receiver):
    channel = make(kind, http)
    for status, failure in BY_STATUS.items():
        receiver.answer(httpx.Response(status, content=b"no_service"))
        error = await refused(channel)
        assert (error.reason, error.failure, error.retry_after_sec) == (str(status), failure, None)
        assert error.is_permanent is (failure is not TEMPORARY)
    for status, body, reason, failure, pause in kind.refusals:
        receiver.answer(httpx.Response(status, content=body))
        error = await refused(make(kind, http))
        found = (error.reason, error.failure, error.retry_after_sec)
        assert found == (reason, failure, pause), body


@over_http
async def test_what_was_refused_once_is_accepted_the_next_time_with_the_same_body(kind, http, receiver):
    channel = make(kind, http)
    receiver.answer(httpx.Response(500), httpx.ReadTimeout("s3cret"), accepted(kind))
    assert (await refused(channel)).reason == "500"
    assert (await refused(channel)).reason == "timeout"
    await channel.send(MISS)
    assert len(set(receiver.bodies)) == 1


@over_http
async def test_a_receiver_that_wants_to_be_left_alone_says_for_how_long(kind, http, receiver):
    for status in (429, 503):
        receiver.answer(httpx.Response(status, headers={"retry-after": "7"}, content=b"<html>"))
        error = await refused(make(kind, http))
        assert (error.reason, error.failure, error.retry_after_sec) == (str(status), TEMPORARY, 7.0)


@over_http
async def test_a_redirect_is_not_followed(kind, http, receiver):
    for status in (301, 302, 303, 307, 308):
        receiver.answer(httpx.Response(status, headers={"location": "http://127.0.0.1/inside"}))
        assert (await refused(make(kind, http))).reason == str(status)
    assert len(receiver.requests) == 5


@over_http
async def test_a_broken_network_is_named_in_a_word_and_may_be_whole_again(kind, http, receiver):
    channel = make(kind, http)
    for problem, reason in (
        (httpx.ConnectError("s3cret"), "refused"),
        (httpx.ConnectTimeout("s3cret"), "timeout"),
        (httpx.ReadTimeout("s3cret"), "timeout"),
        (httpx.ReadError("s3cret"), "broken"),
        (httpx.RemoteProtocolError("s3cret"), "broken"),
    ):
        receiver.answer(problem)
        error = await refused(channel)
        assert (error.reason, error.failure) == (reason, TEMPORARY)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of apprise's plugins
@every_kind
async def test_no_secret_shows_and_a_wrong_option_is_named_without_its_value(kind):
    module, name = import_module(kind.module), kind.name.split()[0]
    options = module.Options.model_validate(kind.options)
    channel = create_channel(name, "night", kind.options)
    assert (channel.name, bool(channel.where)) == ("night", True)
    assert channel.where == (HOST if "url" in kind.options else "slack.com") or kind not in OVER_HTTP
    shown = f"{options!r} {options} {channel!r} {channel.where}"
    assert not any(secret in shown for secret in SECRETS)
    assert module.Options.model_config["frozen"]
    await channel.aclose()

    bad_url = {"url": "gopher://s3cret"} if "url" in kind.options else {}
    with pytest.raises(ChannelError, match="colour: is not an option of this kind") as caught:
        create_channel(name, "night", {**kind.options, **bad_url, "colour": "hunter2"})
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert ("url: must be http" in str(caught.value)) is bool(bad_url)
    with pytest.raises(ChannelError, match=r"^night: "):
        create_channel(name, "night", {})


def test_every_kind_has_a_row_here():
    assert {kind.name.split()[0] for kind in KINDS} == set(NAMES)
