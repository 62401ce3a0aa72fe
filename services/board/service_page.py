"""Put together the page of one service: what the board knows, and what it reads for this page alone."""

import asyncio
from typing import Final
from urllib.parse import quote

from marketswarm.bus import BusError
from marketswarm.status.topology_view import InstanceView
from services.board.alert_log import read_alerts
from services.board.beat_log import BeatTimes
from services.board.board import Board
from services.board.frame import Frame
from services.board.job_runs import RunView, read_runs
from services.board.pages import AlertQuery, BadgeLink, ServicePage
from services.board.past import outline_past
from services.board.public import is_public
from services.board.snapshot import ServiceSnapshot
from services.board.truth_reader import read_document

SERVICE_EVENTS: Final = 30


async def make_service_page(board: Board, frame: Frame, service: ServiceSnapshot, origin: str) -> ServicePage:
    """Return the page of a service; `origin` is the board's address as the browser has it."""
    svc = service.svc
    document, found, runs, instances = await asyncio.gather(
        read_document(board.buses, board.me.settings.truth_redis_key),
        read_alerts(board.buses, AlertQuery(svc=svc), SERVICE_EVENTS),
        _read_runs(board, service),
        _read_instances(board, svc),
    )
    return ServicePage(
        frame,
        service,
        found.events,
        document.section(svc),
        tuple(one.svc for one in frame.snapshot.services if svc in one.depends_on),
        outline_past(board.history_now(), svc, frame.snapshot.at),
        instances,
        runs,
        None if runs else outline_beats(board, service),
        make_badge_link(service, origin, is_open=is_public(service, board.public)),
    )


async def _read_runs(board: Board, service: ServiceSnapshot) -> tuple[RunView, ...]:
    """Return the runs of a service; none if its bus can't be asked."""
    try:
        bus = board.me.bus(service.bus)
    except BusError:
        return ()
    return await read_runs(bus, service.svc, service.last_run)


async def _read_instances(board: Board, svc: str) -> tuple[InstanceView, ...] | None:
    """Return who runs, as mesh knows it; None if mesh does not know."""
    topology = await board.read_topology()
    found = next((one.instances for one in topology.services if one.svc == svc), None)
    return None if found is None else tuple(found)


def outline_beats(board: Board, service: ServiceSnapshot) -> BeatTimes | None:
    """Return the last intervals between beats; None for a service without an interval in the truth."""
    section = board.truth.services.get(service.svc)
    if section is None:
        return None
    look_sec = board.reader.interval_sec()
    return board.reader.beats.outline(service, section.heartbeat.interval_sec, look_sec)


def make_badge_link(service: ServiceSnapshot, origin: str, *, is_open: bool) -> BadgeLink:
    """Return a service's badge as Markdown; `is_open` means that everyone may ask for it."""
    path = f"/badge/{quote(service.svc, safe='')}.svg"
    return BadgeLink(path, f"![{service.svc}]({origin}{path})", is_open)
