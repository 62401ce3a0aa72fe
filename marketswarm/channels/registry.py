"""Create channels by kind and options, or all channels that the environment names.

The file of a channel, and the library that it needs, is loaded only where that channel is used, so that an
agent without one stays small. Not here: the options of a kind, which its own file defines.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from marketswarm.channels.channel import Channel
from marketswarm.exit import Code, Exit
from marketswarm.settings.programs import ChannelSettings
from marketswarm.truth.env_policy import OPTION_VARIABLES, UNKNOWN_OPTION

# fmt: off
KINDS: Final = {
    "slack": "Slack", "discord": "Discord", "teams": "Teams", "pagerduty": "PagerDuty",
    "alertmanager": "Alertmanager", "webhook": "Webhook", "email": "Email", "ntfy": "Ntfy",
    "telegram": "Telegram", "pushover": "Pushover", "exec": "Exec", "apprise": "create_apprise",
}
# fmt: on
"""Each kind is a file beside this one, with the model `Options`, and what makes a channel of a name and
these."""

_SLACK: Final = ("hooks.slack.com", "hooks.slack-gov.com")
_DISCORD: Final = ("discord.com", "discordapp.com")
_TEAMS: Final = ("webhook.office.com", "logic.azure.com", "powerplatform.com", "powerautomate.com")

_BY_VARIABLES: Final = (
    *("email", "pagerduty", "alertmanager", "ntfy"),
    *("telegram", "pushover", "exec", "apprise"),
)
"""The environment makes a channel of these kinds once the variable of their first option is set."""

_ERROR_WORDS: Final = {"missing": "is missing", "extra_forbidden": UNKNOWN_OPTION}


class ChannelError(ValueError):
    """A channel can't be created; the text names it and what is wrong with its options, never a value."""


def create_channel(kind: str, name: str, options: Mapping[str, Any]) -> Channel:
    """Return a channel of that kind, called `name`; nothing is connected yet.

    Raises ChannelError for an unknown kind, and for wrong options with all mistakes at once.
    """
    if kind not in KINDS:
        raise ChannelError(f"{name}: no such kind of channel; there are {', '.join(KINDS)}")
    module = import_module(f"marketswarm.channels.{kind}")
    try:
        made: Channel = getattr(module, KINDS[kind])(name, module.Options.model_validate(dict(options)))
    except ValidationError as error:
        wrong = [_describe_error(item["loc"], item["type"], item["msg"]) for item in error.errors()]
        raise ChannelError(f"{name}: {'; '.join(wrong)}") from None
    return made


def create_environment_channels(settings: ChannelSettings) -> list[Channel]:
    """Return every channel that environment variables configure, named by its kind; nothing is connected yet.

    Raises Exit, code 2, naming the variable, when one of them can't be created.
    """
    found: dict[str, Channel] = {}
    for variable, kind, options in _list_environment_channels(settings):
        # a second channel of one kind can only be the one of WEBHOOK_URL
        name = "webhook" if kind in found else kind
        given = {key: value for key, value in options.items() if value is not None}
        try:
            found[name] = create_channel(kind, name, given)
        except ChannelError as error:
            raise Exit(Code.CONFIGURATION, f"{variable}: {error}") from None
    return list(found.values())


def find_kind_of_url(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in _SLACK:
        return "slack"
    if is_in_domains(host, _DISCORD) and parts.path.startswith("/api/"):
        return "discord"
    return "teams" if is_in_domains(host, _TEAMS) else "webhook"


def is_in_domains(host: str, domains: Iterable[str]) -> bool:
    """Return True if a host is one of these domains, or below one."""
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)


def _list_environment_channels(env: ChannelSettings) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the variable, the kind and the options of each configured channel; unset options are None."""
    if env.slack_token:
        yield "SLACK_TOKEN", "slack", {"token": env.slack_token, "channel": env.slack_channel}
    if env.webhook_url:
        kind = find_kind_of_url(env.webhook_url)
        secret = env.webhook_secret if kind == "webhook" else None
        yield "WEBHOOK_URL", kind, {"url": env.webhook_url, "secret": secret}
    for kind in _BY_VARIABLES:
        variables = OPTION_VARIABLES[kind]
        options = {option: getattr(env, variable.lower()) for option, variable in variables.items()}
        first = next(iter(variables))
        if options[first]:
            yield variables[first], kind, options


def _describe_error(where: tuple[int | str, ...], kind: str, message: str) -> str:
    path = ".".join(map(str, where)) or "options"
    return f"{path}: {_ERROR_WORDS.get(kind, message.removeprefix('Value error, '))}"
