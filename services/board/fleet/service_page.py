"""Put together the page of one service: what the board knows, and what it reads for this page alone."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final
from urllib.parse import quote

from marketswarm.bus import Bus, BusError
from marketswarm.keys import pings_key
from marketswarm.pings import MAX_BODY_BYTES, PINGS_KEPT, JobRun, find_runs, parse_pings
from marketswarm.status.topology_view import InstanceView
from marketswarm.text import escape_lines, escape_text
from services.board.board import Board
from services.board.fleet.alerts import AlertQuery, AlertView, read_alerts
from services.board.fleet.beats import BeatTimes
from services.board.fleet.history import Past, outline_past
from services.board.fleet.snapshot import LastRunView, ServiceSnapshot
from services.board.public.visibility import is_public
from services.board.responses import Frame
from services.board.truth.documents import read_document

SHOWN: Final = 20  # how many runs a page shows, the latest first
MAX_CHARS: Final = 2000  # how much is shown of the last thing that a run said
_REPLY_BYTES: Final = 2 * PINGS_KEPT * (MAX_BODY_BYTES + 1000)
SERVICE_EVENTS: Final = 30


@dataclass(frozen=True, slots=True)
class BadgeLink:
    """A badge: its path, and it as Markdown; `is_open` means that everyone may ask for it."""

    path: str
    markdown: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class RunView:
    """A run of a job; times are epoch seconds, None if they are not known, `ok` is None until it ended.

    `text` is the last thing that it said, or its outcome in words.
    """

    started_at: float | None
    ended_at: float | None
    took_sec: float | None
    ok: bool | None
    exit_code: int | None
    rid: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class ServicePage:
    """One service: its view, its latest events, and its section of the truth as indented JSON.

    `dependants` are services that need this one. `instances` are None if mesh does not know who runs; `beats`
    are None if its interval is not known, or if it is a job, which has `runs`, the latest first.
    """

    template: ClassVar = "service.html"
    frame: Frame
    service: ServiceSnapshot
    events: tuple[AlertView, ...] = ()
    section: str = ""
    dependants: tuple[str, ...] = ()
    past: Past = field(default_factory=Past)
    instances: tuple[InstanceView, ...] | None = None
    runs: tuple[RunView, ...] = ()
    beats: BeatTimes | None = None
    badge: BadgeLink | None = None


async def make_service_page(board: Board, frame: Frame, service: ServiceSnapshot, origin: str) -> ServicePage:
    """Return the page of a service; `origin` is the board's address as the browser has it."""
    svc = service.svc
    badge = f"/badge/{quote(svc, safe='')}.svg"
    document, found, runs, topology = await asyncio.gather(
        read_document(board.buses, board.me.settings.truth_redis_key),
        read_alerts(board.buses, AlertQuery(svc=svc), SERVICE_EVENTS),
        _read_runs(board, service),
        board.read_topology(),
    )
    instances = next((one.instances for one in topology.services if one.svc == svc), None)
    return ServicePage(
        frame,
        service,
        found.events,
        document.section(svc),
        tuple(one.svc for one in frame.snapshot.services if svc in one.depends_on),
        outline_past(board.history_now(), svc, frame.snapshot.at),
        None if instances is None else tuple(instances),
        runs,
        None if runs else outline_beats(board, service),
        BadgeLink(badge, f"![{svc}]({origin}{badge})", is_public(service, board.public)),
    )


async def _read_runs(board: Board, service: ServiceSnapshot) -> tuple[RunView, ...]:
    try:
        bus = board.me.bus(service.bus)
    except BusError:
        return ()
    return await read_runs(bus, service.svc, service.last_run)


def outline_beats(board: Board, service: ServiceSnapshot) -> BeatTimes | None:
    section = board.truth.services.get(service.svc)
    if section is None:
        return None
    look_sec = board.reader.interval_sec()
    return board.reader.beats.outline(service, section.heartbeat.interval_sec, look_sec)


async def read_runs(bus: Bus, svc: str, last_run: LastRunView | None) -> tuple[RunView, ...]:
    """Return the runs of a service, the latest first; none if the bus does not answer.

    A command under `marketswarm exec` sends no pings, so of that only the last run is known.
    """
    try:
        key = pings_key(svc)
        entries: Any = await bus.ask(bus.client.xrevrange(key, count=PINGS_KEPT), max_bytes=_REPLY_BYTES)
    except BusError:
        entries = []
    runs = find_runs(parse_pings(entries))
    if runs:
        return tuple(view_run(run) for run in runs[: -SHOWN - 1 : -1])
    if last_run is None:
        return ()
    ended_at, took_sec = last_run.ended_at, last_run.took_sec
    started_at = None if ended_at is None or took_sec is None else ended_at - took_sec
    return (RunView(started_at, ended_at, took_sec, last_run.ok, last_run.exit_code, text=last_run.text),)


def view_run(run: JobRun) -> RunView:
    said = escape_lines(run.bodies[-1].strip()) if run.bodies else ""
    return RunView(
        run.started_at,
        run.ended_at,
        run.took_sec,
        run.ok,
        run.exit_code,
        escape_text(run.rid or ""),
        said if len(said) <= MAX_CHARS else f"…{said[1 - MAX_CHARS :]}",
    )
