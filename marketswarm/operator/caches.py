"""Name the caches that the medic may clear, by the remedy that does it. Pure.

The patterns are here and nowhere else: the truth chooses a cache by the name of its remedy.
"""

from collections.abc import Mapping
from typing import Final

from marketswarm.keys import chart_key, quote_key
from marketswarm.truth import MEDIC, AccessPoint, Truth

CACHES: Final[Mapping[str, str]] = {
    "quotes_cache": quote_key("*"),
    "charts_cache": chart_key("*", "*"),
}
"""By remedy, the pattern of the keys, each of which a service makes again when it needs it."""


def find_cache(truth: Truth, svc: str, remedy: str) -> AccessPoint | None:
    """Return the access point by which a service names a cache (`quotes` for `quotes:*`), or None."""
    section = truth.services.get(svc)
    if section is None or remedy not in CACHES:
        return None
    word = CACHES[remedy].partition(":")[0]
    points = (*section.access_points.publish_to, *section.access_points.subscribe_to)
    return next((point for point in points if point.key in (word, f"{word}:*")), None)


def list_cleared_caches(truth: Truth, bus: str) -> list[str]:
    """Return the patterns that ladders of the medic (`settings.targets.<svc>.ladder`) name on a bus."""
    found = [
        CACHES[remedy]
        for svc in truth.services
        for remedy in _list_ladder(truth, svc)
        if (point := find_cache(truth, svc, remedy)) is not None and point.bus == bus
    ]
    return sorted(set(found))


def _list_ladder(truth: Truth, svc: str) -> list[str]:
    """Return the words of a ladder, as far as they can be read."""
    section = truth.services.get(MEDIC)
    found: object = section.settings if section is not None else None
    for name in ("targets", svc, "ladder"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return [each for each in found if isinstance(each, str)] if isinstance(found, list | tuple) else []
