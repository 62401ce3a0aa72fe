"""Let people read, edit and roll back the truth on the pages, without JavaScript too.

An edited document is checked, then its difference to the truth in force is shown, and only then it is seeded.
The SHA-256 of the document that its author has seen goes with it; if the truth was replaced meanwhile, the
new difference is shown instead.
"""

import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Annotated, ClassVar, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from marketswarm.bus import BusError
from marketswarm.operator.tokens import Scope
from marketswarm.text import escape_text, parse_digits
from marketswarm.truth import SYSTEM
from services.board.access.limits import RefusedError
from services.board.access.sessions import PageNotice, SentForm
from services.board.board import Board
from services.board.fleet.snapshot import ServiceSnapshot
from services.board.responses import Frame, answer_page, redirect
from services.board.truth.documents import (
    MAX_SHOWN_BYTES,
    DiffLine,
    RevisionView,
    TruthText,
    diff_documents,
    parse_document,
    read_document,
    read_revision,
    read_revisions,
)
from services.board.truth.editor import CheckAnswer, ProblemView, SeedAnswer, TruthInForce

TOO_LONG: Final = "The document is too long for this page: `marketswarm seed` and PUT /api/v1/truth take it."
NAV: Final = "/truth"
_REPLACED: Final = "The truth was changed meanwhile. This is the difference to what is in force now."
Revision = Annotated[int, Query(ge=1, le=10**15)]


@dataclass(frozen=True, slots=True)
class TruthPage:
    """The truth in force as text, and the revisions, the newest first; `diff` compares `older` with `newer`.

    Passwords in URLs are left out. `may_edit` says that the truth lets the board change it. Which service
    applies which revision is in the snapshot.
    """

    template: ClassVar = "truth.html"
    frame: Frame
    text: str = ""
    revisions: tuple[RevisionView, ...] = ()
    older: int | None = None
    newer: int | None = None
    diff: tuple[DiffLine, ...] = ()
    may_edit: bool = False

    @property
    def behind(self) -> tuple[ServiceSnapshot, ...]:
        """The services that say that they apply another revision than the one in force."""
        revision = self.frame.snapshot.revision
        return tuple(one for one in self.frame.snapshot.services if one.rev not in (None, revision))

    @property
    def current(self) -> int:
        revision = self.frame.snapshot.revision
        return sum(one.rev == revision for one in self.frame.snapshot.services if one.rev is not None)

    @property
    def silent(self) -> tuple[str, ...]:
        return tuple(one.svc for one in self.frame.snapshot.services if one.rev is None)


@dataclass(frozen=True, slots=True)
class TruthEditPage:
    """A document in a field, with its errors; `base` is the SHA-256 of the one that its author has seen."""

    template: ClassVar = "truth_edit.html"
    frame: Frame
    text: str = ""
    base: str = ""
    errors: tuple[ProblemView, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class TruthReviewPage:
    """What seeding a document, or a revision again, would change in the truth in force.

    `base` is the SHA-256 of the truth in force, to which it is compared. `text` is the document; it is empty
    if `revision` says which one it is. `added` is the service that it adds, if a form made it for that, and
    `command` does the same in a shell.
    """

    template: ClassVar = "truth_review.html"
    frame: Frame
    base: str
    checked: CheckAnswer
    diff: tuple[DiffLine, ...] = ()
    text: str = ""
    revision: int | None = None
    may_edit: bool = False
    problem: str = ""
    added: str = ""
    command: str = ""


def make_truth_pages(board: Board) -> APIRouter:
    site = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    _add_forms(site, board)

    @site.get("/truth")
    async def show_truth(request: Request, older: int | None = None, newer: int | None = None) -> Response:
        frame = await board.make_session_frame(request, "Truth", NAV)
        return answer_page(await make_truth_page(board, frame, older, newer))

    @site.get("/truth/edit")
    async def show_editor(request: Request) -> Response:
        frame = await board.make_session_frame(request, "Edit the truth", NAV)
        current = await board.editor.read_in_force()
        may_see = frame.session is not None and frame.session.may_seed
        problem = TOO_LONG if len(current.raw) > MAX_SHOWN_BYTES else ""
        text = current.raw.decode("utf-8", "replace") if may_see and not problem else ""
        return answer_page(TruthEditPage(frame, text, current.sha256, problem=problem))

    @site.get("/truth/rollback")
    async def show_rollback(request: Request, revision: Revision) -> Response:
        frame = await board.make_session_frame(request, f"Roll back to revision {revision}", NAV)
        return answer_page(await review_revision(board, frame, revision))

    return site


def _add_forms(site: APIRouter, board: Board) -> None:
    @site.post("/truth/check")
    async def check(request: Request) -> Response:
        form = await read_seed_form(board, request)
        frame = await board.make_session_frame(request, "Edit the truth", NAV)
        text, base = _find_text(form), form.fields.get("base", "")
        if form.fields.get("then") == "edit":
            return answer_page(TruthEditPage(frame, text, base))
        return answer_page(await review_text(board, frame, text, base))

    @site.post("/truth/seed")
    async def seed(request: Request) -> Response:
        return await _seed(board, request, await read_seed_form(board, request))


async def read_seed_form(board: Board, request: Request) -> SentForm:
    """Return a form of ours that a token with the scope `seed` sent. Raises RefusedError."""
    form = await board.gate.read_form(request)
    board.verifier.limit(form.session.token, Scope.SEED, time.monotonic())
    return form


async def _seed(board: Board, request: Request, form: SentForm) -> Response:
    by = form.fields.get("by", "")[:100] or form.session.token.name
    if not by.isprintable():
        raise RefusedError(422, "your name can't be shown on one line")
    form.session.author = by
    text, base, number = (
        _find_text(form),
        form.fields.get("base", ""),
        parse_digits(form.fields.get("revision")),
    )
    raw = text.encode() if number is None else (await board.editor.find_revision(number)).document
    try:
        done = await board.editor.seed(form.client, raw, by, base)
    except RefusedError as error:
        if error.status != HTTPStatus.PRECONDITION_FAILED:
            raise
        frame = await board.make_session_frame(request, "The truth was changed", NAV)
        if number is None:
            page = await review_text(board, frame, text, base)
        else:
            page = await review_revision(board, frame, number)
        return answer_page(replace(page, problem=_REPLACED))
    await board.refresh()
    notice = form.session.add_notice(PageNotice(_describe(done)))
    added = form.fields.get("added", "")
    return redirect(
        f"/truth/added?svc={quote(added, safe='')}&said={notice}" if added else f"/truth?said={notice}"
    )


async def make_truth_page(board: Board, frame: Frame, older: int | None, newer: int | None) -> TruthPage:
    """Return the page of the truth, with the difference of two revisions if both are known."""
    document = await read_document(board.buses, board.me.settings.truth_redis_key)
    may_edit = board.editor.may_seed()
    page = TruthPage(frame, document.text, may_edit=may_edit)
    try:
        bus = board.me.bus(SYSTEM)
        page = replace(page, revisions=await read_revisions(bus))
        if older is None or newer is None:
            return page
        first, second = await read_revision(bus, older), await read_revision(bus, newer)
    except BusError:
        return page
    if not first or not second:
        return page
    changed = await board.editor.work(diff_documents, first, second)
    return replace(page, older=older, newer=newer, diff=changed)


async def review_text(board: Board, frame: Frame, text: str, base: str) -> TruthEditPage | TruthReviewPage:
    raw = text.encode()
    if len(raw) > MAX_SHOWN_BYTES:
        return TruthEditPage(frame, text, base, problem=TOO_LONG)
    current, checked = await board.editor.read_in_force(), await board.editor.check(raw)
    if not checked.valid:
        count = len(checked.errors)
        problem = f"{count} problem{'s' if count != 1 else ''}: nothing was seeded."
        return TruthEditPage(frame, text, base, errors=checked.errors, problem=problem)
    page = await _make_review(board, frame, raw, current, checked)
    return replace(page, text=text, problem="" if base == current.sha256 else _REPLACED)


async def review_revision(board: Board, frame: Frame, number: int) -> TruthReviewPage:
    found = await board.editor.find_revision(number)
    current, checked = await board.editor.read_in_force(), await board.editor.check(found.document)
    if not checked.valid:
        first = checked.errors[0]
        raise RefusedError(422, f"revision {number} is not valid any more: {first.path}: {first.message}")
    return replace(await _make_review(board, frame, found.document, current, checked), revision=number)


async def _make_review(
    board: Board, frame: Frame, raw: bytes, current: TruthInForce, checked: CheckAnswer
) -> TruthReviewPage:
    def compare() -> tuple[DiffLine, ...]:
        older = parse_document(current.raw) if current.truth is not None else TruthText()
        return diff_documents(older, parse_document(raw))

    diff = await board.editor.work(compare)
    return TruthReviewPage(frame, current.sha256, checked, diff, may_edit=board.editor.may_seed())


def _find_text(form: SentForm) -> str:
    return f"{form.text}\n" if form.text else ""


def _describe(done: SeedAnswer) -> str:
    if not done.changed:
        return f"Nothing was changed: revision {done.revision} is this document already."
    unheard = "; ".join(f"{', '.join(services)} on {bus}" for bus, services in done.unheard.items())
    warning = f" The healer may not hear {unheard}: `marketswarm seed` renews its users." if unheard else ""
    return escape_text(f"Revision {done.revision} is in force.{warning}")[:500]
