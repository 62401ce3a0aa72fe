"""Put together the page of one service: what the board knows, and what it reads for this page alone."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import ClassVar, Final
from urllib.parse import quote

from marketswarm.bus import BusError
from marketswarm.status.topology_view import InstanceView
from marketswarm.truth.document_edit import MASSIVE
from services.board.fleet.alerts import AlertQuery, AlertView, read_alerts
from services.board.fleet.beats import BeatTimes
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.frame import Frame
from services.board.fleet.history import Past, outline_past
from services.board.fleet.job_runs import JobView, RunView, make_job_view, read_run_views
from services.board.fleet.probe_pages import ProbeView, list_probe_views
from services.board.fleet.snapshot import ServiceSnapshot
from services.board.fleet.visibility import is_public
from services.board.truth_documents import read_document

SERVICE_EVENTS: Final = 30


@dataclass(frozen=True, slots=True)
class BadgeLink:
    """A badge: its path, and it as Markdown; `is_open` means that everyone may ask for it."""

    path: str
    markdown: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class ServicePage:
    """One service: its view, its latest events, and its section of the truth as indented JSON.

    `dependants` are services that need this one. `instances` are None if mesh does not know who runs; `beats`
    are None if its interval is not known, or if it is a job (`is_job`, by the truth) or has `runs`. `probes`
    are the targets of massive, on its own page.
    """

    template: ClassVar = "service.html"
    frame: Frame
    service: ServiceSnapshot
    events: tuple[AlertView, ...] = ()
    section: str = ""
    dependants: tuple[str, ...] = ()
    past: Past = field(default_factory=Past)
    instances: tuple[InstanceView, ...] | None = None
    is_job: bool = False
    runs: JobView = field(default_factory=JobView)
    beats: BeatTimes | None = None
    badge: BadgeLink | None = None
    probes: tuple[ProbeView, ...] = ()


async def make_service_page(
    board: FleetBoard, frame: Frame, service: ServiceSnapshot, origin: str
) -> ServicePage:
    """Return the page of a service; `origin` is the board's address as the browser has it."""
    svc = service.svc
    badge = f"/badge/{quote(svc, safe='')}.svg"
    document, found, runs, topology = await asyncio.gather(
        read_document(board.buses, board.me.settings.truth_redis_key),
        read_alerts(board.buses, AlertQuery(svc=svc), SERVICE_EVENTS),
        _read_runs(board, service),
        board.read_topology(),
    )
    rule = board.truth.job_of(svc)
    instances = next((one.instances for one in topology.services if one.svc == svc), None)
    return ServicePage(
        frame,
        service,
        found.events,
        document.section(svc),
        tuple(one.svc for one in frame.snapshot.services if svc in one.depends_on),
        outline_past(board.history_now(), svc, frame.snapshot.at),
        None if instances is None else tuple(instances),
        rule is not None,
        make_job_view(runs, None if rule is None else rule.schedule, frame.snapshot.at),
        None if runs or rule is not None else outline_beats(board, service),
        BadgeLink(badge, f"![{svc}]({origin}{badge})", is_public(service, board.public)),
        await list_probe_views(board) if svc == MASSIVE else (),
    )


async def _read_runs(board: FleetBoard, service: ServiceSnapshot) -> tuple[RunView, ...]:
    with contextlib.suppress(BusError):
        return await read_run_views(board.me.bus(service.bus), service.svc, service.last_run)
    return ()


def outline_beats(board: FleetBoard, service: ServiceSnapshot) -> BeatTimes | None:
    section = board.truth.services.get(service.svc)
    if section is None:
        return None
    look_sec = board.reader.interval_sec()
    return board.reader.beats.outline(service, section.heartbeat.interval_sec, look_sec)
