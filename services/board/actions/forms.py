"""Let people steer the fleet on the pages, without JavaScript too: sign in with a token, and send forms.

Each form does what a request under `/api/v1` does, with the same limits and the same audit log. The answer
leads back to the page, which then says in a sentence its outcome.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.responses import HTMLResponse, Response

from marketswarm.operator.announcements import AnnouncementState
from marketswarm.operator.healing_text import describe_proposal
from marketswarm.operator.silences import NO_REASON
from marketswarm.operator.tokens import Scope
from marketswarm.text import escape_text, parse_digits
from marketswarm.web.limits import RefusedError
from marketswarm.web.responses import Templates, make_sentence, redirect
from marketswarm.web.sessions import (
    BrowserSession,
    PageNotice,
    SentForm,
    SessionGate,
    read_fields,
)
from marketswarm.web.validation import describe_invalid, place_errors
from services.board.actions.announcements import AnnouncementBoard, AnnouncementBody, AnnouncementUpdateBody
from services.board.actions.steering import (
    AckBody,
    ApproveBody,
    ChannelTestBody,
    HealingSteering,
    RequestAnswer,
    ResendBody,
    SilenceAnswer,
    SilenceBody,
    Steering,
    VerbBody,
)
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.words import format_age

MAX_NOTICE_CHARS: Final = 500
_PAGES: Final[Mapping[str, str]] = {
    "fleet": "/",
    "incidents": "/incidents",
    "past": "/incidents/past",
    "notifications": "/notifications",
    "truth": "/truth",
    "edit": "/truth/edit",
    "add": "/truth/add",
    "announcements": "/announcements",
    "keys": "/keys",
    "backtests": "/market/backtests",
}
_PAGES_OF_SERVICE: Final = {"service": "/services/", "entry": "/truth/entry?name="}
_OVER: Final = "Your session has ended: sign in again."
_LATER: Final = "The notifier has not answered yet: one that runs within a day does it."
Act = Callable[[SentForm], Awaitable[PageNotice]]
B = TypeVar("B", bound=VerbBody)
Word = Annotated[str, Query(max_length=300)]


@dataclass(frozen=True, slots=True)
class SignInPage:
    """The field for a token, and why it is asked for again; `session` is who is signed in already.

    `back` and `svc` name the page to continue with.
    """

    template: ClassVar = "sign_in.html"
    back: str = ""
    svc: str = ""
    problem: str = ""
    session: BrowserSession | None = None
    title: str = "Sign in"


def make_forms(board: FleetBoard, acts: Mapping[str, Act]) -> APIRouter:
    """Return the routes of the forms; `acts` has by the last word of its path (`/act/silence`) what one does.

    After an act, the answer waits until the board's snapshot includes what was done.
    """
    forms = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    _add_sign_in(forms, board.gate, board.templates)

    @forms.post("/act/{name}")
    async def act(name: str, request: Request) -> Response:
        if name not in acts:
            return board.templates.answer_error(404, "No such form", "")
        form = await board.gate.read_form(request)
        notice = await run_act(board.gate, form, acts[name])
        if not notice.is_bad:
            await board.refresh()
        way = find_way_back(form.fields)
        return redirect(f"{way}{'&' if '?' in way else '?'}said={form.session.add_notice(notice)}")

    return forms


def _add_sign_in(forms: APIRouter, gate: SessionGate, templates: Templates) -> None:
    @forms.get("/sign-in")
    async def show_sign_in(request: Request, back: Word = "", svc: Word = "", why: Word = "") -> Response:
        session = await gate.find_session(request)
        return templates.answer(SignInPage(back, svc, _OVER if why == "over" else "", session))

    @forms.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        gate.find_origin(request)
        fields = await read_fields(request)
        answer = redirect(find_way_back(fields))
        try:
            await gate.open(request, answer, fields.get("token", ""))
        except RefusedError as error:
            page = SignInPage(fields.get("back", ""), fields.get("svc", ""), make_sentence(error.reason))
            return templates.answer(page, error.status, error.headers or {})
        return answer

    @forms.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        answer = redirect("/sign-in")
        gate.find_origin(request)
        await gate.close(request, answer)
        return answer


async def run_act(gate: SessionGate, form: SentForm, act: Act) -> PageNotice:
    """Do what a form says if its session may write, and not too often; return its outcome."""
    try:
        gate.verifier.limit(form.session.token, Scope.WRITE, time.monotonic())
        return await act(form)
    except RefusedError as error:
        return PageNotice(make_sentence(error.reason), is_bad=True)
    except ValidationError as error:
        wrong = describe_invalid(place_errors(error, "form", VerbBody))
        return PageNotice(f"Nothing was done. {make_sentence(wrong)}"[:MAX_NOTICE_CHARS], is_bad=True)


def list_acts(steering: Steering, healing: HealingSteering) -> dict[str, Act]:
    """Return by its word what each form of the pages does on the buses.

    Each act takes a form that was sent, does it by `steering` or `healing`, which audit it, and returns the
    notice for the next page. It raises RefusedError for a body that is out of bounds.
    """

    async def acknowledge(form: SentForm) -> PageNotice:
        svc = form.fields.get("svc", "")
        found = await steering.acknowledge(form.client, read_body(form, AckBody), svc)
        return _describe_answers(found, _LATER)

    async def add_silence(form: SentForm) -> PageNotice:
        services = tuple(filter(None, (form.fields.get("svc"),)))
        for_sec = float(parse_digits(form.fields.get("for_sec"), 9) or 0)  # 0 is out of bounds
        reason = form.fields.get("reason", "").strip() or NO_REASON
        body = read_body(form, SilenceBody, services=services, for_sec=for_sec, reason=reason)
        found = await steering.add_silence(form.client, body, time.time())
        return _describe_silence(found, f"silenced for {format_age(body.for_sec)}")

    async def end_silence(form: SentForm) -> PageNotice:
        found = await steering.end_silence(form.client, form.fields.get("id", ""), time.time())
        return _describe_silence(found, "not silenced any more")

    async def send_test(form: SentForm) -> PageNotice:
        body = read_body(form, ChannelTestBody, channel=form.fields.get("channel"))
        found = await steering.send_test(form.client, body)
        return _describe_answers(found, "The notifier did not finish in time.")

    async def resend(form: SentForm) -> PageNotice:
        body = read_body(form, ResendBody, id=form.fields.get("id"))
        return _describe_answers(await steering.resend(form.client, body), _LATER)

    async def approve(form: SentForm) -> PageNotice:
        body, ident = read_body(form, ApproveBody), form.fields.get("id", "")
        found = await healing.approve(form.client, body, ident, time.time())
        what = describe_proposal(found.remedy, found.svc) if found.svc else "the medic continues"
        return PageNotice(f"Approved: {what}."[:MAX_NOTICE_CHARS])

    return {
        "ack": acknowledge,
        "silence": add_silence,
        "unsilence": end_silence,
        "test": send_test,
        "resend": resend,
        "approve": approve,
    }


def list_announcement_acts(announcements: AnnouncementBoard) -> dict[str, Act]:
    async def publish(form: SentForm) -> PageNotice:
        fields = form.fields
        body = read_body(
            form,
            AnnouncementBody,
            title=fields.get("title", ""),
            text=form.text,
            state=read_state(fields),
            tags=tuple(filter(None, (fields.get("tag"),))),
            begins_at=parse_moment(fields.get("begins", "")),
            ends_at=parse_moment(fields.get("ends", "")),
        )
        found = await announcements.publish(form.client, body, time.time())
        return PageNotice(f"Published: {found.latest.title}.")

    async def update(form: SentForm) -> PageNotice:
        body = read_body(form, AnnouncementUpdateBody, text=form.text, state=read_state(form.fields))
        found = await announcements.update(form.client, body, form.fields.get("id", ""), time.time())
        return PageNotice(f"{found.latest.title}: the update is published.")

    return {"announce": publish, "update": update}


def read_body(form: SentForm, model: type[B], **given: Any) -> B:
    """Return what a verb takes, in the name of the person; the next forms propose that name."""
    field = "by" if "by" in model.model_fields else "author"
    body = model.model_validate(given | {field: form.fields.get("by") or form.session.author})
    form.session.author = getattr(body, field)
    return body


def _describe_answers(found: RequestAnswer, unanswered: str) -> PageNotice:
    lines = [f"{each.channel}: {each.said}" if each.channel else each.said for each in found.answers]
    said = make_sentence("; ".join(lines)) if lines else ""
    text = " ".join(filter(None, (said, "" if found.done else unanswered, _describe_refused(found.refused))))
    return PageNotice(text[:MAX_NOTICE_CHARS], is_bad=not found.ok)


def _describe_silence(found: SilenceAnswer, what: str) -> PageNotice:
    names = ", ".join((*found.services, *(f"tag {tag}" for tag in found.tags)))
    text = f"{escape_text(names)}: {what}. {_describe_refused(found.refused)}".strip()
    return PageNotice(text[:MAX_NOTICE_CHARS])


def _describe_refused(refused: Mapping[str, str]) -> str:
    return " ".join(make_sentence(f"bus {name} did not take it: {why}") for name, why in refused.items())


def find_way_back(fields: Mapping[str, str]) -> str:
    """Return the path of the page that a form was on; nothing in a form can lead anywhere else."""
    svc, back = fields.get("svc", ""), fields.get("back", "")
    if svc and back in _PAGES_OF_SERVICE:
        return f"{_PAGES_OF_SERVICE[back]}{quote(svc[:200], safe='')}"
    return _PAGES.get(back, "/incidents")


def read_state(fields: Mapping[str, str]) -> AnnouncementState | None:
    """Return the state that a form names, None if it names none. Raises RefusedError for an unknown one."""
    word = fields.get("state", "")
    try:
        return AnnouncementState(word) if word else None
    except ValueError:
        raise RefusedError(422, "there is no such state") from None


def parse_moment(text: str) -> float | None:
    """Return the epoch seconds of a time in UTC, None for an empty text. Raises RefusedError for others."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        raise RefusedError(422, "a begin and an end are a date and a time") from None
