"""JSON out and back: what an answer says, whatever it is made of."""

import pytest
from pydantic import SecretStr

from marketswarm.channels.http import Http
from marketswarm.channels.message import SendError
from marketswarm.channels.refusing import Answer
from marketswarm.channels.talk import ask, pause_of, post, said
from support.rig.receiver import Answer as Scripted
from support.rig.receiver import Receiver


@pytest.fixture
async def http():
    client = Http(within_sec=2.0)
    yield client
    await client.aclose()


@pytest.mark.parametrize("body", [b"", b"ok", b"[1]", b'"x"', b"null", b"{", b"\xff", b'{"a":NaN}'])
def test_an_answer_that_is_no_object_says_nothing(body):
    assert said(Answer(200, body)) == {}


def test_an_answer_says_what_is_in_its_object():
    assert said(Answer(500, b'{"ok":false}')) == {"ok": False}


@pytest.mark.parametrize(("value", "sec"), [(1, 1.0), ("0.25", 0.25), (0, 0.0), (64.57, 64.57)])
def test_a_pause_is_a_number_of_seconds(value, sec):
    assert pause_of(value) == sec


@pytest.mark.parametrize("value", [None, "", "soon", -1, "inf", "nan", [], {}, "1e999"])
def test_what_is_no_number_of_seconds_is_no_pause(value):
    assert pause_of(value) is None


async def test_a_refusal_can_be_read_or_raised(http):
    with Receiver(*[Scripted(429, {"Retry-After": "3", "X-Y": "z"}, b'{"a":1}')] * 2) as receiver:
        answer = await ask(http, receiver.url, {"x": 1})
        assert (answer.status, said(answer), answer.headers.get("x-y")) == (429, {"a": 1}, "z")
        with pytest.raises(SendError) as caught:
            await post(http, receiver.url, {"x": 1})
    assert (caught.value.reason, caught.value.retry_after_sec) == ("429", 3.0)


async def test_a_token_goes_into_a_header_and_nowhere_else(http):
    with Receiver() as receiver:
        await post(http, receiver.url, {"x": "ü"}, SecretStr("s3cret"))
        await post(http, receiver.url, {})
    first, second = receiver.seen
    assert first.headers["authorization"] == "Bearer s3cret"
    assert first.body == '{"x":"ü"}'.encode()
    assert first.headers["content-type"] == "application/json; charset=utf-8"
    assert "authorization" not in second.headers
