"""Name what remedies of the medic may write on the buses of others, and what its rules name. Pure.

The names are here and nowhere else: the truth chooses by the name of a remedy. A rule or a ladder may be that
of another release, so each is read as far as it can be.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from marketswarm import keys
from marketswarm.truth import MARKET, MEDIC, AccessPoint, Truth, point_like

SOURCES: Final = "sources"
BARS: Final = "bars"
ARCHIVE: Final = "archive"
BOARD: Final = "board"


class Remedy(StrEnum):
    """What can be done for a target."""

    WAIT = "wait"  # nothing: it shows what heals by itself
    RESUME_SOURCES = "resume_sources"  # closes breakers of `sources`
    RELOAD_SERIES = "reload_series"  # has `sources` load now what is not fresh
    PAUSE_SOURCE = "pause_source"  # takes a source whose answers are of no use out of service for a while
    QUOTES_CACHE = "quotes_cache"
    CHARTS_CACHE = "charts_cache"
    RECONNECT = "reconnect"  # has a service open its connections to PostgreSQL again
    REPEAT_BACKUP = "repeat_backup"  # has `archive` make the backup that is due
    RESTART = "restart"
    ROLL_BACK_TRUTH = "roll_back_truth"  # seeds the truth before the one in force again
    COMMAND = "command"


CACHES: Final[Mapping[str, str]] = {
    Remedy.QUOTES_CACHE: keys.quote_key("*"),
    Remedy.CHARTS_CACHE: keys.chart_key("*", "*"),
}
"""By remedy, the pattern of the keys. A service makes each of them again when it needs it."""
REQUEST_KEYS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    Remedy.RECONNECT: {
        ARCHIVE: (keys.ARCHIVE_RECONNECT, keys.ARCHIVE_RECONNECT_REQUEST),
        BOARD: (keys.BOARD_RECONNECT, keys.BOARD_RECONNECT_REQUEST),
    },
    Remedy.RELOAD_SERIES: {SOURCES: (keys.SOURCES_RELOAD, keys.SOURCES_RELOAD_REQUEST)},
}
"""By remedy that a process carries out itself, by service: the keys of its report and of a request to it."""


def find_cache(truth: Truth, svc: str, remedy: str) -> AccessPoint | None:
    """Return the access point by which a service names a cache (`quotes` for `quotes:*`), or None."""
    section = truth.services.get(svc)
    if section is None or remedy not in CACHES:
        return None
    word = CACHES[remedy].partition(":")[0]
    points = (*section.access_points.publish_to, *section.access_points.subscribe_to)
    return next((point for point in points if point.key in (word, f"{word}:*")), None)


def list_cleared_caches(truth: Truth, bus: str) -> list[str]:
    """Return the patterns that ladders of the medic name on a bus."""
    found = [
        CACHES[remedy]
        for svc in truth.services
        for remedy in list_ladder(truth, svc)
        if (point := find_cache(truth, svc, remedy)) is not None and point.bus == bus
    ]
    return sorted(set(found))


def find_sources_bus(truth: Truth) -> str | None:
    """Return the bus on which `sources` keeps its breakers; None if the truth does not name the service."""
    if SOURCES not in truth.services:
        return None
    written = truth.services[SOURCES].access_points.publish_to
    return point_like(written, MARKET, keys.MARKET_BARS).bus


def list_ladder(truth: Truth, svc: str) -> list[str]:
    """Return the words of `services.medic.settings.targets.<svc>.ladder`, as far as they can be read."""
    section = truth.services.get(MEDIC)
    found: object = section.settings if section is not None else None
    for name in ("targets", svc, "ladder"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return [each for each in found if isinstance(each, str)] if isinstance(found, list | tuple) else []


def list_rule_words(truth: Truth, field: str) -> list[str]:
    """Return the words of `services.medic.settings.rules.*.<field>`, as far as they can be read."""
    section = truth.services.get(MEDIC)
    rules = section.settings.get("rules") if section is not None else None
    written = rules.values() if isinstance(rules, Mapping) else ()
    named = [each.get(field) for each in written if isinstance(each, Mapping)]
    return [each for each in named if isinstance(each, str)]


def is_in_a_ladder(truth: Truth, remedy: str) -> bool:
    """Return True if the medic has a ladder with this remedy."""
    return any(remedy in list_ladder(truth, svc) for svc in truth.services)
