"""The parts of a truth: what a bus and a service may say, with defaults and bounds.

Each field's own rules are here, and their words. What fields have to do with each other is `clashes.py`;
the document as a whole is `document.py`.
"""

import math
import re
from dataclasses import field as dataclass_field
from dataclasses import fields as dataclass_fields
from functools import lru_cache
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, PlainValidator, StrictBool
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from marketswarm.bus_url import sentinels
from marketswarm.truth.credentials import is_reference
from marketswarm.truth.problems import hint

SYSTEM: Final = "system-redis"
MARKET: Final = "market-redis"
HEALER: Final = "healer"
HEARTBEAT: Final = ":heartbeat"
SERVICE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
BUS_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
YEAR_SEC: Final = 31_536_000.0
SEVERITIES: Final = ("info", "warning", "critical")
MOST_REPLICAS: Final = 100

# a value that `Findings` will describe in front of these words
_WRONG: Final = "wrong"


def wrong(message: str) -> PydanticCustomError:
    """A field's mistake; what was found is put before the message by whoever reports it."""
    return PydanticCustomError(_WRONG, "{message}", {"message": message})


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0 or value == math.inf:
        raise wrong("is not a positive number of seconds")
    if value > YEAR_SEC:
        raise wrong("is more than a year of seconds (31536000)")
    if value < 0.001:
        raise wrong("is less than a millisecond (0.001)")
    return float(value)


def _name_of_a_key(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable() or " " in value:
        raise wrong("is not the name of a key or channel: 1 to 200 characters, no spaces")
    return value


def _bus_name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise wrong(f'is not the name of a bus, such as "{SYSTEM}"')
    return value


def _redis_url(value: Any) -> str:
    if not isinstance(value, str) or not (is_reference(value) or _usable(value)):
        raise wrong(f'is not a Redis URL, such as "redis://{SYSTEM}:6379"')
    return value


@lru_cache(maxsize=1024)
def _usable(url: str) -> bool:
    if not url.isprintable() or " " in url:
        return False
    try:
        if sentinels(url) is not None:
            return True
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme == "unix":
        return parts.path.startswith("/")
    host = parts.hostname or ""
    return (
        parts.scheme in ("redis", "rediss")
        and re.fullmatch(r"[A-Za-z0-9._-]+|[0-9a-f:.]*:[0-9a-f:.]*", host) is not None
        and port != 0
        and re.fullmatch(r"(?:/\d{0,4})?", parts.path) is not None
    )


def _severity(value: Any) -> str:
    if not isinstance(value, str) or value not in SEVERITIES:
        near = hint(value, SEVERITIES) if isinstance(value, str) else f" (known: {', '.join(SEVERITIES)})"
        raise wrong(f"is not a severity{near}")
    return SEVERITIES[SEVERITIES.index(value)]  # one and the same text for all services


def _replicas(value: Any) -> int | None:
    if value is None:  # as if not said: `dataclasses.replace` says all that a section has
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_REPLICAS:
        raise wrong(f"is not a number of processes from 1 to {MOST_REPLICAS}")
    return value


def _version(value: Any) -> Literal[1]:
    if isinstance(value, bool) or value != 1:
        raise wrong("is not a version that is known here: write 1, or leave it out")
    return 1


Seconds = Annotated[float, PlainValidator(_seconds)]
Key = Annotated[str, PlainValidator(_name_of_a_key)]
BusName = Annotated[str, PlainValidator(_bus_name)]
RedisUrl = Annotated[str, PlainValidator(_redis_url)]
Severity = Annotated[str, PlainValidator(_severity)]
Version = Annotated[Literal[1], PlainValidator(_version)]

# slots: a hundred thousand services are a tenth of what models with dictionaries would take
_CONFIG: Final = ConfigDict(extra="ignore", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class BusEntry:
    """A bus of the truth. `url` is None where its name alone says where it is."""

    url: Annotated[str | None, PlainValidator(_redis_url)] = None
    """Where the server is: `redis://`, `rediss://` (TLS), `unix://`, `redis+sentinel://`, or
    `"env:NAME"`. The environment's `<NAME>_URL` goes first. Default: `redis://<bus>:6379`. Example:
    `"redis://10.0.0.5:6379"`."""


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Heartbeat:
    """Where and how often a service beats. Seconds, 0.001 to a year.

    `said` names what the document itself says; the rest are defaults, which the environment may overrule.
    """

    channel: Key
    """The channel on which the service beats. Default: `<service>:heartbeat`. Example:
    `"rss_agg:heartbeat"`."""
    interval_sec: Seconds = 10.0
    """The time from one beat to the next; 0.001 to 31536000. Example: `2.5`."""
    redis_url: RedisUrl = f"redis://{SYSTEM}:6379"
    """The bus on which the service beats. A URL whose host is the name of a bus means that bus. Example:
    `"redis://market-redis:6379"`."""
    timeout_sec: Annotated[float | None, PlainValidator(_seconds)] = None
    """The silence after which the service is missed; longer than `interval_sec`, and better three times
    as long. Default: the healer's `heartbeat_cadence`. Example: `45`."""
    monitored: StrictBool = True
    """Whether the healer watches the service. Example: `false`."""
    said: Annotated[tuple[str, ...], PlainValidator(tuple), Field(repr=False)] = dataclass_field(
        default=(), compare=False, repr=False
    )

    def but(self, **changed: str | float) -> "Heartbeat":
        """The same with some fields changed; `dataclasses.replace` would check defaults as if said."""
        same = {each.name: getattr(self, each.name) for each in dataclass_fields(self)}
        return Heartbeat(**{name: value for name, value in (same | changed).items() if value is not None})


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class AccessPoint:
    """A key or channel on a bus."""

    bus: BusName
    """The name of the bus. Example: `"market-redis"`."""
    key: Key
    """The key, stream or channel; `*` stands for anything. Example: `"rss:items"`."""


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class AccessPoints:
    """What a service reads and writes on the buses."""

    subscribe_to: tuple[AccessPoint, ...] = ()
    """What the service reads. Of the healer: channels of beats of services that have no section of their
    own."""
    publish_to: tuple[AccessPoint, ...] = ()
    """What the service writes. Of the healer: the first key that is no channel of beats is the channel of
    alerts."""


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Threshold:
    """The healer's patience, in seconds. `heartbeat_cadence` None: DEFAULT_TIMEOUT_SEC."""

    heartbeat_cadence: Annotated[float | None, PlainValidator(_seconds)] = None
    """The timeout of every service that has no `timeout_sec`. Default: `DEFAULT_TIMEOUT_SEC`, 30.
    Example: `30`."""
    bus_timeout_sec: Seconds = 10.0
    """The time without an answer after which a bus is missed; better more than `HEALER_LEASE_SEC` and 2
    s. Example: `15`."""


_NO_ACCESS_POINTS: Final = AccessPoints()


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Service:
    """A service's section. `endpoints` and `settings` are its own; `resolve` puts their secrets in."""

    heartbeat: Heartbeat
    """Where and how often the service beats. Default: every 10 s, on `<service>:heartbeat`."""
    description: str = ""
    """One line for people. Example: `"Reads news feeds"`."""
    tags: tuple[str, ...] = ()
    """Words by which routes, silences and maintenance choose services. Example: `["ingest"]`."""
    depends_on: tuple[str, ...] = ()
    """Services that this one needs: while one of them is down, people get no message of its own about
    this one. Example: `["mesh"]`."""
    severity: Severity = "warning"
    """How much an outage matters: `info`, `warning` or `critical`. Example: `"critical"`."""
    replicas: Annotated[int | None, PlainValidator(_replicas)] = None
    """How many processes there are to be, 1 to 100: `marketswarm up` starts as many, and mesh reports
    more than that as a conflict. Default: not said; one is started and nobody minds others. Example:
    `3`."""
    access_points: AccessPoints = _NO_ACCESS_POINTS
    """What the service reads and writes on the buses. Users (ACLs) and the picture of the flow are made
    from it."""
    endpoints: list[Any] = Field(default_factory=list)
    """What the service reads outside; its own shape. Of rss_agg: its feeds."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The service's own settings; its own shape."""
    threshold: Threshold | None = None
    """The healer's timeouts. Only read in the section of the healer."""
