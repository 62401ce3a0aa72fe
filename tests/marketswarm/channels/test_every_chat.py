"""What holds for every chat alike: how receivers fail it, and that no secret of it is ever seen."""

import logging

import pytest

from marketswarm.channels import registry
from marketswarm.channels.channel import Channel, SendError
from marketswarm.channels.http import Http
from support.channel_messages import MISS
from support.rig.process import HOST, NO_HOST, free_port
from support.rig.receiver import Answer, Receiver
from support.waiting import Stopwatch

WITHIN_SEC = 3.0
SECRETS = ("s3cret", "hunter2")
CHATS = {
    "slack": lambda url: {"url": url},
    "slack by token": lambda url: {"token": "xoxb-s3cret", "channel": "#hunter2", "api": url},
    "discord": lambda url: {"url": url},
    "teams": lambda url: {"url": url},
    "ntfy": lambda url: {"url": url, "token": "tk_s3cret"},
    "telegram": lambda url: {"token": "1:s3cret", "chat": "@hunter2", "url": url},
}
ACCEPTED = Answer(200, body=b'{"ok":true,"ts":"1.2","result":{"message_id":7}}')


@pytest.fixture(params=CHATS)
def chat(request, monkeypatch):
    """Makes the channel from its options as the registry does, for a URL."""
    monkeypatch.setattr(Http.__init__, "__kwdefaults__", {"within_sec": WITHIN_SEC})

    def make(url: str) -> Channel:
        return registry.create_channel(request.param.split()[0], "night", CHATS[request.param](url))

    return make


async def refused(channel: Channel) -> SendError:
    """What sending a message comes to, looked through for secrets."""
    with pytest.raises(SendError) as caught:
        await channel.send(MISS)
    error = caught.value
    await channel.aclose()
    assert not any(secret in f"{error!r} {error}" for secret in SECRETS)
    assert error.__context__ is None or error.__suppress_context__  # no URL in a traceback either
    return error


async def test_a_message_that_is_accepted_says_what_the_receiver_answered(chat, caplog):
    caplog.set_level(logging.WARNING)
    with Receiver() as receiver:
        receiver.always = ACCEPTED
        channel = chat(receiver.url)
        receipt = await channel.send(MISS)
        await channel.aclose()
        (request,) = receiver.seen
    assert receipt.answer in ("ok", "200")
    assert channel.name == "night"
    assert channel.where == f"{HOST}:{receiver.port}"
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/json; charset=utf-8"
    assert not any(secret in caplog.text for secret in SECRETS)


@pytest.mark.parametrize(
    ("status", "permanent"),
    [
        (500, False),
        (503, False),
        (429, False),
        (408, False),
        (400, True),
        (401, True),
        (404, True),
        (410, True),
    ],
)
async def test_a_refusal_says_itself_whether_it_is_for_good(chat, status, permanent):
    with Receiver(Answer(status, body=b"no_service")) as receiver:
        error = await refused(chat(receiver.url))
    assert (error.reason, error.is_permanent, error.retry_after_sec) == (str(status), permanent, None)


async def test_what_was_refused_with_500_is_taken_the_next_time(chat):
    with Receiver(500) as receiver:
        receiver.always = ACCEPTED
        channel = chat(receiver.url)
        with pytest.raises(SendError):
            await channel.send(MISS)
        await channel.send(MISS)
        await channel.aclose()
        assert receiver.statuses() == [500, 200]
        assert len({request.body for request in receiver.seen}) == 1


async def test_a_receiver_that_wants_to_be_left_alone_says_for_how_long(chat):
    with Receiver(Answer(429, {"retry-after": "7"})) as receiver:
        error = await refused(chat(receiver.url))
    assert (error.reason, error.is_permanent, error.retry_after_sec) == ("429", False, 7.0)


async def test_a_redirect_is_not_followed(chat):
    with Receiver() as inside, Receiver(Answer(301, {"location": inside.url})) as receiver:
        assert (await refused(chat(receiver.url))).is_permanent
        assert inside.seen == []


async def test_a_receiver_that_hangs_costs_its_time_and_no_more(chat):
    with Receiver(Answer(hang=True)) as receiver:
        channel = chat(receiver.url)
        stopwatch = Stopwatch()
        error = await refused(channel)
        assert (error.reason, error.is_permanent) == ("timeout", False)
        assert stopwatch.sec >= WITHIN_SEC - 0.1
        assert stopwatch.own_sec < WITHIN_SEC + 2


async def test_nobody_there_is_refused_and_a_name_that_is_none_is_dns(chat):
    assert (await refused(chat(f"http://{HOST}:{free_port()}/s3cret"))).reason == "refused"
    assert (await refused(chat(f"http://{NO_HOST}/s3cret"))).reason == "dns"


async def test_no_secret_is_in_what_a_channel_or_its_options_look_like(chat, request):
    kind = request.node.callspec.params["chat"]
    url = "https://me:hunter2@chat.example.org:8443/s3cret"
    module = __import__(f"marketswarm.channels.{kind.split()[0]}", fromlist=["Options"])
    options = module.Options.model_validate(CHATS[kind](url))
    channel = chat(url)
    assert channel.where == "chat.example.org:8443"
    for shown in (repr(channel), repr(options), str(options)):
        assert "s3cret" not in shown
    await channel.aclose()


async def test_a_wrong_option_is_named_and_its_value_is_not(request, chat):
    kind = request.node.callspec.params["chat"]
    wrong = {**CHATS[kind]("gopher://s3cret"), "hunter": "hunter2"}
    with pytest.raises(registry.ChannelError) as caught:
        registry.create_channel(kind.split()[0], "night", wrong)
    said = str(caught.value)
    assert "hunter:" in said
    assert "http" in said
    assert not any(secret in said for secret in SECRETS)
