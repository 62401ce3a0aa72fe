"""Parse a bus URL: of one server, or of the Redis Sentinels that know which server is the master. Pure.

The second form is the usual one: `redis+sentinel://[user:password@]host[:port],…/master[/db]`, or
`rediss+sentinel://` for TLS to the servers and the sentinels. User and password are those of the servers;
`sentinel_username` and `sentinel_password` in the query are those of the sentinels. Everything else in the
query is an option of the client library.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

URL_FORMS: Final = "redis://host:port, rediss://host:port, unix://path or redis+sentinel://host:port,…/master"
"""The forms of a bus URL, for messages."""
PERCENT_ENCODE: Final = "in a user or password, percent-encode @ / ? # % (%40 %2F %3F %23 %25)"
"""What to do about a URL that can't be meant as it is written, for messages."""
SENTINEL_PORT: Final = 26379

_SENTINELS: Final = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?:(?P<user>[^/?#]*)@)?(?P<hosts>[^@/?#]+)"
    r"/(?P<master>[^@/?#]+)(?:/(?P<database>\d{0,4}))?(?:\?(?P<query>[^@#]*))?",
    re.IGNORECASE,
)
_DATABASE: Final = re.compile(r"(?:/\d{0,4})?")
_SERVER_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]+)?")
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
        return f"{self.scheme}://{self.user}{format_host_port(host, port)}/{self.database}{query}"

    def make_sentinel_urls(self) -> list[str]:
        """Return the URL of each sentinel, with the sentinels' user and the options for TLS."""
        tls = {name: value for name, value in self.options.items() if name.startswith("ssl_")}
        query = f"?{urlencode(tls)}" if tls else ""
        return [
            f"{self.scheme}://{self.sentinels_user}{format_host_port(*host)}{query}" for host in self.hosts
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
    if not is_bus_url(url):
        return "?"
    if (sentinels := parse_sentinels(url)) is not None:
        return f"{','.join(format_host_port(*host) for host in sentinels.hosts)}/{sentinels.master}"
    parts = urlsplit(url)
    port = parts.port or 6379
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
        name = format_host_port(host, parts.port or 6379)
    return host, name + (f"/{database}" if database not in ("", "0") else "")


def has_bus_as_host(url: str, name: str) -> bool:
    try:
        return find_host_and_name(url)[0] == name.lower()
    except ValueError:
        return False


@lru_cache(maxsize=1024)
def is_bus_url(url: str) -> bool:
    """Return True for a URL of a bus; False for one that can't be meant as it is written.

    An unencoded `/`, `?` or `#` in a password ends the host early: what is before it would be looked up as a
    host, and shown. The rest of the password is then where no `@`, and no path but a number, may be.
    """
    if not url.isprintable() or " " in url or splits_password(url):
        return False
    try:
        if parse_sentinels(url) is not None:
            return True
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return bool(parts.path)
        is_server = parts.scheme in ("redis", "rediss") and parts.port != 0
    except ValueError:
        return False
    has_host = _SERVER_HOST.fullmatch(parts.hostname or "") is not None
    return is_server and has_host and _DATABASE.fullmatch(parts.path) is not None


def splits_password(url: str) -> bool:
    """Return True for a URL with a `#`, or with an `@` after its host: a part of an unencoded password.

    The path of a socket may have an `@`, unless what would be its host may be the beginning of a password.
    """
    scheme, _, rest = url.partition("://")
    location, _, path = rest.partition("/")
    if "#" in url:
        return True
    if scheme.lower() == "unix":
        return location[-1:] not in ("", "@") and (":" in location or "@" in path)
    return "@" in path or ("?" in location and "@" in location.partition("?")[2])


def pin_certificate(url: str, certificate: str, *, check_name: bool = True) -> str:
    """Return a `rediss://` URL with options by which the server must show a certificate.

    That is the one in the PEM file `certificate`, or one that it vouches for. Without `check_name`, it need
    not be for the host in the URL.
    """
    pinned = f"{url}?ssl_ca_certs={quote(certificate)}&ssl_include_verify_flags=VERIFY_X509_PARTIAL_CHAIN"
    return pinned if check_name else f"{pinned}&ssl_check_hostname=false"


def explain_bus_url(url: str) -> str:
    """Return what a bus URL must be, and what may be wrong with one that isn't: no part of it is in that."""
    if "@" in url or "#" in url:
        return f"{URL_FORMS}; {PERCENT_ENCODE}"
    has_path = url.partition("://")[2].partition("/")[2] != ""
    return f"{URL_FORMS}; only the number of a database may follow the port" if has_path else URL_FORMS


def _parse_host(text: str) -> tuple[str, int]:
    """Raise ValueError unless the text is `host` or `host:port` of a sentinel."""
    found = _HOST.fullmatch(text)
    if found is None or int(found["port"] or SENTINEL_PORT) > 65_535:
        raise ValueError("names a sentinel that is not host:port")
    return found["host"].strip("[]"), int(found["port"] or SENTINEL_PORT)


def format_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def format_host_port(host: str, port: int) -> str:
    return f"{format_host(host)}:{port}"
