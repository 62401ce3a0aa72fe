"""Questions to a language model, against a stand-in for its server: what it does right, and wrong."""

import contextlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from marketswarm.net.chat import (
    AnswerPart,
    BadAnswerError,
    BudgetSpentError,
    ChatClient,
    ChatQuestion,
    ChatStatusError,
    ModelBreaker,
    parse_content,
    parse_json,
)
from marketswarm.net.http import TOO_LONG, HttpError
from support.rig.receiver import Answer, Receiver

QUESTION = ChatQuestion(model="m", instruction="Sum up.", data='{"a":1}', max_tokens=9)
FENCED = '```json\n{"summary": "Acme rose."}\n```'


def completion(content):
    return orjson.dumps(
        {"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]}
    )


@pytest.mark.parametrize(
    ("content", "text"), [("Acme rose.", "Acme rose."), (FENCED, '{"summary": "Acme rose."}')]
)
def test_the_text_of_an_answer_is_taken_bare_or_fenced(content, text):
    assert parse_content(completion(content)) == text


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        *((each, "garbage") for each in (b"", b"<html>", b"\xff\xfe", b"[" * 5000)),
        *((each, "schema") for each in (b"[]", b"{}", b'{"choices": []}')),
        (b'{"choices": [{"message": {"content": null}}]}', "schema"),
        *((each, "schema") for each in (b'{"choices": [{"text": "old"}]}', b'{"error": {"message": "no"}}')),
        *((each, "schema") for each in (completion("x" * 20_001), completion(""))),
    ],
)
def test_what_is_no_answer_is_refused_in_a_word(body, reason):
    with pytest.raises(BadAnswerError, match=f"^{reason}$"):
        parse_content(body)


@given(st.binary(max_size=300))
def test_whatever_is_answered_it_is_a_text_or_unfit(body):
    with pytest.raises(BadAnswerError):
        parse_content(body)


class Vote(AnswerPart):
    side: str


def test_an_answer_has_the_form_that_was_asked_for():
    assert parse_json('{"side": "long", "mood": "good"}', Vote).side == "long"
    for text, reason in (("long", "garbage"), ('{"side": 1}', "schema"), ("[]", "schema")):
        with pytest.raises(BadAnswerError, match=f"^{reason}$"):
            parse_json(text, Vote)
    with pytest.raises(BadAnswerError, match="no_vote"):
        parse_json("long", Vote, no_json="no_vote")


@contextlib.asynccontextmanager
async def model(*script, path="/v1", key=None):
    with Receiver(*script) as server:
        server.always = Answer(body=completion("Yes."))
        chat = ChatClient(f"http://127.0.0.1:{server.port}{path}", key, max_bytes=10_000)
        async with contextlib.aclosing(chat):
            yield server, chat


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/chat/completions"])
async def test_a_question_is_one_request_whose_answer_is_to_be_json(path):
    async with model(path=path, key=SecretStr("s3cret")) as (server, chat):
        assert await chat.ask(QUESTION, 20) == "Yes."
    (request,) = server.seen
    assert (request.path, request.headers["authorization"]) == ("/v1/chat/completions", "Bearer s3cret")
    assert orjson.loads(request.body) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Sum up."}, {"role": "user", "content": '{"a":1}'}],
        "temperature": 0,
        "max_tokens": 9,
        "response_format": {"type": "json_object"},
    }


async def test_each_failure_is_named_and_an_answer_that_is_too_long_is_not_read():
    long = Answer(body=b" " * 3_000_000)
    async with model(Answer(503, {"Retry-After": "7"}), long, Answer(hang=True)) as (_, chat):
        with pytest.raises(ChatStatusError) as refused:
            await chat.ask(QUESTION, 20)
        assert (refused.value.response.status, refused.value.response.find_retry_after()) == (503, 7)
        with pytest.raises(HttpError) as failed:
            await chat.ask(QUESTION, 20)
        assert failed.value.reason == TOO_LONG
        with pytest.raises(HttpError) as failed:
            await chat.ask(QUESTION, 0.1)
        assert failed.value.reason == "timeout"


async def test_nothing_is_asked_once_the_budget_is_spent():
    left = [True, True, False]

    async def spend():
        return left.pop(0)

    async with model() as (server, chat):
        for _ in range(2):
            assert await chat.ask(QUESTION, 20, spend) == "Yes."
        with pytest.raises(BudgetSpentError):
            await chat.ask(QUESTION, 20, spend)
        assert len(server.seen) == 2


def test_after_three_failures_in_a_row_the_model_is_tried_once_after_pauses_that_double():
    breaker, now, pauses = ModelBreaker(), 0.0, []
    for _ in range(3):
        assert breaker.open_sec(now) == 0
        breaker.record_failure("500", now)
    for _ in range(8):
        pauses.append(breaker.open_sec(now))
        now += pauses[-1]
        assert (breaker.open_sec(now - 1), breaker.open_sec(now), breaker.reason) == (1, 0, "500")
        breaker.record_failure("500", now)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    for _ in range(10):  # an answer in between clears the count
        breaker.record_success()
        assert breaker.reason is None
        breaker.record_failure("500", now)
        breaker.record_failure("500", now)
    assert breaker.open_sec(now + 3600) == 0


@pytest.mark.parametrize(
    ("how", "open_sec"),
    [({"lasting": True}, 60), ({"after_sec": 7.0}, 7), ({"after_sec": 1e9}, 3600), ({}, 0)],
)
def test_what_lasts_needs_no_three_and_a_pause_that_is_asked_for_is_kept_up_to_an_hour(how, open_sec):
    breaker = ModelBreaker()
    breaker.record_failure("429", 0.0, **how)
    assert breaker.open_sec(0.0) == open_sec
