"""Show the outages that the medic has on record: `/api/v1/monitor` for programs, two pages for people."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from marketswarm.operator.healing import DiagnosisRecord
from marketswarm.operator.healing_stats import (
    ApprovalStats,
    RemedyStats,
    ResolutionStats,
    measure_approvals,
    measure_remedies,
    measure_resolutions,
)
from marketswarm.text import escape_text
from marketswarm.truth import MEDIC
from marketswarm.web.cache import Cached
from marketswarm.web.limits import require_found
from marketswarm.web.responses import answer_fresh
from services.board.fleet.alerts import AlertsAnswer
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.frame import Frame
from services.board.fleet.incident_record import (
    FRESH_SEC,
    AlertCount,
    DiagnosisView,
    HeldRules,
    IncidentSummary,
    ProposalView,
    RecordedIncidents,
    StepView,
    count_alerts,
    make_diagnoses,
    make_steps,
    read_newest_alerts,
    summarize_incident,
)
from services.board.fleet.open_incidents import IncidentCard, make_cards, write_summary

SHOWN: Final = 50
MAX_SHOWN: Final = 1000
MAX_HOURS: Final = 24 * 31
COUNTED_SEC: Final = 10.0  # so long the alerts are not read again, because there may be many of them
Text = Annotated[str, Query(max_length=300)]
ReadArchived = Callable[[str], Awaitable[Sequence[DiagnosisRecord]]]
Limit = Annotated[int, Query(ge=1, le=MAX_SHOWN)]


@dataclass(frozen=True, slots=True)
class HealingStatus:
    """What the medic may do, and what it works on. `mode` is None without a medic in the truth.

    `state` is what the healer says of the medic, `detail` what the medic says of itself. `away` is why the
    record could not be read; the rest is then as it was read last.
    """

    mode: str | None
    paused: bool
    modes: Mapping[str, str]
    state: str | None
    detail: str | None
    open: tuple[IncidentSummary, ...]
    proposals: tuple[ProposalView, ...]
    away: str | None = None


@dataclass(frozen=True, slots=True)
class IncidentsAnswer:
    """Outages on record, the one that changed last first; `unusable` counts entries that can't be read."""

    incidents: tuple[IncidentSummary, ...]
    unusable: int = 0
    away: str | None = None


@dataclass(frozen=True, slots=True)
class IncidentDetails:
    """One outage, and its timeline, the oldest step first; with its diagnoses, the newest first."""

    incident: IncidentSummary
    timeline: tuple[StepView, ...]
    diagnoses: tuple[DiagnosisView, ...] = ()


@dataclass(frozen=True, slots=True)
class AlertStats:
    """Alerts since a time by their type, and the outcome of the outages that are on record.

    `is_complete` is False where too many alerts came to count them all. `away` has the reason for each bus
    that did not answer.
    """

    since: float
    alerts: tuple[AlertCount, ...]
    is_complete: bool
    incidents: ResolutionStats
    remedies: tuple[RemedyStats, ...]
    away: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class IncidentsPage:
    """All that is not as it should be now, a card each; the silences are in the snapshot.

    `away` are reasons why the medic's record or its rules could not be read.
    """

    template: ClassVar = "incidents.html"
    frame: Frame
    cards: tuple[IncidentCard, ...] = ()
    away: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        return write_summary(self.cards, self.frame.snapshot)


@dataclass(frozen=True, slots=True)
class RecordPage:
    """The newest outages on record that have ended, and what each remedy achieved.

    `approvals` is the outcome of those that people approved, the service with the most of them first.
    """

    template: ClassVar = "record.html"
    frame: Frame
    svc: str
    status: HealingStatus
    incidents: tuple[IncidentSummary, ...]
    found: int
    resolutions: ResolutionStats
    remedies: tuple[RemedyStats, ...]
    approvals: tuple[ApprovalStats, ...]


@dataclass(frozen=True, slots=True)
class RecordedIncidentPage:
    """One outage with its timeline and its diagnoses."""

    template: ClassVar = "recorded_incident.html"
    frame: Frame
    found: IncidentDetails


async def read_details(board: FleetBoard, ident: str, read_archived: ReadArchived) -> IncidentDetails | None:
    """Return an outage that is on record; None if it is not, or not any more.

    A diagnosis that the bus has no more is read from the archive, where there is one.
    """
    found = (await board.record.read()).find(ident)
    if found is None:
        return None
    records = [*await board.record.read_diagnoses(found), *await read_archived(found.id)]
    diagnoses = make_diagnoses(found.id, records)
    return IncidentDetails(summarize_incident(found), make_steps(found), diagnoses)


def make_status(board: FleetBoard, found: RecordedIncidents) -> HealingStatus:
    medic = board.snapshot.find(MEDIC)
    section = board.truth.services.get(MEDIC)
    settings: Mapping[str, Any] = {} if section is None else section.settings
    return HealingStatus(
        mode=None if medic is None else escape_text(str(settings.get("mode", "observe"))),
        paused=settings.get("paused") is True,
        modes=find_modes(settings),
        state=None if medic is None else str(medic.state),
        detail=None if medic is None else medic.detail,
        open=tuple(summarize_incident(each) for each in found.incidents if each.end is None),
        proposals=found.list_proposals(),
        away=found.away,
    )


def find_modes(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the mode of each service that has one of its own; what is of a wrong type is left out."""
    targets = settings.get("targets")
    pairs = targets.items() if isinstance(targets, dict) else ()
    modes = ((svc, one.get("mode")) for svc, one in pairs if isinstance(one, dict))
    return {escape_text(svc): escape_text(mode) for svc, mode in modes if isinstance(mode, str)}


def select_incidents(found: RecordedIncidents, svc: str, status: str) -> tuple[IncidentSummary, ...]:
    """Return the outages of a service that have a status; an empty text stands for all."""
    some = (each for each in found.incidents if svc in ("", each.svc) and status in ("", each.resolution))
    return tuple(map(summarize_incident, some))


def list_approvals(found: RecordedIncidents) -> tuple[ApprovalStats, ...]:
    """Return the outcome of remedies that people approved most often, SHOWN at most."""
    by_number = sorted(measure_approvals(found.incidents), key=lambda each: -each.helped - each.failed)
    return tuple(by_number[:SHOWN])


def make_record_api(board: FleetBoard, read_archived: ReadArchived) -> APIRouter:
    """Return the routes for programs; `read_archived` returns the diagnoses of an incident in the archive."""
    api = APIRouter(prefix="/api/v1")
    looks = Cached[str, AlertsAnswer](COUNTED_SEC)

    @api.get("/monitor/status", response_model=HealingStatus)
    async def read_status() -> Response:
        """Return what the medic may do, the outages that it works on, and what it proposes."""
        return answer_fresh(make_status(board, await board.record.read()))

    @api.get("/monitor/incidents", response_model=IncidentsAnswer)
    async def read_incidents(svc: Text = "", status: Text = "", limit: Limit = SHOWN) -> Response:
        """Return outages on record: of a service, and with a `resolution_status`, if these are given."""
        found = await board.record.read()
        some = select_incidents(found, svc, status)[:limit]
        return answer_fresh(IncidentsAnswer(some, found.unusable, found.away))

    @api.get("/monitor/incidents/{ident}", response_model=IncidentDetails)
    async def read_incident(ident: str) -> Response:
        """Return one outage with its timeline and diagnoses."""
        return answer_fresh(require_found(await read_details(board, ident, read_archived), "incident"))

    @api.get("/alerts/stats", response_model=AlertStats)
    async def read_stats(hours: Annotated[int, Query(ge=1, le=MAX_HOURS)] = 24) -> Response:
        """Return how many alerts of each type came in the last hours, and the outcome of outages since."""
        since = time.time() - 3600 * hours
        newest = await looks.find("", lambda: read_newest_alerts(board.buses))
        found = await board.record.read()
        counts, is_complete = count_alerts(newest, since)
        recent = [each for each in found.incidents if each.opened_at >= since]
        away = {**newest.away, **({MEDIC: found.away} if found.away else {})}
        outcome = measure_resolutions(recent), measure_remedies(recent)
        return answer_fresh(AlertStats(since, counts, is_complete, *outcome, away))

    return api


def make_record_site(board: FleetBoard, read_archived: ReadArchived) -> APIRouter:
    """Return the pages of incidents: those of now, those that are over, and one with its steps.

    `read_archived` is as for `make_record_api`.
    """
    site = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    looks = Cached[str, HeldRules](FRESH_SEC)

    @site.get("/incidents")
    async def show_incidents(request: Request) -> Response:
        frame = await board.make_session_frame(request, "Incidents", "/incidents")
        if frame.snapshot.find(MEDIC) is None:  # a medic that was taken out leaves its record
            found = RecordedIncidents()
        else:
            found = await board.record.read()
        held = await looks.find("", board.read_held_rules)
        cards = make_cards(frame.snapshot, found, held, board.reader.notified)
        return board.templates.answer(
            IncidentsPage(frame, cards, tuple(filter(None, (found.away, held.away))))
        )

    @site.get("/incidents/past")
    async def show_record(request: Request, svc: Text = "") -> Response:
        frame = await board.make_session_frame(request, "Past incidents", "/incidents")
        found = await board.record.read()
        some = tuple(each for each in select_incidents(found, svc, "") if each.resolved_at is not None)
        page = RecordPage(
            frame,
            svc,
            make_status(board, found),
            some[:SHOWN],
            len(some),
            measure_resolutions(found.incidents),
            measure_remedies(found.incidents),
            list_approvals(found),
        )
        return board.templates.answer(page)

    @site.get("/incidents/past/{ident}")
    async def show_incident(ident: str) -> Response:
        found = await read_details(board, ident, read_archived)
        if found is None:
            return board.templates.answer_error(
                404, "No such incident", "It is not on record, or not any more."
            )
        frame = board.make_frame(f"{found.incident.container_name}: outage on record", "/incidents")
        return board.templates.answer(RecordedIncidentPage(frame, found))

    return site
