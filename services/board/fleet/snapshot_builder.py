"""Build the board's snapshot from what was read: the truth, the buses' state, the history. Pure.

What a bus that is away would say is unknown, so its services keep what was last known of them, in state
`unknown`. All texts of others are escaped here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from marketswarm.bus.stored_values import parse_epoch
from marketswarm.detector import Reason
from marketswarm.event import Event, Kind
from marketswarm.event_text import SOME_FAILURE, describe_failure, describe_outage
from marketswarm.monitor.last_run import LastRun
from marketswarm.status.channel_records import MAX_REASON, MAX_TITLE, ChannelStatus
from marketswarm.status.fleet_state import FleetState, Leader
from marketswarm.status.notifications import Notifications, describe_hold
from marketswarm.status.service_rows import JobStatus, ServiceRow, ServiceState, make_service_rows
from marketswarm.text import MAX_LINE_CHARS, escape_text
from marketswarm.truth import HEALER, SYSTEM, Heartbeat, Service, Truth
from services.board.fleet.snapshot import (
    BarSpan,
    BusSnapshot,
    FleetSnapshot,
    HealerView,
    LastRunView,
    ServiceSnapshot,
    SilenceView,
    Uptime,
    copy_fields,
    find_cause,
    fold_incidents,
)
from services.board.fleet.words import escape_fields

SAME_BEAT_SEC: Final = 0.25  # times of a last beat that differ by less are one beat: ages are measured again
MAX_PENDING: Final = 200
MAX_NAMED: Final = 5
_NO_SERVICE: Final = FleetSnapshot(0.0)
_NO_SECTION: Final = Service(heartbeat=Heartbeat())
"""In place of the section of a service that only the healer's section names."""
_NO_JOB: Final = JobStatus()
_KEPT: Final = (
    *("last_beat_at", "instances", "boot", "rev", "restarts", "status", "detail"),
    *("last_run", "next_due_at", "running_since", "early_sec"),
)
"""The fields that stay as they were while a bus is away."""
_OF_OUTAGE: Final = (
    *("since", "outage", "outage_at", "failure"),
    *("acked_by", "held", "held_until", "hold", "cause"),
)
"""The fields that tell of an outage, None without one."""
_MISSES: Final = (Kind.HEARTBEAT_MISS, Kind.HEALER_MISS)
_RECOVERIES: Final = (Kind.HEARTBEAT_OK, Kind.HEALER_OK)


@dataclass(frozen=True, slots=True)
class HistoryExtract:
    """What the board remembers of each service: the spans of the last hour, and its uptime by window."""

    recent: Mapping[str, tuple[BarSpan, ...]] = field(default_factory=dict)
    uptime: Mapping[str, Mapping[str, Uptime]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SnapshotInput:
    """What one look at the buses found, at `at` (epoch seconds).

    `truth` and its `revision` are in force, `state` is what the buses that answered hold, `away` has the
    reasons of those that did not, `notifications` is what the notifier stores.
    """

    at: float
    truth: Truth
    revision: int | None
    state: FleetState
    away: Mapping[str, str]
    notifications: Notifications


def build_snapshot(
    reading: SnapshotInput,
    before: FleetSnapshot = _NO_SERVICE,
    history: HistoryExtract = HistoryExtract(),
) -> FleetSnapshot:
    """Return the snapshot of a reading; `before` is the snapshot of the reading before."""
    truth, state, away, notifications = reading.truth, reading.state, reading.away, reading.notifications
    last = {one.svc: one for one in before.services}
    services = _set_causes(
        [
            _build_service(row, reading, history, last.get(row.svc))
            for row in make_service_rows(truth, state, notifications.incidents)
        ]
    )
    unheard = state.unheard_buses()
    return FleetSnapshot(
        at=round(reading.at, 3),
        fleet=truth.fleet,
        revision=reading.revision,
        services=services,
        buses=tuple(_build_bus(name, away, unheard) for name in truth.bus_names()),
        healers=_build_healers(state, reading.at, before),
        incidents=fold_incidents(services),
        silences=tuple(
            escape_fields(
                SilenceView(**copy_fields(each, SilenceView)), "services", "tags", "author", "reason"
            )
            for each in notifications.silences
        ),
        pending=tuple(
            escape_fields(each, "channel", "title", "broken") for each in notifications.pending[:MAX_PENDING]
        ),
        dead=notifications.dead,
        notes=_build_notes(services, away, unheard, state.leader),
        channels=None
        if notifications.channels is None
        else {escape_text(one.name): escape_text(one.where) for one in notifications.channels},
        channel_statuses=tuple(map(_escape_channel, notifications.channels or ())),
    )


def apply_event(snapshot: FleetSnapshot, event: Event) -> FleetSnapshot:
    """Apply a miss or a recovery of a service at once; the next reading finds all else that changed."""
    before = snapshot.find(event.svc)
    if before is None or event.type not in (*_MISSES, *_RECOVERIES):
        return snapshot
    is_down = event.type in _MISSES
    if (before.state is ServiceState.DOWN) == is_down and (is_down or before.state is ServiceState.UP):
        return snapshot
    changes: dict[str, Any] = dict.fromkeys(_OF_OUTAGE) | {"state": ServiceState.UP, "detail": None}
    if is_down:
        since = parse_epoch(event.since) or before.last_beat_at
        down_since = parse_epoch(event.down_since)
        changes |= _describe_outage(event.reason, since, down_since, event.detail, event.exit_code)
        changes |= {"state": ServiceState.DOWN, "detail": _escape(event.detail) or before.detail}
    after = replace(before, **changes)
    services = _set_causes([after if one is before else one for one in snapshot.services])
    return replace(snapshot, services=services, incidents=fold_incidents(services))


def _build_service(
    row: ServiceRow, reading: SnapshotInput, history: HistoryExtract, before: ServiceSnapshot | None
) -> ServiceSnapshot:
    section, away = reading.truth.services.get(row.svc, _NO_SECTION), reading.away
    job = row.job or _NO_JOB
    view = ServiceSnapshot(
        svc=row.svc,
        state=row.verdict,
        bus=row.bus,
        timeout_sec=row.timeout_sec,
        last_beat_at=_date_beat(row.silence_sec, reading.at, before),
        instances=row.instances,
        replicas=row.replicas,
        boot=_escape(row.boot),
        rev=row.rev,
        restarts=row.restarts,
        status=_escape(row.status),
        detail=_escape(row.failure or row.detail),
        **_describe_row(row),
        acked_by=_escape(row.acked_by),
        held=_escape(row.held),
        held_until=row.held_until,
        hold=None if row.held is None else escape_text(describe_hold(row.held)),
        last_run=_build_run(row.last_run),
        schedule=_escape(job.schedule),
        time_zone=None if job.schedule is None else job.time_zone,
        next_due_at=job.next_due_at,
        running_since=job.running_since,
        early_sec=job.early_sec,
        hosts=tuple(map(escape_text, row.hosts)) or (() if before is None else before.hosts),
        paused=row.paused,
        recent=history.recent.get(row.svc, ()),
        uptime=history.uptime.get(row.svc, {}),
        tags=tuple(map(escape_text, section.tags)),
        description=escape_text(section.description),
        severity=section.severity,
        depends_on=section.depends_on,
    )
    if before is not None and (SYSTEM in away or row.bus in away):
        view = _keep_known(view, before, knows_verdict=SYSTEM not in away)
    return before if before == view else view  # the same value is the same object: comparing it costs nothing


def _describe_row(row: ServiceRow) -> dict[str, Any]:
    if row.verdict is not ServiceState.DOWN:
        return {}
    return _describe_outage(row.reason, row.since, row.down_since, row.failure, row.exit_code)


def _describe_outage(
    reason: str | None,
    since: float | None,
    down_since: float | None,
    detail: str | None,
    exit_code: int | None,
) -> dict[str, Any]:
    """Return the fields of a service that say since when it is down, and what was reported of a failure."""
    outage, outage_at = describe_outage(reason, since, down_since)
    failure = None
    if reason == Reason.FAILED:
        failure = _escape(describe_failure(detail, exit_code) or SOME_FAILURE)
    return {"since": since, "outage": outage, "outage_at": outage_at, "failure": failure}


def _keep_known(view: ServiceSnapshot, before: ServiceSnapshot, *, knows_verdict: bool) -> ServiceSnapshot:
    """Return a view with what was known before its bus, or system-redis, went away.

    The state is the healer's verdict if system-redis has it, and unknown otherwise.
    """
    is_down = knows_verdict and view.state is ServiceState.DOWN
    known: dict[str, Any] = {name: getattr(before, name) for name in _KEPT if getattr(view, name) is None}
    return replace(view, state=view.state if is_down else ServiceState.UNKNOWN, **known)


def _date_beat(silence_sec: float | None, now: float, before: ServiceSnapshot | None) -> float | None:
    """Return when the last beat arrived; the time in `before` if that is the same beat."""
    if silence_sec is None:
        return None
    at = now - silence_sec
    known = before.last_beat_at if before is not None else None
    return known if known is not None and abs(known - at) < SAME_BEAT_SEC else round(at, 3)


def _build_run(run: LastRun | None) -> LastRunView | None:
    if run is None or run.ok is None:
        return None
    return LastRunView(run.ok, escape_text(run.outcome)[:MAX_LINE_CHARS], run.ts, run.took_sec, run.code)


def _set_causes(services: list[ServiceSnapshot]) -> tuple[ServiceSnapshot, ...]:
    down = {one.svc for one in services if one.state is ServiceState.DOWN}
    depends_on = {one.svc: one.depends_on for one in services}

    def set_cause(service: ServiceSnapshot) -> ServiceSnapshot:
        is_down = service.svc in down and service.depends_on
        cause = find_cause(service.svc, depends_on, down) if is_down else None
        return service if cause == service.cause else replace(service, cause=cause)

    return tuple(map(set_cause, services))


def _build_bus(name: str, away: Mapping[str, str], unheard: Mapping[str, str]) -> BusSnapshot:
    if name in away:
        return BusSnapshot(name, "away", escape_text(away[name]))
    if name in unheard:
        return BusSnapshot(name, "unheard", escape_text(unheard[name]))
    return BusSnapshot(name, "up")


def _build_healers(state: FleetState, now: float, before: FleetSnapshot) -> tuple[HealerView, ...]:
    leader = state.leader
    counted = state.instances.get(HEALER)
    boots = () if counted is None else counted.boots
    standby = tuple(
        HealerView(escape_text(boot), is_leader=False)
        for boot in boots
        if leader is None or boot != leader.boot
    )
    if leader is None:
        return standby
    known = next((one.lapsed_at for one in before.healers if one.boot == leader.boot), None)
    lapsed_at = (known or round(now - leader.lapsed_sec, 3)) if leader.lapsed_sec else None
    return (
        HealerView(escape_text(leader.boot), is_leader=True, epoch=leader.epoch, lapsed_at=lapsed_at),
        *standby,
    )


def _escape_channel(one: ChannelStatus) -> ChannelStatus:
    record = replace(
        one.record,
        sent_title=escape_text(one.record.sent_title)[:MAX_TITLE],
        failed_title=escape_text(one.record.failed_title)[:MAX_TITLE],
        reason=escape_text(one.record.reason)[:MAX_REASON],
    )
    return escape_fields(replace(one, record=record), "name", "where", "broken")


def _build_notes(
    services: tuple[ServiceSnapshot, ...],
    away: Mapping[str, str],
    unheard: Mapping[str, str],
    leader: Leader | None,
) -> tuple[str, ...]:
    notes = [f"bus {bus} does not answer: {reason}" for bus, reason in away.items()]
    notes += [
        f"the healer does not hear bus {bus} ({reason}), so its services are unknown"
        for bus, reason in unheard.items()
        if bus not in away
    ]
    healer = next((one for one in services if one.svc == HEALER), None)
    if healer is not None and healer.state is not ServiceState.UP and SYSTEM not in away:
        notes.append(f"the healer is {healer.state}, so states may be old")
    if leader is not None and leader.lapsed_sec:
        notes.append(f"no healer leads: the lease of {leader.boot} ran out, and no alert is published")
    unwatchable = [one.svc for one in services if one.state is ServiceState.UNWATCHABLE]
    if unwatchable:
        more = " and others" if len(unwatchable) > MAX_NAMED else ""
        some = ", ".join(unwatchable[:MAX_NAMED])
        why = "their bus refuses it their channels (make seed renews the users), or they flood them"
        notes.append(f"the healer can't watch {some}{more}: {why}")
    return tuple(map(escape_text, notes))


def _escape(text: str | None) -> str | None:
    return None if text is None else escape_text(text)
