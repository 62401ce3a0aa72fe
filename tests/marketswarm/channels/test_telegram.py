"""Telegram: its golden payloads, its limit, hostile names, threads, and refusals as the bot API has them."""

import re
from html.parser import HTMLParser

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from marketswarm.channels.channel import SendError
from marketswarm.channels.http import Http
from marketswarm.channels.message import Message, Severity
from marketswarm.channels.telegram import Options, Telegram, build_payload
from marketswarm.channels.text import printable_line
from support.channel_messages import CASES, HOSTILE, MISS, OK, agrees, group_of, hostile
from support.chat_schemas import Telegram as Documented
from support.rig.receiver import Answer, Receiver

BOT = {"token": "123456:s3cret", "chat": "-1001"}
SENT = Answer(200, body=b'{"ok":true,"result":{"message_id":77,"date":1,"chat":{"id":-1001}}}')

TEXTS = st.text(st.characters(), max_size=300)  # halves of characters too


class Reader(HTMLParser):
    """What Telegram shows of a text, and the tags in it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.shown = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag if not attrs else f"{tag} {attrs}")

    def handle_data(self, data: str) -> None:
        self.shown += data


def no(status: int, code: object, description: str = "x", **parameters: int) -> Answer:
    found = {"ok": False, "error_code": code, "description": description}
    return Answer(status, body=orjson.dumps(found | ({"parameters": parameters} if parameters else {})))


def read(message: Message, anchor: str | None = None) -> str:
    """What is shown, where nothing but the title is bold and nothing is live."""
    body = {"chat_id": "-1001", **build_payload(message, anchor)}
    Documented.model_validate_json(orjson.dumps(body))
    found = Reader(body["text"])
    assert found.tags == ["b"]
    assert not re.search(r"(?<!\w)[@#$/]\w", found.shown)
    return found.shown.replace("\u2060", "")


@pytest.mark.parametrize("case", CASES)
def test_the_payload_is_the_golden_one_and_as_documented(case):
    read(CASES[case])
    agrees("telegram", case, orjson.dumps({"chat_id": "-1001", **build_payload(CASES[case])}))


@pytest.mark.parametrize("count", [1, 200, 5000])
@pytest.mark.parametrize("name", ["w", "x" * 63, "&" * 63, "\U0001f4a9" * 1000])
def test_however_many_and_long_the_names_the_limit_is_kept(count, name):
    shown = read(group_of([f"{i}{name}" for i in range(count)])).split("\n")[2:]
    left = int(shown.pop().split()[1].replace(",", "")) if shown[-1].endswith(" more") else 0
    assert len(shown) + left == count


@pytest.mark.parametrize("name", [*HOSTILE, "/start@bot", "a@b", "#tag $USD"])
def test_a_hostile_name_calls_nobody_formats_nothing_and_is_shown_as_it_is(name):
    shown = read(hostile(name))
    assert f"{printable_line(name)} is down" in shown
    assert f"also {printable_line(name)}" in shown


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=30))
def test_whatever_a_message_says_the_payload_is_as_documented(title, text, lines):
    read(Message("x", title, text, Severity.INFO, 0.0, lines=tuple(lines)))


@pytest.mark.parametrize("anchor", [None, "", "x", "-5", "1.5", "9" * 40, "٣"])
def test_an_anchor_that_is_no_message_is_no_reply(anchor):
    assert "reply_parameters" not in build_payload(OK, anchor)


@pytest.mark.parametrize(
    "wrong", [{}, {"chat": "1"}, {"token": "s3cret"}, {"token": "s3cret\n", "chat": "1"}]
)
def test_it_wants_a_token_and_a_chat(wrong):
    with pytest.raises(ValidationError) as caught:
        Options.model_validate(wrong)
    assert "s3cret" not in str(caught.value)


@pytest.fixture
async def bot():
    """A bot whose API is a receiver that answers by its script."""
    with Receiver() as receiver:
        receiver.always = SENT
        options = Options.model_validate({**BOT, "url": receiver.url})
        http = Http(within_sec=2.0)
        yield Telegram("telegram", options, http), receiver
        await http.aclose()


async def test_later_messages_of_a_thread_are_replies_to_its_first(bot):
    telegram, receiver = bot
    first = await telegram.send(MISS)
    later = await telegram.send(OK, first.anchor)
    assert (first.answer, first.anchor, later.anchor) == ("ok", "77", "77")
    one, two = (Documented.model_validate_json(request.body) for request in receiver.seen)
    assert one.reply_parameters is None
    assert two.reply_parameters
    assert two.reply_parameters.message_id == 77
    assert one.chat_id == "-1001"
    assert receiver.seen[0].path == "/hook/s3cret/bot123456:s3cret/sendMessage"


@pytest.mark.parametrize(
    ("answer", "reason", "permanent", "after"),
    [
        (no(400, 400, "Bad Request: chat not found"), "400", True, None),
        (no(401, 401, "Unauthorized"), "401", True, None),
        (no(403, 403, "Forbidden: bot was kicked"), "403", True, None),
        (no(404, 404, "Not Found"), "404", True, None),
        (no(429, 429, "Too Many Requests: retry after 34", retry_after=34), "429", False, 34.0),
        (no(500, 500, "Internal Server Error"), "500", False, None),
        (no(200, 429, retry_after=5), "429", False, 5.0),
        (no(200, 403), "403", True, None),
        (no(200, "x"), "bad_answer", False, None),
        (Answer(200, body=b"ok"), "bad_answer", False, None),
        (Answer(200, body=b'{"ok":1,"parameters":[]}'), "bad_answer", False, None),
        (Answer(429, {"retry-after": "9"}, b"<html>"), "429", False, 9.0),
        (Answer(502, body=b"<html>"), "502", False, None),
    ],
)
async def test_a_no_says_whether_it_is_for_good_and_when_to_come_again(bot, answer, reason, permanent, after):
    telegram, receiver = bot
    receiver.script.append(answer)
    with pytest.raises(SendError) as caught:
        await telegram.send(MISS)
    error = caught.value
    assert (error.reason, error.is_permanent, error.retry_after_sec) == (reason, permanent, after)


async def test_a_group_that_has_become_a_supergroup_is_followed_to_its_new_id(bot):
    telegram, receiver = bot
    receiver.script.append(no(400, 400, "Bad Request: group chat was upgraded", migrate_to_chat_id=-100200))
    assert (await telegram.send(MISS)).answer == "ok"
    await telegram.send(OK)
    chats = [orjson.loads(request.body)["chat_id"] for request in receiver.seen]
    assert chats == ["-1001", -100200, -100200]


async def test_a_token_can_not_lead_elsewhere_than_to_its_bot():
    with Receiver() as receiver:
        receiver.always = SENT
        http = Http(within_sec=2.0)
        options = Options.model_validate({"token": "1/../../x?y#z", "chat": 5, "url": receiver.url})
        await Telegram("telegram", options, http).send(MISS)
        await http.aclose()
        assert receiver.seen[0].path == "/hook/s3cret/bot1%2F..%2F..%2Fx%3Fy%23z/sendMessage"
