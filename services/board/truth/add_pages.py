"""Let people add a service or a web page by a form, see what that changes, and see its first sign of life.

The form makes a document of the truth in force. From there on all is as for an edited document: it is
checked, its difference is shown, and who may seed seeds it. A service that was added has a page with the
lines to paste: they have the UUID of its check, so no key is made and nothing else is written.
"""

import shlex
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import ClassVar, Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from marketswarm.operator.ping_lines import make_ping_lines
from marketswarm.truth.document_edit import AddedKind, EditError, EntryFields, add_entry
from services.board.access.sessions import SentForm
from services.board.board import Board
from services.board.fleet.snapshot import ServiceSnapshot
from services.board.pings.answers import RefusedPingError
from services.board.pings.directory import NOT_PINGED
from services.board.pings.requests import PREFIX
from services.board.responses import Frame, answer_page, make_sentence
from services.board.truth.editor import ProblemView
from services.board.truth.pages import TruthEditPage, TruthReviewPage, read_seed_form, review_text

NAV: Final = "/truth/add"
FIELDS: Final = (
    "name",
    "description",
    "tags",
    "severity",
    "schedule",
    "time_zone",
    "url",
    "contains",
    "every_sec",
)
"""The fields of the form, without the kind; which of them are shown depends on that."""
JOB_SEC: Final = 3600.0
"""A service without a schedule that beats less often than this gets the lines of a job."""

_OPTIONS: Final = {
    "description": "--description",
    "tags": "--tag",
    "severity": "--severity",
    "schedule": "--schedule",
    "time_zone": "--zone",
    "every_sec": "--every",
    "contains": "--contains",
}
"""The option of `marketswarm add` for each field of the form."""


@dataclass(frozen=True, slots=True)
class AddPage:
    """The form for one kind of thing, with what was typed and what is wrong with it."""

    template: ClassVar = "truth_add.html"
    frame: Frame
    kind: AddedKind
    typed: dict[str, str]
    problem: str = ""
    errors: tuple[ProblemView, ...] = ()
    may_edit: bool = False
    kinds: ClassVar = tuple(AddedKind)


@dataclass(frozen=True, slots=True)
class AddedPage:
    """A service that was added: the lines to paste, if the session may see its key, and its state."""

    template: ClassVar = "truth_added.html"
    frame: Frame
    svc: str
    service: ServiceSnapshot | None
    lines: dict[str, str]


def make_add_pages(board: Board) -> APIRouter:
    site = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @site.get("/truth/add")
    async def show_form(request: Request, kind: AddedKind = AddedKind.JOB) -> Response:
        frame = await board.make_session_frame(request, _title(kind), NAV)
        return answer_page(AddPage(frame, kind, {}, may_edit=board.editor.may_seed()))

    @site.post("/truth/add")
    async def review(request: Request) -> Response:
        form = await read_seed_form(board, request)
        kind = next((each for each in AddedKind if each == form.fields.get("kind")), AddedKind.JOB)
        frame = await board.make_session_frame(request, _title(kind), NAV)
        return answer_page(await _review(board, frame, kind, form))

    @site.get("/truth/added")
    async def show_added(request: Request, svc: str) -> Response:
        frame = await board.make_session_frame(request, "Added", NAV)
        url = board.me.settings.board_public_url or f"{request.url.scheme}://{request.url.netloc}"
        return answer_page(_make_added_page(board, frame, svc, url))

    return site


async def _review(board: Board, frame: Frame, kind: AddedKind, form: SentForm) -> AddPage | TruthReviewPage:
    """Return what adding it would change, or the form again with what is wrong."""
    typed = {name: form.fields.get(name, "").strip() for name in FIELDS}
    again = AddPage(frame, kind, typed, may_edit=board.editor.may_seed())
    current = await board.editor.read_in_force()
    try:
        fields = _read_fields(kind, typed)
        text = await board.editor.work(add_entry, current.raw.decode(), kind, typed["name"], fields)
    except EditError as error:
        return replace(again, problem=make_sentence(str(error)))
    page = await review_text(board, frame, text, current.sha256)
    if isinstance(page, TruthEditPage):
        return replace(again, problem=page.problem, errors=page.errors)
    added = "" if kind is AddedKind.PAGE else typed["name"]
    return replace(page, added=added, command=make_command(kind, typed["name"], fields))


def make_command(kind: AddedKind, name: str, fields: EntryFields) -> str:
    """Return the command that adds the same, each word quoted for a shell."""
    words = ["marketswarm", "add", kind, name, *([fields.url] if fields.url else [])]
    for field, value in fields.list_given().items():
        if field in _OPTIONS:
            values = value if isinstance(value, tuple) else (value,)
            words += [
                f"{_OPTIONS[field]}={each:.12g}s" if isinstance(each, float) else f"{_OPTIONS[field]}={each}"
                for each in values
            ]
    return shlex.join(words)


def _read_fields(kind: AddedKind, typed: dict[str, str]) -> EntryFields:
    """Return what was typed into the fields that this kind has. Raises EditError for what is not a number."""
    tags = tuple(tag.strip() for tag in typed["tags"].split(",") if tag.strip())
    common = EntryFields(tags=tags or None, severity=typed["severity"] or None)
    if kind is AddedKind.PAGE:
        return replace(
            common,
            url=typed["url"],
            contains=typed["contains"] or None,
            every_sec=_read_seconds(typed["every_sec"]),
        )
    common = replace(common, description=typed["description"] or None)
    if kind is AddedKind.DAEMON:
        return replace(common, every_sec=_read_seconds(typed["every_sec"]))
    return replace(common, schedule=typed["schedule"] or None, time_zone=typed["time_zone"] or None)


def _read_seconds(text: str) -> float | None:
    """Return a typed number of seconds; None if nothing was typed. Raises EditError for anything else."""
    try:
        number = float(text) if text else None
    except ValueError:
        number = inf
    if number is not None and not isfinite(number):
        raise EditError("how often is not a number of seconds: write 60")
    return number


def _make_added_page(board: Board, frame: Frame, svc: str, url: str) -> AddedPage:
    """Return the page of a service; without lines for who may not see its key, or if it can't be pinged."""
    watch = next((each for each in board.truth.watched() if each.svc == svc), None)
    if watch is None or svc in NOT_PINGED:
        return AddedPage(frame, svc, None, {})
    service = frame.snapshot.find(svc)
    if frame.session is None or not frame.session.may_write:
        return AddedPage(frame, svc, service, {})
    schedule = watch.job.schedule if watch.job else None
    is_job = schedule is not None or watch.interval_sec >= JOB_SEC
    kind = AddedKind.JOB if is_job else AddedKind.DAEMON
    try:
        code = board.keys.codes.code_of(svc)
    except RefusedPingError:  # the bus that has their secret was not read yet
        return AddedPage(frame, svc, service, {})
    ping_url = f"{url.rstrip('/')}{PREFIX}{code}"
    return AddedPage(
        frame, svc, service, make_ping_lines(kind, svc, ping_url, schedule.expression if schedule else None)
    )


def _title(kind: AddedKind) -> str:
    return {AddedKind.DAEMON: "Add a daemon", AddedKind.JOB: "Add a job", AddedKind.PAGE: "Add a web page"}[
        kind
    ]
