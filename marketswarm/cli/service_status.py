"""Read what the buses hold about each service, and derive its status without any I/O.

`read_fleet_state` reads the buses, and `service_rows` makes one row per service of it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from marketswarm.bus import Bus, BusError
from marketswarm.bus.stored_values import read_strings
from marketswarm.cli.fleet_view import FleetView
from marketswarm.cli.notifications import OpenIncident
from marketswarm.keys import HEALER_LEASE, MESH_TOPOLOGY, health_key, last_beat_key, roster_key
from marketswarm.truth import HEALER, SYSTEM, Truth

UNWATCHABLE: Final = "unwatchable"
"""The verdict on a service whose heartbeat channel the healer is not allowed to subscribe to."""
FAILED: Final = "failed"
"""The verdict on a command under `marketswarm exec` whose last run failed; the healer still has it as up."""

_MAX_TOPOLOGY_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Leader:
    """Hold the healer that has the lease: its boot, its epoch, and for how long the lease has been over.

    `lapsed_sec` is 0 while the lease is valid.
    """

    boot: str
    epoch: int
    lapsed_sec: float

    def __str__(self) -> str:
        """Return the leader as text, with the remark that no healer leads if the lease has lapsed."""
        if self.lapsed_sec:
            ago = f"{self.lapsed_sec:.0f} s ago"
            return f"no healer leads: the lease of {self.boot} ran out {ago}, and no alert is published"
        return f"healer {self.boot} leads, epoch {self.epoch}"


@dataclass(frozen=True, slots=True)
class FleetState:
    """Hold what was read from the buses, by service; empty where there was nothing.

    `ttls_sec` is the remaining life of each `beat:` key, `instances` the instances of each service that mesh
    knows, `runs` the last run of each command under `marketswarm exec`.
    """

    roster: Mapping[str, Mapping[str, Any]]
    health: Mapping[str, Mapping[str, Any]]
    beats: Mapping[str, Mapping[str, Any]]
    ttls_sec: Mapping[str, float]
    instances: Mapping[str, list[Mapping[str, Any]]]
    leader: Leader | None = None
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def unheard_buses(self) -> dict[str, str]:
        """Return the buses that the healer does not hear, by its roster, with the reasons."""
        fields = ((name.partition(":"), entry) for name, entry in self.roster.items())
        return {
            bus: str(_event_of(entry).get("reason", "away"))
            for (kind, _, bus), entry in fields
            if kind == "bus" and entry.get("verdict") == "down"
        }


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """Hold the status of one service. A value is None if it is unknown.

    `silence_sec` is the age of the last beat, `last_run` the last run of a command under `marketswarm exec`,
    `replicas` the number of instances that the truth asks for. Of an outage, `since` is the time of the last
    beat, `acked_by` the person who acknowledged it, and `held` the reason why its notification is delayed:
    until `held_until` if that is known. Times are epoch seconds.
    """

    svc: str
    verdict: str
    silence_sec: float | None
    timeout_sec: float
    instances: int | None
    boot: str | None
    rev: int | None
    restarts: int | None
    status: str | None
    detail: str | None
    bus: str
    last_run: Mapping[str, Any] | None = None
    replicas: int | None = None
    since: float | None = None
    acked_by: str | None = None
    held: str | None = None
    held_until: float | None = None


async def read_fleet_state(fleet: FleetView) -> tuple[FleetState, dict[str, str]]:
    """Read what the buses hold about every service; return it with the buses that failed and why."""
    known = services_of(fleet.truth)
    names = sorted({SYSTEM, *(bus for bus, _ in known.values())})
    failed: dict[str, str] = {}
    services_on = {name: [svc for svc, (bus, _) in known.items() if bus == name] for name in names}
    (roster, topology, lease, (sec, usec)), health, *beats = await asyncio.gather(
        _read_judgement(fleet.bus(SYSTEM), failed),
        _read_strings(fleet.bus(SYSTEM), [health_key(svc) for svc in known], failed),
        *(_read_beats(fleet.bus(name), here, failed) for name, here in services_on.items()),
    )
    heard = {svc: seen for part in beats for svc, seen in part.items()}
    return FleetState(
        roster={svc.decode(): _as_object(entry) for svc, entry in roster.items()},
        health={svc: _as_object(raw) for svc, raw in zip(known, health, strict=False)},
        beats={svc: seen.beat for svc, seen in heard.items() if seen.beat is not None},
        ttls_sec={svc: seen.ttl_sec for svc, seen in heard.items() if seen.beat is not None},
        runs={svc: seen.run for svc, seen in heard.items() if seen.run},
        instances={
            svc: _instances_of(entry)
            for svc, entry in _as_object(_as_object(topology).get("services")).items()
        },
        leader=parse_leader(lease, sec + usec / 1e6),
    ), failed


def services_of(truth: Truth) -> dict[str, tuple[str, float]]:
    """Return the bus and the timeout of every service, also of those that only the healer's section names."""
    watched = {watch.svc: (watch.bus, watch.timeout_sec) for watch in truth.watched()}
    return {svc: (truth.bus_of(svc), truth.timeout_of(svc)) for svc in truth.services} | watched


def service_rows(
    truth: Truth, state: FleetState, incidents: Mapping[str, OpenIncident] | None = None
) -> list[ServiceRow]:
    """Return one row for each service, in the order of the truth.

    `truth` names the services, `state` is what the buses hold about them, `incidents` what the notifier
    stores about each one that is down.
    """
    unheard = state.unheard_buses()
    replicas = {svc: section.replicas for svc, section in truth.services.items()}
    rows = [
        replace(
            _row(svc, bus, timeout_sec, state, bus_is_heard=bus not in unheard), replicas=replicas.get(svc)
        )
        for svc, (bus, timeout_sec) in services_of(truth).items()
    ]
    return [_with_incident(row, (incidents or {}).get(row.svc)) for row in rows]


def parse_leader(lease: Mapping[bytes, bytes], now: float) -> Leader | None:
    """Return the healer that holds `healer:lease`; None if the lease is free or invalid.

    `lease` is the hash on the bus, `now` the bus's own clock in epoch seconds. Healers themselves compare no
    clocks.
    """
    try:
        boot, epoch, until = (lease[name].decode() for name in (b"boot", b"epoch", b"until"))
        return Leader(boot, int(epoch), max(0.0, now - float(until))) if boot else None
    except (KeyError, ValueError):
        return None


async def _read_judgement(bus: Bus, failed: dict[str, str]) -> Any:
    """Read the healer's roster, mesh's topology, the healer's lease, and the bus's time.

    If the bus fails, add the reason to `failed` and return empty values.
    """
    pipe = bus.pipeline()
    pipe.hgetall(roster_key(HEALER))
    pipe.getrange(MESH_TOPOLOGY, 0, _MAX_TOPOLOGY_BYTES)
    pipe.hgetall(HEALER_LEASE)
    pipe.time()
    return await _execute(bus, pipe, ({}, None, {}, (0, 0)), failed)


@dataclass(frozen=True, slots=True)
class _BeatKeys:
    """Hold what a bus keeps of one service.

    These are the last beat, the remaining life of its key in seconds, and the last run.
    """

    beat: dict[str, Any] | None
    ttl_sec: float
    run: dict[str, Any]


async def _read_beats(bus: Bus, services: list[str], failed: dict[str, str]) -> dict[str, _BeatKeys]:
    """Read what one bus keeps of these services, by service; add a failure to `failed`."""
    pipe = bus.pipeline()
    for svc in services:
        pipe.pttl(last_beat_key(svc))
    keys = [f"{prefix}:{svc}" for svc in services for prefix in ("beat", "run")]
    values = await _read_strings(bus, keys, failed)
    ttls_msec = await _execute(bus, pipe, [], failed)
    return {
        svc: _BeatKeys(None if beat is None else _as_object(beat), ttl_msec / 1000, _as_object(run))
        for svc, beat, run, ttl_msec in zip(services, values[::2], values[1::2], ttls_msec, strict=False)
    }


async def _read_strings(bus: Bus, keys: list[str], failed: dict[str, str]) -> list[bytes | None]:
    """Read string keys; if the bus fails, add the reason to `failed` and return an empty list."""
    try:
        return await read_strings(bus, keys)
    except BusError as error:
        failed[bus.name] = error.reason
        return []


async def _execute(bus: Bus, pipe: Any, default: Any, failed: dict[str, str]) -> Any:
    """Send a pipeline and return its answer.

    If the bus fails, add the reason to `failed` and return `default`.
    """
    try:
        return await bus.ask(pipe.execute())
    except BusError as error:
        failed[bus.name] = error.reason
        return default


def _row(svc: str, bus: str, timeout_sec: float, state: FleetState, *, bus_is_heard: bool) -> ServiceRow:
    """Return the row of one service, from its beats, its instances and the healer's verdict."""
    beat = state.beats.get(svc, {})
    silence_sec = silence_of_key(state.ttls_sec.get(svc), timeout_sec)
    instances = state.instances.get(svc)
    return ServiceRow(
        svc=svc,
        verdict=_verdict(svc, silence_sec, timeout_sec, state, bus_is_heard=bus_is_heard),
        silence_sec=silence_sec,
        timeout_sec=timeout_sec,
        instances=None if instances is None else len(instances),
        boot=_text(beat.get("boot")),
        rev=_whole(beat.get("rev")),
        restarts=None if instances is None else sum(_whole(each.get("restarts")) or 0 for each in instances),
        # a beat without a status means ok
        status=_text(beat.get("status")) or ("ok" if beat else None),
        detail=_text(beat.get("detail")),
        bus=bus,
        last_run=state.runs.get(svc),
        since=_number(state.roster.get(svc, {}).get("since"))
        or _number(state.health.get(svc, {}).get("since")),
    )


def _with_incident(row: ServiceRow, incident: OpenIncident | None) -> ServiceRow:
    """Return the row with the acknowledgement and the delay that the notifier stores for the outage."""
    if incident is None:
        return row
    return replace(
        row, acked_by=incident.acked_by or None, held=incident.held, held_until=incident.held_until
    )


def _is_failed_run(run: Mapping[str, Any], beat: Mapping[str, Any]) -> bool:
    """Return True if a run of a command failed, and no later run has sent a beat."""
    if run.get("ok") is not False:
        return False
    beat_ts, run_ts = _number(beat.get("ts")), _number(run.get("ts"))
    return beat.get("status") == "stopping" or beat_ts is None or run_ts is None or beat_ts <= run_ts


def _verdict(
    svc: str, silence_sec: float | None, timeout_sec: float, state: FleetState, *, bus_is_heard: bool
) -> str:
    """Return the healer's verdict; derive one from the beats for a service that it does not evaluate.

    A service that was up on a bus that the healer no longer hears is `unknown`. One that is up, but whose
    last run failed, is `failed`.
    """
    if state.roster.get(f"watch:{svc}", {}).get("verdict") == "down":
        return UNWATCHABLE
    verdict = state.roster.get(svc, {}).get("verdict")
    if isinstance(verdict, str) and verdict != "up":
        return verdict
    if verdict == "up":
        failed = _is_failed_run(state.runs.get(svc, {}), state.beats.get(svc, {}))
        return FAILED if failed else "up" if bus_is_heard else "unknown"
    if str(state.health.get(svc, {}).get("type", "")).endswith("_miss"):
        return "down"
    if silence_sec is None:
        return "unknown"
    return "up" if silence_sec <= timeout_sec else "silent"


def silence_of_key(ttl_sec: float | None, timeout_sec: float) -> float | None:
    """Return the seconds since the last beat, from the remaining life of its `beat:` key.

    The key lives for twice the timeout, so no clocks are compared. None stands for no key, and for a life
    that no agent sets.
    """
    if ttl_sec is None or not 0 <= ttl_sec <= 2 * timeout_sec:
        return None
    return round(2 * timeout_sec - ttl_sec, 3)


def _as_object(value: Any) -> dict[str, Any]:
    """Return `value` if it is an object, or the object in its JSON; an empty one for everything else."""
    if isinstance(value, bytes):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return {}
    return value if isinstance(value, dict) else {}


def _event_of(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the event in an entry of the roster; an empty object if there is none."""
    event = entry.get("event")
    return event if isinstance(event, dict) else {}


def _instances_of(entry: Any) -> list[Any]:
    """Return the instances in the entry of a service in `mesh:topology`."""
    found = _as_object(entry).get("instances")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _text(value: Any) -> str | None:
    """Return `value` if it is a string, else None."""
    return value if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    """Return `value` as a float if it is a number and no bool, else None."""
    return float(value) if type(value) in (int, float) else None


def _whole(value: Any) -> int | None:
    """Return `value` if it is an integer and no bool, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
