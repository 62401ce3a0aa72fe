"""The truth as an accepted whole: which buses there are, who beats where, whom the healer watches.

Plain look-ups over frozen values. Not here: how a document comes to be accepted (`load.py`), and where a
bus's server really is, which the environment may overrule (`marketswarm.bus.find_url`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from marketswarm.bus_url import host_and_name
from marketswarm.truth.credentials import is_reference
from marketswarm.truth.entries import HEALER, HEARTBEAT, MARKET, SYSTEM, AccessPoint, BusEntry, Service

DEFAULT_TIMEOUT_SEC: Final = 30.0
BUS_TIMEOUT_SEC: Final = 10.0


@dataclass(frozen=True, slots=True)
class Watch:
    """One line of the healer's roster: whose beats are due where, and how often. Seconds."""

    svc: str
    bus: str
    channel: str
    interval_sec: float
    timeout_sec: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """An accepted document."""

    version: int = 1
    """The version of the format; only 1 is known. Example: `1`."""
    buses: Mapping[str, BusEntry] = field(default_factory=dict)
    """The buses by name, where the name alone does not say where they are. Default: system-redis and
    market-redis."""
    services: Mapping[str, Service] = field(default_factory=dict)
    """The services by name: a letter, then up to 62 letters, digits or `_` `.` `-`. Default: needed."""

    def bus_names(self) -> tuple[str, ...]:
        """The two that always are, then the declared ones, then those that only a literal URL names."""
        urls = dict.fromkeys(service.heartbeat.redis_url for service in self.services.values())
        return tuple(dict.fromkeys([SYSTEM, MARKET, *self.buses, *(self._bus_at(url) for url in urls)]))

    def bus_url(self, name: str) -> str | None:
        """What the truth says of a bus's place, `"env:NAME"` unresolved, or None if it says nothing."""
        if name in self.buses:
            return self.buses[name].url
        if name in (SYSTEM, MARKET):
            return None
        urls = dict.fromkeys(service.heartbeat.redis_url for service in self.services.values())
        return next((url for url in urls if self._bus_at(url) == name), None)

    def bus_of(self, svc: str) -> str:
        """The name of the bus that a service beats on. Raises KeyError for one without a section."""
        return self._bus_at(self.services[svc].heartbeat.redis_url)

    def timeout_of(self, svc: str, default_timeout_sec: float = DEFAULT_TIMEOUT_SEC) -> float:
        """How long a service may be silent, in seconds; it need not have a section."""
        service = self.services.get(svc)
        own = service.heartbeat.timeout_sec if service else None
        return own or self.cadence_sec() or default_timeout_sec

    def cadence_sec(self) -> float | None:
        """The healer's `heartbeat_cadence`, in seconds, or None if the truth leaves it to the environment."""
        healer = self.services.get(HEALER)
        return healer.threshold.heartbeat_cadence if healer and healer.threshold else None

    def bus_timeout_sec(self) -> float:
        """How long a bus may be away before that is told, in seconds."""
        healer = self.services.get(HEALER)
        return healer.threshold.bus_timeout_sec if healer and healer.threshold else BUS_TIMEOUT_SEC

    def alert_target(self, default_channel: str) -> tuple[str, str]:
        """Bus and channel of the alerts: the first of the healer's `publish_to` that carries no heartbeat."""
        channels = self._channels()
        for point in self._healer_points("publish_to"):
            if point.key not in channels and not point.key.endswith(HEARTBEAT):
                return point.bus, point.key
        return SYSTEM, default_channel

    def watched(self, default_timeout_sec: float = DEFAULT_TIMEOUT_SEC) -> tuple[Watch, ...]:
        """The healer's roster: every service but itself, then those known from its `subscribe_to` alone.

        The latter have the name before `:heartbeat`, and a third of their timeout as interval.
        """
        roster = [
            Watch(
                svc,
                self.bus_of(svc),
                beat.channel,
                beat.interval_sec,
                self.timeout_of(svc, default_timeout_sec),
            )
            for svc, beat in ((svc, service.heartbeat) for svc, service in self.services.items())
            if svc != HEALER and beat.monitored
        ]
        timeout_sec = self.cadence_sec() or default_timeout_sec
        known, channels = set(self.services), self._channels()
        for point in self._healer_points("subscribe_to"):
            svc = point.key.removesuffix(HEARTBEAT)
            if svc != point.key and svc not in known and point.key not in channels:
                known.add(svc)
                roster.append(Watch(svc, point.bus, point.key, timeout_sec / 3, timeout_sec))
        return tuple(roster)

    def _healer_points(self, kind: str) -> tuple[AccessPoint, ...]:
        healer = self.services.get(HEALER)
        if healer is None:
            return ()
        points = healer.access_points
        return points.subscribe_to if kind == "subscribe_to" else points.publish_to

    def _channels(self) -> set[str]:
        return {service.heartbeat.channel for service in self.services.values()}

    def _bus_at(self, url: str) -> str:
        host, own_name = _address(url)
        if host in (SYSTEM, MARKET) or host in self.buses:
            return host
        return next((name for name in self.buses if name.lower() == host), own_name)


@lru_cache(maxsize=1024)
def _address(url: str) -> tuple[str, str]:
    """The host of a URL, and the name of the bus that this URL is if its host is no bus's name."""
    if is_reference(url):
        return "", url
    return host_and_name(url)
