"""Discord: its golden payloads, its limits, what it makes of hostile names, and its rate limit obeyed."""

import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.channels.channel import SendError
from marketswarm.channels.discord import Discord, Options, add_wait_parameter, build_payload
from marketswarm.channels.http import Http
from marketswarm.channels.message import Message, Severity
from marketswarm.channels.text import printable_line
from support.channel_messages import CASES, HOSTILE, MISS, agrees, group_of, hostile
from support.chat_schemas import Discord as Documented
from support.rig.receiver import Answer, Receiver
from support.waiting import Stopwatch

MARKUP = set("*_~`|<>[]@#")

TEXTS = st.text(st.characters(), max_size=300)  # halves of characters too


def read(text: str) -> str:
    """What Discord shows of a text, where nothing of it may be markup."""
    shown, chars = [], iter(text)
    for char in chars:
        if char == "\\":
            escaped = next(chars)
            assert not escaped.isalnum(), text
            assert not escaped.isspace(), text
            shown.append(escaped)
        else:
            assert char not in MARKUP, text
            shown.append(char)
    return "".join(shown)


def embed_of(message: Message) -> dict:
    body = orjson.dumps(build_payload(message))
    Documented.model_validate_json(body)
    return dict(orjson.loads(body)["embeds"][0])


@pytest.mark.parametrize("case", CASES)
def test_the_payload_is_the_golden_one_and_as_documented(case):
    embed_of(CASES[case])
    agrees("discord", case, orjson.dumps(build_payload(CASES[case])))


@pytest.mark.parametrize("count", [1, 200, 5000])
@pytest.mark.parametrize("name", ["w", "x" * 63, "_" * 63, "\U0001f4a9" * 1000])
def test_however_many_and_long_the_names_the_limits_are_kept(count, name):
    shown = embed_of(group_of([f"{i}{name}" for i in range(count)]))["description"].split("\n")[1:]
    left = int(shown.pop().split()[1].replace(",", "")) if shown[-1].endswith(" more") else 0
    assert len(shown) + left == count


def test_all_the_room_there_is_gets_used():
    message = Message("x", "_" * 1000, "y", Severity.INFO, 0.0, lines=("z",) * 10_000)
    embed = embed_of(message)
    assert 4090 < len(embed["description"]) <= 4096
    assert 250 < len(embed["title"]) <= 256


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_calls_nobody_formats_nothing_and_is_shown_as_it_is(name):
    embed = embed_of(hostile(name))
    assert read(embed["title"]).endswith(f"{printable_line(name)} is down")
    said = read(embed["description"])
    assert f"also {printable_line(name)}" in said
    assert not re.search(r"^\s*(- |\+ |\d+[.)] )", embed["description"], re.MULTILINE)  # a list
    assert not re.search(r":\S+:|://", embed["description"].replace("\\:", ""))  # an emoji, a link


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=30), st.floats())
def test_whatever_a_message_says_the_payload_is_as_documented(title, text, lines, at):
    embed = embed_of(Message("x", title, text, Severity.INFO, at, lines=tuple(lines)))
    read(embed["title"])
    read(embed["description"])


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://discord.com/api/webhooks/1/x", "https://discord.com/api/webhooks/1/x?wait=true"),
        ("https://discord.com/a?thread_id=7", "https://discord.com/a?thread_id=7&wait=true"),
        ("https://discord.com/a?wait=false&thread_id=7", "https://discord.com/a?thread_id=7&wait=true"),
    ],
)
def test_it_asks_to_be_told_when_a_message_was_not_stored(url, found):
    assert add_wait_parameter(url) == found


@pytest.fixture
async def hook():
    """What posts to a receiver that answers by its script."""
    with Receiver() as receiver:
        http = Http(within_sec=2.0)
        yield Discord("discord", Options(url=receiver.url), http), receiver
        await http.aclose()


def used_up(after: str, status: int = 200, **more: bytes) -> Answer:
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": after}
    return Answer(status, headers, **more)


async def test_when_the_limit_is_used_up_the_next_message_waits_until_it_is_not(hook):
    discord, receiver = hook
    receiver.script.append(used_up("0.4"))
    await discord.send(MISS)
    await discord.send(MISS)
    first, second = receiver.seen
    assert 0.35 < second.at - first.at < 10
    assert second.path == "/hook/s3cret?wait=true"


async def test_while_something_remains_of_the_limit_nothing_waits(hook):
    discord, receiver = hook
    receiver.script.append(Answer(200, {"X-RateLimit-Remaining": "1", "X-RateLimit-Reset-After": "60"}))
    stopwatch = Stopwatch()
    await discord.send(MISS)
    await discord.send(MISS)
    assert stopwatch.own_sec < 10


async def test_a_long_pause_is_told_and_nothing_is_sent_meanwhile(hook):
    discord, receiver = hook
    receiver.script.append(used_up("60"))
    await discord.send(MISS)
    with pytest.raises(SendError) as caught:
        await discord.send(MISS)
    assert (caught.value.reason, caught.value.is_permanent) == ("rate_limit", False)
    assert caught.value.retry_after_sec == pytest.approx(60, abs=2)
    assert len(receiver.seen) == 1


async def test_a_429_says_in_its_body_to_the_millisecond_how_long_and_that_is_kept(hook):
    discord, receiver = hook
    body = b'{"message":"You are being rate limited.","retry_after":64.57,"global":false}'
    receiver.script.append(Answer(429, {"Retry-After": "65"}, body))
    for reason in ("429", "rate_limit"):
        with pytest.raises(SendError) as caught:
            await discord.send(MISS)
        assert caught.value.reason == reason
        assert caught.value.retry_after_sec == pytest.approx(64.57, abs=2)
        assert not caught.value.is_permanent
    assert len(receiver.seen) == 1


@pytest.mark.parametrize("after", ["", "soon", "-1", "inf", "nan", "1e999"])
async def test_a_limit_that_can_not_be_read_holds_nothing_up(hook, after):
    discord, receiver = hook
    receiver.script.append(used_up(after))
    await discord.send(MISS)
    await discord.send(MISS)
    assert receiver.statuses() == [200, 200]
