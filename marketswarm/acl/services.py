"""What a service may do: beat, follow the truth, share work, and touch the keys of its access points. Pure.

Data commands go by the kind of access, not by service: what it does with its own keys is its own affair, and
those of others it reads. Beside a key of its own lie its notes on it, `<key>:…`.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from marketswarm.acl.grants import Grant, escaped
from marketswarm.acl.places import LOG, PROBE_ALERTS, Place
from marketswarm.truth import MARKET, SYSTEM, AccessPoint

_DATA: Final = (
    "@string @hash @list @set @sortedset @stream @bitmap @hyperloglog @geo"
    " del unlink exists type touch expire pexpire expireat pexpireat persist ttl pttl -@dangerous"
)
_GROUP: Final = (
    "xreadgroup xack xclaim xautoclaim xpending xgroup|create xgroup|createconsumer xgroup|delconsumer"
    " xinfo|stream xinfo|groups xinfo|consumers"
)
_HEARTBEAT: Final = ":heartbeat"

# what those of ours fall back on where the truth names no key that ends like it
WRITTEN: Final = {
    "rss_agg": ((MARKET, "rss:items"),),
    "massive": (
        (MARKET, "massive:probes"),
        (MARKET, "market:bars"),
        (SYSTEM, "massive:roster"),
        (SYSTEM, PROBE_ALERTS),
    ),
    "vexy_ai": ((MARKET, "vexy:notes"), (MARKET, "vexy:dead")),
    "mesh": ((SYSTEM, "mesh:topology"), (SYSTEM, "mesh:events"), (SYSTEM, "mesh:flow")),
}
_READ: Final = {"vexy_ai": ((MARKET, "rss:items"),)}
# keys whose names follow from nothing, on the bus of the one that ends like it
_BESIDE: Final = {("massive", "probes"): "probe:*"}
# what belongs to those who watch: a service that is let in there gets the one key and nothing beside it
_NOT_A_FAMILY: Final = (
    *("truth:", "beat:", "run:", "health:", "members:", "lease:", "lease-epoch:"),
    *("healer:", "sentinel:", "notifier:"),
)


def beating(svc: str, place: Place) -> tuple[Grant, ...]:
    """Its own beats, if they go to this bus, and how its command ended, if it is one."""
    channel, name = place.beats(svc), escaped(svc)
    if channel is None:
        return ()
    return (
        Grant("publish", channels=(channel,)),
        Grant("set", (f"beat:{name}", f"run:{name}"), mode="W"),
    )


def work(svc: str, place: Place) -> tuple[Grant, ...]:
    """What a service does here that watches nobody: share its work, hold a lease, use its access points."""
    name = escaped(svc)
    shares, leases = (f"members:{name}", f"members:{name}:*"), ("lease:*", "lease-epoch:*")
    return (
        Grant("type del pexpire zadd zrem zrange zremrangebyscore", shares),
        Grant("type get set del exists pttl pexpire hset hmget", leases),
        Grant("publish subscribe", channels=(*shares, "lease:*")),
        *own_points(svc, place),
    )


def own_points(svc: str, place: Place) -> tuple[Grant, ...]:
    """What the access points of a service allow on this bus."""
    return (*_writing(svc, place), *_reading(svc, place))


def written(svc: str, place: Place) -> list[AccessPoint]:
    """The points that a service writes, on every bus; those of beats are apart."""
    points = place.truth.services[svc].access_points.publish_to
    if svc == "massive":  # the healer tells for it: older truths name where
        points = tuple(point for point in points if point.key not in (place.alerts, LOG))
    found = [*_no_beats(points, place), *_missing(points, WRITTEN.get(svc, ()))]
    # the dead lie beside what they were taken from, in one step
    dead = next((point.key for point in found if svc == "vexy_ai" and _word(point.key) == "dead"), None)
    buses = dict.fromkeys(point.bus for point in _read(svc, place)) if dead else ()
    return [*found, *(AccessPoint(bus=bus, key=str(dead)) for bus in buses)]


def _writing(svc: str, place: Place) -> Iterator[Grant]:
    keys = dict.fromkeys(point.key for point in written(svc, place) if point.bus == place.bus)
    if not keys:
        return
    yield Grant("publish", channels=tuple(escaped(key, many=True) for key in keys))
    data = [key for key in keys if key not in (place.alerts, LOG)]
    patterns = dict.fromkeys(pattern for key in data for pattern in _family(svc, key))
    if patterns:
        yield Grant(_DATA, tuple(patterns))
    if LOG in keys:  # to add to it, and to take back what it added: not to read what others said
        yield Grant("xadd xdel", (LOG,), mode="W")


def _reading(svc: str, place: Place) -> Iterator[Grant]:
    points = place.truth.services[svc].access_points.subscribe_to
    channels = [point.key for point in points if point.bus == place.bus]
    if channels:
        yield Grant("subscribe psubscribe", channels=tuple(escaped(key, many=True) for key in channels))
    wanted = (one.key for one in _read(svc, place) if one.bus == place.bus)
    keys = tuple(dict.fromkeys(escaped(key, many=True) for key in wanted))
    if keys:
        yield Grant(_DATA, keys, mode="R")
        yield Grant(_GROUP, keys)


def _read(svc: str, place: Place) -> list[AccessPoint]:
    points = place.truth.services[svc].access_points.subscribe_to
    return [*_no_beats(points, place), *_missing(points, _READ.get(svc, ()))]


def _family(svc: str, key: str) -> Iterator[str]:
    """A key and what lies beside it."""
    own = escaped(key, many=True)
    yield own
    if not key.startswith(_NOT_A_FAMILY):
        yield f"{own}:*"
    if beside := _BESIDE.get((svc, _word(key))):
        yield beside


def _no_beats(points: Iterable[AccessPoint], place: Place) -> Iterator[AccessPoint]:
    channels = {service.heartbeat.channel for service in place.truth.services.values()}
    return (point for point in points if not point.key.endswith(_HEARTBEAT) and point.key not in channels)


def _missing(points: Iterable[AccessPoint], wanted: Iterable[tuple[str, str]]) -> Iterator[AccessPoint]:
    words = {_word(point.key) for point in points}
    return (AccessPoint(bus=bus, key=key) for bus, key in wanted if _word(key) not in words)


def _word(key: str) -> str:
    return key.rpartition(":")[2]
