"""The targets of probes in the truth: one model for each kind. Pure.

{"name": "db", "host": "db.example", "port": 5432}                          kind tcp
{"name": "names", "kind": "dns", "host": "shop.example", "record": "A"}
{"name": "cert", "kind": "tls", "host": "shop.example"}
{"name": "shop", "kind": "https", "url": "https://shop.example/health", "contains": "ok"}
"""

from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainValidator, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from marketswarm.agent import ServiceConfig
from marketswarm.net.addresses import is_web_url, parse_address
from services.massive.market.settings import RestUrl

DAY_SEC: Final = 86_400
MAX_BODY_BYTES: Final = 16 * 1024 * 1024


def _require_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable")
    return text


def _require_web_url(text: str) -> str:
    """Return `text` if it is a web URL without credentials; otherwise raise ValueError."""
    if not is_web_url(text) or not text.isprintable() or " " in text:
        raise ValueError("must be https://host/… or http://host/…")
    if "@" in urlsplit(text).netloc:
        raise ValueError("must have no credentials in it")
    return text


def _require_resolver(text: str) -> str:
    """Return `text` if it is an IP address with or without a port; otherwise raise ValueError."""
    host, port = split_host_port(text, 53)
    if parse_address(host) is None:
        raise ValueError("must be an address, or one with a port: 9.9.9.9, 127.0.0.1:5353, [::1]:53")
    if not 0 < port < 65_536:
        raise ValueError("must have a port from 1 to 65535")
    return text


def split_host_port(text: str, default_port: int) -> tuple[str, int]:
    """Parse `host`, `host:port`, `[v6]:port` or `v6`; an invalid port becomes 0."""
    if text.startswith("["):
        host, _, more = text[1:].partition("]")
        given = more.removeprefix(":")
    elif text.count(":") == 1:
        host, _, given = text.partition(":")
    else:
        host, given = text, ""
    if not given:
        return host, default_port
    return host, int(given) if given.isascii() and given.isdigit() and len(given) < 6 else 0


Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_require_printable)]
Host = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_require_printable)]
Port = Annotated[int, Field(gt=0, lt=65_536)]
IntervalSec = Annotated[float, Field(gt=0, le=DAY_SEC, allow_inf_nan=False)]
TimeoutSec = Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)]
RunLength = Annotated[int, Field(ge=1, le=100)]
Url = Annotated[str, Field(max_length=2000), AfterValidator(_require_web_url)]
Resolver = Annotated[str, Field(max_length=60), AfterValidator(_require_resolver)]
Resolvers = Annotated[tuple[Resolver, ...], Field(max_length=10)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]
Path = Annotated[str, Field(min_length=1, max_length=1000)]
Days = Annotated[float, Field(ge=0, le=365, allow_inf_nan=False)]


class Target(ServiceConfig):
    """The keys that every kind of target has."""

    name: Name
    """What messages call it: `massive/<name>`. Example: `"db"`."""
    kind: str
    """`tcp`, `dns`, `tls`, `https` or `polygon`. Default: `https` where there is a `url`, else `tcp`.
    Example: `"tls"`."""
    every_sec: IntervalSec | None = None
    """The time between two probes; at most a day. Default: `probe_sec`. Example: `60`."""
    timeout_sec: TimeoutSec | None = None
    """The time limit of a whole probe. Default: `timeout_sec` of `settings`. Example: `5`."""
    down_after: RunLength | None = None
    """The number of failures in a row after which the target is down. Default: `down_after` of `settings`.
    Example: `2`."""
    up_after: RunLength | None = None
    """The number of successes in a row after which it is up again. Default: `up_after` of `settings`.
    Example: `1`."""
    alert: bool | None = None
    """Whether the loss of the target is an alert. Default: `true`, but `false` for a bus, since the healer
    monitors buses already. Example: `false`."""
    severity: Literal["info", "warning", "critical"] | None = None
    """The severity of an alert about the target. Default: the severity of massive. Example: `"critical"`."""
    tags: Annotated[tuple[Name, ...], Field(max_length=50)] = ()
    """The tags by which routes, silences and maintenance windows select the target, besides the tags of
    massive. Example: `["shop"]`."""
    depends_on: Annotated[tuple[Name, ...], Field(max_length=50)] = ()
    """Services, or targets as `massive/<name>`: while one of them is down, people get no message about
    this target. Example: `["massive/names"]`."""

    @property
    def alerts(self) -> bool:
        return self.alert is not False


class Tcp(Target):
    """A host and a port to connect to, or a bus by its name."""

    kind: Literal["tcp"] = "tcp"
    host: Host | None = None
    """The host to connect to; with `port`, and instead of `bus`. Example: `"db.example"`."""
    port: Port | None = None
    """The port of `host`. Example: `5432`."""
    bus: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """The name of a bus to connect to, instead of `host`; its URL is found as by every agent. Example:
    `"market-redis"`."""

    @model_validator(mode="after")
    def _has_address_or_bus(self) -> Self:
        if (self.bus is None) == (self.host is None or self.port is None):
            raise ValueError('must have either "host" and "port", or "bus"')
        return self

    @property
    def alerts(self) -> bool:
        """Of a bus the loss is not an alert, unless `alert` is true."""
        return self.bus is None if self.alert is None else self.alert


class Dns(Target):
    """A name to look up."""

    kind: Literal["dns"] = "dns"
    host: Host
    """The name to look up. Example: `"shop.example"`."""
    record: Literal["A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"] = "A"
    """The type of the DNS record. Example: `"MX"`."""
    resolvers: Resolvers = ()
    """The name servers to ask, one after the other. Default: `NET_DNS_RESOLVERS`, else the system's.
    Example: `["9.9.9.9", "127.0.0.1:5353"]`."""
    expect: Annotated[tuple[Text, ...], Field(max_length=50)] = ()
    """The texts that must all be among the answers. Example: `["192.0.2.7"]`."""


class Tls(Target):
    """A TLS server whose certificate is checked. Without a valid certificate the target fails."""

    kind: Literal["tls"] = "tls"
    host: Host
    """The host to connect to. Example: `"shop.example"`."""
    port: Port = 443
    """The port of `host`. Example: `8443`."""
    server_name: Host | None = None
    """The name that is sent to the server, and that the certificate must be for. Default: `host`. Example:
    `"www.shop.example"`."""
    ca_file: Path | None = None
    """A PEM file with the authorities to trust. Default: the system's. Example:
    `"/etc/ssl/ours.pem"`."""
    warn_days: Days = 14.0
    """The days before the end of the certificate from which the probe has a warning. Example: `21`."""


class Https(Target):
    """A web page to request."""

    kind: Literal["https"] = "https"
    url: Url
    """The URL of the page, without a password in it. Example: `"https://shop.example/health"`."""
    method: Literal["GET", "HEAD"] = "GET"
    """The method of the request. Example: `"HEAD"`."""
    status: Annotated[tuple[Annotated[int, Field(ge=100, le=599)], ...], Field(max_length=50)] = ()
    """The accepted HTTP statuses. Default: 200 to 299. Example: `[200, 401]`."""
    contains: Text | None = None
    """A plain text that must be in the first `max_bytes` of the page. Example: `"ok"`."""
    lacks: Text | None = None
    """A plain text that must not be in the first `max_bytes` of the page. Example: `"error"`."""
    max_bytes: Annotated[int, Field(ge=1, le=MAX_BODY_BYTES)] = 1024 * 1024
    """The number of bytes of the page that are read. Example: `65536`."""
    redirects: Annotated[int, Field(ge=0, le=10)] = 0
    """The number of redirects to follow. Example: `3`."""
    ca_file: Path | None = None
    """A PEM file with the authorities to trust. Default: the system's. Example:
    `"/etc/ssl/ours.pem"`."""
    warn_days: Days = 14.0
    """The days before the end of the certificate from which the probe has a warning; `http://` has none.
    Example: `21`."""


class Polygon(Target):
    """The market data API: the probe logs in with the key. It is off without POLYGON_API_KEY."""

    kind: Literal["polygon"] = "polygon"
    url: RestUrl | None = Field(default=None, repr=False)
    """The URL of the market data API. Default: `rest_url` of `settings.market`, else `MASSIVE_REST_URL`, else
    `https://api.massive.com`. Example: `"https://api.massive.com"`."""
    websocket: bool = True
    """Whether to log in by WebSocket, too; that may end the connection of another program with the same key.
    Example: `false`."""


KINDS: Final[dict[str, type[Target]]] = {
    model.model_fields["kind"].default: model for model in (Dns, Tcp, Tls, Https, Polygon)
}


def read_target(value: Any) -> Target:
    """Return the target in an entry of `targets`, by its kind.

    The default kind is `https` with a `url`, else `tcp`. Raises ValidationError, with the path inside the
    entry.
    """
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
