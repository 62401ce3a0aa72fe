"""Discord: all the room is used, and its rate limit obeyed."""

from dataclasses import replace

import httpx
import orjson
import pytest

from marketswarm.channels import discord
from marketswarm.channels.discord import (
    PAUSE_AT_MOST,
    Discord,
    Options,
    add_wait_parameter,
    build_payload,
    choose_version,
)
from support.channel_kinds import URL, refused
from support.channel_messages import MISS


def test_all_the_room_there_is_gets_used():
    embed = build_payload(replace(MISS, title="_" * 1000, text="y", lines=("z",) * 10_000))["embeds"][0]
    assert 4090 < len(embed["description"]) <= 4096
    assert 250 < len(embed["title"]) <= 256


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://discord.com/api/webhooks/1/x", "https://discord.com/api/webhooks/1/x?wait=true"),
        ("https://discord.com/a?thread_id=7", "https://discord.com/a?thread_id=7&wait=true"),
        ("https://discord.com/a?wait=false&thread_id=7", "https://discord.com/a?thread_id=7&wait=true"),
    ],
)
def test_it_asks_for_an_answer_once_a_message_is_stored(url, found):
    assert add_wait_parameter(url) == found


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://discord.com/api/webhooks/1/x?a=b", "https://discord.com/api/v10/webhooks/1/x?a=b"),
        ("https://discord.com/api/v6/webhooks/1/x", "https://discord.com/api/v10/webhooks/1/x"),
        ("https://Canary.Discord.com/api/v7/webhooks/1/x", "https://Canary.Discord.com/api/v10/webhooks/1/x"),
        ("https://discordapp.com/api/webhooks/1/x", "https://discordapp.com/api/v9/webhooks/1/x"),
        *(
            (url, url)
            for url in (
                "https://discord.com/api/v8/webhooks/1/x",
                "https://discord.com/api/v10/webhooks/1/x",
                "https://discord.com/x/api/webhooks/1/x",
                "https://notdiscord.com/api/webhooks/1/x",
                "https://hooks.example.org/api/webhooks/1/x",
            )
        ),
    ],
)
def test_the_version_is_one_whose_pauses_are_in_seconds(url, found):
    assert choose_version(url) == found


async def test_a_hook_as_discord_shows_it_waits_as_long_as_discord_says(http, clock, respx_mock):
    """Without a version, Discord answers as v6 does, in milliseconds."""
    milliseconds = httpx.Response(429, headers={"Retry-After": "43323"}, json={"retry_after": 43323})
    respx_mock.post("https://discord.com/api/webhooks/1/x").mock(return_value=milliseconds)
    seconds = httpx.Response(429, headers={"Retry-After": "44"}, json={"retry_after": 43.323})
    respx_mock.post("https://discord.com/api/v10/webhooks/1/x").mock(return_value=seconds)
    error = await refused(Discord("discord", Options(url="https://discord.com/api/webhooks/1/x"), http))
    assert error.retry_after_sec == pytest.approx(43.323)


class Clock:
    """Stands for the modules `time` and `asyncio` where a channel waits."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    async def sleep(self, sec):
        self.now += sec


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(discord, "time", found)
    monkeypatch.setattr(discord, "asyncio", found)
    return found


@pytest.fixture
def hook(http, clock):
    return Discord("discord", Options(url=URL), http)


def limited(remaining, after, status=200, body=b""):
    headers = {"X-RateLimit-Remaining": remaining, "X-RateLimit-Reset-After": after}
    return httpx.Response(status, headers=headers, content=body)


async def test_once_the_limit_is_used_up_the_next_message_waits_until_it_is_not(hook, receiver, clock):
    for after, now in (("0.4", 100.4), (str(PAUSE_AT_MOST), 100.4 + PAUSE_AT_MOST)):
        receiver.answer(limited("0", after), then=httpx.Response(200))
        await hook.send(MISS)
        await hook.send(MISS)
        assert clock.now == now
    assert receiver.requests[0].url.query == b"wait=true"


async def test_a_limit_of_which_something_remains_or_that_can_not_be_read_holds_nothing_up(
    hook, receiver, clock
):
    answers = [
        limited("1", "60"),
        *(limited("0", after) for after in ("", "soon", "-1", "inf", "nan", "1e999")),
    ]
    receiver.answer(*answers)
    for _ in answers:
        await hook.send(MISS)
    assert clock.now == 100.0


async def test_a_long_pause_is_an_error_and_nothing_is_sent_meanwhile(hook, receiver, clock):
    receiver.answer(limited("0", "60"), then=httpx.Response(200))
    await hook.send(MISS)
    error = await refused(hook)
    assert (error.reason, error.is_permanent, error.retry_after_sec) == ("rate_limit", False, 60.0)
    assert len(receiver.requests) == 1
    clock.now += 57.0
    await hook.send(MISS)
    assert (len(receiver.requests), clock.now) == (2, 160.0)


async def test_the_pause_in_the_body_of_a_429_counts_before_its_headers(hook, receiver):
    body = orjson.dumps({"message": "You are being rate limited.", "retry_after": 64.57, "global": False})
    receiver.answer(httpx.Response(429, headers={"Retry-After": "65"}, content=body))
    for reason in ("429", "rate_limit"):
        error = await refused(hook)
        assert (error.reason, error.is_permanent) == (reason, False)
        assert error.retry_after_sec == pytest.approx(64.57)
    assert len(receiver.requests) == 1
