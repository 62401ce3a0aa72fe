"""Read what the buses hold about each service, and parse it into values that need no more checks.

`read_fleet_state` asks every bus once. A part that can't be parsed is skipped, as if it were not stored.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from typing import Any, Final, TypeVar

from marketswarm.beat import MAX_BOOT_CHARS, MAX_HOST_CHARS, Beat, MalformedBeat, parse_beat
from marketswarm.bus import Bus, BusError
from marketswarm.bus.stored_values import MAX_COUNT, parse_count, parse_object, parse_text, read_strings
from marketswarm.detector import SavedJob, State
from marketswarm.event import Event, MalformedEvent, parse_event
from marketswarm.keys import (
    HEALER_LEASE,
    MESH_TOPOLOGY,
    health_key,
    jobs_key,
    last_beat_key,
    last_run_key,
    roster_key,
)
from marketswarm.monitor.encoder import BUS_FIELD
from marketswarm.monitor.job_entry import parse_job_entry
from marketswarm.monitor.last_run import LastRun, parse_last_run
from marketswarm.monitor.roster_entry import RosterEntry, parse_entry_parts
from marketswarm.pages import split_pages
from marketswarm.truth import HEALER, SYSTEM, Truth

T = TypeVar("T")

MAX_BOOTS: Final = 50
"""The most boots of one service, and the most hosts, that are kept."""
_AT_ONCE: Final = 1000
"""Of how many services the beats are read at once."""
_MAX_KNOWN_BYTES: Final = 1000
"""The longest value that is kept with what was parsed of it; most are shorter."""
# most values are those of the last look: a verdict stays the same, and the medic looks several times a beat
_parse_entry_once: Final = lru_cache(maxsize=1000)(parse_entry_parts)
_parse_beat_once: Final = lru_cache(maxsize=1000)(parse_beat)
_MAX_TOPOLOGY_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Leader:
    """Hold the healer that has the lease, and for how long the lease has been over: 0 while it is valid."""

    boot: str
    epoch: int
    lapsed_sec: float


@dataclass(frozen=True, slots=True)
class InstanceCount:
    """Hold how many instances of a service run, how often they were restarted, and their first boots.

    `is_conflict` says that these are more than its `replicas`. `hosts` are the machines that they run on, as
    far as their beats name them, sorted.
    """

    running: int
    restarts: int = 0
    boots: tuple[str, ...] = ()
    is_conflict: bool = False
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetState:
    """Hold what was read from the buses, by service; empty where there was nothing.

    `roster` has the healer's verdicts by field (`bus:<name>` is a bus), `health` the latest event of those
    services of which the roster does not say whether they are up, or since when they are down,
    `ttls_sec` the remaining life of each `beat:` key, `instances` what mesh counts, `runs` the last run of
    each command under `marketswarm exec`, `jobs` what the healer knows about the runs of each job.
    """

    roster: Mapping[str, RosterEntry] = field(default_factory=dict)
    health: Mapping[str, Event] = field(default_factory=dict)
    beats: Mapping[str, Beat] = field(default_factory=dict)
    ttls_sec: Mapping[str, float] = field(default_factory=dict)
    instances: Mapping[str, InstanceCount] = field(default_factory=dict)
    leader: Leader | None = None
    runs: Mapping[str, LastRun] = field(default_factory=dict)
    jobs: Mapping[str, SavedJob] = field(default_factory=dict)

    def unheard_buses(self) -> dict[str, str]:
        return {
            name.removeprefix(BUS_FIELD): entry.reason() or "away"
            for name, entry in self.roster.items()
            if name.startswith(BUS_FIELD) and entry.verdict is State.DOWN
        }


async def read_fleet_state(
    truth: Truth, bus_by_name: Callable[[str], Bus], *, with_runs: bool = True
) -> tuple[FleetState, dict[str, str]]:
    """Return what the buses hold about every service of `truth`, and which buses failed and why.

    Without `with_runs`, the last runs of commands are not read: those are a third of all that is.
    """
    known = services_of(truth)
    services_on: dict[str, list[str]] = {SYSTEM: []}
    for svc, (bus, _) in known.items():
        services_on.setdefault(bus, []).append(svc)
    failed: dict[str, str] = {}
    system = bus_by_name(SYSTEM)
    (roster, health, lease, jobs, (sec, usec)), topology, *stored = await asyncio.gather(
        _read_judgement(system, known, failed),
        _ask(system, read_strings(system, [MESH_TOPOLOGY], _MAX_TOPOLOGY_BYTES), [], failed),
        *(
            _read_beats(bus_by_name(name), here, failed, with_runs=with_runs)
            for name, here in sorted(services_on.items())
        ),
    )
    by_service = {svc: found for part in stored for svc, found in part.items()}
    return FleetState(
        roster=roster,
        health=health,
        beats={svc: found.beat for svc, found in by_service.items() if found.beat is not None},
        ttls_sec={svc: found.ttl_sec for svc, found in by_service.items() if found.ttl_sec is not None},
        instances=parse_instances(topology[0] if topology else None),
        leader=parse_leader(lease, sec + usec / 1e6),
        runs={svc: found.run for svc, found in by_service.items() if found.run is not None},
        jobs=_parse_values(jobs, parse_job_entry),
    ), failed


def services_of(truth: Truth) -> dict[str, tuple[str, float]]:
    """Return the bus and the timeout of every service, also of those that only the healer's section names."""
    watched = {watch.svc: (watch.bus, watch.timeout_sec) for watch in truth.watched()}
    others = {svc: (truth.bus_of(svc), truth.timeout_of(svc)) for svc in truth.services if svc not in watched}
    return {svc: others[svc] if svc in others else watched[svc] for svc in truth.services} | watched


def parse_roster(stored: Mapping[bytes, bytes]) -> dict[str, RosterEntry]:
    return _parse_values(stored, _parse_entry)


def _parse_values(stored: Mapping[bytes, bytes], parse: Callable[[bytes], T | None]) -> dict[str, T]:
    """Return the values of a hash that can be parsed, by their fields."""
    parsed = ((name.decode("utf-8", "replace"), parse(raw)) for name, raw in stored.items())
    return {name: value for name, value in parsed if value is not None}


def _parse_entry(raw: bytes) -> RosterEntry | None:
    return (_parse_entry_once if len(raw) <= _MAX_KNOWN_BYTES else parse_entry_parts)(raw)[0]


def parse_health(stored: Mapping[str, bytes | None]) -> dict[str, Event]:
    parsed = ((svc, parse_event(raw)) for svc, raw in stored.items() if raw is not None)
    return {svc: event for svc, event in parsed if not isinstance(event, MalformedEvent)}


def parse_instances(topology: bytes | None) -> dict[str, InstanceCount]:
    services = parse_object(topology).get("services")
    entries = services.items() if isinstance(services, dict) else ()
    known = ((svc, entry) for svc, entry in entries if isinstance(entry, dict))
    return {
        svc: _count_instances(found, is_conflict=entry.get("conflict") is True)
        for svc, entry in known
        if isinstance(found := entry.get("instances"), list)
    }


def parse_leader(lease: Mapping[bytes, bytes], now: float) -> Leader | None:
    """Return the healer that holds `healer:lease`; None if the lease is free or invalid.

    `now` is the bus's own clock. Healers themselves compare no clocks.
    """
    try:
        boot, epoch, until = (lease[name].decode() for name in (b"boot", b"epoch", b"until"))
        number, ends_at = parse_count(int(epoch)), float(until)
    except (KeyError, ValueError):
        return None
    if not 0 < len(boot) <= MAX_BOOT_CHARS or number is None or not isfinite(ends_at):
        return None
    return Leader(boot, number, max(0.0, now - ends_at))


async def _read_judgement(bus: Bus, services: Iterable[str], failed: dict[str, str]) -> Any:
    """Return the roster, the latest events of services that it does not tell enough of, lease, jobs, time."""
    pipe = bus.pipeline()
    pipe.hgetall(roster_key(HEALER))
    pipe.hgetall(HEALER_LEASE)
    pipe.hgetall(jobs_key(HEALER))
    pipe.time()
    stored, *others = await _ask(bus, bus.ask(pipe.execute()), ({}, {}, {}, (0, 0)), failed)
    roster = parse_roster(stored)
    untold = []
    for svc in services:
        entry = roster.get(svc)
        if entry is None or (entry.verdict is not State.UP and entry.since is None):
            untold.append(svc)
    health = await _ask(bus, read_strings(bus, [health_key(svc) for svc in untold]), [], failed)
    return roster, parse_health(dict(zip(untold, health, strict=False))), *others


@dataclass(frozen=True, slots=True)
class StoredBeat:
    """Hold the last beat of a service, the remaining life of its key, and its last run under `exec`."""

    beat: Beat | None
    ttl_sec: float | None
    run: LastRun | None


async def _read_beats(
    bus: Bus, services: list[str], failed: dict[str, str], *, with_runs: bool
) -> dict[str, StoredBeat]:
    """Return what a bus has of each service; of none if it fails.

    Between two batches others have their turn: to send and to parse what is asked of thousands takes long.
    """
    found: dict[str, StoredBeat] = {}
    for page in split_pages(services, _AT_ONCE):
        batch = await _ask(bus, read_beats(bus, page, with_runs=with_runs), None, failed)
        if batch is None:
            return {}
        found |= batch
    return found


async def read_beats(bus: Bus, services: list[str], *, with_runs: bool) -> dict[str, StoredBeat]:
    """Return what a bus has of each of a few services. Raises BusError."""
    pipe = bus.pipeline()
    for svc in services:
        pipe.pttl(last_beat_key(svc))
    count, keys = len(services), list(map(last_beat_key, services))
    values = await read_strings(bus, keys + (list(map(last_run_key, services)) if with_runs else []))
    beats, runs = values[:count], values[count:] or [None] * count
    ttls_msec = await bus.ask(pipe.execute())
    return {
        svc: StoredBeat(
            _parse_beat(beat, svc), None if beat is None else ttl_msec / 1000, parse_last_run(run)
        )
        for svc, beat, run, ttl_msec in zip(services, beats, runs, ttls_msec, strict=False)
    }


async def _ask(bus: Bus, request: Awaitable[T], default: T, failed: dict[str, str]) -> T:
    """Await a request to a bus; if it fails, add the reason to `failed` and return `default`."""
    try:
        return await request
    except BusError as error:
        failed[bus.name] = error.reason
        return default


def _parse_beat(raw: bytes | None, svc: str) -> Beat | None:
    if raw is None:
        return None
    beat = (_parse_beat_once if len(raw) <= _MAX_KNOWN_BYTES else parse_beat)(raw, svc)
    return None if isinstance(beat, MalformedBeat) else beat


def _count_instances(found: list[Any], *, is_conflict: bool) -> InstanceCount:
    instances = [each for each in found if isinstance(each, dict)]
    restarts = sum(parse_count(each.get("restarts")) or 0 for each in instances)
    boots = (parse_text(each.get("boot"), MAX_BOOT_CHARS) for each in instances[:MAX_BOOTS])
    known = tuple(boot for boot in boots if boot is not None)
    named = {parse_text(each.get("host"), MAX_HOST_CHARS) for each in instances[:MAX_BOOTS]}
    hosts = tuple(sorted(filter(None, named)))
    return InstanceCount(len(instances), min(restarts, MAX_COUNT), known, is_conflict, hosts)
