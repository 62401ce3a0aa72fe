"""Let people edit, pause, resume and remove an entry of the truth by a form.

An entry is a service, or a page that massive probes. What the form sends is a change of that entry; it is
applied to the truth in force, checked, and shown, and it is seeded as any other document.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Final

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from marketswarm.text import escape_text
from marketswarm.truth.document_edit import MASSIVE, EditError, TruthEntry, read_entry
from marketswarm.truth.targets import find_probe_targets
from marketswarm.web.limits import RefusedError
from marketswarm.web.sessions import SentForm
from services.board.fleet.frame import Frame
from services.board.truth.entry_change import EntryChange, Verb
from services.board.truth.entry_fields import FormField, format_field, list_form, parse_fields
from services.board.truth.pages import (
    INVALID,
    NAV,
    FormPage,
    TruthBoard,
    TruthReviewPage,
    read_seed_form,
    review_form,
)

SERVICE_FIELDS: Final = (
    "schedule",
    "time_zone",
    "grace_sec",
    "max_run_sec",
    "every_sec",
    "timeout_sec",
    "description",
    "tags",
    "depends_on",
    "severity",
)
PAGE_FIELDS: Final = ("url", "contains", "every_sec", "timeout_sec", "tags", "depends_on", "severity")
Name = Annotated[str, Query(min_length=1, max_length=300)]
_CHANGED: Final = "It was changed meanwhile. These are its values now; what you typed is not among them."


@dataclass(frozen=True, slots=True)
class EntryPage(FormPage):
    """The form about one entry of the truth, with what was typed and what is wrong with it.

    Without a session that may seed there is no form, and so `typed` is empty. `base` is the digest of the
    entry that its author has seen. `pages` are those that massive probes, on its own form.
    """

    template: ClassVar = "truth_entry.html"
    name: str
    entry: TruthEntry
    typed: dict[str, str]
    base: str = ""
    pages: tuple[str, ...] = ()

    @property
    def form(self) -> tuple[FormField, ...]:
        return list_form(PAGE_FIELDS if self.entry.is_page else SERVICE_FIELDS, is_page=self.entry.is_page)

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that do the same in a terminal; the first one is an example."""
        change = "--every=30s" if self.entry.is_page or "every_sec" in self.entry.fields else "--grace=30m"
        switch = Verb.RESUME if self.entry.is_paused else Verb.PAUSE
        others = [EntryChange(verb, self.name).write_command() for verb in (switch, Verb.REMOVE)]
        return (f"{EntryChange(Verb.EDIT, self.name).write_command()} {change}", *others)


def make_entry_pages(board: TruthBoard) -> APIRouter:
    site = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @site.get("/truth/entry")
    async def show_entry(request: Request, name: Name) -> Response:
        frame = await board.fleet.make_session_frame(request, escape_text(name), NAV)
        return board.fleet.templates.answer(await _make_page(board, frame, name))

    @site.post("/truth/entry")
    async def review(request: Request) -> Response:
        form = await read_seed_form(board, request)
        name = form.fields.get("svc", "")
        verb = next((each for each in Verb if each == form.fields.get("verb")), None)
        if verb is None or verb is Verb.ADD:
            raise RefusedError(422, "the form does not say what to do")
        frame = await board.fleet.make_session_frame(request, f"{verb.title()} {escape_text(name)}", NAV)
        return board.fleet.templates.answer(await _review(board, frame, name, verb, form))

    return site


async def _make_page(board: TruthBoard, frame: Frame, name: str) -> EntryPage:
    """Return the form about an entry. Raises RefusedError, 404 if the truth has none of this name."""
    current = await board.editor.read_in_force()
    if current.truth is None:
        raise RefusedError(409, INVALID)
    try:
        entry = await board.editor.work(read_entry, current.raw.decode(), name)
    except EditError as error:
        raise RefusedError(404, escape_text(str(error))) from None
    page = EntryPage(frame, name, entry, {}, may_edit=board.editor.may_seed())
    if frame.session is None or not frame.session.may_seed:
        return page
    targets = find_probe_targets(current.truth) if name == MASSIVE else ()
    return replace(
        page,
        typed={field: format_field(value) for field, value in entry.fields.items()},
        base=_digest(entry),
        pages=tuple(each.svc for each in targets if each.svc.startswith(f"{MASSIVE}/")),
    )


async def _review(
    board: TruthBoard, frame: Frame, name: str, verb: Verb, form: SentForm
) -> EntryPage | TruthReviewPage:
    """Return what a change of an entry would change, or the form again with what is wrong."""
    page = await _make_page(board, frame, name)
    if verb is not Verb.EDIT:
        return await review_form(board, page, lambda: EntryChange(verb, name))
    if form.fields.get("base") != page.base:
        return replace(page, problem=_CHANGED)
    typed = {each.name: form.fields.get(each.name, "") for each in page.form}
    before = {field: _fold(text) for field, text in page.typed.items()}
    changed = {field: text for field, text in typed.items() if _fold(text) != before.get(field, "")}
    page = replace(page, typed=typed)
    return await review_form(board, page, lambda: EntryChange(verb, name, parse_fields(changed)))


def _fold(text: str) -> str:
    """Return a text as a browser may send it back: what was not typed is no change."""
    return " ".join(text.split())


def _digest(entry: TruthEntry) -> str:
    return hashlib.sha256(orjson.dumps([entry.is_paused, dict(entry.fields)])).hexdigest()
