"""Let people add a service or a web page by a form, see what that changes, and see its first sign of life.

The form makes a document of the truth in force. From there on all is as for an edited document: it is
checked, its difference is shown, and who may seed seeds it. A service that was added has a page with the
lines to paste: they have the UUID of its check, so no key is made and nothing else is written.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import ip_address
from typing import ClassVar, Final, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from marketswarm.operator.ping_lines import make_bus_lines, make_ping_lines
from marketswarm.truth import SYSTEM
from marketswarm.truth.document_edit import AddedKind, EntryFields
from marketswarm.web.sessions import SentForm
from services.board.fleet.frame import Frame
from services.board.fleet.snapshot import ServiceSnapshot
from services.board.pings.answers import RefusedPingError
from services.board.pings.directory import NOT_PINGED
from services.board.pings.requests import PREFIX
from services.board.truth.entry_change import EntryChange, Verb
from services.board.truth.entry_fields import FormField, list_form, parse_fields
from services.board.truth.pages import FormPage, TruthBoard, TruthReviewPage, read_seed_form, review_form

NAV: Final = "/truth/add"
JOB_SEC: Final = 3600.0
"""A service without a schedule that beats less often than this gets the lines of a job."""
_COMMON: Final = ("tags", "severity")
_ADD_JOB: Final = "marketswarm add job backup --schedule '0 3 * * *'"
_ADD_DAEMON: Final = "marketswarm add daemon worker --every 60s"


class Choice(StrEnum):
    """What the form can add. `elsewhere` is a job or a daemon, by what is typed, on another machine."""

    JOB = "job"
    DAEMON = "daemon"
    PAGE = "page"
    ELSEWHERE = "elsewhere"


_FIELDS: Final = {
    Choice.JOB: ("schedule", "time_zone", "description", *_COMMON),
    Choice.DAEMON: ("every_sec", "description", *_COMMON),
    Choice.PAGE: ("url", "contains", "every_sec", *_COMMON),
    Choice.ELSEWHERE: ("schedule", "time_zone", "every_sec", "description", *_COMMON),
}
"""The fields of the form, without the name, by what is added."""
_TITLES: Final = {
    Choice.JOB: "Add a job",
    Choice.DAEMON: "Add a daemon",
    Choice.PAGE: "Add a web page",
    Choice.ELSEWHERE: "Add from another machine",
}
_COMMANDS: Final = {
    Choice.JOB: (_ADD_JOB,),
    Choice.DAEMON: (_ADD_DAEMON,),
    Choice.PAGE: ("marketswarm add page shop https://shop.example/health",),
    Choice.ELSEWHERE: (_ADD_JOB, _ADD_DAEMON),
}
"""The commands that do the same in a terminal, as examples."""


@dataclass(frozen=True, slots=True)
class AddPage(FormPage):
    """The form for one kind of thing, with what was typed and what is wrong with it."""

    template: ClassVar = "truth_add.html"
    kind: Choice
    typed: dict[str, str]
    titles: ClassVar = _TITLES

    @property
    def form(self) -> tuple[FormField, ...]:
        needed = {Choice.JOB: ("schedule",), Choice.PAGE: ("url",)}.get(self.kind, ())
        return list_form(_FIELDS[self.kind], needed=needed, is_page=self.kind is Choice.PAGE)

    @property
    def commands(self) -> tuple[str, ...]:
        return _COMMANDS[self.kind]


@dataclass(frozen=True, slots=True)
class AddedPage:
    """A service that was added: the lines to paste, if the session may see its key, and its state.

    If it runs on another machine (`is_elsewhere`), there are lines that need the bus in place of the board,
    too, and `is_local` says that the address in the other lines leads to nothing there.
    """

    template: ClassVar = "truth_added.html"
    frame: Frame
    svc: str
    service: ServiceSnapshot | None
    lines: dict[str, str]
    bus_lines: dict[str, str] = field(default_factory=dict)
    is_elsewhere: bool = False
    is_local: bool = False


def make_add_pages(board: TruthBoard) -> APIRouter:
    site = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @site.get("/truth/add")
    async def show_form(request: Request, kind: Choice = Choice.JOB) -> Response:
        frame = await board.fleet.make_session_frame(request, _TITLES[kind], NAV)
        return board.fleet.templates.answer(AddPage(frame, kind, {}, may_edit=board.editor.may_seed()))

    @site.post("/truth/add")
    async def review(request: Request) -> Response:
        form = await read_seed_form(board, request)
        kind = next((each for each in Choice if each == form.fields.get("kind")), Choice.JOB)
        frame = await board.fleet.make_session_frame(request, _TITLES[kind], NAV)
        return board.fleet.templates.answer(await _review(board, frame, kind, form))

    @site.get("/truth/added")
    async def show_added(request: Request, svc: str, place: Literal["", "elsewhere"] = "") -> Response:
        frame = await board.fleet.make_session_frame(request, "Added", NAV)
        url = board.fleet.me.settings.board_public_url or f"{request.url.scheme}://{request.url.netloc}"
        return board.fleet.templates.answer(
            _make_added_page(board, frame, svc, url, is_elsewhere=place == "elsewhere")
        )

    return site


async def _review(board: TruthBoard, frame: Frame, kind: Choice, form: SentForm) -> AddPage | TruthReviewPage:
    """Return what adding it would change, or the form again with what is wrong."""
    typed = {name: form.fields.get(name, "") for name in ("name", *_FIELDS[kind])}

    def make_change() -> EntryChange:
        fields = parse_fields({name: text for name, text in typed.items() if name != "name" and text})
        kinds = _find_kind(kind, fields), kind is Choice.ELSEWHERE
        return EntryChange(Verb.ADD, typed["name"], fields, *kinds)

    page = AddPage(frame, kind, typed, may_edit=board.editor.may_seed())
    return await review_form(board, page, make_change)


def _find_kind(choice: Choice, fields: EntryFields) -> AddedKind:
    if choice is not Choice.ELSEWHERE:
        return AddedKind(choice.value)
    return AddedKind.JOB if fields.schedule else AddedKind.DAEMON


def _make_added_page(board: TruthBoard, frame: Frame, svc: str, url: str, *, is_elsewhere: bool) -> AddedPage:
    """Return the page of a service; without lines for who may not see its key, or if it can't be pinged."""
    watch = next((each for each in board.fleet.truth.watched() if each.svc == svc), None)
    if watch is None or svc in NOT_PINGED:
        return AddedPage(frame, svc, None, {})
    service = frame.snapshot.find(svc)
    schedule = watch.job.schedule if watch.job else None
    is_job = schedule is not None or watch.interval_sec >= JOB_SEC
    kind = AddedKind.JOB if is_job else AddedKind.DAEMON
    page = AddedPage(frame, svc, service, {}, is_elsewhere=is_elsewhere, is_local=_is_local(url))
    if is_elsewhere:
        page = replace(page, bus_lines=make_bus_lines(kind, svc, dict.fromkeys((SYSTEM, watch.bus))))
    if frame.session is None or not frame.session.may_write:
        return page
    try:
        code = board.keys.codes.code_of(svc)
    except RefusedPingError:  # the bus that has their secret was not read yet
        return page
    ping_url = f"{url.rstrip('/')}{PREFIX}{code}"
    lines = make_ping_lines(kind, svc, ping_url, schedule.expression if schedule else None)
    return replace(page, lines=lines)


def _is_local(url: str) -> bool:
    """Return True if the host of a URL is this machine for whoever asks."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
