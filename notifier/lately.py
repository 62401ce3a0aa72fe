"""Which outages last, told from the end of a log. Pure."""

from collections.abc import Iterable
from typing import Final

from marketswarm.event import Event, Malformed, parse

_OPENS: Final = ("miss", "drift")
_ASIDE: Final = "gap"
"""What moves nothing."""


def still_open(latest_first: Iterable[bytes]) -> list[tuple[Event, bytes]]:
    """The events that opened what is not over, oldest first; of each thing only its latest word counts."""
    known: set[tuple[str, str]] = set()
    found: list[tuple[Event, bytes]] = []
    for raw in latest_first:
        event = parse(raw)
        if isinstance(event, Malformed):
            continue
        family, _, what = event.type.rpartition("_")
        if what == _ASIDE or (family, event.svc) in known:
            continue
        known.add((family, event.svc))
        if what in _OPENS:
            found.append((event, raw))
    return found[::-1]
