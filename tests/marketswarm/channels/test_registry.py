"""Which channels an environment or options come to, and what is said of those that can't be made."""

import subprocess
import sys
from importlib import import_module

import pytest
from pydantic import SecretStr

from marketswarm.channels import registry
from marketswarm.channels.registry import (
    KINDS,
    ChannelError,
    create_channel,
    create_environment_channels,
    find_kind_of_url,
)
from marketswarm.exit import Exit
from marketswarm.settings.programs import ChannelSettings

MAIL = {"smtp_host": "mail.example.org", "smtp_from": "a@example.org", "smtp_to": "b@example.org"}
HOSTS = [
    ("https://hooks.slack.com/services/T0/B0/s3cret", "slack"),
    ("https://hooks.slack-gov.com/services/T0/B0/s3cret", "slack"),
    ("https://slack.com/api/s3cret", "webhook"),
    ("https://hooks.slack.com.example.org/services/T0/B0/s3cret", "webhook"),
    ("https://discord.com/api/webhooks/1/s3cret", "discord"),
    ("https://canary.discord.com/api/webhooks/1/s3cret", "discord"),
    ("https://DiscordApp.com/api/webhooks/1/s3cret", "discord"),
    ("https://discord.com/channels/1", "webhook"),
    ("https://notdiscord.com/api/webhooks/1/s3cret", "webhook"),
    ("https://acme.webhook.office.com/webhookb2/s3cret", "teams"),
    ("https://prod-1.westeurope.logic.azure.com:443/workflows/s3cret", "teams"),
    ("https://default1.9a.environment.api.powerplatform.com:443/powerautomate/s3cret", "teams"),
    ("http://127.0.0.1:8080/hooks.slack.com", "webhook"),
    ("http://hooks.slack.com@127.0.0.1:8080/", "webhook"),
]


@pytest.fixture
def made(monkeypatch):
    """What would be made: kind, name and options of each."""
    asked = []

    def note(kind, name, options):
        asked.append((kind, name, options))
        return object()

    monkeypatch.setattr(registry, "create_channel", note)
    return asked


def test_whoever_takes_what_is_posted_is_known_by_the_host_alone():
    assert [(url, find_kind_of_url(url)) for url, _ in HOSTS] == HOSTS


def test_without_any_variable_there_is_no_channel():
    assert create_environment_channels(ChannelSettings()) == []


async def test_a_url_and_a_mail_server_are_two_channels_in_that_order():
    hook, mail = create_environment_channels(
        ChannelSettings(webhook_url="https://hooks.example.org/s3cret", **MAIL)
    )
    assert (hook.name, hook.where) == ("webhook", "hooks.example.org")
    assert (mail.name, mail.where) == ("email", "mail.example.org")
    await hook.aclose()
    await mail.aclose()


def test_each_kind_but_those_of_a_url_has_variables_of_its_own(made):
    create_environment_channels(
        ChannelSettings(
            **MAIL,
            slack_token=SecretStr("xoxb-1"),
            slack_channel="#ops",
            pagerduty_routing_key="r" * 32,
            alertmanager_url="http://127.0.0.1:9/hook",
            ntfy_url="https://ntfy.sh/topic",
            telegram_token=SecretStr("1:a"),
            telegram_chat="-100",
            pushover_token=SecretStr("a" * 30),
            pushover_user=SecretStr("u" * 30),
            notify_exec="/bin/true --quietly",
            apprise_urls="json://127.0.0.1",
        )
    )
    assert [kind for kind, _, _ in made] == [
        "slack",
        "email",
        "pagerduty",
        "alertmanager",
        "ntfy",
        "telegram",
        "pushover",
        "exec",
        "apprise",
    ]
    assert [name for _, name, _ in made] == [kind for kind, _, _ in made]
    given = {kind: options for kind, _, options in made}
    assert given["slack"] == {"token": SecretStr("xoxb-1"), "channel": "#ops"}
    assert given["email"] == {
        "host": "mail.example.org",
        "sender": "a@example.org",
        "to": "b@example.org",
        "tls": "starttls",
    }
    assert given["ntfy"] == {"url": "https://ntfy.sh/topic"}
    assert given["exec"] == {"command": "/bin/true --quietly"}


def test_a_url_of_a_kind_that_is_there_already_is_a_second_channel_under_its_own_name(made):
    url = "https://hooks.slack.com/services/T0/B0/s3cret"
    known = {"slack_token": "xoxb-1", "slack_channel": "#ops", "webhook_secret": "a"}
    assert len(create_environment_channels(ChannelSettings(webhook_url=url, **known))) == 2
    assert [(kind, name) for kind, name, _ in made] == [("slack", "slack"), ("slack", "webhook")]
    assert made[1][2] == {"url": url}  # what signs is for the generic kind


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("smoke", {}, "night: no such kind of channel; there are slack, "),
        ("webhook", {}, "night: url: is missing"),
        ("webhook", {"url": "hunter2"}, "night: url: must be http://host/… or https://host/…"),
        (
            "webhook",
            {"url": "http://a/", "hunter": "hunter2"},
            "night: hunter: is not an option of this kind",
        ),
        ("webhook", {"url": ["hunter2"]}, "night: url: Input should be a valid string"),
        (
            "email",
            {"host": "a", "tls": "hunter2"},
            "night: sender: is missing; to: is missing; tls: Input should",
        ),
        ("email", {"host": "a", "sender": "hunter2"}, "night: sender: must be mail addresses"),
    ],
)
def test_options_that_are_wrong_are_all_named_and_their_values_are_not(kind, options, said):
    with pytest.raises(ChannelError) as caught:
        create_channel(kind, "night", options)
    assert str(caught.value).startswith(said)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_variable_that_makes_no_channel_ends_with_2_and_its_name(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "marketswarm.channels.webhook", import_module("marketswarm.channels.email")
    )
    monkeypatch.setitem(KINDS, "webhook", "Email")
    with pytest.raises(Exit) as caught:
        create_environment_channels(ChannelSettings(webhook_url="https://hooks.example.org/s3cret"))
    assert caught.value.code == 2
    assert caught.value.message.startswith("WEBHOOK_URL: webhook: host: is missing")
    assert "s3cret" not in caught.value.message


def test_a_kind_and_its_library_are_loaded_only_when_it_is_wanted():
    source = (
        "import sys; from marketswarm.channels import create_environment_channels as o; "
        "from marketswarm.settings.programs import ChannelSettings as S; "
        "o(S(smtp_host='a', smtp_from='a@b', smtp_to='a@b')); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=30, env={}
    )
    loaded = set(done.stdout.split())
    assert [kind for kind in KINDS if f"marketswarm.channels.{kind}" in loaded] == ["email"]
    assert "httpx" not in loaded
