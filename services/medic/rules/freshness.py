"""Measure how long ago the services wrote their streams and keys.

The age of a stream is that of the last entry that was ever added, by the clock of the bus, which also made
its id. A key with a JSON object says in `ts` when it was written, by the clock of its writer, whose last beat
tells that clock. Of other keys it is not known.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from marketswarm.access.services import find_written_key
from marketswarm.bus import Bus, BusError, NoBusError
from marketswarm.bus.stored_values import is_ahead, parse_epoch, parse_object, read_strings, read_time
from marketswarm.text import parse_digits
from marketswarm.truth import Truth
from services.medic.metric import Metric, Readings, name_reading
from services.medic.observer import FleetObservation
from services.medic.rule import MonitorRule

LEAST_EPOCH_SEC: Final = 1e9
"""An id or a `ts` from before 2001 is not a time."""
MAX_INFO_BYTES: Final = 262_144
"""The longest answer about a stream, which has the first and the last entry in it."""

FULL_PERCENT: Final = 100.0
"""From which use of its `maxmemory` on a bus refuses writes."""


@dataclass(frozen=True, slots=True)
class _Write:
    """When a key was written, and when that was read, in epoch seconds by the clock of the bus.

    `by_writer` says that the former is by the clock of its writer.
    """

    at: float | None
    read_at: float
    by_writer: bool = False

    def find_age(self, writers_now: float | None) -> float | None:
        """Return for how long the key was not written; `writers_now` is the time by the writer's clock.

        That is None if it is not known: then both clocks are taken for the same one.
        """
        now = writers_now if self.by_writer and writers_now is not None else self.read_at
        if self.at is None or self.at < LEAST_EPOCH_SEC or is_ahead(self.at, now):
            return None
        return max(0.0, now - self.at)


async def read_ages(
    pairs: Iterable[tuple[str, MonitorRule]], seen: FleetObservation, get_bus: Callable[[str], Bus]
) -> Readings:
    """Return the ages that these rules ask for, in seconds; what can't be read is not known."""
    truth = seen.truth
    wanted = dict[str, dict[str, list[str]]]()
    for svc, rule in pairs:
        point = find_written_key(truth, svc, rule.key) if rule.key is not None else None
        if point is not None:
            wanted.setdefault(point.bus, {}).setdefault(point.key, []).append(svc)
    found = await asyncio.gather(*(_read_bus(bus, list(keys), get_bus) for bus, keys in wanted.items()))
    ages = {
        name_reading(svc, key): write.find_age(_find_clock(svc, seen) if write.by_writer else None)
        for keys, by_key in zip(wanted.values(), found, strict=True)
        for key, write in by_key.items()
        for svc in keys[key]
    }
    return {Metric.WRITE_AGE: ages}


def forget_ages_on_full_buses(
    readings: Readings, pairs: Iterable[tuple[str, MonitorRule]], truth: Truth
) -> None:
    """Make the ages on a bus without memory unknown: it refuses writes, and its writers may be well."""
    memory, ages = readings.get(Metric.BUS_MEMORY, {}), readings.get(Metric.WRITE_AGE, {})
    full = {bus for bus, percent in memory.items() if percent is not None and percent >= FULL_PERCENT}
    for svc, rule in pairs if full else ():
        point = find_written_key(truth, svc, rule.key) if rule.key is not None else None
        if point is not None and point.bus in full:
            ages[name_reading(svc, point.key)] = None


def _find_clock(svc: str, seen: FleetObservation) -> float | None:
    """Return what time it is by the clock of a service, as its last beat and the age of that say."""
    beat = seen.state.beats.get(svc)
    silence_sec = seen.find_silence(svc, seen.truth.timeout_of(svc))
    return None if beat is None or silence_sec is None else beat.ts + silence_sec


async def _read_bus(name: str, keys: list[str], get_bus: Callable[[str], Bus]) -> Mapping[str, _Write]:
    """Return when each key was written; nothing if the bus does not answer."""
    try:
        bus = get_bus(name)
        now = await read_time(bus)
    except (BusError, NoBusError):
        return {}
    return {key: await _read_write(bus, key, now) for key in keys}


async def _read_write(bus: Bus, key: str, now: float) -> _Write:
    try:
        kind = await bus.ask(bus.client.type(key))
        if kind == b"stream":
            info = await bus.ask(bus.client.xinfo_stream(key), max_bytes=MAX_INFO_BYTES)
            return _Write(_parse_id(info.get("last-generated-id") if isinstance(info, dict) else None), now)
        if kind == b"string":
            (raw,) = await read_strings(bus, [key])
            return _Write(parse_epoch(parse_object(raw).get("ts")), now, by_writer=True)
    except BusError:  # also if the rights of the medic don't cover a rule that is new in the truth
        pass
    return _Write(None, now)


def _parse_id(raw: object) -> float | None:
    """Return the time in the id of an entry, in epoch seconds."""
    ms = parse_digits(raw.partition(b"-")[0]) if isinstance(raw, bytes) else None
    return None if ms is None else ms / 1000
