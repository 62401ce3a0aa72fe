"""The streams that vexy_ai reads and writes, by the access points of the truth. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketswarm.agent import first_point, point_like
from marketswarm.keys import HEARTBEAT_SUFFIX, RSS_ITEMS, VEXY_DEAD, VEXY_NOTES
from marketswarm.truth import AccessPoint, Service

NOTES: Final = "notes"
DEAD: Final = "dead"


class Kind(StrEnum):
    """What the entries of a stream are."""

    ITEMS = "items"
    PROBES = "probes"
    BARS = "bars"


@dataclass(frozen=True, slots=True)
class Source:
    """A stream to read."""

    bus: str
    key: str
    kind: Kind


def find_sources(points: Iterable[AccessPoint]) -> tuple[Source, ...]:
    """Return the streams that `subscribe_to` names, else that of the feed items.

    The last word of a key tells what kind of entries it has.
    """
    named = [point for point in points if not point.key.endswith(HEARTBEAT_SUFFIX)]
    points = named or [first_point((), "market-redis", RSS_ITEMS)]
    return tuple(dict.fromkeys(Source(point.bus, point.key, _kind(point.key)) for point in points))


def notes_point(section: Service) -> AccessPoint:
    """Return where notes go.

    The access point whose key ends in `notes`, else the first that is not for dead letters.
    """
    points = [point for point in section.access_points.publish_to if point.key.rpartition(":")[2] != DEAD]
    first = first_point(points, "market-redis", VEXY_NOTES)
    return next((point for point in points if point.key.rpartition(":")[2] == NOTES), first)


def dead_letter_key(section: Service) -> str:
    """Return the key for dead letters, on the bus of the stream that each comes from."""
    return point_like(section.access_points.publish_to, "market-redis", VEXY_DEAD).key


def _kind(key: str) -> Kind:
    word = key.rpartition(":")[2]
    return Kind(word) if word in set(Kind) else Kind.ITEMS
