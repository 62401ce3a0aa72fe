"""Count what the sources of the market sent that is of no use: wrong answers, refusals, bad records.

`sources` counts the answers of a source that were wrong or refused, in a row. What is right by itself and
does not fit what others say, `bars` puts into quarantine, with the name of the source.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.agent import point_like
from marketswarm.bus import Bus
from marketswarm.bus.stored_values import (
    MAX_EPOCH_SEC,
    parse_count,
    parse_decimal,
    parse_object,
    read_fields,
    read_time,
    report_unusable,
)
from marketswarm.bus.stream import read_entries_between
from marketswarm.keys import MARKET_QUARANTINE, MARKET_SOURCES, source_breaker_key
from marketswarm.operator.remedies import BARS, find_sources_bus
from marketswarm.truth import MARKET, Truth

WITHIN_SEC: Final = 600.0
"""The time of which the records in quarantine count."""
MAX_RECORDS: Final = 1000
"""The most records in quarantine that are read of that time."""
MAX_SOURCES: Final = 2000
BAD_CHECKS: Final = frozenset(
    {"schema", "positive", "price_order", "wrong_session", "future", "source_disagreement", "jump"}
)
"""The checks that only a bad record fails; the others also fail what comes twice, or late."""
BY_MEDIC: Final = b"medic"
"""The field `paused_by` of a breaker that the medic holds."""
SOURCE_NAME: Final = re.compile(r"[a-z0-9_]{1,63}")
_FOREVER_MS: Final = -1.0


@dataclass(frozen=True, slots=True)
class SourcePause:
    """A pause of a source that is in force.

    `begun_at`, in epoch seconds by the bus's clock, is known of the medic's own alone.
    """

    is_medics: bool = False
    begun_at: float = 0.0


@dataclass(frozen=True, slots=True)
class SourceReadings:
    """What is known of the sources at one moment, by their names.

    `rejects` is how much of what each sent lately is of no use, `down` are those that fail, `pauses` those
    that are paused.
    """

    rejects: Mapping[str, int]
    down: frozenset[str]
    pauses: Mapping[str, SourcePause]

    def list_bad(self, above: float) -> list[str]:
        """Return the sources with more rejects than that which are in service, the worst one first."""
        bad = [each for each, count in self.rejects.items() if count > above and each not in self.pauses]
        return sorted(bad, key=lambda name: (-self.rejects[name], name))

    def find_most_rejects(self) -> int:
        return max((count for name, count in self.rejects.items() if name not in self.pauses), default=0)


async def read_rejects(
    truth: Truth, get_bus: Callable[[str], Bus], states: Mapping[str, dict[str, Any]] | None = None
) -> SourceReadings | None:
    """Return what is known of the sources; None if the truth has none. Raises BusError and NoBusError.

    `states` are those of the sources if they were read already.
    """
    bus_name = find_sources_bus(truth)
    if bus_name is None:
        return None
    bus = get_bus(bus_name)
    if states is None:
        states = await read_source_states(bus, MARKET_SOURCES)
    quarantined = Counter[str]()
    if (bars := truth.services.get(BARS)) is not None:
        point = point_like(bars.access_points.publish_to, MARKET, MARKET_QUARANTINE)
        quarantined = await _count_quarantined(get_bus(point.bus), point.key)
    names = [name for name in states if SOURCE_NAME.fullmatch(name)]
    counts = {name: min(parse_count(states[name].get("rejects")) or 0, 10**9) for name in names}
    rejects = {name: max(count, quarantined[name]) for name, count in counts.items()}
    down = frozenset(name for name in names if states[name].get("state") == "down")
    return SourceReadings(rejects, down, await read_pauses(bus, names))


async def read_source_states(bus: Bus, key: str) -> dict[str, dict[str, Any]]:
    """Return the state of each source; an empty one if it can't be used. Raises BusError."""
    names = await list_sources(bus, key)
    (stored,) = await read_fields(bus, [key], names) if names else ({},)
    return {name: parse_object(stored.get(name.encode())) for name in names}


async def list_sources(bus: Bus, key: str) -> list[str]:
    """Return the names of the sources on record; none if there are too many. Raises BusError."""
    if await bus.ask(bus.client.hlen(key)) > MAX_SOURCES:
        report_unusable(bus.name, key, "too many sources")
        return []
    return [raw.decode("utf-8", "replace") for raw in await bus.ask(bus.client.hkeys(key))]


async def read_pauses(bus: Bus, names: list[str]) -> dict[str, SourcePause]:
    """Return the pauses that are in force, by source. Raises BusError."""
    if not names:
        return {}
    now = await read_time(bus)
    keys = [source_breaker_key(name) for name in names]
    stored = await read_fields(bus, keys, ["paused", "paused_by", "paused_at"])
    found = {name: parse_pause(each, now) for name, each in zip(names, stored, strict=True)}
    return {name: pause for name, pause in found.items() if pause is not None}


def parse_pause(stored: Mapping[bytes, bytes], now: float) -> SourcePause | None:
    """Return the pause in a breaker, if it is in force at `now`."""
    paused = parse_milliseconds(stored.get(b"paused"))
    if not paused or _FOREVER_MS != paused <= 1000 * now:
        return None
    is_medics = stored.get(b"paused_by") == BY_MEDIC and paused != _FOREVER_MS
    return SourcePause(is_medics, max(0.0, parse_milliseconds(stored.get(b"paused_at"))) / 1000)


def parse_milliseconds(raw: bytes | None) -> float:
    """Return a time of a breaker; 0 if it is missing or not a number, -1 for a pause without end."""
    text = (raw or b"").decode("ascii", "replace")
    return parse_decimal(text, _FOREVER_MS, 1000 * MAX_EPOCH_SEC) or 0.0


async def _count_quarantined(bus: Bus, key: str) -> Counter[str]:
    """Return how many bad records of each source were put into quarantine lately. Raises BusError."""
    since_ms = round(1000 * (await read_time(bus) - WITHIN_SEC))
    found = Counter[str]()
    for entry in await read_entries_between(bus, key, str(since_ms), "+", count=MAX_RECORDS):
        fields = entry.fields or {}
        if fields.get(b"check", b"").decode("utf-8", "replace") in BAD_CHECKS:
            found[fields.get(b"source", b"").decode("utf-8", "replace")] += 1
    return found
