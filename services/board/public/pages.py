"""Answer the requests for the pages for the public, and for the page on which people write for them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from marketswarm.history.rollup import Seconds
from marketswarm.operator.announcements import Announcement, select_open, select_past
from marketswarm.status.service_rows import ServiceState
from marketswarm.web.cache import Cached
from services.board.actions.announcements import AnnouncementBoard
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.frame import Frame
from services.board.fleet.history import PUBLIC_DAYS, outline_days
from services.board.fleet.snapshot import FleetSnapshot
from services.board.fleet.visibility import list_public, simplify_state
from services.board.settings import PublicSettings

DAYS_SEC: Final = 60.0  # how long the days of a service are shown without being counted again
MAX_SERVICES: Final = 10_000
_MAX_PAST: Final = 10


@dataclass(frozen=True, slots=True)
class PublicService:
    """A service on the public page: its name in words, its state (up, down or unknown), and its last days."""

    svc: str
    name: str
    state: ServiceState
    days: tuple[Seconds, ...] = ()


@dataclass(frozen=True, slots=True)
class PublicPage:
    """The status for the public: only services that the truth marks so. `at` is in epoch seconds.

    `tag` is the tag of a page that shows a part; `tags` are all that have such a page. `current` and `past`
    are announcements; `is_lacking` means that newer ones could not be read.
    """

    template: ClassVar = "public.html"
    title: str
    at: float
    services: tuple[PublicService, ...] = ()
    tag: str = ""
    tags: tuple[str, ...] = ()
    current: tuple[Announcement, ...] = ()
    past: tuple[Announcement, ...] = ()
    is_lacking: bool = False

    @property
    def has_days(self) -> bool:
        return any(one.days for one in self.services)


@dataclass(frozen=True, slots=True)
class AnnouncementsPage:
    """The page on which people write announcements; `tags` are those that one may concern.

    `problem` says why newer ones could not be read.
    """

    template: ClassVar = "announcements.html"
    frame: Frame
    current: tuple[Announcement, ...] = ()
    past: tuple[Announcement, ...] = ()
    tags: tuple[str, ...] = ()
    problem: str = ""


def make_public_site(board: FleetBoard, announcements: AnnouncementBoard) -> APIRouter:
    site = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    days = Cached[str, tuple[Seconds, ...]](DAYS_SEC, MAX_SERVICES)

    async def count_days(services: Sequence[str]) -> dict[str, tuple[Seconds, ...]]:
        history, now = board.history_now(), time.time()
        return {svc: outline_days(history, svc, now, PUBLIC_DAYS) for svc in services}

    async def show(tag: str) -> Response:
        found = await announcements.read()
        page = make_public_page(board.snapshot, board.public, found, tag, is_current=board.is_current())
        counted = await days.find_each([one.svc for one in page.services], count_days)
        shown = tuple(replace(one, days=counted[one.svc]) for one in page.services)
        return board.templates.answer(
            replace(page, services=shown, is_lacking=announcements.problem is not None)
        )

    @site.get("/public")
    async def show_public() -> Response:
        return await show("")

    @site.get("/public/{tag}")
    async def show_public_tag(tag: str) -> Response:
        if tag not in board.public.tags:
            return board.templates.answer_error(404, "There is no such page", "")
        return await show(tag)

    @site.get("/announcements")
    async def show_announcements(request: Request) -> Response:
        found = await announcements.read()
        frame = await board.make_session_frame(request, "Announcements", "/incidents")
        now, problem = frame.snapshot.at, announcements.problem or ""
        current, past = tuple(select_open(found, now)), tuple(select_past(found, now))
        return board.templates.answer(AnnouncementsPage(frame, current, past, board.public.tags, problem))

    return site


def make_public_page(
    snapshot: FleetSnapshot,
    public: PublicSettings,
    announcements: tuple[Announcement, ...] = (),
    tag: str = "",
    *,
    is_current: bool = True,
) -> PublicPage:
    """Return the page for the public: a service is up, down or unknown there, and no more is told."""
    services = []
    for one in list_public(snapshot, public, tag):
        state = simplify_state(one.state) if is_current else ServiceState.UNKNOWN
        services.append(PublicService(one.svc, one.description or one.svc, state))
    return PublicPage(
        public.title,
        snapshot.at,
        tuple(services),
        tag,
        tuple(each for each in public.tags if any(each in one.tags for one in snapshot.services)),
        tuple(select_open(announcements, snapshot.at, tag)),
        tuple(select_past(announcements, snapshot.at, tag)[:_MAX_PAST]),
    )
