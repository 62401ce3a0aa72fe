"""Derive the status of each service from what the buses hold about it. Pure.

`make_service_rows` makes one row per service of a `FleetState`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketswarm.beat import MAX_HOST_CHARS, Beat, compute_beat_age_sec
from marketswarm.bus.stored_values import parse_epoch
from marketswarm.detector import SavedJob, State
from marketswarm.detector.job import EARLY_IN_A_ROW
from marketswarm.event import Event
from marketswarm.monitor.encoder import WATCH_FIELD
from marketswarm.monitor.last_run import LastRun
from marketswarm.monitor.roster_entry import RosterEntry
from marketswarm.status.fleet_state import FleetState, InstanceCount, services_of
from marketswarm.status.notifications import OpenIncident
from marketswarm.truth import JobRule, Truth

PAUSED: Final = "paused"
"""The word for a service that is not to be monitored; its state stays `unknown`, or `silent`."""
UNMONITORED: Final = "paused: not monitored"
"""What is said beside the state of a service that is paused, and still beats."""


class ServiceState(StrEnum):
    """Name the states of a service: the healer's verdicts, and what follows for others from their beats.

    The worst one is the first.
    `failed` is up by its beats, but its last run failed; `silent` is without beats for too long, and not
    evaluated by the healer; `unwatchable` can't be heard by the healer; `unknown` is a service whose bus
    can't be heard, or that never sent a beat.
    """

    DOWN = "down"
    FAILED = "failed"
    UNWATCHABLE = "unwatchable"
    SILENT = "silent"
    UNKNOWN = "unknown"
    UP = "up"


URGENCY: Final[Mapping[ServiceState, int]] = {state: place for place, state in enumerate(ServiceState)}
"""By state, its place in a list that has the worst first."""
_OTHERS: Final = (
    *(str(each) for each in URGENCY if each not in (ServiceState.UP, ServiceState.DOWN)),
    PAUSED,
)
"""The words of a headline besides up and down, the worst first."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Hold the status of a job's runs. Times are epoch seconds; a value is None if it is unknown.

    `next_run_at` is the scheduled time that the next report is for, `next_due_at` when it is overdue,
    `running_since` when a run began that has not ended, `early_sec` how early its last runs were, if that is
    a habit. `schedule` is None for a service whose runs have a longest time alone.
    """

    schedule: str | None = None
    time_zone: str = "UTC"
    next_run_at: float | None = None
    next_due_at: float | None = None
    running_since: float | None = None
    early_sec: float | None = None


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """Hold the status of one service. A value is None if it is unknown.

    `silence_sec` is the age of the last beat, `last_run` the last run of a command under `marketswarm exec`,
    `replicas` the number of instances that the truth asks for. Of an outage, `since` is the time of the last
    beat, `acked_by` the person who acknowledged it, and `held` the reason why its notification is delayed:
    until `held_until` if that is known. `reason` is that of its miss, and `down_since` when the outage began,
    if not with the last beat. `failure` is what the report of a failure said that the service is down for,
    and `exit_code` how its command ended. `watch_reason` is why the healer can't watch it: `auth` or `flood`.
    `paused` says that the truth has the healer not monitor it. `job` is there for a job. `hosts` are the
    machines that its instances run on, of one that is down the one that its last beat came from; empty where
    no beat names one. Times are epoch seconds.
    """

    svc: str
    verdict: ServiceState
    silence_sec: float | None
    timeout_sec: float
    instances: int | None
    boot: str | None
    rev: int | None
    restarts: int | None
    status: str | None
    detail: str | None
    bus: str
    last_run: LastRun | None = None
    replicas: int | None = None
    since: float | None = None
    acked_by: str | None = None
    held: str | None = None
    held_until: float | None = None
    job: JobStatus | None = None
    failure: str | None = None
    watch_reason: str | None = None
    reason: str | None = None
    down_since: float | None = None
    exit_code: int | None = None
    hosts: tuple[str, ...] = ()
    paused: bool = False

    @property
    def word(self) -> str:
        """The word for its state: `paused` in place of what the healer can't know of it."""
        return find_word(self.verdict, is_paused=self.paused)


def find_word(state: ServiceState, *, is_paused: bool) -> str:
    """Return the word for a state: `paused` if nobody evaluates the service, and no beat says it is up."""
    return PAUSED if is_paused and state in (ServiceState.UNKNOWN, ServiceState.SILENT) else str(state)


def make_service_rows(
    truth: Truth, state: FleetState, incidents: Mapping[str, OpenIncident] | None = None
) -> list[ServiceRow]:
    """Return one row for each service, in the order of the truth."""
    unheard, rows = state.unheard_buses(), []
    for svc, (bus, timeout_sec) in services_of(truth).items():
        beat, instances, section = state.beats.get(svc), state.instances.get(svc), truth.services.get(svc)
        watch = state.roster.get(WATCH_FIELD + svc)
        entry, event, incident = state.roster.get(svc), state.health.get(svc), (incidents or {}).get(svc)
        miss = _find_miss(entry, event)
        silence_sec, rule = derive_silence(state.ttls_sec.get(svc), timeout_sec, beat), truth.job_of(svc)
        row = ServiceRow(
            svc=svc,
            verdict=_verdict(svc, silence_sec, timeout_sec, state, bus_is_heard=bus not in unheard),
            silence_sec=silence_sec,
            timeout_sec=timeout_sec,
            instances=None if instances is None else instances.running,
            boot=None if beat is None else beat.boot,
            rev=None if beat is None else beat.rev,
            restarts=None if instances is None else instances.restarts,
            status=None if beat is None else beat.status,
            detail=None if beat is None else beat.detail,
            bus=bus,
            last_run=state.runs.get(svc),
            replicas=None if section is None else section.replicas,
            since=(entry and entry.since) or (event and parse_epoch(event.since)) or None,
            acked_by=None if incident is None else incident.acked_by or None,
            held=None if incident is None else incident.held,
            held_until=None if incident is None else incident.held_until,
            job=None if rule is None else _derive_job(rule, state.jobs.get(svc)),
            failure=None if miss is None else miss.detail,
            watch_reason=watch.reason() if watch is not None and watch.verdict is State.DOWN else None,
            reason=None if miss is None else miss.reason,
            down_since=None if miss is None else parse_epoch(miss.down_since),
            exit_code=None if miss is None else miss.exit_code,
            hosts=_find_hosts(miss, instances),
            paused=section is not None and not section.heartbeat.monitored,
        )
        rows.append(row)
    return rows


def _find_miss(entry: RosterEntry | None, latest: Event | None) -> Event | None:
    """Return the event of the outage that lasts: the one with the verdict, otherwise the latest event."""
    stored = None if entry is None else entry.read_event()
    if stored is not None or latest is None or not latest.type.is_bad:
        return stored
    return None if entry is not None and entry.verdict is State.UP else latest


def _find_hosts(miss: Event | None, instances: InstanceCount | None) -> tuple[str, ...]:
    """Return the hosts of the instances that mesh counts; of a service without one, that in its miss."""
    if instances is not None and instances.hosts:
        return instances.hosts
    return (miss.host[:MAX_HOST_CHARS],) if miss is not None and miss.host else ()


def group_by_host(rows: Sequence[ServiceRow]) -> list[tuple[tuple[str, ...], list[ServiceRow]]]:
    """Return the rows by the hosts of their services, each group at the place of its first row.

    A service on several hosts is in a group with those on the same ones; one on no known host in that of
    none.
    """
    groups: dict[tuple[str, ...], list[ServiceRow]] = {}
    for row in rows:
        groups.setdefault(row.hosts, []).append(row)
    return list(groups.items())


def _derive_job(rule: JobRule, known: SavedJob | None) -> JobStatus:
    runs = known.runs if known is not None else ()
    leads_sec = known.leads_sec if known is not None else ()
    schedule, next_run_at = rule.schedule, None
    if schedule is not None and known is not None:
        next_run_at = schedule.next_run(known.expected_from)
    return JobStatus(
        schedule=None if schedule is None else schedule.expression,
        time_zone="UTC" if schedule is None else schedule.time_zone,
        next_run_at=next_run_at,
        next_due_at=None if next_run_at is None else next_run_at + rule.grace_sec,
        running_since=min((started for _, started in runs), default=None),
        early_sec=leads_sec[-1] if len(leads_sec) >= EARLY_IN_A_ROW else None,
    )


def _is_failed_run(run: LastRun | None, beat: Beat | None) -> bool:
    """Return True if a run of a command failed, and no later run has sent a beat."""
    if run is None or run.ok is not False:
        return False
    return beat is None or beat.status == "stopping" or run.ts is None or beat.ts <= run.ts


def _verdict(
    svc: str, silence_sec: float | None, timeout_sec: float, state: FleetState, *, bus_is_heard: bool
) -> ServiceState:
    """Return the healer's verdict; derive one from the beats for a service that it does not evaluate.

    A service that was up on a bus that the healer no longer hears is `unknown`. One that is up, but whose
    last run failed, is `failed`.
    """
    watch, entry = state.roster.get(WATCH_FIELD + svc), state.roster.get(svc)
    if watch is not None and watch.verdict is State.DOWN:
        return ServiceState.UNWATCHABLE
    if entry is not None and entry.verdict is State.DOWN:
        return ServiceState.DOWN
    if entry is not None and entry.verdict is State.UP:
        if _is_failed_run(state.runs.get(svc), state.beats.get(svc)):
            return ServiceState.FAILED
        return ServiceState.UP if bus_is_heard else ServiceState.UNKNOWN
    event = state.health.get(svc)
    if event is not None and event.type.endswith("_miss"):
        return ServiceState.DOWN
    if silence_sec is None:
        return ServiceState.UNKNOWN
    return ServiceState.UP if silence_sec <= timeout_sec else ServiceState.SILENT


def write_headline(words: Iterable[str] | Mapping[str, int]) -> str:
    """Return how many services are down: `2 of 7 down, 1 unknown`, or `all 7 up`.

    `words` are those of `find_word`, one for each service, or how often each occurs. Services that are paused
    are named apart: `all 6 up, 1 paused`.
    """
    counts = Counter(words)
    total, up = counts.total(), counts[ServiceState.UP]
    if not total:
        return "no services"
    is_well = up > 0 and up + counts[PAUSED] == total
    down = f"all {up} up" if is_well else f"{counts[ServiceState.DOWN] or 'none'} of {total} down"
    others = [each for each in _OTHERS if counts[each]]
    return ", ".join((down, *(f"{counts[each]} {each}" for each in others)))


def derive_silence(ttl_sec: float | None, timeout_sec: float, beat: Beat | None) -> float | None:
    """Return the seconds since the last beat, from the remaining life of its `beat:` key.

    So no clocks are compared. None stands for no key, and for a life that no agent sets.
    """
    age_sec = None if ttl_sec is None else compute_beat_age_sec(timeout_sec, 1000 * ttl_sec, beat)
    return None if age_sec is None else round(age_sec, 3)
