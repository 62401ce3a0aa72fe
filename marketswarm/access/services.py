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

from marketswarm import keys
from marketswarm.access.bus_view import BusView
from marketswarm.access.grant import Grant, escape_pattern
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
LEASE_COMMANDS: Final = "type get set del exists pttl pexpire hset hmget"
_DESTROY_GROUP: Final = "xgroup|destroy"
"""For writers, since a group without readers can hold up the writer of a stream."""
_POSITION_READERS: Final = (
    "bars",
    "board",
    "healer",
    "massive",
    "medic",
    "mesh",
    "rss_agg",
    "sentinel",
    "sources",
)
"""Those of our own services that read no stream by a group."""
_GROUP_READERS: Final = ("archive", "vexy_ai")
"""Those of our own services that read each stream by a group where they may have one."""
_FOLLOWED: Final = (keys.ALERT_LOG, keys.MEDIC_INCIDENTS, keys.MEDIC_EVIDENCE)
"""The streams that no service but the notifier reads by a group."""
_NO_STREAMS: Final = (
    keys.MARKET_SERIES,
    keys.MARKET_SOURCES,
    keys.PRELOAD_STATUS,
    keys.MESH_TOPOLOGY,
    keys.MESH_FLOW,
)
"""Keys that are not streams. A user who may make a group may make one there before the owner writes it."""

# what our own services write if the truth names no key with the same last part: (bus, key) by service
DEFAULT_WRITES: Final = {
    "rss_agg": ((MARKET, keys.RSS_ITEMS),),
    "massive": (
        (MARKET, keys.MASSIVE_PROBES),
        (MARKET, keys.MARKET_BARS),
        (SYSTEM, keys.MASSIVE_ROSTER),
        (SYSTEM, keys.MASSIVE_ALERTS),
    ),
    "vexy_ai": ((MARKET, keys.VEXY_NOTES), (MARKET, keys.VEXY_DEAD)),
    "mesh": ((SYSTEM, keys.MESH_TOPOLOGY), (SYSTEM, keys.MESH_EVENTS), (SYSTEM, keys.MESH_FLOW)),
    "sources": (
        (MARKET, keys.MARKET_BARS),
        (MARKET, keys.MARKET_QUOTES),
        (MARKET, keys.MARKET_OBSERVATIONS),
        (MARKET, keys.MARKET_DOWNLOADS),
        (MARKET, keys.MARKET_SERIES),
        (MARKET, keys.MARKET_SOURCES),
        (MARKET, keys.PRELOAD_STATUS),
        (SYSTEM, keys.MARKET_ALERTS),
    ),
    "bars": (
        (MARKET, keys.CHECKED_BARS),
        (MARKET, keys.INDICATORS),
        (MARKET, keys.FEATURES),
        (MARKET, keys.MARKET_QUARANTINE),
    ),
    "archive": ((MARKET, keys.ARCHIVE_DEAD),),
}
_DEFAULT_READS: Final = {
    "vexy_ai": ((MARKET, keys.RSS_ITEMS),),
    "bars": ((MARKET, keys.MARKET_BARS), (MARKET, keys.MARKET_QUOTES), (MARKET, keys.PRELOAD_STATUS)),
    "archive": (
        (MARKET, keys.CHECKED_BARS),
        (MARKET, keys.INDICATORS),
        (MARKET, keys.FEATURES),
        (MARKET, keys.MARKET_QUOTES),
        (MARKET, keys.MARKET_OBSERVATIONS),
        (MARKET, keys.MARKET_DOWNLOADS),
        (MARKET, keys.MARKET_SOURCES),
        (MARKET, keys.PRELOAD_STATUS),
        (SYSTEM, keys.ALERT_LOG),
        (SYSTEM, keys.MEDIC_INCIDENTS),
        (SYSTEM, keys.MEDIC_EVIDENCE),
    ),
}
_RELAYED: Final = {"massive": keys.MASSIVE_ALERTS, "sources": keys.MARKET_ALERTS}
"""By service: the stream of its alerts."""
_OWN_KEYS: Final = {"sources": "sources:*", "bars": "bars:*"}
"""By service: the pattern of the keys on MARKET that only its own processes read."""
# by service and last part of a written key: a further pattern that the service may write
_FURTHER_PATTERNS: Final = {("massive", "probes"): keys.probe_key("*")}


def grant_beats(svc: str, view: BusView) -> tuple[Grant, ...]:
    """Return the grants to publish a service's beats, to write its last beat and last run, and to add runs.

    Return no grants if the service beats on another bus.
    """
    channel, name = view.beat_pattern(svc), escape_pattern(svc)
    if channel is None:
        return ()
    return (
        Grant("publish", channels=(channel,)),
        Grant("set", (keys.last_beat_key(name), keys.last_run_key(name)), mode="W"),
        # DEL: an entry with the last possible id ends a stream for all writers, until it is deleted
        Grant("xadd pexpire del", (keys.pings_key(name),), mode="W"),
        Grant("fcall", (keys.pings_key(name),)),  # the function that deletes it
    )


def grant_work(svc: str, view: BusView) -> Iterator[Grant]:
    """Yield the grants for a service's work on one bus.

    The service registers its processes and divides the work among them, takes leases, and uses its access
    points. If the healer copies its alerts from this bus, it may read which of its outages the healer has
    closed. archive stores how far it has read the streams that it follows, and reports how the backups and
    the database are.
    """
    name = escape_pattern(svc)
    shares = (keys.members_key(name), keys.members_key(name, "*"))
    yield Grant("type del pexpire zadd zrem zrange zremrangebyscore", shares)
    yield from grant_own_leases(svc)
    # those of all services, which only services of one's own ask for: each may break them
    yield Grant(LEASE_COMMANDS, (keys.lease_key("*"), keys.lease_epoch_key("*")))
    yield Grant("publish subscribe", channels=(*shares, keys.lease_key("*")))
    if svc in _OWN_KEYS and view.bus == MARKET:
        yield Grant(_DATA_COMMANDS, (_OWN_KEYS[svc],))
    if svc == ARCHIVE and _list_keys(_find_read_points(svc, view), view, *_FOLLOWED):
        yield Grant("hget hset", (keys.ARCHIVE_POSITIONS,))
    if svc in _RELAYED and _list_keys(find_written_points(svc, view), view, _RELAYED[svc]):
        yield Grant("hget", (keys.HEALER_RELAYED,), mode="R")
    if svc == ARCHIVE and view.bus == SYSTEM:
        yield Grant("getrange", (keys.ARCHIVE_BACKUP, keys.ARCHIVE_BACKUP_REQUEST), mode="R")
        yield Grant("set", (keys.ARCHIVE_BACKUP, keys.ARCHIVE_DATABASE), mode="W")
    yield from grant_requested_remedies(svc, view)
    yield from grant_access_points(svc, view)


def grant_own_leases(svc: str) -> tuple[Grant, ...]:
    """Return the grants to hold the leases that a service has to itself, and to tell that one is free."""
    name = escape_pattern(svc)
    lease = keys.own_lease_key(name, "*")
    return (
        Grant(LEASE_COMMANDS, (lease, keys.own_lease_epoch_key(name, "*"))),
        Grant("publish subscribe", channels=(lease,)),
    )


def grant_requested_remedies(svc: str, view: BusView) -> tuple[Grant, ...]:
    """Return the grants to read the medic's requests to this service, and to report their outcome."""
    found = [each[svc] for each in REQUEST_KEYS.values() if svc in each and view.bus == SYSTEM]
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
        find_written_points("sources", view), view, keys.MARKET_BARS
    ):
        states = (keys.MARKET_SOURCES, keys.MARKET_SERIES, keys.PRELOAD_STATUS)
        yield Grant("type get hget hmget hgetall", states, mode="R")
        yield Grant("hmget hset hdel del pexpire persist fcall", (keys.source_breaker_key("*"),))
    if "bars" in view.truth.services:
        quarantine = _list_keys(find_written_points("bars", view), view, keys.MARKET_QUARANTINE)
        streams = _list_keys(_find_read_points("bars", view), view, keys.MARKET_BARS, keys.MARKET_QUOTES)
        if quarantine:
            yield Grant("xrange xrevrange xlen xdel", quarantine)
            # DEL: an entry with the last possible id ends a stream for all writers, until it is deleted
            yield Grant("xadd del", streams, mode="W")
            yield Grant("fcall", (*quarantine, *streams))
    if "archive" in view.truth.services:
        dead = _list_keys(find_written_points("archive", view), view, keys.ARCHIVE_DEAD)
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
        points = tuple(point for point in points if point.key not in (view.alerts, keys.ALERT_LOG))
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
    names = dict.fromkeys(point.key for point in find_written_points(svc, view) if point.bus == view.bus)
    if not names:
        return
    yield Grant("publish", channels=tuple(escape_pattern(key, keep_wildcards=True) for key in names))
    data = [key for key in names if key not in (view.alerts, keys.ALERT_LOG)]
    patterns = dict.fromkeys(pattern for key in data for pattern in _build_key_patterns(svc, key))
    if patterns:
        yield Grant(f"{_DATA_COMMANDS} {_DESTROY_GROUP}", tuple(patterns))
    beside = tuple(pattern for pattern in patterns if pattern.endswith(":*") and pattern not in names)
    if beside:  # only this service reads there
        yield Grant(_GROUP_COMMANDS, beside)
    if keys.ALERT_LOG in names:  # add and delete entries, but not read those of others
        yield Grant("xadd xdel", (keys.ALERT_LOG,), mode="W")


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
    names = tuple(dict.fromkeys(escape_pattern(key, keep_wildcards=True) for key in wanted))
    if names:
        yield Grant(_DATA_COMMANDS, names, mode="R")
    grouped = tuple(key for key in names if _may_read_by_group(svc, key))
    if grouped:
        yield Grant(_GROUP_COMMANDS, grouped)


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
    others = (*_FOLLOWED, *_NO_STREAMS)
    if svc in _POSITION_READERS or any(fnmatchcase(key, pattern) for key in others):
        return False
    # archive may be given other names for these keys
    return svc != "archive" or _get_last_part(pattern) not in map(_get_last_part, others)


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
    if not key.startswith(keys.RESERVED_PREFIXES):  # a key with a reserved prefix gets no `<key>:…`
        yield f"{pattern}:*"
    if further_pattern := _FURTHER_PATTERNS.get((svc, _get_last_part(key))):
        yield further_pattern


def _drop_heartbeats(points: Iterable[AccessPoint], view: BusView) -> Iterator[AccessPoint]:
    """Return those of `points` whose key is not a heartbeat channel.

    A heartbeat channel ends in `:heartbeat` or is the channel of a service's section.
    """
    channels = {view.truth.channel_of(svc) for svc in view.truth.services}
    return (
        point
        for point in points
        if not point.key.endswith(keys.HEARTBEAT_SUFFIX) and point.key not in channels
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
