"""Let people read, edit and roll back the truth on the pages, without JavaScript too.

An edited document is checked, then its difference to the truth in force is shown, and only then it is seeded.
The SHA-256 of the document that its author has seen goes with it; if the truth was replaced meanwhile, the
new difference is shown instead.
"""

import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from http import HTTPStatus
from typing import Annotated, ClassVar, Final, TypeVar

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from marketswarm.bus import BusError
from marketswarm.operator.tokens import Scope
from marketswarm.status.service_rows import ServiceState
from marketswarm.text import escape_text, parse_digits
from marketswarm.truth import SYSTEM
from marketswarm.truth.document_edit import MASSIVE, EditError
from marketswarm.web.limits import RefusedError
from marketswarm.web.responses import make_sentence, redirect
from marketswarm.web.sessions import PageNotice, SentForm
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.frame import Frame
from services.board.fleet.snapshot import FleetSnapshot, ServiceSnapshot
from services.board.pings.key_ring import KeyRing
from services.board.truth.editor import CheckAnswer, ProblemView, SeedAnswer, TruthEditor, TruthInForce
from services.board.truth.entry_change import EntryChange, Verb, parse_change
from services.board.truth_documents import (
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

TOO_LONG: Final = "The document is too long for this page: `marketswarm seed` and PUT /api/v1/truth take it."
NAV: Final = "/truth"
INVALID: Final = "the truth in force is not valid: this release can't change an entry of it"
_REPLACED: Final = "The truth was changed meanwhile. This is the difference to what is in force now."
Revision = Annotated[int, Query(ge=1, le=10**15)]


@dataclass(frozen=True, slots=True)
class TruthBoard:
    """What the pages of the truth are made from: the fleet, the editor, and the keys for pings."""

    fleet: FleetBoard
    editor: TruthEditor
    keys: KeyRing


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
class FormPage:
    """A form that changes the truth, with what is wrong with what was typed.

    `may_edit` says that the truth lets the board change it.
    """

    frame: Frame
    _: KW_ONLY
    problem: str = ""
    errors: tuple[ProblemView, ...] = ()
    may_edit: bool = False


F = TypeVar("F", bound=FormPage)


@dataclass(frozen=True, slots=True)
class TruthEditPage(FormPage):
    """A document in a field, with its errors; `base` is the SHA-256 of the one that its author has seen."""

    template: ClassVar = "truth_edit.html"
    text: str = ""
    base: str = ""


@dataclass(frozen=True, slots=True)
class TruthReviewPage:
    """What seeding a document, or a revision again, would change in the truth in force.

    `base` is the SHA-256 of the truth in force, to which it is compared. `text` is the document; it is empty
    if `revision` says which one it is. If a form about one entry made it, `change` is what that changes, and
    `lost` are sentences about what goes with an entry that is removed.
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
    change: EntryChange | None = None
    lost: tuple[str, ...] = ()

    @property
    def is_removal(self) -> bool:
        return self.change is not None and self.change.verb is Verb.REMOVE


def make_truth_pages(board: TruthBoard) -> APIRouter:
    site = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    _add_forms(site, board)

    @site.get("/truth")
    async def show_truth(request: Request, older: int | None = None, newer: int | None = None) -> Response:
        frame = await board.fleet.make_session_frame(request, "Truth", NAV)
        return board.fleet.templates.answer(await make_truth_page(board, frame, older, newer))

    @site.get("/truth/edit")
    async def show_editor(request: Request) -> Response:
        frame = await board.fleet.make_session_frame(request, "Edit the truth", NAV)
        current = await board.editor.read_in_force()
        may_see = frame.session is not None and frame.session.may_seed
        problem = TOO_LONG if len(current.raw) > MAX_SHOWN_BYTES else ""
        text = current.raw.decode("utf-8", "replace") if may_see and not problem else ""
        return board.fleet.templates.answer(TruthEditPage(frame, text, current.sha256, problem=problem))

    @site.get("/truth/rollback")
    async def show_rollback(request: Request, revision: Revision) -> Response:
        frame = await board.fleet.make_session_frame(request, f"Roll back to revision {revision}", NAV)
        return board.fleet.templates.answer(await review_revision(board, frame, revision))

    return site


def _add_forms(site: APIRouter, board: TruthBoard) -> None:
    @site.post("/truth/check")
    async def check(request: Request) -> Response:
        form = await read_seed_form(board, request)
        frame = await board.fleet.make_session_frame(request, "Edit the truth", NAV)
        text, base = _find_text(form), form.fields.get("base", "")
        if form.fields.get("then") == "edit":
            return board.fleet.templates.answer(TruthEditPage(frame, text, base))
        return board.fleet.templates.answer(await review_text(board, frame, text, base))

    @site.post("/truth/seed")
    async def seed(request: Request) -> Response:
        form = await read_seed_form(board, request)
        try:
            return await _seed(board, request, form)
        except EditError as error:  # such as a service that is gone meanwhile
            raise RefusedError(409, escape_text(str(error))) from None


async def read_seed_form(board: TruthBoard, request: Request) -> SentForm:
    """Return a form of ours that a token with the scope `seed` sent. Raises RefusedError."""
    form = await board.fleet.gate.read_form(request)
    board.fleet.gate.verifier.limit(form.session.token, Scope.SEED, time.monotonic())
    return form


async def _seed(board: TruthBoard, request: Request, form: SentForm) -> Response:
    by = form.fields.get("by", "")[:100] or form.session.token.name
    if not by.isprintable():
        raise RefusedError(422, "your name can't be shown on one line")
    form.session.author = by
    base, number = form.fields.get("base", ""), parse_digits(form.fields.get("revision"))
    change = parse_change(form.fields["change"]) if "change" in form.fields else None
    try:
        raw = await _find_document(board, form, change, number)
        done = await board.editor.seed(form.client, raw, by, base)
    except RefusedError as error:
        if error.status != HTTPStatus.PRECONDITION_FAILED:
            raise
        frame = await board.fleet.make_session_frame(request, "The truth was changed", NAV)
        page: TruthEditPage | TruthReviewPage
        if change is not None:
            page = await review_change(board, frame, change)
        elif number is None:
            page = await review_text(board, frame, _find_text(form), base)
        else:
            page = await review_revision(board, frame, number)
        return board.fleet.templates.answer(replace(page, problem=_REPLACED))
    await board.fleet.refresh()
    notice = form.session.add_notice(PageNotice(_describe(done)))
    return redirect(f"{'/truth?' if change is None else change.find_page()}said={notice}")


async def _find_document(
    board: TruthBoard, form: SentForm, change: EntryChange | None, number: int | None
) -> bytes:
    """Return what a form is to seed: a revision, its text, or the truth in force with its change.

    Raises RefusedError, 412 if the truth is not the one to which the change was shown, and EditError.
    """
    if number is not None:
        return (await board.editor.find_revision(number)).document
    if change is None:
        return _find_text(form).encode()
    current = await board.editor.read_in_force()
    if current.sha256 != form.fields.get("base"):
        raise RefusedError(HTTPStatus.PRECONDITION_FAILED, "not seeded: the truth was changed meanwhile")
    return (await _apply_change(board, change, current)).encode()


async def _apply_change(board: TruthBoard, change: EntryChange, current: TruthInForce) -> str:
    """Return the text of the truth in force with a change. Raises EditError if it can't be made."""
    if current.truth is None:
        raise RefusedError(409, INVALID)
    return await board.editor.work(change.apply, current.raw.decode())


async def make_truth_page(board: TruthBoard, frame: Frame, older: int | None, newer: int | None) -> TruthPage:
    """Return the page of the truth, with the difference of two revisions if both are known."""
    document = await read_document(board.fleet.buses, board.fleet.me.settings.truth_redis_key)
    page = TruthPage(frame, document.text, may_edit=board.editor.may_seed())
    try:
        bus = board.fleet.me.bus(SYSTEM)
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


async def review_text(
    board: TruthBoard, frame: Frame, text: str, base: str
) -> TruthEditPage | TruthReviewPage:
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


async def review_change(
    board: TruthBoard, frame: Frame, change: EntryChange
) -> TruthEditPage | TruthReviewPage:
    """Return what a change of one entry makes of the truth in force, or the document with its errors.

    Raises EditError for a change that can't be made.
    """
    current = await board.editor.read_in_force()
    page = await review_text(board, frame, await _apply_change(board, change, current), current.sha256)
    if isinstance(page, TruthEditPage):
        return page
    lost = list_lost(board, frame.snapshot, change.name) if change.verb is Verb.REMOVE else ()
    return replace(page, change=change, lost=lost)


async def review_form(
    board: TruthBoard, page: F, make_change: Callable[[], EntryChange]
) -> F | TruthReviewPage:
    """Return what the change that a form asks for would change, or its `page` with what is wrong."""
    try:
        reviewed = await review_change(board, page.frame, make_change())
    except EditError as error:
        return replace(page, problem=make_sentence(str(error)))
    if isinstance(reviewed, TruthEditPage):
        return replace(page, problem=reviewed.problem, errors=reviewed.errors)
    return reviewed


def list_lost(board: TruthBoard, snapshot: FleetSnapshot, name: str) -> tuple[str, ...]:
    """Return what goes with an entry that is removed, and what stays, in sentences."""
    if name.startswith(f"{MASSIVE}/"):
        return ("It is not probed any more, and an alert about it that holds ends.",)
    one, count = snapshot.find(name), board.keys.count_keys(name)
    found = ["It is not monitored any more, and nobody is told of it."]
    if one is not None and one.state is ServiceState.DOWN:
        found.append("It is down now: its open incident is closed.")
    if count:
        keys = "Its key for pings stays" if count == 1 else f"Its {count} keys for pings stay"
        found.append(
            f"{keys}: pings are answered by 404 until a service of this name is added again."
            f" `marketswarm token list` shows {'it' if count == 1 else 'them'}."
        )
    return tuple(found)


async def review_revision(board: TruthBoard, frame: Frame, number: int) -> TruthReviewPage:
    found = await board.editor.find_revision(number)
    current, checked = await board.editor.read_in_force(), await board.editor.check(found.document)
    if not checked.valid:
        first = checked.errors[0]
        raise RefusedError(422, f"revision {number} is not valid any more: {first.path}: {first.message}")
    return replace(await _make_review(board, frame, found.document, current, checked), revision=number)


async def _make_review(
    board: TruthBoard, frame: Frame, raw: bytes, current: TruthInForce, checked: CheckAnswer
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
