"""The permissions of a service: to beat, to share work, and to use the keys of its access points. Pure.

A service may use all data commands on the keys that it writes, and on the keys `<key>:…`, where it keeps its
state. It may only read the keys that it subscribes to.

A user's rights can't name a consumer group, because a user who may read by one group of a stream can take,
acknowledge and skip the entries of all its groups. So only a service that reads by a group has the commands
for it, and on the alert log, by which people are notified, the notifier alone.
"""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Final

from marketswarm.access.bus_view import BusView
from marketswarm.access.grant import Grant, escape_pattern
from marketswarm.keys import (
    ALERT_LOG,
    ARCHIVE_BACKUP,
    ARCHIVE_BACKUP_REQUEST,
    ARCHIVE_DATABASE,
    ARCHIVE_DEAD,
    ARCHIVE_POSITIONS,
    CHECKED_BARS,
    FEATURES,
    HEALER_RELAYED,
    HEARTBEAT_SUFFIX,
    INDICATORS,
    MARKET_ALERTS,
    MARKET_BARS,
    MARKET_DOWNLOADS,
    MARKET_OBSERVATIONS,
    MARKET_QUARANTINE,
    MARKET_QUOTES,
    MARKET_SERIES,
    MARKET_SOURCES,
    MASSIVE_ALERTS,
    MASSIVE_PROBES,
    MASSIVE_ROSTER,
    MEDIC_EVIDENCE,
    MEDIC_INCIDENTS,
    MESH_EVENTS,
    MESH_FLOW,
    MESH_TOPOLOGY,
    PRELOAD_STATUS,
    RESERVED_PREFIXES,
    RSS_ITEMS,
    VEXY_DEAD,
    VEXY_NOTES,
    last_beat_key,
    last_run_key,
    lease_epoch_key,
    lease_key,
    members_key,
    probe_key,
    source_breaker_key,
)
from marketswarm.operator.remedies import ARCHIVE, REQUEST_KEYS
from marketswarm.truth import MARKET, SYSTEM, AccessPoint, Truth

_DEAD_LETTERS: Final = ("vexy_ai", "archive")
"""The services that store dead letters on the bus of their source, in one transaction."""
_DATA_COMMANDS: Final = (
    "@string @hash @list @set @sortedset @stream @bitmap @hyperloglog @geo"
    " del unlink exists type touch expire pexpire expireat pexpireat persist ttl pttl -@dangerous"
    # XREADGROUP is there, because a user who may only read a key may take the entries of its groups
    " -xreadgroup -xack -xclaim -xautoclaim -xgroup -xsetid"
)
"""What may be done to keys; of a stream, all but to use its consumer groups."""
_GROUP_COMMANDS: Final = (
    "xreadgroup xack xclaim xautoclaim xgroup|create xgroup|createconsumer xgroup|delconsumer"
)
_DESTROY_GROUP: Final = "xgroup|destroy"
"""For writers, since a group without readers can hold up the writer of a stream."""
_POSITION_READERS: Final = ("bars", "board", "massive", "mesh", "rss_agg", "sources")
"""Those of our own services that read no stream by a group."""
_FOLLOWED: Final = (ALERT_LOG, MEDIC_INCIDENTS, MEDIC_EVIDENCE)
"""The streams that no service but the notifier reads by a group."""
_NO_STREAMS: Final = (MARKET_SERIES, MARKET_SOURCES, PRELOAD_STATUS, MESH_TOPOLOGY, MESH_FLOW)
"""Keys that are not streams. A user who may make a group may make one there before the owner writes it."""

# what our own services write if the truth names no key with the same last part: (bus, key) by service
DEFAULT_WRITES: Final = {
    "rss_agg": ((MARKET, RSS_ITEMS),),
    "massive": (
        (MARKET, MASSIVE_PROBES),
        (MARKET, MARKET_BARS),
        (SYSTEM, MASSIVE_ROSTER),
        (SYSTEM, MASSIVE_ALERTS),
    ),
    "vexy_ai": ((MARKET, VEXY_NOTES), (MARKET, VEXY_DEAD)),
    "mesh": ((SYSTEM, MESH_TOPOLOGY), (SYSTEM, MESH_EVENTS), (SYSTEM, MESH_FLOW)),
    "sources": (
        (MARKET, MARKET_BARS),
        (MARKET, MARKET_QUOTES),
        (MARKET, MARKET_OBSERVATIONS),
        (MARKET, MARKET_DOWNLOADS),
        (MARKET, MARKET_SERIES),
        (MARKET, MARKET_SOURCES),
        (MARKET, PRELOAD_STATUS),
        (SYSTEM, MARKET_ALERTS),
    ),
    "bars": ((MARKET, CHECKED_BARS), (MARKET, INDICATORS), (MARKET, FEATURES), (MARKET, MARKET_QUARANTINE)),
    "archive": ((MARKET, ARCHIVE_DEAD),),
}
_DEFAULT_READS: Final = {
    "vexy_ai": ((MARKET, RSS_ITEMS),),
    "bars": ((MARKET, MARKET_BARS), (MARKET, MARKET_QUOTES), (MARKET, PRELOAD_STATUS)),
    "archive": (
        (MARKET, CHECKED_BARS),
        (MARKET, INDICATORS),
        (MARKET, FEATURES),
        (MARKET, MARKET_QUOTES),
        (MARKET, MARKET_OBSERVATIONS),
        (MARKET, MARKET_DOWNLOADS),
        (MARKET, MARKET_SOURCES),
        (MARKET, PRELOAD_STATUS),
        (SYSTEM, ALERT_LOG),
        (SYSTEM, MEDIC_INCIDENTS),
        (SYSTEM, MEDIC_EVIDENCE),
    ),
}
_RELAYED: Final = {"massive": MASSIVE_ALERTS, "sources": MARKET_ALERTS}
"""By service: the stream of its alerts."""
_OWN_KEYS: Final = {"sources": "sources:*", "bars": "bars:*"}
"""By service: the pattern of the keys on MARKET that only its own processes read."""
# by service and last part of a written key: a further pattern that the service may write
_FURTHER_PATTERNS: Final = {("massive", "probes"): probe_key("*")}


def grant_beats(svc: str, view: BusView) -> tuple[Grant, ...]:
    """Return the grants to publish a service's beats and to write its last beat and last run.

    Return no grants if the service beats on another bus.
    """
    channel, name = view.beat_pattern(svc), escape_pattern(svc)
    if channel is None:
        return ()
    return (
        Grant("publish", channels=(channel,)),
        Grant("set", (last_beat_key(name), last_run_key(name)), mode="W"),
    )


def grant_work(svc: str, view: BusView) -> tuple[Grant, ...]:
    """Return the grants for a service's work on one bus.

    The service registers its processes and divides the work among them, takes leases, and uses its access
    points.
    """
    name = escape_pattern(svc)
    shares, leases = (members_key(name), members_key(name, "*")), (lease_key("*"), lease_epoch_key("*"))
    return (
        Grant("type del pexpire zadd zrem zrange zremrangebyscore", shares),
        Grant("type get set del exists pttl pexpire hset hmget", leases),
        Grant("publish subscribe", channels=(*shares, lease_key("*"))),
        *([Grant(_DATA_COMMANDS, (_OWN_KEYS[svc],))] if svc in _OWN_KEYS and view.bus == MARKET else []),
        *([Grant("hget hset", (ARCHIVE_POSITIONS,))] if _stores_position(svc, view) else []),
        *([Grant("hget", (HEALER_RELAYED,), mode="R")] if _is_relayed(svc, view) else []),
        *(_grant_archive_reports() if svc == ARCHIVE and view.bus == SYSTEM else ()),
        *grant_requested_remedies(svc, view),
        *grant_access_points(svc, view),
    )


def _grant_archive_reports() -> tuple[Grant, ...]:
    """Return the grants to report how the backups and the database are.

    A request to make the backup that is due may be read.
    """
    return (
        Grant("getrange", (ARCHIVE_BACKUP, ARCHIVE_BACKUP_REQUEST), mode="R"),
        Grant("set", (ARCHIVE_BACKUP, ARCHIVE_DATABASE), mode="W"),
    )


def grant_requested_remedies(svc: str, view: BusView) -> tuple[Grant, ...]:
    """Return the grants to read the medic's requests to this service, and to report what became of them."""
    found = [keys[svc] for keys in REQUEST_KEYS.values() if svc in keys and view.bus == SYSTEM]
    if not found:
        return ()
    reports, requests = zip(*found, strict=True)
    return (Grant("getrange", requests, mode="R"), Grant("set", reports, mode="W"))


def grant_access_points(svc: str, view: BusView) -> tuple[Grant, ...]:
    """Return the grants to write and read the keys and channels of a service's access points on this bus.

    Raises KeyError if the truth has no section for the service.
    """
    return (*_grant_writes(svc, view), *_grant_reads(svc, view))


def grant_market_operation(view: BusView) -> Iterator[Grant]:
    """Yield the grants of the operator's commands about the market, for a truth with those services.

    `source status` reads what sources says of itself; `source pause` and `source resume` hold and close a
    breaker. `market quarantine` reads what bars refused, and puts it back onto its stream. `archive refused`
    reads what archive refused.
    """
    if "sources" in view.truth.services and _list_keys(
        find_written_points("sources", view), view, MARKET_BARS
    ):
        states = (MARKET_SOURCES, MARKET_SERIES, PRELOAD_STATUS)
        yield Grant("type get hget hmget hgetall", states, mode="R")
        yield Grant("hmget hset hdel del pexpire persist fcall", (source_breaker_key("*"),))
    if "bars" in view.truth.services:
        quarantine = _list_keys(find_written_points("bars", view), view, MARKET_QUARANTINE)
        streams = _list_keys(_find_read_points("bars", view), view, MARKET_BARS, MARKET_QUOTES)
        if quarantine:
            yield Grant("xrange xrevrange xlen xdel", quarantine)
            # DEL: an entry with the last possible id ends a stream for all writers, until it is deleted
            yield Grant("xadd del", streams, mode="W")
            yield Grant("fcall", (*quarantine, *streams))
    if "archive" in view.truth.services:
        dead = _list_keys(find_written_points("archive", view), view, ARCHIVE_DEAD)
        if dead:
            yield Grant("xrevrange", dead, mode="R")
            yield Grant("fcall", dead)


def _list_keys(points: Iterable[AccessPoint], view: BusView, *like: str) -> tuple[str, ...]:
    wanted = {_get_last_part(key) for key in like}
    found = (one.key for one in points if one.bus == view.bus and _get_last_part(one.key) in wanted)
    return tuple(dict.fromkeys(escape_pattern(key, keep_wildcards=True) for key in found))


def find_written_points(svc: str, view: BusView) -> list[AccessPoint]:
    """Return the access points that a service writes on any bus, without heartbeat channels.

    Default keys of our own services are added where the truth names none. The dead-letter key of vexy_ai and
    archive is added for each bus that they read from. The alert channel and the alert log are left out for
    massive.
    """
    points = view.truth.services[svc].access_points.publish_to
    if svc == "massive":  # the healer publishes its alerts, so only older truths name the channel
        points = tuple(point for point in points if point.key not in (view.alerts, ALERT_LOG))
    found = [*_drop_heartbeats(points, view), *_find_missing_defaults(points, DEFAULT_WRITES.get(svc, ()))]
    dead = next(
        (point.key for point in found if svc in _DEAD_LETTERS and _get_last_part(point.key) == "dead"), None
    )
    buses = dict.fromkeys(point.bus for point in _find_read_points(svc, view)) if dead else ()
    return [*found, *(AccessPoint(bus=bus, key=str(dead)) for bus in buses)]


def find_written_key(truth: Truth, svc: str, key: str) -> AccessPoint | None:
    """Return where a service writes a key, by the truth or by default; None if it does not."""
    points = find_written_points(svc, BusView(truth, MARKET)) if svc in truth.services else ()
    return next((point for point in points if point.key == key), None)


def _grant_writes(svc: str, view: BusView) -> Iterator[Grant]:
    """Yield the grants to publish on and to write the keys that a service's `publish_to` names on this bus.

    Of the alert log, a service may only add entries, and delete them by id.
    """
    keys = dict.fromkeys(point.key for point in find_written_points(svc, view) if point.bus == view.bus)
    if not keys:
        return
    yield Grant("publish", channels=tuple(escape_pattern(key, keep_wildcards=True) for key in keys))
    data = [key for key in keys if key not in (view.alerts, ALERT_LOG)]
    patterns = dict.fromkeys(pattern for key in data for pattern in _build_key_patterns(svc, key))
    if patterns:
        yield Grant(f"{_DATA_COMMANDS} {_DESTROY_GROUP}", tuple(patterns))
    beside = tuple(pattern for pattern in patterns if pattern.endswith(":*") and pattern not in keys)
    if beside:  # only this service reads there
        yield Grant(_GROUP_COMMANDS, beside)
    if ALERT_LOG in keys:  # add and delete entries, but not read those of others
        yield Grant("xadd xdel", (ALERT_LOG,), mode="W")


def _grant_reads(svc: str, view: BusView) -> Iterator[Grant]:
    """Yield the grants to subscribe to and to read what a service's `subscribe_to` names on this bus.

    Reading includes the use of consumer groups, where the service has any use for them. Heartbeat channels
    get only the grant to subscribe.
    """
    points = view.truth.services[svc].access_points.subscribe_to
    channels = [point.key for point in points if point.bus == view.bus]
    if channels:
        patterns = tuple(escape_pattern(key, keep_wildcards=True) for key in channels)
        yield Grant("subscribe psubscribe", channels=patterns)
    wanted = (one.key for one in _find_read_points(svc, view) if one.bus == view.bus)
    keys = tuple(dict.fromkeys(escape_pattern(key, keep_wildcards=True) for key in wanted))
    if keys:
        yield Grant(_DATA_COMMANDS, keys, mode="R")
    grouped = tuple(key for key in keys if _is_read_by_group(svc, key))
    if grouped:
        yield Grant(_GROUP_COMMANDS, grouped)


def _is_read_by_group(svc: str, pattern: str) -> bool:
    others = (*_FOLLOWED, *_NO_STREAMS)
    if svc in _POSITION_READERS or any(fnmatchcase(key, pattern) for key in others):
        return False
    # archive may be given other names for these keys
    return svc != "archive" or _get_last_part(pattern) not in map(_get_last_part, others)


def _stores_position(svc: str, view: BusView) -> bool:
    """Return True for archive, which stores how far it is, if a stream that it follows is on this bus."""
    return svc == "archive" and bool(_list_keys(_find_read_points(svc, view), view, *_FOLLOWED))


def _is_relayed(svc: str, view: BusView) -> bool:
    """Return True if the healer copies a service's alerts from this bus, and may close its outages there."""
    stream = _RELAYED.get(svc)
    return stream is not None and bool(_list_keys(find_written_points(svc, view), view, stream))


def _find_read_points(svc: str, view: BusView) -> list[AccessPoint]:
    points = view.truth.services[svc].access_points.subscribe_to
    return [*_drop_heartbeats(points, view), *_find_missing_defaults(points, _DEFAULT_READS.get(svc, ()))]


def _build_key_patterns(svc: str, key: str) -> Iterator[str]:
    """Yield the ACL patterns of a key that a service writes, and of its state in `<key>:…`.

    A key with a reserved prefix gets no `<key>:…`. The probes of massive get the pattern of the probe keys
    too.
    """
    pattern = escape_pattern(key, keep_wildcards=True)
    yield pattern
    if not key.startswith(RESERVED_PREFIXES):  # a key with a reserved prefix gets no `<key>:…`
        yield f"{pattern}:*"
    if further_pattern := _FURTHER_PATTERNS.get((svc, _get_last_part(key))):
        yield further_pattern


def _drop_heartbeats(points: Iterable[AccessPoint], view: BusView) -> Iterator[AccessPoint]:
    """Return those of `points` whose key is not a heartbeat channel.

    A heartbeat channel ends in `:heartbeat` or is the channel of a service's section.
    """
    channels = {view.truth.channel_of(svc) for svc in view.truth.services}
    return (
        point for point in points if not point.key.endswith(HEARTBEAT_SUFFIX) and point.key not in channels
    )


def _find_missing_defaults(
    points: Iterable[AccessPoint], defaults: Iterable[tuple[str, str]]
) -> Iterator[AccessPoint]:
    """Return the default keys, given as (bus, key), that `points` has no key for.

    `points` has a key for a default if both end with the same last part: `my:items` stands for `rss:items`.
    """
    present = {_get_last_part(point.key) for point in points}
    return (AccessPoint(bus=bus, key=key) for bus, key in defaults if _get_last_part(key) not in present)


def _get_last_part(key: str) -> str:
    return key.rpartition(":")[2]
