"""Parse a bus URL: of one server, or of the Redis Sentinels that know which server is the master. Pure.

The second form is the usual one: `redis+sentinel://[user:password@]host[:port],…/master[/db]`, or
`rediss+sentinel://` for TLS to the servers and the sentinels. User and password are those of the servers;
`sentinel_username` and `sentinel_password` in the query are those of the sentinels. Everything else in the
query is an option of the client library.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

URL_FORMS: Final = "redis://host:port, rediss://host:port, unix://path or redis+sentinel://host:port,…/master"
"""The forms of a bus URL, for messages."""
SENTINEL_PORT: Final = 26379

_SENTINELS: Final = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?:(?P<user>[^/?#]*)@)?(?P<hosts>[^@/?#]+)"
    r"/(?P<master>[^/?#]+)(?:/(?P<database>\d{0,4}))?(?:\?(?P<query>[^#]*))?",
    re.IGNORECASE,
)
_HOST: Final = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[1-9]\d{0,4}))?")


@dataclass(frozen=True, slots=True)
class Sentinels:
    """A parsed URL of Redis Sentinels.

    `hosts` are the sentinels, each with its port; `master` is their name for the master, `scheme` is `redis`
    or `rediss`, `database` a number as text.
    """

    hosts: Sequence[tuple[str, int]]
    master: str
    scheme: str
    user: str = field(repr=False)  # the servers' user with its password and the @, as in a URL; '' for none
    sentinels_user: str = field(repr=False)
    database: str
    options: Mapping[str, str] = field(repr=False)

    def make_server_url(self, host: str, port: int) -> str:
        """Keep user, database and options."""
        query = f"?{urlencode(self.options)}" if self.options else ""
        return f"{self.scheme}://{self.user}{_format_host_port(host, port)}/{self.database}{query}"

    def make_sentinel_urls(self) -> list[str]:
        """Return the URL of each sentinel, with the sentinels' user and the options for TLS."""
        tls = {name: value for name, value in self.options.items() if name.startswith("ssl_")}
        query = f"?{urlencode(tls)}" if tls else ""
        return [
            f"{self.scheme}://{self.sentinels_user}{_format_host_port(*host)}{query}" for host in self.hosts
        ]


def parse_sentinels(url: str) -> Sentinels | None:
    """Parse a URL of Redis Sentinels; return None for a URL of another form.

    Raises ValueError, which shows no part of the URL, if it is malformed.
    """
    if not re.match(r"rediss?\+sentinel:", url, re.IGNORECASE):
        return None
    found = _SENTINELS.fullmatch(url)
    if found is None:
        raise ValueError("is not redis+sentinel://host:port,host:port/master")
    options = dict(parse_qsl(found["query"] or "", keep_blank_values=True))
    name, password = (options.pop(f"sentinel_{what}", "") for what in ("username", "password"))
    return Sentinels(
        hosts=tuple(_parse_host(text) for text in found["hosts"].split(",")),
        master=unquote(found["master"]),
        scheme=found["scheme"].lower(),
        user="" if found["user"] is None else f"{found['user']}@",
        sentinels_user=f"{quote(name, safe='')}:{quote(password, safe='')}@" if password else "",
        database=found["database"] or "0",
        options=options,
    )


def find_address(url: str) -> str:
    """Return host and port, a path, or sentinels and master, without credentials; `?` if malformed."""
    try:
        if (sentinels := parse_sentinels(url)) is not None:
            return f"{','.join(_format_host_port(*host) for host in sentinels.hosts)}/{sentinels.master}"
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        return "?"
    return parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{port}"


def find_host_and_name(url: str) -> tuple[str, str]:
    """Return a URL's host ('' for sentinels and sockets), and a name for a bus that has no other name.

    The name is the address, with the number of the database unless it is 0. Raises ValueError if the URL is
    malformed.
    """
    if (sentinels := parse_sentinels(url)) is not None:
        host, name, database = "", find_address(url), sentinels.database
    else:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return "", parts.path
        host, database = parts.hostname or "", parts.path.strip("/")
        name = _format_host_port(host, parts.port or 6379)
    return host, name + (f"/{database}" if database not in ("", "0") else "")


def has_bus_as_host(url: str, name: str) -> bool:
    try:
        return find_host_and_name(url)[0] == name.lower()
    except ValueError:
        return False


def is_bus_url(url: str) -> bool:
    try:
        if parse_sentinels(url) is not None:
            return True
        parts = urlsplit(url)
        location = parts.path if parts.scheme == "unix" else parts.hostname
        return parts.scheme in ("redis", "rediss", "unix") and bool(location) and parts.port != 0
    except ValueError:
        return False


def _parse_host(text: str) -> tuple[str, int]:
    """Raise ValueError unless the text is `host` or `host:port` of a sentinel."""
    found = _HOST.fullmatch(text)
    if found is None or int(found["port"] or SENTINEL_PORT) > 65_535:
        raise ValueError("names a sentinel that is not host:port")
    return found["host"].strip("[]"), int(found["port"] or SENTINEL_PORT)


def _format_host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
