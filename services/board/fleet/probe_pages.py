"""Answer the requests for the targets of massive's probes: a page of each, and the same for programs.

All texts of others are escaped here. A bus that is away leaves what it has unknown, and is named.
"""

import asyncio
import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from marketswarm.agent.outage_state import UNKNOWN_STATE, OutageState, parse_state
from marketswarm.bus import BusError
from marketswarm.bus.stored_values import parse_number, read_fields
from marketswarm.keys import ALERTS, MASSIVE_ROSTER
from marketswarm.status.probe_past import (
    FailureRun,
    ProbeBin,
    ProbeReading,
    ProbeRecord,
    ProbeUptime,
    find_probes_point,
    list_target_names,
    read_readings,
    read_record,
)
from marketswarm.text import escape_text
from marketswarm.truth import Truth
from marketswarm.truth.document_edit import MASSIVE, page_name
from marketswarm.web.limits import require_found
from marketswarm.web.responses import answer_fresh
from services.board.fleet.alerts import AlertQuery, AlertView, read_alerts
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.frame import Frame
from services.board.fleet.words import Phrase, escape_fields
from services.board.truth_documents import format_json

PROBE_EVENTS: Final = 20
_EVERY_SEC: Final = 15.0
"""How often a target is probed if neither it nor the settings of massive say so."""


@dataclass(frozen=True, slots=True)
class ProbeView:
    """A target in a list: `state` is the class of its mark, `word` is beside it.

    `latest` is None if the last result is too old, or was never there.
    """

    svc: str
    state: str
    word: str
    latest: ProbeReading | None = None


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """All that is known of a target: its state, since when, and why it is down.

    `uptime` is by window (`1h`, `24h`, `30d`) the share of probes that succeeded. `hour`, `day` and `month`
    are the last 60 minutes by the minute, 24 hours by five minutes and 30 days by the hour, the oldest first;
    what was not probed is missing. `away` names a bus that did not answer.
    """

    svc: str
    state: str
    word: str
    since: float | None = None
    error: str | None = None
    latest: ProbeReading | None = None
    uptime: dict[str, ProbeUptime] = field(default_factory=dict)
    hour: tuple[ProbeBin, ...] = ()
    day: tuple[ProbeBin, ...] = ()
    month: tuple[ProbeBin, ...] = ()
    failures: tuple[FailureRun, ...] = ()
    away: str | None = None

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """What stands beside the state: why, and since when."""
        latest = self.latest
        if self.state in ("down", "failed"):
            why = self.error or (latest.error if latest else None)
            return (Phrase(f"{why} since" if why else "since", self.since),) if self.since else ()
        if latest is None:
            return (Phrase("no probe of it was stored lately: does massive run?"),)
        return (Phrase("its certificate ends soon"),) if latest.warning == "ends_soon" else ()


@dataclass(frozen=True, slots=True)
class ProbeSection:
    """What the truth says of a target: how often it is probed, and its own object as indented JSON."""

    every_sec: float
    document: str


@dataclass(frozen=True, slots=True)
class ProbePage:
    """One target: what is known of it, what the truth says of it, and its latest events."""

    template: ClassVar = "probe.html"
    frame: Frame
    probe: ProbeAnswer
    settings: ProbeSection
    events: tuple[AlertView, ...] = ()


def find_settings(truth: Truth, name: str) -> ProbeSection | None:
    """Return what the truth says of a target of massive; None if it has no such target."""
    section = truth.services.get(MASSIVE)
    targets = section.settings.get("targets") if section is not None else None
    for each in targets if isinstance(targets, list) else ():
        if section is not None and isinstance(each, dict) and each.get("name") == name:
            given = (each.get("every_sec"), section.settings.get("probe_sec"))
            known = filter(None, (parse_number(one, 0.0, math.inf) for one in given))
            every_sec = next(known, _EVERY_SEC)
            return ProbeSection(every_sec, format_json(each))
    return None


async def read_probe(board: FleetBoard, name: str, now: float) -> ProbeAnswer:
    """Return what is known of a target of massive at `now` (epoch seconds)."""
    point = find_probes_point(board.truth)
    record, stored, away = ProbeRecord(name), UNKNOWN_STATE, None
    try:
        if point is not None:
            record = await read_record(board.me.bus(point.bus), point.key, name, now)
        bus = board.me.bus(board.truth.alert_target(ALERTS)[0])
        (roster,) = await read_fields(bus, [MASSIVE_ROSTER], [name])
        stored = parse_state(roster.get(name.encode()))
    except BusError as error:
        away = escape_text(f"bus {error.bus} does not answer: {error.reason}")
    return make_probe_answer(record, stored, away)


def make_probe_answer(record: ProbeRecord, stored: OutageState, away: str | None = None) -> ProbeAnswer:
    """Return a record and the stored verdict of massive as the board shows them. Pure."""
    latest = None if record.latest is None else _escape_reading(record.latest)
    failures = tuple(escape_fields(each, "stage", "error") for each in record.failures)
    state, word = _find_state(latest, stored)
    since = stored.since if state == "down" else None
    if since is None and state in ("down", "failed") and failures and failures[0].is_open:
        since = failures[0].since
    return ProbeAnswer(
        escape_text(page_name(record.target)),
        state,
        word,
        since,
        escape_text(stored.error) if stored.error and state == "down" else None,
        latest,
        record.uptime,
        record.past.hour,
        record.past.day,
        record.past.month,
        failures,
        away,
    )


def _find_state(latest: ProbeReading | None, stored: OutageState) -> tuple[str, str]:
    """Return the class and the word of a target's mark: massive's verdict, and else its last probe."""
    if stored.verdict == "down":
        return "down", "down"
    if latest is None:
        return "unknown", "unknown"
    return ("up", "up") if latest.ok else ("failed", "failing")


async def list_probe_views(board: FleetBoard) -> tuple[ProbeView, ...]:
    """Return all targets of the truth, in its order, each with its last result, or none if a bus is away.

    Whether a target is down by several probes is on its own page.
    """
    names, point = list_target_names(board.truth), find_probes_point(board.truth)
    found: dict[str, ProbeReading] = {}
    with contextlib.suppress(BusError):
        if point is not None and names:
            found = await read_readings(board.me.bus(point.bus), names)
    return make_views(names, found)


def make_views(names: Sequence[str], found: dict[str, ProbeReading]) -> tuple[ProbeView, ...]:
    views = []
    for name in names:
        latest = found.get(name)
        state, word = _find_state(latest, UNKNOWN_STATE)
        shown = None if latest is None else _escape_reading(latest)
        views.append(ProbeView(escape_text(page_name(name)), state, word, shown))
    return tuple(views)


def _escape_reading(reading: ProbeReading) -> ProbeReading:
    return escape_fields(reading, "kind", "where", "stage", "error", "warning", "address", "tls", "issuer")


def make_probe_site(board: FleetBoard) -> APIRouter:
    site = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @site.get("/services/massive/{target:path}")
    async def show_probe(target: str) -> Response:
        svc = page_name(target)
        frame = board.make_frame(escape_text(svc), "/")
        settings = find_settings(board.truth, target)
        if settings is None:
            return board.templates.answer_error(
                404,
                "No such target",
                f"The truth has no target {escape_text(svc[:200])} of massive's probes.",
            )
        probe, found = await asyncio.gather(
            read_probe(board, target, frame.snapshot.at),
            read_alerts(board.buses, AlertQuery(svc=svc), PROBE_EVENTS),
        )
        return board.templates.answer(ProbePage(frame, probe, settings, found.events))

    return site


def make_probe_api(board: FleetBoard) -> APIRouter:
    api = APIRouter(prefix="/api/v1")

    @api.get("/probes", response_model=tuple[ProbeView, ...])
    async def read_probes() -> Response:
        """Return all targets of massive's probes, each with its last result."""
        return answer_fresh(await list_probe_views(board))

    @api.get("/probes/{target:path}", response_model=ProbeAnswer)
    async def read_one_probe(target: str) -> Response:
        """Return one target: its state, uptime, response times, last failures and certificate."""
        require_found(find_settings(board.truth, target), "target")
        return answer_fresh(await read_probe(board, target, board.snapshot.at))

    return api
