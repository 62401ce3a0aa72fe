"""What a truth gets of the environment, and where that may go: every kind of channel, every option."""

from collections.abc import Iterator
from importlib import import_module
from itertools import chain, combinations
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from marketswarm.channels import KINDS, SendError
from marketswarm.channels.http import Http
from marketswarm.settings.programs import ChannelSettings
from marketswarm.truth.env_policy import (
    OPTION_VARIABLES,
    PROVIDER_HOSTS,
    UNKNOWN_OPTION,
    VariableRefused,
    find_conditional_options,
    find_refusals,
    is_feed_variable,
    may_take_market_key,
    resolve_options,
)
from support.channel_messages import MISS

EVIL = "http://127.0.0.1:6666/take"
VALUE = "hunter2"
PLACES = {
    "WEBHOOK_URL": "https://hooks.example.org/T0/hunter2",
    "ALERTMANAGER_URL": "https://am.example.org/hunter2",
    "NTFY_URL": "https://ntfy.example.org/topic",
    "SMTP_HOST": "mail.example.org",
}
ENVIRON = {
    **{name.upper(): VALUE for name in ChannelSettings.model_fields},
    "POLYGON_API_KEY": VALUE,
    "NOTIFY_OWN": VALUE,
    "NOTIFY_NIGHT_TOKEN": VALUE,
    "PATH": "/bin",
    **PLACES,
}
del ENVIRON["SMTP_PORT"], ENVIRON["SMTP_TLS"]
OVER_HTTP = [kind for kind in KINDS if kind not in ("email", "exec", "apprise")]


def options_of(kind: str) -> set[str]:
    return set(import_module(f"marketswarm.channels.{kind}").Options.model_fields)


def elsewhere(kind: str) -> dict[str, Any]:
    """What a channel of that kind is told to send it all to somebody else."""
    there = {"url": EVIL, "host": "127.0.0.1", "urls": EVIL.replace("http", "json"), "command": "tell"}
    return {"type": kind, **{option: there[option] for option in options_of(kind) & there.keys()}}


def secrets_in(found: dict[str, Any]) -> set[str]:
    return {option for option, value in found.items() if VALUE in str(value)}


def test_every_kind_is_in_the_table_with_options_that_it_has():
    assert set(OPTION_VARIABLES) == set(KINDS)
    for kind, names in OPTION_VARIABLES.items():
        assert set(names) <= options_of(kind), kind
        assert {name.lower() for name in names.values()} <= set(ChannelSettings.model_fields), kind


@pytest.mark.parametrize("kind", KINDS)
def test_no_option_of_any_kind_takes_a_secret_to_where_a_truth_says(kind):
    said: list[str] = []
    for option in options_of(kind):
        for name in ENVIRON:
            asked = {**elsewhere(kind), option: f"env:{name}"}
            try:
                found = resolve_options(asked, ENVIRON)
            except VariableRefused as error:
                said.append(str(error))
                continue
            # whose value is an address goes there, and nowhere else
            assert option in ("url", "urls", "host", "command"), (option, name)
            assert secrets_in(found) <= {option}
    assert len(said) > len(ENVIRON) // 2
    assert VALUE not in "".join(said)


@pytest.mark.parametrize("kind", KINDS)
def test_an_option_that_the_policy_has_not_been_told_of_is_refused(kind):
    """Who adds an option has to say first whether it names a destination."""
    refused = {
        option
        for option in options_of(kind)
        if UNKNOWN_OPTION in dict(find_refusals({"type": kind, option: 1})).values()
    }
    assert not refused
    for option in ("api", "colour"):
        assert dict(find_refusals({"type": kind, option: EVIL})) == {option: UNKNOWN_OPTION}
    for options in (own_options(kind), {}):
        with pytest.raises(VariableRefused, match="api: is not an option of this kind"):
            resolve_options({"type": kind, **options, "api": EVIL}, ENVIRON)


def own_options(kind: str) -> dict[str, str]:
    return {option: f"env:{name}" for option, name in OPTION_VARIABLES[kind].items()}


def trapped_options(kind: str) -> Iterator[dict[str, Any]]:
    """Yield options of which each one in turn is the trap, and any others have what is meant for them."""
    for trap in sorted(options_of(kind)):
        others = sorted(options_of(kind) - {trap})
        for some in chain.from_iterable(combinations(others, count) for count in range(len(others) + 1)):
            meant = {each: own_options(kind).get(each, "C1") for each in some}
            for secrets in (meant, dict.fromkeys(some, "env:NOTIFY_NIGHT_TOKEN")):
                yield {"type": kind, **secrets, trap: EVIL}


@pytest.mark.parametrize("kind", OVER_HTTP)
async def test_whatever_option_is_an_address_no_request_takes_a_secret_there(kind, respx_mock):
    """The channels themselves send here, so that an address counts which the policy does not know."""
    respx_mock.route().mock(return_value=httpx.Response(200, json={"ok": True, "status": 1, "ts": "1"}))
    module, http = import_module(f"marketswarm.channels.{kind}"), Http()
    for asked in trapped_options(kind):
        try:
            options = resolve_options(asked, ENVIRON)
            del options["type"]
            channel = getattr(module, KINDS[kind])("x", module.Options.model_validate(options), http)
            await channel.send(MISS)
        except (VariableRefused, ValidationError, SendError):
            continue
    sent = [call.request for call in respx_mock.calls]
    assert sent
    trapped = [each for each in sent if each.url.host == httpx.URL(EVIL).host]
    for request in trapped:
        assert VALUE not in f"{request.url} {request.headers.raw} {request.content!r}", request.url
    await http.aclose()


@pytest.mark.parametrize("kind", KINDS)
def test_a_variable_is_for_its_own_option_of_its_own_kind_alone(kind):
    for option in options_of(kind):
        for name in ENVIRON.keys() - {OPTION_VARIABLES[kind].get(option)}:
            is_shown = option in ("host", "sender", "to")
            own = name.startswith("NOTIFY_") and name != "NOTIFY_EXEC" and kind != "exec" and not is_shown
            refused = any(each == option for each, _ in find_refusals({"type": kind, option: f"env:{name}"}))
            assert refused != own, (option, name)


ALLOWED = [
    ({"type": "ntfy", "url": "env:NTFY_URL", "token": "env:NTFY_TOKEN"}, {}),
    ({"type": "ntfy", "url": "https://ntfy.example.org/other", "token": "env:NTFY_TOKEN"}, {}),
    (
        {"type": "ntfy", "url": "https://n.example/t", "token": "env:NTFY_TOKEN"},
        {"NOTIFY_ALLOWED_HOSTS": "a, n.example"},
    ),
    (
        {"type": "ntfy", "url": "https://n.example:8/t", "token": "env:NTFY_TOKEN"},
        {"NOTIFY_ALLOWED_HOSTS": "n.example:8"},
    ),
    ({"type": "ntfy", "url": EVIL, "token": "env:NTFY_TOKEN"}, {"NOTIFY_ALLOWED_HOSTS": "127.0.0.1"}),
    (
        {"type": "ntfy", "url": "http://n.example/t", "token": "env:NTFY_TOKEN"},
        {"NOTIFY_ALLOWED_HOSTS": "http://n.example"},
    ),
    (
        {"type": "ntfy", "url": "https://[::1]:8/t", "token": "env:NTFY_TOKEN"},
        {"NOTIFY_ALLOWED_HOSTS": "[::1]:8"},
    ),
    (
        {"type": "ntfy", "url": "https://n.example/t", "token": "env:NOTIFY_NIGHT_TOKEN"},
        {"NOTIFY_NIGHT_URL": "https://n.example"},
    ),
    ({"type": "slack", "token": "env:SLACK_TOKEN", "channel": "C1"}, {}),
    ({"type": "slack", "token": "env:NOTIFY_NIGHT_TOKEN", "channel": "C1"}, {}),
    ({"type": "pagerduty", "routing_key": "env:NOTIFY_OWN"}, {}),
    (
        {
            "type": "pagerduty",
            "routing_key": "env:NOTIFY_OWN",
            "url": "https://events.eu.pagerduty.com/v2/enqueue",
        },
        {},
    ),
    ({"type": "telegram", "token": "env:TELEGRAM_TOKEN", "chat": "env:TELEGRAM_CHAT"}, {}),
    ({"type": "telegram", "token": "env:NOTIFY_OWN", "url": "https://api.telegram.org/"}, {}),
    (
        {"type": "pagerduty", "routing_key": "env:NOTIFY_OWN", "url": "env:NOTIFY_PAGER"},
        {"NOTIFY_PAGER": "https://events.pagerduty.com/integration/ours/enqueue"},
    ),
    ({"type": "pushover", "token": "env:PUSHOVER_TOKEN", "user": "env:PUSHOVER_USER"}, {}),
    ({"type": "webhook", "url": "env:WEBHOOK_URL", "secret": "env:WEBHOOK_SECRET"}, {}),
    ({"type": "webhook", "url": "https://hooks.example.org/x", "secret": "env:WEBHOOK_SECRET"}, {}),
    ({"type": "email", "host": "env:SMTP_HOST", "password": "env:SMTP_PASSWORD"}, {}),
    ({"type": "email", "host": "MAIL.example.org", "tls": "TLS", "password": "env:SMTP_PASSWORD"}, {}),
    (
        {"type": "email", "host": "env:SMTP_HOST", "port": "env:SMTP_PORT", "user": "env:SMTP_USER"},
        {"SMTP_PORT": "2525"},
    ),
    (
        {"type": "email", "host": "env:SMTP_HOST", "tls": "none", "user": "env:SMTP_USER"},
        {"SMTP_TLS": "none"},
    ),
    *(
        (
            {"type": "email", "host": "m.example", option: f"env:{name}"},
            {"NOTIFY_ALLOWED_HOSTS": "m.example", name: "a@b.example"},
        )
        for option, name in (("to", "NOTIFY_NIGHT_TO"), ("sender", "NOTIFY_NIGHT_FROM"))
    ),
    ({"type": "exec", "command": "env:NOTIFY_EXEC"}, {}),
    ({"type": "apprise", "urls": "env:NOTIFY_OWN"}, {}),
    ({"type": "webhook", "url": EVIL}, {}),  # nothing of ours goes there
]


@pytest.mark.parametrize(("options", "more"), ALLOWED)
def test_what_the_environment_agrees_to_is_had(options, more):
    found = resolve_options(options, {**ENVIRON, **more})
    assert found.keys() == options.keys()
    assert not [value for value in found.values() if str(value).startswith("env:")]


REFUSED = [
    ({"type": "ntfy", "url": "https://ntfy.example.org:8443/t", "token": "env:NTFY_TOKEN"}, {}),
    ({"type": "ntfy", "url": "http://ntfy.example.org/t", "token": "env:NTFY_TOKEN"}, {}),
    ({"type": "ntfy", "url": "https://ntfy.example.org.evil/t", "token": "env:NTFY_TOKEN"}, {}),
    ({"type": "ntfy", "url": "https://ntfy.example.org@evil/t", "token": "env:NTFY_TOKEN"}, {}),
    (
        {"type": "ntfy", "url": "http://n.example/t", "token": "env:NTFY_TOKEN"},
        {"NOTIFY_ALLOWED_HOSTS": "n.example"},
    ),
    (
        {"type": "ntfy", "url": "https://n.example:9/t", "token": "env:NTFY_TOKEN"},
        {"NOTIFY_ALLOWED_HOSTS": "n.example:8"},
    ),
    (
        {"type": "ntfy", "url": "env:NOTIFY_A_URL", "token": "env:NOTIFY_B_TOKEN"},
        {
            "NOTIFY_A_URL": "https://a.example/t",
            "NOTIFY_B_TOKEN": VALUE,
            "NOTIFY_B_URL": "https://b.example/t",
        },
    ),
    (
        {
            "type": "pagerduty",
            "routing_key": "env:PAGERDUTY_ROUTING_KEY",
            "url": "http://events.pagerduty.com/",
        },
        {},
    ),
    ({"type": "telegram", "token": "env:TELEGRAM_TOKEN", "chat": 1, "url": "https://t.example"}, {}),
    ({"type": "pushover", "token": "env:PUSHOVER_TOKEN", "user": "u", "url": "https://p.example"}, {}),
    ({"type": "slack", "token": "env:SLACK_TOKEN", "url": EVIL}, {}),
    # addresses of the provider where others read what is sent, also where the environment lists its host
    *(
        ({"type": kind, option: "env:NOTIFY_OWN", "url": f"https://{PROVIDER_HOSTS[kind][0]}{rest}"}, allowed)
        for kind, option, rest in (
            ("telegram", "token", "/bot1:evil/sendMessage?chat_id=1&text="),
            ("telegram", "token", "/bot1:evil"),
            ("telegram", "token", "?"),
            ("telegram", "token", "/#"),
            ("pushover", "token", "/1/messages.json?token=evil&user=evil&message="),
            ("pagerduty", "routing_key", "/x-ere/evil"),
            ("pagerduty", "routing_key", "/integration/evil/enqueue"),
            ("pagerduty", "routing_key", "/v2/enqueue?to=evil"),
            ("pagerduty", "routing_key", ""),
        )
        for allowed in ({}, {"NOTIFY_ALLOWED_HOSTS": PROVIDER_HOSTS[kind][0]})
    ),
    ({"type": "email", "host": "env:SMTP_HOST", "port": 2525, "password": "env:SMTP_PASSWORD"}, {}),
    ({"type": "email", "host": "env:SMTP_HOST", "port": 2525.0, "password": "env:SMTP_PASSWORD"}, {}),
    ({"type": "email", "host": "env:SMTP_HOST", "port": True, "password": "env:SMTP_PASSWORD"}, {}),
    ({"type": "email", "host": "env:SMTP_HOST", "tls": " none", "password": "env:SMTP_PASSWORD"}, {}),
    ({"type": "email", "host": "m.example", "to": "env:NOTIFY_OWN_TO"}, {"NOTIFY_OWN_TO": VALUE}),
    # a password with an @ would be an address, which whoever has the mail reads, or has the refusal of
    *(
        (
            {"type": "email", "host": "env:SMTP_HOST", option: "env:NOTIFY_NIGHT_TOKEN"},
            {"NOTIFY_ALLOWED_HOSTS": "mail.example.org"},
        )
        for option in ("sender", "to")
    ),
    ({"type": "email", "host": "env:NOTIFY_NIGHT_TOKEN"}, {}),
    ({"type": "webhook", "url": ["env:WEBHOOK_URL"], "secret": "env:WEBHOOK_SECRET"}, {}),
    ({"type": "exec", "command": ["env:NOTIFY_EXEC"]}, {}),
    ({"type": "exec", "command": "env:NOTIFY_OWN"}, {}),
    ({"type": "exec", "command": ["sh", "-c", "true"]}, {}),
    ({"type": "apprise", "urls": "json://a,fcm://b?keyfile=/etc/passwd"}, {}),
]


@pytest.mark.parametrize(("options", "more"), REFUSED)
def test_what_it_does_not_agree_to_is_refused_with_the_option_and_no_value(options, more):
    with pytest.raises(VariableRefused) as caught:
        resolve_options(options, {**ENVIRON, **more})
    assert str(caught.value).partition(":")[0] in options
    assert VALUE not in str(caught.value)


def test_a_refusal_says_what_would_be_right():
    def said(**options):
        with pytest.raises(VariableRefused) as caught:
            resolve_options(options, ENVIRON)
        return str(caught.value)

    assert said(type="ntfy", url=EVIL, token="env:NTFY_TOKEN") == (  # noqa: S106 - names no secret
        "token: NTFY_TOKEN may not be sent to 127.0.0.1:6666: "
        "set NTFY_URL to that place there, or list its host in NOTIFY_ALLOWED_HOSTS"
    )
    assert said(type="ntfy", url="env:PATH") == (
        'url: PATH is not for this: write "env:NTFY_URL" or "env:NOTIFY_…" and set that in the environment'
    )
    assert 'write "env:NOTIFY_EXEC"' in said(type="exec", command="env:PATH")


def test_what_depends_on_the_environment_is_a_doubt_when_a_truth_is_checked():
    asked = {"type": "ntfy", "url": EVIL, "token": "env:NTFY_TOKEN"}
    assert [option for option, _ in find_conditional_options(asked)] == ["token"]
    assert not [*find_conditional_options({**asked, "url": "env:NTFY_URL"})]
    assert not [*find_conditional_options({"type": "webhook", "url": EVIL})]


def test_what_is_no_channel_is_left_to_who_knows_channels():
    for options in ({}, {"type": 7}, {"type": "pigeon", "url": "env:PATH"}):
        assert resolve_options(options, ENVIRON) == options


@pytest.mark.parametrize("name", ["FEED", "PAID_FEED_URL", "FEED_A", "A_FEED"])
def test_feeds_have_variables_of_their_own(name):
    assert is_feed_variable(name)


@pytest.mark.parametrize(
    "name", ["SMTP_PASSWORD", "FEEDS", "WEBHOOK_URL", "SYSTEM_REDIS_URL", "AFEED_URL", ""]
)
def test_other_variables_are_not_for_feeds(name):
    assert not is_feed_variable(name)


def test_the_markets_key_goes_to_its_own_hosts_and_where_the_environment_has_it():
    ours = ("http://127.0.0.1:8080", None)
    assert may_take_market_key("https://api.massive.com/v9", (None, None))
    assert may_take_market_key("wss://socket.massive.com/stocks", ())
    assert may_take_market_key("http://127.0.0.1:8080/other", ours)
    for url in (
        "http://127.0.0.1:8081",
        "https://127.0.0.1:8080",
        "http://api.massive.com",
        "https://evil.example",
        "https://api.massive.com:8443",
        "https://api.massive.com.evil",
        "https://",
        "no url",
    ):
        assert not may_take_market_key(url, ours), url


def test_a_channel_whose_type_is_no_text_names_no_variable_that_only_the_environment_permits():
    options = {"type": ["ntfy"], "url": "https://ntfy.example", "token": "env:NTFY_TOKEN"}
    assert list(find_conditional_options(options)) == []
    assert resolve_options(options, {}) == options
