"""Answer the requests for the targets of massive's probes: a page of each, and the same for programs."""

import asyncio
from dataclasses import dataclass
from typing import ClassVar, Final

from fastapi import APIRouter, HTTPException
from starlette.responses import HTMLResponse, Response

from marketswarm.text import escape_text
from marketswarm.truth.document_edit import page_name
from marketswarm.web.responses import answer_fresh
from services.board.fleet.alerts import AlertQuery, AlertView, read_alerts
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.frame import Frame
from services.board.fleet.probe_records import (
    ProbeAnswer,
    ProbeSection,
    ProbeView,
    find_settings,
    list_probe_views,
    read_probe,
)

PROBE_EVENTS: Final = 20


@dataclass(frozen=True, slots=True)
class ProbePage:
    """One target: what is known of it, what the truth says of it, and its latest events."""

    template: ClassVar = "probe.html"
    frame: Frame
    probe: ProbeAnswer
    settings: ProbeSection
    events: tuple[AlertView, ...] = ()


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
        if find_settings(board.truth, target) is None:
            raise HTTPException(404, "no such target")
        return answer_fresh(await read_probe(board, target, board.snapshot.at))

    return api
