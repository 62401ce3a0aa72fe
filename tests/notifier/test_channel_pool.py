"""Channels come from the truth, else from the environment; what is wrong is named, and no value shown."""

import asyncio
import time
from importlib import import_module

import pytest

from marketswarm.channels import KINDS, Message, Severity
from marketswarm.channels.worker import ChannelWorker
from marketswarm.exit import Exit
from marketswarm.settings.programs import NotifierSettings
from notifier.channel_pool import (
    SHOWN_OPTIONS,
    ChannelPool,
    find_channel_addresses,
    open_configured,
    require_one_channel,
    resolve_channels,
)
from notifier.inbox import Inbox

URL = "http://127.0.0.1:9/s3cret"
HOOK = {"type": "webhook", "url": URL}


async def close(*found):
    for channels in found:
        for channel in channels.values():
            await channel.aclose()


async def test_without_any_in_the_truth_the_environments_are_meant():
    found, wrong = open_configured(resolve_channels({}, {}), NotifierSettings(webhook_url=URL))
    assert (list(found), wrong) == (["webhook"], {})
    await close(found)
    assert open_configured(resolve_channels({}, {}), NotifierSettings()) == ({}, {})


async def test_those_of_the_truth_go_by_its_names_with_secrets_from_variables_and_files(tmp_path):
    path = tmp_path / "secret"
    path.write_text("whatever\n", encoding="utf-8")
    channels = {
        "a": {"type": "webhook", "url": "env:WEBHOOK_URL", "secret": "env:NOTIFY_OWN_KEY"},
        "b": {"type": "webhook", "url": URL},
    }
    want = resolve_channels(
        channels, {"WEBHOOK_URL": URL, "NOTIFY_OWN_URL": URL, "NOTIFY_OWN_KEY_FILE": str(path)}
    )
    found, wrong = open_configured(want, NotifierSettings(webhook_url=URL))
    assert (list(found), wrong) == (["a", "b"], {})
    assert "whatever" in want.options["a"].values()
    await close(found)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"type": "webhook", "url": "env:NOTIFY_NOT_SET"}, "NOTIFY_NOT_SET"),
        ({"type": "webhook", "url": "env:NOTIFY_IN_FILE"}, "NOTIFY_IN_FILE_FILE"),
        ({"type": "webhook", "url": "env:SMTP_PASSWORD"}, "SMTP_PASSWORD is not for this"),
        ({"type": "webhook", "url": URL, "secret": "env:WEBHOOK_SECRET"}, "may not be sent to 127.0.0.1:9"),
        ({"type": "exec", "command": "touch s3cret"}, 'write "env:NOTIFY_EXEC"'),
        ({"type": "webhook"}, "url: is missing"),
        ({"type": "webhook", "url": URL, "colour": "s3cret"}, "colour"),
        ({"url": URL}, "type: is missing"),
        ({"type": 7}, "type: is missing"),
        ({"type": "pigeon"}, "no such kind"),
    ],
)
async def test_what_is_wrong_with_one_is_named_and_the_others_are_open(options, said):
    want = resolve_channels(
        {"bad": options, "good": HOOK}, {"NOTIFY_IN_FILE_FILE": "/nowhere/at/all", "WEBHOOK_SECRET": "s3cret"}
    )
    found, wrong = open_configured(want, NotifierSettings())
    assert list(found) == ["good"]
    assert said in wrong["bad"]
    assert "s3cret" not in wrong["bad"]
    require_one_channel(found, wrong)
    with pytest.raises(Exit) as error:
        require_one_channel({}, wrong)
    assert error.value.code == 2
    await close(found)


async def test_those_that_stay_the_same_are_kept_and_others_made_anew():
    before = resolve_channels({"a": HOOK, "b": HOOK}, {})
    found, _ = open_configured(before, NotifierSettings())
    after = resolve_channels({"a": HOOK, "b": {**HOOK, "url": URL + "x"}, "c": HOOK}, {})
    assert [after.same(before, name) for name in ("a", "b", "c")] == [True, False, False]
    keep = {name: channel for name, channel in found.items() if after.same(before, name)}
    again, _ = open_configured(after, NotifierSettings(), keep)
    assert again["a"] is found["a"]
    assert again["b"] is not found["b"]
    assert not after.same(resolve_channels({}, {}), "a")
    assert resolve_channels({}, {}).same(resolve_channels({}, {}), "webhook")
    await close(found, again)


async def test_what_is_left_of_a_pause_and_how_long_a_message_fails_are_by_the_clock_of_the_notifier():
    """The wall clock may be an hour ahead of it until the next dispatch."""
    now = time.time() - 3600.0
    pool = ChannelPool(Inbox(), clock=lambda: now)
    message = Message("m1", "t", "x", Severity.INFO, now)
    pool.outbox.add(message, ["a"])
    pool.outbox.record_failure("m1", "a", now - 10.0)
    pool.state.set_pause("a", 3, now + 1000.0)
    put = []
    pool.set_retry_for(3600.0)
    found, _ = open_configured(resolve_channels({"a": HOOK}, {}), NotifierSettings())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ChannelWorker, "put", lambda _, each, failing_sec: put.append((each, failing_sec)))
        async with asyncio.TaskGroup() as group:
            pool.open(found, group)
            [worker] = pool.workers.values()
            assert worker.pause_left_sec == pytest.approx(1000.0, abs=5.0)
            worker.stop()
    assert put == [(message, pytest.approx(10.0, abs=0.01))]


NO_ADDRESS = {
    # what is sent, how, or as whom; a truth with the text of a token or a password is refused as a whole
    *("token", "secret", "password", "sender", "port", "tls", "emergency", "within_sec"),
    # an address in the truth can't be opened
    *("urls", "command"),
}
"""Options that say nothing of who gets messages."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipient_that_a_truth_names_is_an_address_whatever_the_option_is_called(kind):
    options = set(import_module(f"marketswarm.channels.{kind}").Options.model_fields)
    for option in options - NO_ADDRESS - ({"user"} if kind == "email" else set()):
        found = [
            find_channel_addresses({"a": {"type": kind, option: value}})["a"]
            for value in ("s3cret-1", "s3cret-2")
        ]
        assert found[0].digest != found[1].digest, option
        assert option in SHOWN_OPTIONS or "s3cret" not in found[0].shown or option == "host"
        assert not find_channel_addresses({"a": {"type": kind, option: "env:NOTIFY_X"}})
    assert not find_channel_addresses({"a": {"type": kind, **dict.fromkeys(options & NO_ADDRESS, "x")}})
