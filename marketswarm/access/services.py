"""Name the keys and channels of a bus for its ACL users: those of the truth, and defaults of our own. Pure.

A service may use all data commands on the keys that it writes, and on the keys `<key>:…`, where it keeps its
state. It may only read the keys that it subscribes to. `rights` has the commands.

A user's rights can't name a consumer group, because a user who may read by one group of a stream can take,
acknowledge and skip the entries of all its groups. So only a service that reads by a group has the commands
for it, and on the alert log, by which people are notified, the notifier alone.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Final

from marketswarm import keys
from marketswarm.access.grant import escape_pattern
from marketswarm.truth import MARKET, SYSTEM, AccessPoint, Truth

ALL_BEATS: Final = keys.heartbeat_channel("*")
"""The ACL pattern of all channels whose names end in `:heartbeat`."""
_DEAD_LETTERS: Final = ("vexy_ai", "archive")
"""The services that store dead letters on the bus of their source, in one transaction."""
_POSITION_READERS: Final = (
    *("healer", "sentinel", "medic", "mesh", "board"),
    *("massive", "rss_agg", "sources", "bars", "signals"),
)
"""Those of our own services that read no stream by a group."""
_GROUP_READERS: Final = ("archive", "vexy_ai")
"""Those of our own services that read each stream by a group where they may have one."""
FOLLOWED: Final = (keys.ALERT_LOG, keys.MEDIC_INCIDENTS, keys.MEDIC_EVIDENCE)
"""The streams that no service but the notifier reads by a group."""
_NO_STREAMS: Final = (
    *(keys.MARKET_SERIES, keys.MARKET_SOURCES, keys.PRELOAD_STATUS),
    *(keys.MESH_TOPOLOGY, keys.MESH_FLOW),
)
"""Keys that are not streams. A user who may make a group may make one there before the owner writes it."""


def _on(bus: str, *names: str) -> tuple[AccessPoint, ...]:
    return tuple(AccessPoint(bus=bus, key=name) for name in names)


DEFAULT_WRITES: Final = {
    "rss_agg": _on(MARKET, keys.RSS_ITEMS),
    "massive": (
        *_on(MARKET, keys.MASSIVE_PROBES, keys.MARKET_BARS),
        *_on(SYSTEM, keys.MASSIVE_ROSTER, keys.MASSIVE_ALERTS),
    ),
    "vexy_ai": _on(MARKET, keys.VEXY_NOTES, keys.VEXY_DEAD),
    "mesh": _on(SYSTEM, keys.MESH_TOPOLOGY, keys.MESH_EVENTS, keys.MESH_FLOW),
    "sources": (
        *_on(MARKET, keys.MARKET_BARS, keys.MARKET_QUOTES, keys.MARKET_OBSERVATIONS, keys.MARKET_ACTIONS),
        *_on(MARKET, keys.MARKET_DOWNLOADS, keys.MARKET_SERIES, keys.MARKET_SOURCES, keys.PRELOAD_STATUS),
        *_on(SYSTEM, keys.MARKET_ALERTS),
    ),
    "bars": (
        *_on(MARKET, keys.CHECKED_BARS, keys.SOURCE_BARS, keys.INDICATORS, keys.FEATURES),
        *_on(MARKET, keys.MARKET_QUARANTINE),
    ),
    "archive": _on(MARKET, keys.ARCHIVE_DEAD),
    "signals": (*_on(MARKET, keys.SIGNALS_LOG), *_on(SYSTEM, keys.SIGNALS_ALERTS)),
}
"""What our own services write if the truth names no key with the same last part."""
_DEFAULT_READS: Final = {
    "vexy_ai": _on(MARKET, keys.RSS_ITEMS),
    "bars": _on(MARKET, keys.MARKET_BARS, keys.MARKET_QUOTES, keys.MARKET_ACTIONS, keys.PRELOAD_STATUS),
    "archive": (
        *_on(MARKET, keys.CHECKED_BARS, keys.SOURCE_BARS, keys.INDICATORS, keys.FEATURES),
        *_on(MARKET, keys.MARKET_QUOTES),
        *_on(MARKET, keys.MARKET_OBSERVATIONS, keys.MARKET_ACTIONS, keys.MARKET_DOWNLOADS),
        *_on(MARKET, keys.MARKET_SOURCES, keys.PRELOAD_STATUS),
        *_on(SYSTEM, *FOLLOWED),
    ),
    "signals": _on(MARKET, keys.CHECKED_BARS, keys.SOURCE_BARS, keys.MARKET_ACTIONS, keys.PRELOAD_STATUS),
}


@dataclass(frozen=True)
class BusView:
    """One bus of a truth.

    `truth_key` is the key of the truth (TRUTH_REDIS_KEY); `alert_channel` is the channel of alerts if the
    truth names none (ALERT_CHANNEL).
    """

    truth: Truth
    bus: str
    truth_key: str = keys.TRUTH_DOC
    alert_channel: str = keys.ALERTS

    @property
    def alerts(self) -> str:
        """The unescaped name, which is the same on every bus."""
        return self.truth.alert_target(self.alert_channel)[1]

    @cached_property
    def beat_channels(self) -> frozenset[str]:
        """The unescaped heartbeat channels of all services of the truth, whatever their bus."""
        return frozenset(map(self.truth.channel_of, self.truth.services))

    def beat_patterns(self) -> tuple[str, ...]:
        """Return the ACL patterns of all heartbeat channels on this bus, each once.

        The first is `*:heartbeat`, so that a service that is seeded later is covered too. It is followed by
        the monitored or declared channels whose names do not end in `:heartbeat`.
        """
        channels = [watch.channel for watch in self.truth.watched() if watch.bus == self.bus]
        own = [
            self.truth.channel_of(svc) for svc in self.truth.services if self.truth.bus_of(svc) == self.bus
        ]
        others = (escape_pattern(one) for one in (*channels, *own) if not one.endswith(ALL_BEATS[1:]))
        return tuple(dict.fromkeys((ALL_BEATS, *others)))


def list_written(svc: str, view: BusView, *like: str, keep_wildcards: bool = False) -> tuple[str, ...]:
    """Return the ACL patterns of what a service writes on this bus: of all, or in the place of keys `like`.

    Of a key, the last part counts: `my:items` stands for `rss:items`. A `*` in a name is escaped, unless
    `keep_wildcards`. Heartbeat channels don't count, and a service that the truth does not name writes none.
    """
    points = find_written_points(svc, view) if svc in view.truth.services else ()
    return _list_patterns(points, view, like, keep_wildcards=keep_wildcards)


def list_read(svc: str, view: BusView, *like: str) -> tuple[str, ...]:
    """Return the same of what a service reads, with each `*` as a wildcard."""
    points = _find_read_points(svc, view) if svc in view.truth.services else ()
    return _list_patterns(points, view, like, keep_wildcards=True)


def _list_patterns(
    points: Iterable[AccessPoint], view: BusView, like: Iterable[str], *, keep_wildcards: bool
) -> tuple[str, ...]:
    wanted = {_get_last_part(key) for key in like}
    here = (one.key for one in points if one.bus == view.bus)
    found = (key for key in here if not wanted or _get_last_part(key) in wanted)
    return tuple(escape_pattern(key, keep_wildcards=keep_wildcards) for key in found)


def find_written_points(svc: str, view: BusView) -> list[AccessPoint]:
    """Return the access points that a service writes on any bus, without heartbeat channels.

    Default keys of our own services are added where the truth names none. The dead-letter key of vexy_ai and
    archive is added for each bus that they read from. The alert channel and the alert log are left out for
    massive. Raises KeyError if the truth has no section for the service.
    """
    points = view.truth.services[svc].access_points.publish_to
    if svc == "massive":  # the healer publishes its alerts, so only older truths name the channel
        points = tuple(point for point in points if point.key not in (view.alerts, keys.ALERT_LOG))
    found = _complete_points(points, DEFAULT_WRITES.get(svc, ()), view)
    dead = next(
        (point.key for point in found if svc in _DEAD_LETTERS and _get_last_part(point.key) == "dead"), None
    )
    buses = dict.fromkeys(point.bus for point in _find_read_points(svc, view)) if dead else ()
    return [*found, *(AccessPoint(bus=bus, key=str(dead)) for bus in buses)]


def find_written_key(truth: Truth, svc: str, key: str) -> AccessPoint | None:
    """Return where a service writes a key, by the truth or by default; None if it does not."""
    points = find_written_points(svc, BusView(truth, MARKET)) if svc in truth.services else ()
    return next((point for point in points if point.key == key), None)


def list_written_names(svc: str, view: BusView) -> tuple[str, ...]:
    """Return the keys and channels that a service writes on this bus, unescaped, each once."""
    points = find_written_points(svc, view)
    return tuple(dict.fromkeys(point.key for point in points if point.bus == view.bus))


def list_data(svc: str, view: BusView) -> list[str]:
    """Return the patterns of the keys that a service writes, and of its state in `<key>:…`.

    A key with a reserved prefix gets no `<key>:…`, and the alert log is no data. The probes of massive get
    the pattern of the probe keys too.
    """
    found = []
    for key in list_written_names(svc, view):
        if key in (view.alerts, keys.ALERT_LOG):
            continue
        pattern = escape_pattern(key, keep_wildcards=True)
        found.append(pattern)
        if not key.startswith(keys.RESERVED_PREFIXES):
            found.append(f"{pattern}:*")
        if svc == "massive" and _get_last_part(key) == "probes":
            found.append(keys.probe_key("*"))
    return found


def list_state(svc: str, view: BusView) -> list[str]:
    """Return the patterns of a service's state in `<key>:…`, where only this service reads."""
    names = list_written_names(svc, view)
    return [pattern for pattern in list_data(svc, view) if pattern.endswith(":*") and pattern not in names]


def list_subscribed(svc: str, view: BusView) -> list[str]:
    """Return the patterns of the channels to which a service subscribes, heartbeat channels included."""
    points = view.truth.services[svc].access_points.subscribe_to
    return [escape_pattern(point.key, keep_wildcards=True) for point in points if point.bus == view.bus]


def list_read_by_group(svc: str, view: BusView) -> list[str]:
    """Return the patterns of those keys that a service may read by a consumer group."""
    return [pattern for pattern in list_read(svc, view) if _may_read_by_group(svc, pattern)]


def reads_by_group(svc: str, key: str) -> bool | None:
    """Return whether a service reads a stream by a consumer group, or else by a position that it keeps.

    None is unknown: a service that is not ours may do either.
    """
    if svc == keys.NOTIFIER_GROUP:
        return key == keys.ALERT_LOG
    if not _may_read_by_group(svc, key):
        return False
    return True if svc in _GROUP_READERS else None


def _may_read_by_group(svc: str, pattern: str) -> bool:
    others = (*FOLLOWED, *_NO_STREAMS)
    if svc in _POSITION_READERS or any(fnmatchcase(key, pattern) for key in others):
        return False
    # archive may be given other names for these keys
    return svc != "archive" or _get_last_part(pattern) not in map(_get_last_part, others)


def _find_read_points(svc: str, view: BusView) -> list[AccessPoint]:
    points = view.truth.services[svc].access_points.subscribe_to
    return _complete_points(points, _DEFAULT_READS.get(svc, ()), view)


def _complete_points(
    points: Collection[AccessPoint], defaults: Iterable[AccessPoint], view: BusView
) -> list[AccessPoint]:
    """Return `points` without heartbeat channels, and the `defaults` that they have no key for.

    A heartbeat channel ends in `:heartbeat` or is the channel of a service's section. There is a key for a
    default if both end with the same last part: `my:items` stands for `rss:items`.
    """
    present = {_get_last_part(point.key) for point in points}
    missing = [point for point in defaults if _get_last_part(point.key) not in present]
    others = [point for point in points if not point.key.endswith(keys.HEARTBEAT_SUFFIX)]
    return [point for point in others if point.key not in view.beat_channels] + missing


def _get_last_part(key: str) -> str:
    return key.rpartition(":")[2]
