"""Which streams vexy_ai reads, and what each of them carries. Pure."""

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


def sources_of(points: Iterable[AccessPoint]) -> tuple[Source, ...]:
    """The streams that `subscribe_to` names, else the feed items; the last word of a key says its kind."""
    named = [point for point in points if not point.key.endswith(HEARTBEAT_SUFFIX)]
    points = named or [first_point((), "market-redis", RSS_ITEMS)]
    return tuple(dict.fromkeys(Source(point.bus, point.key, _kind(point.key)) for point in points))


def notes_of(section: Service) -> AccessPoint:
    """Where the notes go: what is called so, else the first that is not for the dead."""
    points = [point for point in section.access_points.publish_to if point.key.rpartition(":")[2] != DEAD]
    first = first_point(points, "market-redis", VEXY_NOTES)
    return next((point for point in points if point.key.rpartition(":")[2] == NOTES), first)


def dead_of(section: Service) -> str:
    """The key, on the bus of each stream, for what nobody could do."""
    return point_like(section.access_points.publish_to, "market-redis", VEXY_DEAD).key


def _kind(key: str) -> Kind:
    word = key.rpartition(":")[2]
    return Kind(word) if word in set(Kind) else Kind.ITEMS
