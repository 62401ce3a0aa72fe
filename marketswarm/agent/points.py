"""Which key or channel a service's section means: its `access_points`, else the contract's name. Pure."""

from collections.abc import Iterable

from marketswarm.truth import AccessPoint

HEARTBEAT = ":heartbeat"


def first_point(points: Iterable[AccessPoint], bus: str, key: str) -> AccessPoint:
    """The first that carries no heartbeat, else `key` on `bus`."""
    return next(
        (point for point in points if not point.key.endswith(HEARTBEAT)), AccessPoint(bus=bus, key=key)
    )


def point_like(points: Iterable[AccessPoint], bus: str, key: str) -> AccessPoint:
    """The first whose last word is that of `key` (`mesh:events`, `team:events`), else `key` on `bus`."""
    word = key.rpartition(":")[2]
    found = (point for point in points if point.key.rpartition(":")[2] == word)
    return next(found, AccessPoint(bus=bus, key=key))
