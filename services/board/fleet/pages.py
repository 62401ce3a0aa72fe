"""Answer the requests for pages: parse the query, read what the page needs, render it."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from marketswarm.event import Kind
from marketswarm.status.topology_view import TopologyView
from marketswarm.text import escape_text
from services.board.access.sessions import SessionGate
from services.board.board import Board
from services.board.fleet.alerts import AlertPage, AlertQuery, AlertsPage, find_alert, format_raw, read_alerts
from services.board.fleet.fleet_page import (
    GROUPS,
    MAX_ROWS,
    ROWS,
    SORTS,
    FleetQuery,
    select_services,
)
from services.board.fleet.notifications import NotificationsPage, read_dead_letters
from services.board.fleet.service_page import make_service_page
from services.board.fleet.snapshot import WINDOWS, ServiceState
from services.board.fleet.topology import TopologyPage
from services.board.rendering import Frame
from services.board.responses import answer_asset, answer_error, answer_page

TYPES: Final = tuple(Kind)
Text = Annotated[str, Query(max_length=300)]


@dataclass(frozen=True, slots=True)
class IncidentsPage:
    """What is down and since when, silences, pending and dead messages: all of it is in the snapshot."""

    template: ClassVar = "incidents.html"
    frame: Frame


def make_site(board: Board, gate: SessionGate) -> APIRouter:
    site = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    _add_steered(site, board, gate)
    _add_alerts(site, board)
    _add_others(site, board)
    return site


def _add_steered(site: APIRouter, board: Board, gate: SessionGate) -> None:
    make_frame = partial(board.make_session_frame, gate)

    @site.get("/services/{svc}")
    async def show_service(svc: str, request: Request) -> Response:
        frame = await make_frame(request, escape_text(svc), "/")
        service = frame.snapshot.find(svc)
        if service is None:
            return answer_error(404, "No such service", f"The truth has no service {escape_text(svc[:100])}.")
        origin = f"{request.url.scheme}://{request.url.netloc}"
        return answer_page(await make_service_page(board, frame, service, origin))

    @site.get("/incidents")
    async def show_incidents(request: Request) -> Response:
        return answer_page(IncidentsPage(await make_frame(request, "Incidents", "/incidents")))

    @site.get("/notifications")
    async def show_notifications(request: Request) -> Response:
        frame = await make_frame(request, "Notifications", "/notifications")
        found = await read_dead_letters(board.buses)
        return answer_page(NotificationsPage(frame, found.messages, found.away))


def _add_alerts(site: APIRouter, board: Board) -> None:
    @site.get("/alerts")
    async def show_alerts(svc: Text = "", type: Text = "", before: Text = "") -> Response:  # noqa: A002 - the query's name
        query = AlertQuery(svc, type if type in TYPES else "", before)
        found = await read_alerts(board.buses, query)
        older = None if found.older is None else query.url(before=found.older)
        frame = board.make_frame("Alerts", "/alerts")
        return answer_page(AlertsPage(frame, query, found.events, older, TYPES, found.away))

    @site.get("/alerts/{event_id}")
    async def show_alert(event_id: str) -> Response:
        found = await find_alert(board.buses, event_id)
        if found is None:
            return answer_error(404, "No such event", "It is not on the alert log, or not any more.")
        frame = board.make_frame(found.event.title, "/alerts")
        return answer_page(AlertPage(frame, found.event, format_raw(found.raw), found.buses))


def _add_others(site: APIRouter, board: Board) -> None:
    @site.get("/")
    async def show_fleet(request: Request) -> Response:
        frame = board.make_frame("Fleet", "/")
        return answer_page(select_services(frame.snapshot, parse_fleet_query(request), frame))

    @site.get("/topology")
    async def show_topology() -> Response:
        frame = board.make_frame("Topology", "/topology")
        return answer_page(make_topology_page(frame, await board.read_topology()))

    @site.get("/static/{digest}/{name}")
    async def send_asset(digest: str, name: str, request: Request) -> Response:
        takes_gzip = "gzip" in request.headers.get("accept-encoding", "")
        return answer_asset(digest, name, takes_gzip=takes_gzip)

    @site.get("/favicon.ico")
    async def send_icon() -> Response:
        return answer_asset("", "good.svg", takes_gzip=False)


def parse_fleet_query(request: Request) -> FleetQuery:
    """Return the query of a request; a value that is not allowed counts as not given."""
    given = {name: value[:300] for name, value in request.query_params.items()}
    states = tuple(
        ServiceState(word) for word in given.get("states", "").split(",") if word in tuple(ServiceState)
    )
    return FleetQuery(
        text=given.get("text", ""),
        states=states,
        tag=given.get("tag", ""),
        bus=given.get("bus", ""),
        sort=next((each for each in SORTS if each == given.get("sort")), "state"),
        group=next((each for each in GROUPS if each == given.get("group")), ""),
        window=next((each for each in WINDOWS if each == given.get("window")), "24h"),
        start=_parse_count(given.get("start", ""), 0, 1_000_000),
        rows=max(1, _parse_count(given.get("rows", ""), ROWS, MAX_ROWS)),
        wall=given.get("wall") == "1",
    )


def _parse_count(text: str, default: int, most: int) -> int:
    """Return a number of a query, at most `most`; `default` for any other text."""
    return min(int(text), most) if text.isascii() and text.isdigit() and len(text) <= 9 else default


def make_topology_page(frame: Frame, topology: TopologyView) -> TopologyPage:
    faults: dict[tuple[str, str], tuple[str, ...]] = {}
    for one in topology.wrong:
        place = one.bus, escape_text(one.key)
        faults[place] = (*faults.get(place, ()), escape_text(one.text))
    flows = tuple(replace(flow, key=escape_text(flow.key)) for flow in topology.flows)
    return TopologyPage(frame, flows, faults, tuple(map(escape_text, topology.notes)))
