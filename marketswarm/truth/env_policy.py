"""Decide which variables a truth may use, and where their values may be sent. Pure.

Everybody who can write to a bus can write a truth. So a truth names no command, it gets a variable only for
the option that the variable is meant for, and it does not choose where the value is sent: the environment
does, by the URL or host beside the variable, or by NOTIFY_ALLOWED_HOSTS. These rules hold for every section;
`tests/faults/test_replaced_truth.py` tries all of them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from marketswarm.truth.credentials import parse_reference, resolve_references

COMMAND: Final = "NOTIFY_EXEC"
ALLOWED_HOSTS: Final = "NOTIFY_ALLOWED_HOSTS"
PREFIX: Final = "NOTIFY_"
"""The prefix of the operator's own variables for channels: a second token, a second address."""
RESERVED_NAMES: Final = frozenset({COMMAND, ALLOWED_HOSTS, "NOTIFY_SOCKET"})
"""Variables that begin with the prefix and are not for channels."""

_WEBHOOK: Final = {"url": "WEBHOOK_URL"}
OPTION_VARIABLES: Final[Mapping[str, Mapping[str, str]]] = {
    "slack": {**_WEBHOOK, "token": "SLACK_TOKEN", "channel": "SLACK_CHANNEL"},
    "discord": _WEBHOOK,
    "teams": _WEBHOOK,
    "pagerduty": {"routing_key": "PAGERDUTY_ROUTING_KEY"},
    "alertmanager": {"url": "ALERTMANAGER_URL"},
    "webhook": {**_WEBHOOK, "secret": "WEBHOOK_SECRET"},
    "email": {
        "host": "SMTP_HOST",
        "port": "SMTP_PORT",
        "user": "SMTP_USER",
        "password": "SMTP_PASSWORD",
        "sender": "SMTP_FROM",
        "to": "SMTP_TO",
        "tls": "SMTP_TLS",
    },
    "ntfy": {"url": "NTFY_URL", "token": "NTFY_TOKEN"},
    "telegram": {"token": "TELEGRAM_TOKEN", "chat": "TELEGRAM_CHAT"},
    "pushover": {"token": "PUSHOVER_TOKEN", "user": "PUSHOVER_USER"},
    "exec": {"command": COMMAND},
    "apprise": {"urls": "APPRISE_URLS"},
}
"""By type of channel, the variable that each option may name, besides those with the prefix."""
_OTHER_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "pagerduty": frozenset({"url"}),
    "telegram": frozenset({"url"}),
    "pushover": frozenset({"url", "device", "emergency"}),
    "exec": frozenset({"within_sec"}),
}
"""By type of channel, the options without a variable of their own.

An option in neither table is refused, since it could say where a secret is sent. Before an option gets
its place here, `_find_destination` has to know whether it says that.
"""
PROVIDER_HOSTS: Final[Mapping[str, tuple[str, ...]]] = {
    "slack": ("slack.com",),
    "pagerduty": ("events.pagerduty.com", "events.eu.pagerduty.com"),
    "telegram": ("api.telegram.org",),
    "pushover": ("api.pushover.net",),
}
"""By type of channel, the hosts of its provider; messages go to the first one if no `url` is given."""
_PROVIDER_PATHS: Final[Mapping[str, str]] = {"pagerduty": "/v2/enqueue"}
"""By type of channel, the path of a `url` on these hosts; the others have none."""
MARKET_HOSTS: Final = ("api.massive.com", "delayed.massive.com", "socket.massive.com")
"""The hosts of the market data API."""
UNKNOWN_OPTION: Final = "is not an option of this kind"

_FEED_VARIABLE: Final = re.compile(r"(?:\w+_)?FEED(?:_\w+)?")
_DESTINATION_OPTIONS: Final = frozenset({"url", "urls", "host", "command"})
"""Options whose value is itself the destination."""
_OWN_SUFFIXES: Final[Mapping[str, str]] = {"host": "_HOST", "sender": "_FROM", "to": "_TO"}
"""By option, the end of an operator's own variable for it, so that it names no secret.

Others see these options: name servers a host, all recipients of a mail its sender and recipients, and the
sender of a mail that is refused whom it was for.
"""
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443, "none": 25, "starttls": 587, "tls": 465}
_MAIL_ENCRYPTION: Final = ("starttls", "tls", "none")
_UNENCRYPTED: Final = frozenset({"http", "ws", "none"})
_THIS_MACHINE: Final = re.compile(r"localhost|127(?:\.\d{1,3}){3}|::1")


class VariableRefused(ValueError):  # noqa: N818 - a decision, not an accident
    """A truth asks for a variable that it may not use; the message has option, reason and remedy."""


@dataclass(frozen=True, slots=True)
class Destination:
    """The host and port that a channel sends to.

    `scheme` is that of a URL, in lower case; for mail it is the encryption: `starttls`, `tls` or `none`. It
    is empty, and `port` is 0, where they are not known.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (0, _PORTS.get(self.scheme)) else f"{host}:{self.port}"


UNKNOWN: Final = Destination("", "what is no address", 0)


def is_feed_variable(name: str) -> bool:
    return _FEED_VARIABLE.fullmatch(name) is not None


def parse_destination(url: str) -> Destination | None:
    """Return the destination of a URL; None if it has no host, or no port and an unknown scheme."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    return Destination(parts.scheme, parts.hostname, port) if parts.hostname and port else None


def find_refusals(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield option and reason for each option of a channel that no environment can permit."""
    kind = _find_kind(options)
    if kind is None:
        return
    names = OPTION_VARIABLES[kind]
    for option, value in options.items():
        name = parse_reference(value)
        if option != "type" and option not in names and option not in _OTHER_OPTIONS.get(kind, ()):
            yield option, UNKNOWN_OPTION
        elif option == "url" and any(map(parse_reference, options.values())) and _is_foreign(kind, value):
            address = f"https://{PROVIDER_HOSTS[kind][0]}{_PROVIDER_PATHS.get(kind, '')}"
            yield option, f"a secret is sent to no other address of the provider: {address} is one"
        elif kind == "exec" and option == "command" and name != COMMAND:
            remedy = f'write "env:{COMMAND}" and set {COMMAND} in the environment'
            yield option, f"a truth names no command: {remedy}"
        elif kind == "apprise" and option == "urls" and name is None:
            own_variable = f"{PREFIX}APPRISE_URLS"
            yield option, f'an address may name files here: write "env:APPRISE_URLS" or "env:{own_variable}"'
        elif name is not None and not _is_allowed_variable(kind, option, name, names):
            yield option, f"{name} is not for this: {_format_allowed_variables(kind, option, names)}"


def find_conditional_options(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield option and reason for each variable that only the notifier's environment can permit.

    These are the variables in a channel whose `url` or `host` the truth itself gives. Yield nothing if
    `find_refusals` yields anything.
    """
    destinations = [options[each] for each in ("url", "host") if isinstance(options.get(each), str)]
    is_in_truth = bool(destinations) and parse_reference(destinations[0]) is None
    if not is_in_truth or _find_kind(options) is None or any(find_refusals(options)):
        return
    for option, name in _find_variables(options).items():
        if option not in _DESTINATION_OPTIONS:
            condition = "only if the notifier's environment says so"
            yield option, f"{name} goes there {condition}: {_format_remedy(name)}"


def resolve_options(options: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of a channel with the values of the variables that they name.

    Options of an unknown type are returned unchanged. Raises VariableRefused if the channel may not use a
    variable, or not send its value to its destination, and LookupError if a variable is not set.
    """
    for option, why in find_refusals(options):
        raise VariableRefused(f"{option}: {why}")
    kind = _find_kind(options)
    if kind is None:
        return dict(options)  # the code that builds the channel reports the wrong type
    variables = _find_variables(options)
    resolved = {**options, **{option: resolve_references(options[option], environ) for option in variables}}
    destination = _find_destination(kind, resolved)
    if destination is None:
        return resolved
    for option, name in variables.items():
        if option not in _DESTINATION_OPTIONS and not _may_be_sent(kind, name, destination, environ):
            why = f"{name} may not be sent to {destination}: {_format_remedy(name)}"
            raise VariableRefused(f"{option}: {why}")
    return resolved


def may_take_market_key(url: str, environment: tuple[str | None, ...]) -> bool:
    """Return True if the key of the market data API may be sent to a URL of the truth.

    The URL must be the API's own, encrypted and on port 443, or have the destination of a URL in
    `environment`, which has None for a variable that is not set.
    """
    destination = parse_destination(url)
    if destination is None:
        return False
    known = {parse_destination(each) for each in environment if each}
    return destination in known or (
        destination.host in MARKET_HOSTS
        and destination.port == 443
        and destination.scheme not in _UNENCRYPTED
    )


def _find_kind(options: Mapping[str, Any]) -> str | None:
    """Return the type of a channel; None for an unknown one."""
    kind = options.get("type")
    return kind if isinstance(kind, str) and kind in OPTION_VARIABLES else None


def _find_variables(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the variable that an option names, by option."""
    named = {option: parse_reference(value) for option, value in options.items()}
    return {option: name for option, name in named.items() if name is not None}


def _is_allowed_variable(kind: Any, option: str, name: str, names: Mapping[str, str]) -> bool:
    """Return True if an option of a channel may name the variable.

    That is the variable in `names`, the entry of `OPTION_VARIABLES`, or one of the operator's own. A channel
    of type `exec` may name no such variable.
    """
    if name == names.get(option):
        return True
    is_own = (
        name.startswith(PREFIX)
        and name not in RESERVED_NAMES
        and name.endswith(_OWN_SUFFIXES.get(option, ""))
    )
    return is_own and kind != "exec"


def _format_allowed_variables(kind: Any, option: str, names: Mapping[str, str]) -> str:
    own = f'"env:{PREFIX}…{_OWN_SUFFIXES.get(option, "")}"' if kind != "exec" else ""
    declared = f'"env:{names[option]}"' if option in names else ""
    words = " or ".join(filter(None, (declared, own)))
    return (
        f"write {words} and set that in the environment" if words else "it takes nothing from the environment"
    )


def _find_destination(kind: str, options: Mapping[str, Any]) -> Destination | None:
    """Return where a channel with these options sends, or `UNKNOWN`.

    Return None for `exec` and `apprise`, where each value is an address of its own.
    """
    if kind == "email":
        scheme = str(options.get("tls") or "starttls").strip().lower()
        host, port = options.get("host"), options.get("port")
        if (
            not isinstance(host, str)
            or scheme not in _MAIL_ENCRYPTION
            or (port is not None and not _parse_number(port))
        ):
            return UNKNOWN
        return Destination(scheme, host.lower(), _parse_number(port) or _PORTS[scheme])
    if kind in ("exec", "apprise"):
        return None
    url = options.get("url")
    if isinstance(url, str):
        return parse_destination(url) or UNKNOWN
    return Destination("https", PROVIDER_HOSTS[kind][0], 443) if kind in PROVIDER_HOSTS else UNKNOWN


def _is_foreign(kind: str, url: Any) -> bool:
    """Return True if a `url` is on a host of the provider, and not the address that takes messages there.

    Others have what they get shown to whoever made them, or send it on: Telegram's `sendMessage?text=` would
    send the token that the channel appends to the chat that the same URL names.
    """
    place = parse_destination(url) if isinstance(url, str) else None
    if place is None or place.host not in PROVIDER_HOSTS.get(kind, ()):
        return False
    path = urlsplit(url).path.rstrip("/")
    return path != _PROVIDER_PATHS.get(kind, "") or any(sign in url for sign in "?#@")


def _parse_number(value: Any) -> int | None:
    """Return a value of 1 to 5 digits as an integer, otherwise None."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _may_be_sent(kind: str, name: str, destination: Destination, environ: Mapping[str, str]) -> bool:
    """Return True if the value of a variable may be sent to a destination.

    That is an encrypted address of the channel's provider, named beside the variable, or listed in
    NOTIFY_ALLOWED_HOSTS.
    """
    is_provider = (
        destination.host in PROVIDER_HOSTS.get(kind, ())
        and destination.scheme == "https"
        and destination.port == 443
    )
    return (
        is_provider
        or _is_named_beside(name, destination, environ)
        or _is_listed(destination, environ.get(ALLOWED_HOSTS, ""))
    )


def _is_named_beside(name: str, destination: Destination, environ: Mapping[str, str]) -> bool:
    """Return True if the environment names that destination beside the variable: NTFY_URL for NTFY_TOKEN.

    For mail, it is `<stem>_HOST`, with the port in `<stem>_PORT` or a usual one; mail without encryption
    needs `<stem>_TLS=none`.
    """
    stem = name
    while (stem := stem.rpartition("_")[0]) not in ("", PREFIX.rstrip("_")):  # NOTIFY_A_KEY, then NOTIFY_A
        url, host = environ.get(f"{stem}_URL", ""), environ.get(f"{stem}_HOST", "")
        if parse_destination(url) == destination:
            return True
        if host and host.lower() == destination.host and destination.scheme in _MAIL_ENCRYPTION:
            may_be_unencrypted = environ.get(f"{stem}_TLS", "").strip().lower() == "none"
            own_port = _parse_number(environ.get(f"{stem}_PORT"))
            ports = (own_port,) if own_port else tuple(_PORTS[scheme] for scheme in _MAIL_ENCRYPTION)
            return (may_be_unencrypted or destination.scheme != "none") and destination.port in ports
    return False


def _is_listed(destination: Destination, listed: str) -> bool:
    """Return True if a list of hosts contains the destination.

    `listed` has entries with commas between them: `host`, `host:port`, or a URL. Without encryption, a host
    must be listed as a URL (`http://host`), unless it is this machine.
    """
    host, port = destination.host, destination.port
    by_host = destination.scheme not in _UNENCRYPTED or _THIS_MACHINE.fullmatch(host) is not None
    for entry in filter(None, map(str.strip, listed.split(","))):
        if "://" in entry:
            is_same = parse_destination(entry) == destination
        else:
            is_same = by_host and _parse_host_entry(entry) in ((host, 0), (host, port))
        if is_same:
            return True
    return False


def _parse_host_entry(entry: str) -> tuple[str, int] | None:
    """Parse `host` or `host:port`; the port is 0 if there is none. Return None if there is no host."""
    try:
        parts = urlsplit(f"//{entry}")
        port = parts.port or 0
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname else None


def _format_remedy(name: str) -> str:
    """Return which variable of the environment would permit sending the value of `name`."""
    beside = "SMTP_HOST" if name.startswith("SMTP_") else f"{name.rpartition('_')[0]}_URL"
    return f"set {beside} to that place there, or list its host in {ALLOWED_HOSTS}"
