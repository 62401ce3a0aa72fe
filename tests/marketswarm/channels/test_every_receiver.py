"""Channels that machines read over HTTP, each against every way in which a receiver fails."""

import asyncio

import pytest

from marketswarm.channels import Channel, SendError, alertmanager, pagerduty, webhook
from marketswarm.channels.http import Http
from support.channel_messages import MISS
from support.rig.certificates import Authority
from support.rig.process import HOST, free_port
from support.rig.receiver import Answer, Receiver
from support.waiting import Stopwatch

KEY = "0123456789abcdef0123456789abcdef"
KINDS = {
    "webhook": (webhook, webhook.Webhook),
    "alertmanager": (alertmanager, alertmanager.Alertmanager),
    "pagerduty": (pagerduty, pagerduty.PagerDuty),
}
OPTIONS = {"webhook": {"secret": "hunter2"}, "pagerduty": {"routing_key": KEY}}


@pytest.fixture(params=KINDS)
async def channel(request):
    """Opens one of each kind, which waits a second for whatever answers at a URL."""
    made = []

    async def of(url: str) -> Channel:
        module, kind = KINDS[request.param]
        one = kind("night", module.Options(url=url, **OPTIONS.get(request.param, {})), Http(within_sec=3.0))
        made.append(one)
        return one

    yield of
    for one in made:
        await one.aclose()


async def refused(channel: Channel) -> tuple[str, bool]:
    with pytest.raises(SendError) as caught:
        await channel.send(MISS)
    error = caught.value
    shown = f"{error!r} {channel!r} {channel.where}"
    assert not any(secret in shown for secret in ("s3cret", "hunter2", KEY))
    assert error.__context__ is None or error.__suppress_context__
    return error.reason, error.is_permanent


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (500, ("500", False)),
        (503, ("503", False)),
        (429, ("429", False)),
        (408, ("408", False)),
        (404, ("404", True)),
        (410, ("410", True)),
        (401, ("401", True)),
        (Answer(reset=True), ("broken", False)),
        (Answer(hang=True), ("timeout", False)),
        (Answer(drip=True), ("timeout", False)),
    ],
    ids=str,
)
async def test_whatever_goes_wrong_is_said_in_a_word_and_in_time(channel, answer, found):
    with Receiver(answer) as receiver:
        one = await channel(receiver.url)
        stopwatch = Stopwatch()
        assert await refused(one) == found
        assert stopwatch.own_sec < 7
        await one.send(MISS)  # the next one gets through
        first, later = receiver.seen
        assert first.body == later.body


async def test_a_redirect_to_the_inside_is_not_followed(channel):
    with Receiver() as inside:
        for status in (301, 302, 303, 307, 308):
            with Receiver(Answer(status, {"location": inside.url})) as receiver:
                reason, _ = await refused(await channel(receiver.url))
                assert reason == str(status)
        assert inside.seen == []


async def test_a_receiver_that_wants_to_be_left_alone_says_for_how_long(channel):
    with Receiver(Answer(429, {"retry-after": "30"})) as receiver:
        with pytest.raises(SendError) as caught:
            await (await channel(receiver.url)).send(MISS)
        assert caught.value.retry_after_sec == 30.0


async def test_nobody_there_is_refused(channel):
    assert await refused(await channel(f"http://{HOST}:{free_port()}/s3cret")) == ("refused", False)


@pytest.mark.needs("openssl")
async def test_a_certificate_that_is_not_trusted_is_no_receiver(channel, tmp_path):
    spoken_to = asyncio.Event()

    async def listen(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        spoken_to.set()

    context = Authority(tmp_path).untrusted("cert")
    server = await asyncio.start_server(listen, HOST, port := free_port(), ssl=context)
    async with server:
        assert await refused(await channel(f"https://{HOST}:{port}/s3cret")) == ("tls", False)
    assert not spoken_to.is_set()
