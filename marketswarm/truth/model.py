"""The data model of a truth: buses, services, their fields with defaults and bounds, and lookups over them.

The rules of single fields are here, with their error messages. Not here: rules between fields (`check.py`),
how a document is accepted (`parse.py`), and where a bus really is, which the environment may override
(`marketswarm.bus.find_bus_url`).
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import ConfigDict, Field, PlainValidator, StrictBool
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from marketswarm.bus_url import find_host_and_name, is_bus_url
from marketswarm.keys import HEARTBEAT_SUFFIX, heartbeat_channel
from marketswarm.truth.credentials import is_reference
from marketswarm.truth.errors import format_hint
from marketswarm.truth.schedule import (
    DEFAULT_GRACE_SEC,
    JobRule,
    Schedule,
    ScheduleError,
    parse_schedule,
    require_time_zone,
)

DEFAULT_CHANNEL: Final = object()
"""Stands for the channel `<service>:heartbeat`, so that the sections of two services may be equal."""
SYSTEM: Final = "system-redis"
MARKET: Final = "market-redis"
HEALER: Final = "healer"
MEDIC: Final = "medic"
RESERVED_USERS: Final = ("default", "bootstrap", "operator", "join")
"""The users of a bus that belong to no service (marketswarm/access/users.py); no service has such a name."""
SERVICE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
BUS_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
YEAR_SEC: Final = 31_536_000.0
SEVERITIES: Final = ("info", "warning", "critical")
MAX_REPLICAS: Final = 100

# the type of our own validation errors: `parse.py` puts the wrong value in front of the message
_FIELD_ERROR: Final = "wrong"
# slots, because a hundred thousand services take a tenth of the memory that models with dictionaries would
_CONFIG: Final = ConfigDict(extra="ignore", hide_input_in_errors=True, defer_build=True)
DEFAULT_TIMEOUT_SEC: Final = 30.0
BUS_TIMEOUT_SEC: Final = 10.0
# shared by all services that have none
_NO_ENDPOINTS: Final[list[Any]] = []
_NO_SETTINGS: Final[dict[str, Any]] = {}


def make_field_error(message: str) -> PydanticCustomError:
    """Return the validation error of a field; its message follows the wrong value: `is not a severity`."""
    return PydanticCustomError(_FIELD_ERROR, "{message}", {"message": message})


# each `_parse_…` returns the value of a field, or raises PydanticCustomError


def _make_tuple(value: Any) -> tuple[Any, ...]:
    # for `tuple` itself, pydantic would have its signature read from text, which takes milliseconds
    return tuple(value)


def _parse_seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0 or value == math.inf:
        raise make_field_error("is not a positive number of seconds")
    if value > YEAR_SEC:
        raise make_field_error("is more than a year of seconds (31536000)")
    if value < 0.001:
        raise make_field_error("is less than a millisecond (0.001)")
    return float(value)


def _parse_key_name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable() or " " in value:
        raise make_field_error("is not the name of a key or channel: 1 to 200 characters, no spaces")
    return value


def _parse_channel(value: Any) -> str | None:
    return None if value is DEFAULT_CHANNEL else _parse_key_name(value)


def _parse_bus_name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise make_field_error(f'is not the name of a bus, such as "{SYSTEM}"')
    return value


def _parse_redis_url(value: Any) -> str:
    if not isinstance(value, str) or not (is_reference(value) or is_bus_url(value)):
        raise make_field_error(f'is not a Redis URL, such as "redis://{SYSTEM}:6379"')
    return value


def _parse_severity(value: Any) -> str:
    if not isinstance(value, str) or value not in SEVERITIES:
        hint = format_hint(value if isinstance(value, str) else "", SEVERITIES)
        raise make_field_error(f"is not a severity{hint}")
    return SEVERITIES[SEVERITIES.index(value)]  # one shared string for all services


def _parse_replicas(value: Any) -> int | None:
    if value is None:  # like a missing key: `dataclasses.replace` passes all fields
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_REPLICAS:
        raise make_field_error(f"is not a number of processes from 1 to {MAX_REPLICAS}")
    return value


def _parse_schedule(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise make_field_error('is not a schedule, such as "0 3 * * *" or "Mon..Fri 18:30"')
    try:
        parse_schedule(value)
    except ScheduleError as error:
        raise make_field_error(str(error)) from None
    return value.replace("\t", " ")  # a crontab may have tabs, which a terminal would show as `\t`


def _parse_time_zone(value: Any) -> str:
    if not isinstance(value, str):
        raise make_field_error('is not a time zone, such as "Europe/Berlin"')
    try:
        return require_time_zone(value)
    except ScheduleError as error:
        raise make_field_error(str(error)) from None


def _parse_fleet_name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 63 or not value.isprintable():
        raise make_field_error("is not the name of a fleet: 1 to 63 characters")
    return value


def _parse_version(value: Any) -> Literal[1]:
    if isinstance(value, bool) or value != 1:
        raise make_field_error("is not a version that is known here: write 1, or leave it out")
    return 1


Seconds = Annotated[float, PlainValidator(_parse_seconds)]
Key = Annotated[str, PlainValidator(_parse_key_name)]
BusName = Annotated[str, PlainValidator(_parse_bus_name)]
RedisUrl = Annotated[str, PlainValidator(_parse_redis_url)]
Severity = Annotated[str, PlainValidator(_parse_severity)]
FleetName = Annotated[str, PlainValidator(_parse_fleet_name)]
Version = Annotated[Literal[1], PlainValidator(_parse_version)]


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class BusEntry:
    """A bus of the truth. `url` is None if the bus is found by its name alone."""

    url: Annotated[str | None, PlainValidator(_parse_redis_url)] = None
    """The URL of the server: `redis://`, `rediss://` (TLS), `unix://`, `redis+sentinel://`, or
    `"env:NAME"`. The environment's `<NAME>_URL` takes precedence. Default: `redis://<bus>:6379`. Example:
    `"redis://10.0.0.5:6379"`."""


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Heartbeat:
    """The heartbeat of a service: its bus, channel, interval and timeout, in seconds from 0.001 to a year.

    `said` names the keys that the document sets; all others are defaults, which the environment may override.
    The `channel` is None for the default one, which `channel_for` returns.
    """

    channel: Annotated[str | None, PlainValidator(_parse_channel)] = None
    """The channel on which the service beats. Default: `<service>:heartbeat`. Example:
    `"rss_agg:heartbeat"`."""
    interval_sec: Seconds = 10.0
    """The time from one beat to the next; 0.001 to 31536000. Example: `2.5`."""
    redis_url: RedisUrl = f"redis://{SYSTEM}:6379"
    """The bus on which the service beats. A URL whose host is the name of a bus means that bus. Example:
    `"redis://market-redis:6379"`."""
    timeout_sec: Annotated[float | None, PlainValidator(_parse_seconds)] = None
    """The time without a beat after which the service is missed; it must be longer than `interval_sec`, and
    should be three times as long where the interval is below five minutes. Default: the healer's
    `heartbeat_cadence`. Example: `45`."""
    monitored: StrictBool = True
    """Whether the healer monitors the service. Example: `false`."""
    schedule: Annotated[str | None, PlainValidator(_parse_schedule)] = None
    """When a job runs: the five fields of cron, a name of cron such as `@daily`, or systemd's OnCalendar. A
    run is to be reported after each of these times. In place of `interval_sec` and `timeout_sec`. Default:
    none; the service beats. Example: `"0 3 * * *"`."""
    time_zone: Annotated[str, PlainValidator(_parse_time_zone)] = "UTC"
    """The time zone of `schedule`, by its name in the IANA database. Example: `"Europe/Berlin"`."""
    grace_sec: Seconds = DEFAULT_GRACE_SEC
    """How long after a scheduled time a run is to be reported at the latest. Example: `1800`."""
    max_run_sec: Annotated[float | None, PlainValidator(_parse_seconds)] = None
    """How long a run may take that reported its start; after that it is missed. Also without a `schedule`.
    Default: any time. Example: `7200`."""
    said: Annotated[tuple[str, ...], PlainValidator(_make_tuple), Field(repr=False)] = dataclasses.field(
        default=(), compare=False, repr=False
    )

    def channel_for(self, svc: str) -> str:
        """Return the channel on which `svc` beats by this section."""
        return self.channel or heartbeat_channel(svc)

    def but(self, **changed: str | float) -> "Heartbeat":
        """Return a copy with these fields changed. `said` stays the same unless it is given.

        `dataclasses.replace` would pass `timeout_sec=None` on, which is refused, as would be `channel=None`.
        """
        same = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
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
    """The keys and channels that a service reads and writes on the buses."""

    subscribe_to: tuple[AccessPoint, ...] = ()
    """The keys and channels that the service reads. For the healer: the heartbeat channels of services that
    have no section."""
    publish_to: tuple[AccessPoint, ...] = ()
    """The keys and channels that the service writes. For the healer: the first one that is not a heartbeat
    channel is the channel of alerts."""


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Threshold:
    """The healer's timeouts, in seconds. If `heartbeat_cadence` is None, DEFAULT_TIMEOUT_SEC applies."""

    heartbeat_cadence: Annotated[float | None, PlainValidator(_parse_seconds)] = None
    """The timeout of every service that has no `timeout_sec`. Default: `DEFAULT_TIMEOUT_SEC`, 30.
    Example: `30`."""
    bus_timeout_sec: Seconds = 10.0
    """The time without an answer after which a bus is missed; better more than `HEALER_LEASE_SEC` and 2
    s. Example: `15`."""


_NO_ACCESS_POINTS: Final = AccessPoints()


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Service:
    """A service's section. `endpoints` and `settings` are in a form of the service's own.

    Their secrets are texts `env:NAME`, which `resolve_references` replaces by the values of the variables.
    Services with equal sections share one object: change nothing in it.
    """

    heartbeat: Heartbeat
    """The bus, channel, interval and timeout of the beats. Default: every 10 s, on `<service>:heartbeat`."""
    description: str = ""
    """One line for people. Example: `"Reads news feeds"`."""
    tags: tuple[str, ...] = ()
    """Words by which routes, silences and maintenance choose services. Example: `["ingest"]`."""
    depends_on: tuple[str, ...] = ()
    """Services that this one needs: while one of them is down, people get no separate message about this
    one. Example: `["mesh"]`."""
    severity: Severity = "warning"
    """The severity of an outage: `info`, `warning` or `critical`. Example: `"critical"`."""
    replicas: Annotated[int | None, PlainValidator(_parse_replicas)] = None
    """The number of processes, 1 to 100: `marketswarm up` starts as many, and mesh reports more than that as
    a conflict. Default: no number; one process is started, and mesh accepts any number. Example: `3`."""
    alert_on_failure: StrictBool = False
    """Whether a command under `marketswarm exec` that fails is missed at once, with reason `failed`. If not,
    the service is missed after a silence of `timeout_sec`. Example: `true`."""
    access_points: AccessPoints = _NO_ACCESS_POINTS
    """The keys and channels that the service reads and writes on the buses. The ACL users and the flow graph
    are made from them."""
    endpoints: list[Any] = Field(default_factory=lambda: _NO_ENDPOINTS)
    """The external sources that the service reads, in a form of its own. For rss_agg: its feeds."""
    settings: dict[str, Any] = Field(default_factory=lambda: _NO_SETTINGS)
    """The service's own settings, in a form of its own."""
    threshold: Threshold | None = None
    """The healer's timeouts. Only read in the section of the healer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Watch:
    """One service that beats: its bus, channel, interval and timeout (in seconds).

    With `alert_on_failure`, a last beat with an exit code other than 0 is a miss at once. `job` is the rule
    of a job; if that has a schedule, the interval is its longest pause, and the timeout that and its grace.
    """

    svc: str
    bus: str
    channel: str
    interval_sec: float
    timeout_sec: float
    alert_on_failure: bool = False
    job: JobRule | None = None


class _Timing(NamedTuple):
    """What all watches of services with one section have in common."""

    bus: str
    interval_sec: float
    timeout_sec: float
    alert_on_failure: bool
    job: JobRule | None


def _build_job_rule(beat: Heartbeat) -> JobRule | None:
    """Return None for a service with neither a schedule nor a longest run."""
    if beat.schedule is None and beat.max_run_sec is None:
        return None
    schedule = None if beat.schedule is None else Schedule(beat.schedule, beat.time_zone)
    return JobRule(schedule, beat.grace_sec, beat.max_run_sec)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """An accepted document, or the right parts of one that was checked."""

    version: int = 1
    """The version of the format; only 1 is known. Example: `1`."""
    fleet: str = ""
    """The name of the fleet, 1 to 63 characters, which every message to people names. Default: no name.
    Example: `"prod"`."""
    buses: Mapping[str, BusEntry] = dataclasses.field(default_factory=dict)
    """The buses by name, where the name alone does not say where they are. Default: system-redis and
    market-redis."""
    services: Mapping[str, Service] = dataclasses.field(default_factory=dict)
    """The services by name: a letter, then up to 62 letters, digits or `_` `.` `-`; no bus has the same name,
    and none is called `default`, `bootstrap`, `operator` or `join`. Default: needed."""

    _heartbeats: tuple[Heartbeat, ...] = dataclasses.field(init=False, repr=False, compare=False)
    _default_timeout_sec: float = dataclasses.field(
        init=False, default=DEFAULT_TIMEOUT_SEC, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        # a hundred thousand services have a few different sections: no question goes through all of them
        different = {id(service): service.heartbeat for service in self.services.values()}
        object.__setattr__(self, "_heartbeats", tuple(different.values()))

    def with_default_timeout(self, default_timeout_sec: float) -> "Truth":
        """Return this truth with the timeout in seconds of each service for which the document has none.

        That is the setting DEFAULT_TIMEOUT_SEC of the program that reads the truth; no part of the document.
        """
        if default_timeout_sec == self._default_timeout_sec:
            return self
        other = dataclasses.replace(self)
        object.__setattr__(other, "_default_timeout_sec", default_timeout_sec)
        return other

    def bus_names(self) -> tuple[str, ...]:
        """Return all bus names, each once.

        First come system-redis and market-redis, then the declared buses, then those that only a heartbeat's
        `redis_url` names.
        """
        names = (self._bus_at(beat.redis_url) for beat in self._heartbeats)
        return tuple(dict.fromkeys([SYSTEM, MARKET, *self.buses, *names]))

    def bus_url(self, name: str) -> str | None:
        """Return the URL of a bus, `"env:NAME"` unresolved; None if the truth has no URL for it."""
        if name in self.buses:
            return self.buses[name].url
        if name in (SYSTEM, MARKET):
            return None
        urls = (beat.redis_url for beat in self._heartbeats)
        return next((url for url in urls if self._bus_at(url) == name), None)

    def bus_of(self, svc: str) -> str:
        """Return the bus on which a service beats. Raises KeyError if the service has no section."""
        return self._bus_at(self.services[svc].heartbeat.redis_url)

    def channel_of(self, svc: str) -> str:
        """Return the channel of a service's beats. Raises KeyError if the service has no section."""
        return self.services[svc].heartbeat.channel_for(svc)

    def timeout_of(self, svc: str) -> float:
        """Return the silence in seconds after which a service is missed.

        That is its own `timeout_sec`, otherwise the healer's `heartbeat_cadence`, otherwise the one of
        `with_default_timeout`; for a job with a schedule, the longest pause and its grace. The service need
        not have a section.
        """
        service = self.services.get(svc)
        if service is None:
            return self.cadence_sec() or self._default_timeout_sec
        return self._find_timing(service).timeout_sec

    def job_of(self, svc: str) -> JobRule | None:
        """Return the rule of a job, a service with a schedule or a longest run; None for another one."""
        service = self.services.get(svc)
        return None if service is None else _build_job_rule(service.heartbeat)

    def interval_of(self, svc: str) -> float:
        """Return the seconds between beats, for a job its longest pause. Raises KeyError."""
        return self._find_timing(self.services[svc]).interval_sec

    def _find_timing(self, service: Service) -> _Timing:
        beat = service.heartbeat
        job = _build_job_rule(beat)
        interval_sec = beat.interval_sec
        timeout_sec = beat.timeout_sec or self.cadence_sec() or self._default_timeout_sec
        if job is not None and job.schedule is not None:
            interval_sec = job.schedule.longest_pause_sec()
            timeout_sec = job.longest_silence_sec() or timeout_sec
        return _Timing(self._bus_at(beat.redis_url), interval_sec, timeout_sec, service.alert_on_failure, job)

    def cadence_sec(self) -> float | None:
        """The healer's `heartbeat_cadence`; None if the truth does not set it."""
        healer = self.services.get(HEALER)
        return healer.threshold.heartbeat_cadence if healer and healer.threshold else None

    def bus_timeout_sec(self) -> float:
        """Return how long a bus may not answer, in seconds, before the healer misses it."""
        healer = self.services.get(HEALER)
        return healer.threshold.bus_timeout_sec if healer and healer.threshold else BUS_TIMEOUT_SEC

    def alert_target(self, default_channel: str) -> tuple[str, str]:
        """Return the bus and the channel of the alerts.

        These are of the first access point in the healer's `publish_to` that is not a heartbeat channel;
        otherwise system-redis and `default_channel`.
        """
        channels = self._own_channels()
        for point in self._healer_points().publish_to:
            if point.key not in channels and not point.key.endswith(HEARTBEAT_SUFFIX):
                return point.bus, point.key
        return SYSTEM, default_channel

    def watched(self) -> tuple[Watch, ...]:
        """Return all services that the healer monitors: those with a section, then those in `subscribe_to`.

        A service that only `subscribe_to` names is called like its channel without `:heartbeat`; its interval
        is a third of its timeout.
        """
        timings: dict[int, _Timing] = {}  # by the `id` of a section, which equal services share
        roster = []
        for svc, service in self.services.items():
            beat = service.heartbeat
            if svc == HEALER or not beat.monitored:
                continue
            timing = timings.get(id(service))
            if timing is None:
                timing = timings[id(service)] = self._find_timing(service)
            roster.append(Watch(svc, timing.bus, beat.channel_for(svc), *timing[1:]))
        return (*roster, *self.subscribed())

    def find_watch(self, svc: str) -> Watch | None:
        """Return how a service beats, whether the healer monitors it or not; None for an unknown one."""
        service = self.services.get(svc)
        if service is None:
            return next((watch for watch in self.subscribed() if watch.svc == svc), None)
        timing = self._find_timing(service)
        return Watch(svc, timing.bus, service.heartbeat.channel_for(svc), *timing[1:])

    def subscribed(self) -> tuple[Watch, ...]:
        """Return the services that only the healer's `subscribe_to` names."""
        timeout_sec = self.cadence_sec() or self._default_timeout_sec
        found: dict[str, Watch] = {}
        channels = self._own_channels()
        for point in self._healer_points().subscribe_to:
            svc = point.key.removesuffix(HEARTBEAT_SUFFIX)
            is_known = svc in self.services or svc in found or point.key in channels
            if svc != point.key and not is_known:
                found[svc] = Watch(svc, point.bus, point.key, timeout_sec / 3, timeout_sec)
        return tuple(found.values())

    def _healer_points(self) -> AccessPoints:
        healer = self.services.get(HEALER)
        return _NO_ACCESS_POINTS if healer is None else healer.access_points

    def _own_channels(self) -> set[str]:
        """Return the heartbeat channels that are not `<service>:heartbeat`."""
        return {beat.channel for beat in self._heartbeats if beat.channel is not None}

    def _bus_at(self, url: str) -> str:
        """Return the bus that has the host of the URL as its name, otherwise a name made from the URL."""
        host, own_name = _parse_bus_address(url)
        if host in (SYSTEM, MARKET) or host in self.buses:
            return host
        return next((name for name in self.buses if name.lower() == host), own_name)


@lru_cache(maxsize=1024)
def _parse_bus_address(url: str) -> tuple[str, str]:
    """Return the host of a URL, and the name of a bus that only this URL names."""
    if is_reference(url):
        return "", url
    return find_host_and_name(url)


def first_point(points: Iterable[AccessPoint], bus: str, key: str) -> AccessPoint:
    """Return the first access point that is not a heartbeat channel; if there is none, `key` on `bus`."""
    return next(
        (point for point in points if not point.key.endswith(HEARTBEAT_SUFFIX)), AccessPoint(bus=bus, key=key)
    )


def point_like(points: Iterable[AccessPoint], bus: str, key: str) -> AccessPoint:
    """Return the first point whose key ends like `key` (`team:events`), or `key` on `bus` without one."""
    word = key.rpartition(":")[2]
    found = (point for point in points if point.key.rpartition(":")[2] == word)
    return next(found, AccessPoint(bus=bus, key=key))
