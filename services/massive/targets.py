"""What can be probed: one model a kind of target, as the truth says it. Pure.

{"name": "db", "host": "db.example", "port": 5432}                          tcp, as has always been
{"name": "names", "kind": "dns", "host": "shop.example", "record": "A"}
{"name": "cert", "kind": "tls", "host": "shop.example"}
{"name": "shop", "kind": "https", "url": "https://shop.example/health", "contains": "ok"}
"""

import ipaddress
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainValidator, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from marketswarm.agent import Own
from services.massive.market.wishes import RestUrl

DAY_SEC: Final = 86_400
MOST_BYTES: Final = 16 * 1024 * 1024


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable")
    return text


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text:
        raise ValueError("must be https://host/… or http://host/…")
    if "@" in parts.netloc:
        raise ValueError("must have no credentials in it")
    return text


def _resolver(text: str) -> str:
    host, port = place_of(text, 53)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(
            "must be an address, or one with a port: 9.9.9.9, 127.0.0.1:5353, [::1]:53"
        ) from None
    if not 0 < port < 65_536:
        raise ValueError("must have a port from 1 to 65535")
    return text


def place_of(text: str, port: int) -> tuple[str, int]:
    """Host and port of `host`, `host:port`, `[v6]:port`, `v6`; `port` where it says none, 0 for a bad one."""
    if text.startswith("["):
        host, _, more = text[1:].partition("]")
        given = more.removeprefix(":")
    elif text.count(":") == 1:
        host, _, given = text.partition(":")
    else:
        host, given = text, ""
    if not given:
        return host, port
    return host, int(given) if given.isascii() and given.isdigit() and len(given) < 6 else 0


Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
Host = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_printable)]
Port = Annotated[int, Field(gt=0, lt=65_536)]
Every = Annotated[float, Field(gt=0, le=DAY_SEC, allow_inf_nan=False)]
Within = Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)]
Times = Annotated[int, Field(ge=1, le=100)]
Url = Annotated[str, Field(max_length=2000), AfterValidator(_url)]
Resolver = Annotated[str, Field(max_length=60), AfterValidator(_resolver)]
Resolvers = Annotated[tuple[Resolver, ...], Field(max_length=10)]
Words = Annotated[str, Field(min_length=1, max_length=1000)]
Path = Annotated[str, Field(min_length=1, max_length=1000)]
Days = Annotated[float, Field(ge=0, le=365, allow_inf_nan=False)]


class Target(Own):
    """What every target may say. Seconds; what it leaves out is as `settings` and the environment have it.

    `alert`: whether people hear of its loss. `severity`, `tags` and `depends_on` are for them: as those of a
    service; `depends_on` names services, or targets as `massive/<name>`.
    """

    name: Name
    kind: str
    every_sec: Every | None = None
    timeout_sec: Within | None = None
    down_after: Times | None = None
    up_after: Times | None = None
    alert: bool | None = None
    severity: Literal["info", "warning", "critical"] | None = None
    tags: Annotated[tuple[Name, ...], Field(max_length=50)] = ()
    depends_on: Annotated[tuple[Name, ...], Field(max_length=50)] = ()

    @property
    def tells(self) -> bool:
        """Whether its loss goes to the alert log."""
        return self.alert is not False


class Tcp(Target):
    """A place to connect to: a host and a port, or a bus by its name.

    Nobody is told twice that a bus is lost: the healer does that, unless `alert` says so.
    """

    kind: Literal["tcp"] = "tcp"
    host: Host | None = None
    port: Port | None = None
    bus: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.bus is None) == (self.host is None or self.port is None):
            raise ValueError('must have either "host" and "port", or "bus"')
        return self

    @property
    def tells(self) -> bool:
        """See `Target`."""
        return self.bus is None if self.alert is None else self.alert


class Dns(Target):
    """A name to ask for: `record` of `host`, of `resolvers` one after the other until one knows.

    `expect`: what must be among the answers, all of it. No resolvers: NET_DNS_RESOLVERS, else the system's.
    """

    kind: Literal["dns"] = "dns"
    host: Host
    record: Literal["A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"] = "A"
    resolvers: Resolvers = ()
    expect: Annotated[tuple[Words, ...], Field(max_length=50)] = ()


class Tls(Target):
    """A certificate to look at. From `warn_days` before its end on the target warns; without one it fails.

    `server_name`: asked for and to be found in it, where that is not `host`. `ca_file`: whom to trust, PEM;
    none: whom the system trusts.
    """

    kind: Literal["tls"] = "tls"
    host: Host
    port: Port = 443
    server_name: Host | None = None
    ca_file: Path | None = None
    warn_days: Days = 14.0


class Https(Target):
    """A page to ask for. `status`: those that are right; none named: 200 to 299.

    `contains` and `lacks` are plain text, looked for in the first `max_bytes`. `redirects`: so many are
    followed; by default none is. `ca_file` and `warn_days` as for `Tls`; `http://` has no certificate.
    """

    kind: Literal["https"] = "https"
    url: Url
    method: Literal["GET", "HEAD"] = "GET"
    status: Annotated[tuple[Annotated[int, Field(ge=100, le=599)], ...], Field(max_length=50)] = ()
    contains: Words | None = None
    lacks: Words | None = None
    max_bytes: Annotated[int, Field(ge=1, le=MOST_BYTES)] = 1024 * 1024
    redirects: Annotated[int, Field(ge=0, le=10)] = 0
    ca_file: Path | None = None
    warn_days: Days = 14.0


class Polygon(Target):
    """The market data API: does it answer, does it know us; off without POLYGON_API_KEY.

    No `url`: where `settings.market` or the environment has it, else where it always is. `websocket`: whether
    to log in there too, which may throw out another that has the same key.
    """

    kind: Literal["polygon"] = "polygon"
    url: RestUrl | None = Field(default=None, repr=False)
    websocket: bool = True


KINDS: Final[dict[str, type[Target]]] = {
    "dns": Dns,
    "tcp": Tcp,
    "tls": Tls,
    "https": Https,
    "polygon": Polygon,
}


def read_target(value: Any) -> Target:
    """The target that an entry of `targets` says. Raises ValidationError, with the path inside the entry."""
    if isinstance(value, Target):
        return value
    kind: Any = "tcp"
    if isinstance(value, dict):
        kind = value.get("kind", "https" if "url" in value else "tcp")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        known = ", ".join(map(repr, KINDS))
        why = InitErrorDetails(type="literal_error", loc=("kind",), input=kind, ctx={"expected": known})
        raise ValidationError.from_exception_data("Target", [why])
    return model.model_validate(value)


AnyTarget = Annotated[Dns | Tcp | Tls | Https | Polygon, PlainValidator(read_target)]
