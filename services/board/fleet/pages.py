"""Answer the requests for pages: parse the query, read what the page needs, render it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Final, Literal, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from marketswarm.event import Kind
from marketswarm.status.service_rows import URGENCY, ServiceState
from marketswarm.text import escape_text, parse_digits
from marketswarm.web.responses import Templates
from services.board.fleet.alerts import AlertPage, AlertQuery, AlertsPage, find_alert, format_raw, read_alerts
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.frame import Frame
from services.board.fleet.notifications import NotificationsPage, read_dead_letters
from services.board.fleet.page_store import PageStore
from services.board.fleet.service_page import make_service_page
from services.board.fleet.snapshot import WINDOWS, FleetSnapshot, ServiceSnapshot, SnapshotDelta, Window
from services.board.fleet.topology import TopologyPage

TYPES: Final = tuple(Kind)
Text = Annotated[str, Query(max_length=300)]
Sort = Literal["state", "name", "silence", "uptime", "restarts"]
Group = Literal["", "tag", "bus", "state", "host"]
GROUPS: Final[tuple[Group, ...]] = get_args(Group)
NO_NAMES: Final = {"tag": "without a tag", "host": "no known host"}
"""By the kind of groups, the heading of services that are in none."""
ROWS: Final = 100  # the rows of a page of the fleet unless the request asks for another number
MAX_ROWS: Final = 1000
ALL_ROWS: Final = 300  # a script shows up to so many rows at once, and asks for parts of more of them
NEAR_ROWS: Final = 15  # how many rows above the one that a script names are in its part
TURNING: Final = frozenset({"state", "paused"})
"""The fields by which a service has another mark."""
MAX_TURNED: Final = 20  # the most rows that a page gets without being fetched
WALL_ROWS: Final = 60  # a wall with more services shows only those that are not up


@dataclass(frozen=True, slots=True)
class FleetQuery:
    """What a request wants to see of the fleet: all services that match every part that is not empty.

    `text` is a part of the name, the description or a tag; `group` makes groups of rows; `start` is the
    number of rows to leave out. `near` is the number of a row in sight, which a script names in place of
    `start`: it gets all rows of a small fleet, and those around this one of a large fleet. `wall` is the mode
    for a screen on a wall.
    """

    text: str = ""
    states: tuple[ServiceState, ...] = ()
    tag: str = ""
    bus: str = ""
    sort: Sort = "state"
    group: Group = ""
    window: Window = "24h"
    start: int = 0
    rows: int = ROWS
    near: int | None = None
    wall: bool = False

    def url(self, **changes: Any) -> str:
        """Return the path of the page with this query, in which `changes` replace values.

        The part that a script asks for is not in it.
        """
        if self.near is not None:
            changes = {"near": None, "rows": ROWS, **changes}
        values = {each.name: changes.get(each.name, getattr(self, each.name)) for each in fields(self)}
        wanted = {name: value for name, value in values.items() if value != getattr(_NO_QUERY, name)}
        if "states" in wanted:
            wanted["states"] = ",".join(wanted["states"])
        if "wall" in wanted:
            wanted["wall"] = "1"
        return "/?" + urlencode(wanted) if wanted else "/"


_NO_QUERY: Final = FleetQuery()
FLEET_PARAMETERS: Final = (*(each.name for each in fields(FleetQuery)), "by")
"""What `parse_fleet_query` reads."""


Row = ServiceSnapshot | str
"""A service, or the heading of the group of the services after it."""


@dataclass(frozen=True, slots=True)
class FleetPage:
    """The rows that are shown of those that a query found; `tags` are those of all services.

    `found` counts the services that match, `total` all rows for them. `first` is the number of the first row
    that is shown, and `first_service` of the first service, both from 0. `others` services match, are up, and
    are left out, because the wall has no room for them.
    """

    template: ClassVar = "fleet.html"
    frame: Frame
    query: FleetQuery
    rows: tuple[Row, ...]
    found: int
    total: int
    first: int = 0
    first_service: int = 0
    others: int = 0
    tags: tuple[str, ...] = ()

    @property
    def previous(self) -> str | None:
        start = max(0, self.query.start - self.query.rows)
        return self.query.url(start=start) if self.query.start else None

    @property
    def following(self) -> str | None:
        start = self.query.start + self.query.rows
        return self.query.url(start=start) if start < self.total else None

    @property
    def last_service(self) -> int:
        return self.first_service + sum(not isinstance(row, str) for row in self.rows)

    @property
    def is_part(self) -> bool:
        """True if a script shows a part of the rows, all of one height."""
        return self.query.near is not None and not self.query.wall and self.total > ALL_ROWS


@dataclass(frozen=True, slots=True)
class TurnedRows:
    """The rows of some services at `at`, in epoch seconds."""

    template: ClassVar = "turned.html"
    at: float
    services: Sequence[ServiceSnapshot]


def select_services(snapshot: FleetSnapshot, query: FleetQuery, frame: Frame) -> FleetPage:
    """Return the page of what a query found: sorted, in groups, and of that the rows that are shown."""
    found = sort_services(find_services(snapshot.services, query), query)
    is_full = query.wall and len(found) > WALL_ROWS
    shown = [one for one in found if one.state is not ServiceState.UP] if is_full else found
    rows = group_services(shown, query.group)
    start, end = find_part(query, len(rows))
    part, first = rows[start:end], start
    if start and query.group and part and not isinstance(part[0], str):
        part, first = [next(row for row in reversed(rows[:start]) if isinstance(row, str)), *part], start - 1
    tags = sorted({tag for one in snapshot.services for tag in one.tags})
    return FleetPage(
        frame,
        query,
        tuple(part),
        len(found),
        len(rows),
        first,
        sum(not isinstance(row, str) for row in rows[:start]),
        len(found) - len(shown),
        tuple(tags),
    )


def write_turned(templates: Templates, snapshot: FleetSnapshot, delta: SnapshotDelta) -> str:
    """Return the rows of the services that have another state now, as HTML, for pages that show them already.

    They come with the stream, so a page shows a state before it is fetched anew. New services, and more than
    MAX_TURNED that turned, come with the page alone.
    """
    turned = {
        svc
        for svc, changed in delta.services.items()
        if "svc" not in changed and not TURNING.isdisjoint(changed)
    }
    if not turned or len(turned) > MAX_TURNED:
        return ""
    return templates.render(TurnedRows(snapshot.at, [one for one in snapshot.services if one.svc in turned]))


def find_part(query: FleetQuery, total: int) -> tuple[int, int]:
    """Return the number of the first row to show, from 0, and that of the row after the last one."""
    if query.near is None:
        return query.start, query.start + query.rows
    if query.wall or total <= ALL_ROWS:
        return 0, ALL_ROWS
    start = max(0, min(query.near - NEAR_ROWS, total - query.rows))
    return start, start + query.rows


def find_services(services: Sequence[ServiceSnapshot], query: FleetQuery) -> Sequence[ServiceSnapshot]:
    """Return those that match each part that is given; without any, which is usual, none is looked at."""
    if query.states:
        services = [one for one in services if one.state in query.states]
    if query.tag:
        services = [one for one in services if query.tag in one.tags]
    if query.bus:
        services = [one for one in services if query.bus == one.bus]
    if text := query.text.casefold():
        services = [
            one for one in services if text in "\n".join((one.svc, one.description, *one.tags)).casefold()
        ]
    return services


def sort_services(services: Sequence[ServiceSnapshot], query: FleetQuery) -> list[ServiceSnapshot]:
    find_key = _SORT_KEYS[query.sort]
    return sorted(services, key=lambda one: find_key(one, query.window))


def _find_uptime(service: ServiceSnapshot, window: Window) -> float:
    """Return the share of a window in which a service was up; an unknown one comes last."""
    uptime = service.uptime.get(window)
    return 2.0 if uptime is None or uptime.share is None else uptime.share


_SORT_KEYS: Final[Mapping[Sort, Callable[[ServiceSnapshot, Window], Any]]] = {
    "state": lambda one, _window: URGENCY[one.state],
    "name": lambda one, _window: one.svc,
    "silence": lambda one, _window: one.last_beat_at or 0.0,
    "uptime": _find_uptime,
    "restarts": lambda one, _window: -(one.restarts or 0),
}
"""By the order that a request asks for, what services are sorted by."""


def group_services(services: Sequence[ServiceSnapshot], group: Group) -> list[Row]:
    """Return the services in groups, each below its heading and at the place of its first service.

    By tag, a service is in the group of its first tag; by host, one on several is with those on the same.
    """
    if not group:
        return list(services)
    found: dict[str, list[Row]] = {}
    for one in services:
        names = {
            "tag": one.tags[0] if one.tags else "",
            "bus": one.bus,
            "state": str(one.state),
            "host": ", ".join(one.hosts),
        }
        name = names[group] or NO_NAMES[group]
        found.setdefault(name, [name]).append(one)
    return [row for some in found.values() for row in some]


def make_site(board: FleetBoard, pages: PageStore) -> APIRouter:
    """Return the routes of the pages about the fleet, which only read."""
    site = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    pages.versions["/"] = lambda: board.hub.position
    _add_steered(site, board)
    _add_alerts(site, board)

    @site.get("/")
    async def show_fleet(request: Request) -> Response:
        frame, query = board.make_frame("Fleet", "/"), parse_fleet_query(request.query_params)

        async def make_page() -> FleetPage:
            return select_services(frame.snapshot, query, frame)

        return await pages.answer(request, frame, frame.position, make_page)

    @site.get("/topology")
    async def show_topology() -> Response:
        frame = board.make_frame("Topology", "/topology")
        return board.templates.answer(TopologyPage(frame, await board.read_topology()))

    @site.get("/static/{digest}/{name}")
    async def send_asset(digest: str, name: str, request: Request) -> Response:
        takes_gzip = "gzip" in request.headers.get("accept-encoding", "")
        return board.templates.answer_asset(digest, name, takes_gzip=takes_gzip)

    @site.get("/favicon.ico")
    async def send_icon() -> Response:
        return board.templates.answer_asset("", "good.svg", takes_gzip=False)

    return site


def _add_steered(site: APIRouter, board: FleetBoard) -> None:
    """Add the pages with forms, which show who is signed in."""

    @site.get("/services/{svc}")
    async def show_service(svc: str, request: Request) -> Response:
        frame = await board.make_session_frame(request, escape_text(svc), "/")
        service = frame.snapshot.find(svc)
        if service is None:
            return board.templates.answer_error(
                404, "No such service", f"The truth has no service {escape_text(svc[:100])}."
            )
        origin = f"{request.url.scheme}://{request.url.netloc}"
        return board.templates.answer(await make_service_page(board, frame, service, origin))

    @site.get("/notifications")
    async def show_notifications(request: Request) -> Response:
        frame = await board.make_session_frame(request, "Notifications", "/notifications")
        return board.templates.answer(NotificationsPage(frame, *await read_dead_letters(board.buses)))


def _add_alerts(site: APIRouter, board: FleetBoard) -> None:
    @site.get("/alerts")
    async def show_alerts(svc: Text = "", type: Text = "", before: Text = "") -> Response:  # noqa: A002 - the query's name
        query = AlertQuery(svc, type if type in TYPES else "", before)
        found = await read_alerts(board.buses, query)
        frame = board.make_frame("Alerts", "/alerts")
        return board.templates.answer(AlertsPage(frame, query, found, TYPES))

    @site.get("/alerts/{event_id}")
    async def show_alert(event_id: str) -> Response:
        found = await find_alert(board.buses, event_id)
        if found is None:
            return board.templates.answer_error(
                404, "No such event", "It is not on the alert log, or not any more."
            )
        answer, raw = found
        frame = board.make_frame(answer.event.title, "/alerts")
        return board.templates.answer(AlertPage(frame, answer, format_raw(raw)))


def parse_fleet_query(params: Mapping[str, str]) -> FleetQuery:
    """Return the query with these parameters; a value that is not allowed counts as not given.

    `by`, as in `marketswarm status --by host`, is another name for `group`.
    """
    given = {name: value[:300] for name, value in params.items()}
    states = tuple(
        ServiceState(word) for word in given.get("states", "").split(",") if word in tuple(ServiceState)
    )
    rows, near = parse_digits(given.get("rows"), 9), parse_digits(given.get("near"), 6)
    return FleetQuery(
        text=given.get("text", ""),
        states=states,
        tag=given.get("tag", ""),
        bus=given.get("bus", ""),
        sort=next((each for each in _SORT_KEYS if each == given.get("sort")), "state"),
        group=next((each for each in GROUPS if each == given.get("group", given.get("by"))), ""),
        window=next((each for each in WINDOWS if each == given.get("window")), "24h"),
        start=min(parse_digits(given.get("start"), 9) or 0, 1_000_000),
        rows=max(1, min(ROWS if rows is None else rows, MAX_ROWS)),
        near=near,
        wall=given.get("wall") == "1",
    )
