"""Let people steer the fleet on the pages, without JavaScript too: sign in with a token, and send forms.

Each form does what a request under `/api/v1` does, with the same limits and the same audit log. The answer
leads back to the page, which then says in a sentence what became of it.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.responses import HTMLResponse, RedirectResponse, Response

from marketswarm.operator import ALL
from marketswarm.operator.announcement import AnnouncementEntry, AnnouncementState
from marketswarm.operator.token import Scope
from marketswarm.operator_link import create_silence
from marketswarm.operator_link.announcements import create_announcement_id
from marketswarm.text import escape_text
from services.board.access.audit import Action
from services.board.access.limits import RefusedError
from services.board.access.sessions import (
    PageNotice,
    SentForm,
    SessionGate,
    SessionOver,
    SessionView,
    find_origin,
    read_fields,
)
from services.board.actions.announcements import AnnouncementBoard, choose_state
from services.board.actions.api import AckBody, ChannelTestBody, ResendBody, SilenceBody
from services.board.actions.steering import RequestAnswer, SilenceAnswer, Steering
from services.board.fleet.words import format_age
from services.board.rendering import render
from services.board.responses import answer_error, find_assets_path

MAX_NOTICE_CHARS: Final = 500
_PAGES: Final[Mapping[str, str]] = {
    "fleet": "/",
    "incidents": "/incidents",
    "notifications": "/notifications",
    "truth": "/truth",
    "edit": "/truth/edit",
    "announcements": "/announcements",
}
_OVER: Final = "Your session is over: sign in again."
_NO_STORE: Final = {"Cache-Control": "no-store"}
_LATER: Final = "The notifier has not answered yet: one that runs within a day does it."
Act = Callable[[SentForm], Awaitable[PageNotice]]
Word = Annotated[str, Query(max_length=300)]


@dataclass(frozen=True, slots=True)
class SignInPage:
    """The field for a token, and why it is asked for again; `session` is who is signed in already.

    `back` and `svc` name the page to go on with.
    """

    template: ClassVar = "sign_in.html"
    back: str = ""
    svc: str = ""
    problem: str = ""
    session: SessionView | None = None
    assets: str = "/static/0"
    title: str = "Sign in"


def make_forms(
    gate: SessionGate,
    steering: Steering,
    refresh: Callable[[], Awaitable[None]],
    announcements: AnnouncementBoard,
) -> APIRouter:
    """Return the routes of the forms; `refresh` returns when the board's snapshot includes what was done."""
    forms = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    _add_sign_in(forms, gate)
    acts: dict[str, Act] = {
        "ack": lambda form: _acknowledge(steering, form),
        "silence": lambda form: _add_silence(steering, form),
        "unsilence": lambda form: _end_silence(steering, form),
        "test": lambda form: _send_test(steering, form),
        "announce": lambda form: publish_form(announcements, form),
        "update": lambda form: update_form(announcements, form),
        "resend": lambda form: _resend(steering, form),
    }

    @forms.post("/act/{name}")
    async def act(name: str, request: Request) -> Response:
        """Do what a form asks for, and lead back to its page with a notice."""
        if name not in acts:
            return answer_error(404, "No such form", "")
        try:
            form = await gate.read_form(request)
        except SessionOver:
            return _lead_to("/sign-in?why=over")
        except RefusedError as error:
            return _refuse(error)
        notice = await _run_act(gate, form, acts[name])
        if not notice.is_bad:
            await refresh()
        return _lead_to(f"{find_way_back(form.fields)}?said={form.session.add_notice(notice)}")

    return forms


def _add_sign_in(forms: APIRouter, gate: SessionGate) -> None:
    """Add the page on which a token is given, and the routes that open and end a session."""

    @forms.get("/sign-in")
    async def show_sign_in(request: Request, back: Word = "", svc: Word = "", why: Word = "") -> Response:
        """Show the field for a token, or who is signed in."""
        page = SignInPage(back, svc, _OVER if why == "over" else "", await gate.find_view(request))
        return _answer_sign_in(page)

    @forms.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        """Open a session by a token, and lead back to where the person came from."""
        try:
            find_origin(request)
            fields = await read_fields(request)
        except RefusedError as error:
            return _refuse(error)
        answer = _lead_to(find_way_back(fields))
        try:
            await gate.open(request, answer, fields.get("token", ""))
        except RefusedError as error:
            text = _make_sentence(error.reason)
            page = SignInPage(fields.get("back", ""), fields.get("svc", ""), text)
            return _answer_sign_in(page, error.status, error.headers)
        return answer

    @forms.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        """End the session."""
        answer = _lead_to("/sign-in")
        try:
            find_origin(request)
            await gate.close(request, answer)
        except RefusedError as error:
            return _refuse(error)
        return answer


async def _run_act(gate: SessionGate, form: SentForm, act: Act) -> PageNotice:
    """Do what a form asks for, if its token may; return what became of it."""
    try:
        gate.limit(form, Scope.WRITE)
        return await act(form)
    except RefusedError as error:
        return PageNotice(_make_sentence(error.reason), is_bad=True)
    except ValidationError as error:
        names = {str(each["loc"][0]) if each["loc"] else "form" for each in error.errors(include_input=False)}
        return PageNotice(f"Nothing was done. Wrong or missing: {', '.join(sorted(names))}.", is_bad=True)


async def _acknowledge(steering: Steering, form: SentForm) -> PageNotice:
    """Acknowledge an outage in the name of a person."""
    by = AckBody(by=form.fields.get("by")).by or form.session.token.name
    form.session.author = by
    found = await steering.request_notifier(form.client, Action.ACK, form.fields.get("svc", ""), by)
    return _describe_answers(found, _LATER)


async def _add_silence(steering: Steering, form: SentForm) -> PageNotice:
    """Silence a service for a while."""
    fields, now = form.fields, time.time()
    body = SilenceBody.model_validate(
        {
            "services": tuple(filter(None, (fields.get("svc"),))),
            "for_sec": _parse_sec(fields.get("for_sec", "")),
            "reason": fields.get("reason", ""),
            "author": fields.get("by"),
        }
    )
    author = body.author or form.session.token.name
    form.session.author = author
    silence = create_silence(
        body.services, body.tags, body.for_sec, author=author, reason=body.reason, now=now
    )
    found = await steering.add_silence(form.client, silence, now)
    return _describe_silence(found, f"silenced for {format_age(body.for_sec)}")


async def _end_silence(steering: Steering, form: SentForm) -> PageNotice:
    """End a silence now."""
    found = await steering.end_silence(form.client, form.fields.get("id", ""), time.time())
    return _describe_silence(found, "not silenced any more")


async def _send_test(steering: Steering, form: SentForm) -> PageNotice:
    """Send a test message over every channel."""
    by = ChannelTestBody(by=form.fields.get("by")).by or form.session.author
    found = await steering.request_notifier(form.client, Action.TEST, ALL, by)
    return _describe_answers(found, "The notifier did not finish in time.")


async def _resend(steering: Steering, form: SentForm) -> PageNotice:
    """Send a message that was given up again, or all of them."""
    body = ResendBody.model_validate({"id": form.fields.get("id"), "by": form.fields.get("by")})
    by = body.by or form.session.author
    found = await steering.request_notifier(form.client, Action.RESEND, body.id or ALL, by)
    return _describe_answers(found, _LATER)


def _parse_sec(text: str) -> float:
    """Return a number of seconds; 0, which is out of bounds, if the text is none."""
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0.0


def _describe_answers(found: RequestAnswer, unanswered: str) -> PageNotice:
    """Return what the notifier answered, in words."""
    lines = [f"{each.channel}: {each.said}" if each.channel else each.said for each in found.answers]
    said = _make_sentence("; ".join(lines)) if lines else ""
    text = " ".join(filter(None, (said, "" if found.done else unanswered, _describe_refused(found.refused))))
    return PageNotice(text[:MAX_NOTICE_CHARS], is_bad=not found.ok)


def _describe_silence(found: SilenceAnswer, what: str) -> PageNotice:
    """Return what became of a silence, in words."""
    names = ", ".join((*found.services, *(f"tag {tag}" for tag in found.tags)))
    text = f"{escape_text(names)}: {what}. {_describe_refused(found.refused)}".strip()
    return PageNotice(text[:MAX_NOTICE_CHARS])


def _describe_refused(refused: Mapping[str, str]) -> str:
    """Return which buses did not take something, and why."""
    return " ".join(_make_sentence(f"bus {name} did not take it: {why}") for name, why in refused.items())


def _make_sentence(text: str) -> str:
    """Return a text from others as one sentence on one line."""
    text = escape_text(text.strip())
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


def find_way_back(fields: Mapping[str, str]) -> str:
    """Return the path of the page that a form was on; nothing in a form can lead anywhere else."""
    svc = fields.get("svc", "")
    if fields.get("back") == "service" and svc:
        return f"/services/{quote(svc[:200], safe='')}"
    return _PAGES.get(fields.get("back", ""), "/incidents")


def _lead_to(path: str) -> Response:
    """Return an answer that leads to one of our pages."""
    return RedirectResponse(path, 303, _NO_STORE)


def _refuse(error: RefusedError) -> Response:
    """Return a page that says why a form was refused."""
    answer = answer_error(error.status, "This was not done", _make_sentence(error.reason))
    answer.headers.update(error.headers)
    return answer


def _answer_sign_in(page: SignInPage, status: int = 200, headers: Mapping[str, Any] = _NO_STORE) -> Response:
    """Return the page on which a token is given."""
    page = replace(page, assets=find_assets_path())
    return HTMLResponse(render(page), status, {**headers, **_NO_STORE})


async def publish_form(announcements: AnnouncementBoard, form: SentForm) -> PageNotice:
    """Publish a new announcement."""
    fields, now = form.fields, time.time()
    begins_at, ends_at = parse_moment(fields.get("begins", "")), parse_moment(fields.get("ends", ""))
    entry = AnnouncementEntry(
        id=create_announcement_id(),
        ts=now,
        title=fields.get("title", ""),
        text=read_lines(fields),
        state=choose_state(read_state(fields), begins_at),
        author=_read_author(form),
        tags=tuple(filter(None, (fields.get("tag"),))),
        begins_at=begins_at,
        ends_at=ends_at,
    )
    found = await announcements.publish(form.client, entry)
    return PageNotice(f"Published: {found.latest.title}.")


async def update_form(announcements: AnnouncementBoard, form: SentForm) -> PageNotice:
    """Publish an update of an announcement."""
    fields = form.fields
    found = await announcements.update(
        form.client,
        fields.get("id", ""),
        time.time(),
        text=read_lines(fields),
        state=read_state(fields),
        author=_read_author(form),
    )
    return PageNotice(f"{found.latest.title}: the update is published.")


def _read_author(form: SentForm) -> str:
    """Return the name of who wrote a form, which the next forms propose."""
    author = form.fields.get("by") or form.session.token.name
    form.session.author = author
    return author


def read_state(fields: Mapping[str, str]) -> AnnouncementState | None:
    """Return the state that a form names; None for one that leaves it as it is. Raises RefusedError."""
    word = fields.get("state", "")
    try:
        return AnnouncementState(word) if word else None
    except ValueError:
        raise RefusedError(422, "there is no such state") from None


def read_lines(fields: Mapping[str, str]) -> str:
    """Return the text of a form; a browser ends its lines with CR and LF."""
    return fields.get("text", "").replace("\r\n", "\n").replace("\r", "\n")


def parse_moment(text: str) -> float | None:
    """Return a date and time in UTC, as a browser sends it, in epoch seconds; None for an empty text.

    Raises RefusedError for any other text.
    """
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        raise RefusedError(422, "a begin and an end are a date and a time") from None
