"""ntfy: its golden payloads, its limits in bytes, and the topic out of the URL."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from marketswarm.channels.http import Http
from marketswarm.channels.message import Message, Severity
from marketswarm.channels.ntfy import Ntfy, Options, build_payload, split_topic
from marketswarm.channels.text import printable_line
from support.channel_messages import CASES, HOSTILE, MISS, agrees, group_of, hostile
from support.chat_schemas import Ntfy as Documented
from support.rig.receiver import Receiver

TEXTS = st.text(st.characters(), max_size=300)  # halves of characters too


def told(message: Message) -> dict:
    body = build_payload(message, "ops")
    Documented.model_validate_json(orjson.dumps(body))
    return body


@pytest.mark.parametrize("case", CASES)
def test_the_payload_is_the_golden_one_and_as_documented(case):
    agrees("ntfy", case, orjson.dumps(told(CASES[case])))


@pytest.mark.parametrize("count", [1, 200, 5000])
@pytest.mark.parametrize("name", ["w", "x" * 63, '"\\' * 40, "\U0001f4a9" * 1000])
def test_however_many_and_long_the_names_the_limits_are_kept(count, name):
    shown = told(group_of([f"{i}{name}" for i in range(count)]))["message"].split("\n")[1:]
    left = int(shown.pop().split()[1].replace(",", "")) if shown[-1].endswith(" more") else 0
    assert len(shown) + left == count


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_shown_as_it_is_since_there_is_no_markup(name):
    found = told(hostile(name))  # the schema knows no `markdown`, no `actions`
    assert found["title"] == f"{printable_line(name)} is down"
    assert f"also {printable_line(name)}" in found["message"]


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=30))
def test_whatever_a_message_says_the_payload_is_as_documented(title, text, lines):
    told(Message("x", title, text, Severity.INFO, 0.0, lines=tuple(lines)))


@pytest.mark.parametrize(
    ("url", "root", "topic"),
    [
        ("https://ntfy.sh/ops", "https://ntfy.sh/", "ops"),
        ("https://ntfy.sh/ops/", "https://ntfy.sh/", "ops"),
        ("http://me:pw@127.0.0.1:8080/ops#x", "http://me:pw@127.0.0.1:8080/", "ops"),
        ("https://example.org/push/ops?auth=x", "https://example.org/push/?auth=x", "ops"),
    ],
)
def test_json_goes_to_the_root_and_the_topic_into_it(url, root, topic):
    assert split_topic(url) == (root, topic)


@pytest.mark.parametrize("url", ["https://ntfy.sh", "https://ntfy.sh/", "https://ntfy.sh/s3cret.x", "s3cret"])
def test_a_url_without_a_topic_is_an_error_that_does_not_show_it(url):
    with pytest.raises(ValidationError) as caught:
        Options(url=url)
    assert "s3cret" not in str(caught.value)


async def test_a_token_goes_along_as_a_bearer_and_other_letters_arrive_whole():
    with Receiver() as receiver:
        http = Http(within_sec=2.0)
        options = Options.model_validate({"url": receiver.url, "token": "tk_s3cret"})
        message = Message("x", "Größe \U0001f4a9", "größer", Severity.WARNING, 0.0)
        receipt = await Ntfy("ntfy", options, http).send(message)
        await Ntfy("ntfy", Options(url=receiver.url), http).send(MISS)
        await http.aclose()
    first, second = receiver.seen
    assert receipt.answer == "200"
    assert first.path == "/hook/"
    assert first.headers["authorization"] == "Bearer tk_s3cret"
    assert "authorization" not in second.headers
    assert orjson.loads(first.body) == {
        "topic": "s3cret",
        "title": "Größe \U0001f4a9",
        "message": "größer",
        "priority": 4,
        "tags": ["warning"],
    }
