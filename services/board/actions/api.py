"""Let programs steer the fleet under `/api/v1`: silences, acknowledgements, test messages.

Each request needs a token with the scope `write` in the header `Authorization`. Cookies count for nothing, so
no other page in a browser can act for its user. The token is verified before the body is read.
"""

import time
from typing import Annotated, Any, Final, TypeVar

import orjson
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from marketswarm.operator import ALL
from marketswarm.operator.announcement import (
    MAX_CHARS,
    MAX_TAGS,
    Announcement,
    AnnouncementEntry,
    AnnouncementState,
)
from marketswarm.operator.fields import Epoch, Name, Text
from marketswarm.operator.token import Scope
from marketswarm.operator_link import MAX_SILENCE_SEC, create_silence
from marketswarm.operator_link.announcements import create_announcement_id
from services.board.access.audit import Action
from services.board.access.limits import RefusedError
from services.board.access.tokens import Client, TokenVerifier
from services.board.actions.announcements import AnnouncementBoard, choose_state
from services.board.actions.steering import RequestAnswer, SilenceAnswer, Steering

_JSON: Final = "application/json"
_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"description": "The token is missing or not valid"},
    403: {"description": "The token lacks the scope"},
    415: {"description": "The body is no JSON"},
    422: {"description": "A value is out of bounds, or names what the truth does not have"},
    429: {"description": "Too many requests: `Retry-After` says when to try again"},
    503: {"description": "No bus took it"},
}
Names = Annotated[tuple[Name, ...], Field(max_length=50)]


def _require_printable(text: str) -> str:
    """Return a text without the blanks around it. Raises ValueError if it can't be shown on one line."""
    if not text.strip() or not text.isprintable():
        raise ValueError("it can't be shown on one line")
    return text.strip()


Author = Annotated[Name, AfterValidator(_require_printable)]


class _Body(BaseModel):
    """What a client sends: no conversions, no unknown keys, and nothing of it in an error."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class SilenceBody(_Body):
    """A silence: services, by name or pattern, and tags; `author` is by default the token's name."""

    services: Names = ()
    tags: Names = ()
    for_sec: Annotated[float, Field(gt=0, le=MAX_SILENCE_SEC, allow_inf_nan=False)]
    reason: Annotated[Text, AfterValidator(_require_printable)]
    author: Author | None = None


class AckBody(_Body):
    """Who sees to an outage; by default the token's name."""

    by: Author | None = None


class ResendBody(_Body):
    """The message to send again, by default every one, and who does; by default the token's name."""

    id: Name | None = None
    by: Author | None = None


class ChannelTestBody(_Body):
    """The channel to test, by default every one, and who does; by default the token's name."""

    channel: Name | None = None
    by: Author | None = None


B = TypeVar("B", bound=_Body)


class AnnouncementBody(_Body):
    """An announcement: an incident or, with a begin and an end, maintenance; times are epoch seconds.

    `author` is by default the token's name. `tags` are public tags; without one it concerns everything.
    """

    title: Annotated[Name, AfterValidator(_require_printable)]
    text: Annotated[str, Field(min_length=1, max_length=MAX_CHARS)]
    state: AnnouncementState | None = None
    tags: Annotated[tuple[Name, ...], Field(max_length=MAX_TAGS)] = ()
    begins_at: Epoch | None = None
    ends_at: Epoch | None = None
    author: Author | None = None


class AnnouncementUpdateBody(_Body):
    """An update of an announcement: what is not given stays as it was."""

    text: Annotated[str, Field(min_length=1, max_length=MAX_CHARS)]
    state: AnnouncementState | None = None
    title: Annotated[Name, AfterValidator(_require_printable)] | None = None
    begins_at: Epoch | None = None
    ends_at: Epoch | None = None
    author: Author | None = None


def make_actions(steering: Steering, verifier: TokenVerifier, announcements: AnnouncementBoard) -> APIRouter:
    """Return the routes that change something."""
    shown = HTTPBearer(scheme_name="token", bearerFormat="mst_<id>_<secret>", auto_error=False)
    api = APIRouter(prefix="/api/v1", dependencies=[Depends(shown)], responses=_REFUSALS)
    _add_silences(api, steering, verifier)
    _add_ack(api, steering, verifier)
    _add_test(api, steering, verifier)
    _add_announcements(api, announcements, verifier)
    _add_resend(api, steering, verifier)
    return api


def _add_silences(api: APIRouter, steering: Steering, verifier: TokenVerifier) -> None:
    """Add the routes that set and end silences."""

    @api.post(
        "/silences",
        status_code=201,
        response_model=SilenceAnswer,
        openapi_extra=_describe_body(SilenceBody, is_required=True),
    )
    async def add_silence(request: Request) -> Response:
        """Send no notification on some services for a while; what is still down at the end is sent then."""
        client, now = await _verify(request, verifier), time.time()
        body = await _read_body(request, SilenceBody)
        try:
            silence = create_silence(
                body.services,
                body.tags,
                body.for_sec,
                author=body.author or client.name,
                reason=body.reason,
                now=now,
            )
            return _answer(await steering.add_silence(client, silence, now), 201)
        except (RefusedError, ValidationError) as error:
            raise _make_http_error(error) from None

    @api.delete(
        "/silences/{ident}",
        response_model=SilenceAnswer,
        responses={404: {"description": "There is no such silence"}},
    )
    async def end_silence(ident: str, request: Request) -> Response:
        """End a silence now; notifications on what is still down are sent at once."""
        client = await _verify(request, verifier)
        try:
            return _answer(await steering.end_silence(client, ident, time.time()), 200)
        except RefusedError as error:
            raise _make_http_error(error) from None


def _add_ack(api: APIRouter, steering: Steering, verifier: TokenVerifier) -> None:
    """Add the route that acknowledges an outage."""

    @api.post(
        "/incidents/{svc:path}/ack",
        response_model=RequestAnswer,
        openapi_extra=_describe_body(AckBody, is_required=False),
        responses={
            202: {"description": "Not answered in time: a notifier that runs within a day does it"},
            409: {"description": "The notifier refused it: nothing is down under that name"},
        },
    )
    async def acknowledge(svc: str, request: Request) -> Response:
        """Say that somebody sees to an outage: no reminders and no escalation until it is over.

        `svc` is the service that is down, or the id of its miss.
        """
        client = await _verify(request, verifier)
        body = await _read_body(request, AckBody)
        try:
            found = await steering.request_notifier(client, Action.ACK, svc, body.by or client.name)
        except (RefusedError, ValidationError) as error:
            raise _make_http_error(error) from None
        return _answer(found, 200 if found.ok else 409 if found.done else 202)


def _add_test(api: APIRouter, steering: Steering, verifier: TokenVerifier) -> None:
    """Add the route that sends a test message."""

    @api.post(
        "/notifications/test",
        response_model=RequestAnswer,
        openapi_extra=_describe_body(ChannelTestBody, is_required=False),
        responses={504: {"description": "The notifier did not finish in time"}},
    )
    async def send_test(request: Request) -> Response:
        """Send a test message through the notifier's own queue; the answer has what each receiver said."""
        client = await _verify(request, verifier)
        body = await _read_body(request, ChannelTestBody)
        by, channel = body.by or client.name, body.channel or ALL
        try:
            found = await steering.request_notifier(client, Action.TEST, channel, by)
        except (RefusedError, ValidationError) as error:
            raise _make_http_error(error) from None
        return _answer(found, 200 if found.done else 504)


def _add_announcements(api: APIRouter, announcements: AnnouncementBoard, verifier: TokenVerifier) -> None:
    """Add the routes that publish announcements and their updates."""

    @api.post(
        "/announcements",
        status_code=201,
        response_model=Announcement,
        openapi_extra=_describe_body(AnnouncementBody, is_required=True),
    )
    async def publish(request: Request) -> Response:
        """Tell the readers of the public page of an incident, or of maintenance."""
        client, now = await _verify(request, verifier), time.time()
        given = (await _read_body(request, AnnouncementBody)).model_dump()
        given["author"] = given["author"] or client.name
        given["state"] = choose_state(given["state"], given["begins_at"])
        try:
            entry = AnnouncementEntry(id=create_announcement_id(), ts=now, **given)
            return _answer(await announcements.publish(client, entry), 201)
        except (RefusedError, ValidationError) as error:
            raise _make_http_error(error) from None

    @api.patch(
        "/announcements/{ident}",
        response_model=Announcement,
        openapi_extra=_describe_body(AnnouncementUpdateBody, is_required=True),
        responses={404: {"description": "There is no such announcement"}},
    )
    async def update(ident: str, request: Request) -> Response:
        """Add an update to an announcement; the state `withdrawn` takes it off the public page."""
        client, now = await _verify(request, verifier), time.time()
        given = (await _read_body(request, AnnouncementUpdateBody)).model_dump()
        given["author"] = given["author"] or client.name
        try:
            return _answer(await announcements.update(client, ident, now, **given), 200)
        except (RefusedError, ValidationError) as error:
            raise _make_http_error(error) from None

    @api.get("/announcements", response_model=tuple[Announcement, ...])
    async def read_all() -> Response:
        """Return the announcements, the one that was changed last first, with their updates, newest first.

        It needs no token beyond the right to read.
        """
        return _answer(await announcements.read(), 200)


def _add_resend(api: APIRouter, steering: Steering, verifier: TokenVerifier) -> None:
    """Add the route that sends dead messages again."""

    @api.post(
        "/notifications/resend",
        response_model=RequestAnswer,
        openapi_extra=_describe_body(ResendBody, is_required=False),
        responses={
            202: {"description": "Not answered in time: a notifier that runs within a day does it"},
            409: {"description": "Nothing that was given up has that id, or a channel did not take it again"},
        },
    )
    async def resend(request: Request) -> Response:
        """Send again what was given up, under the same id, over the channels that did not take it."""
        client = await _verify(request, verifier)
        body = await _read_body(request, ResendBody)
        by = body.by or client.name
        try:
            found = await steering.request_notifier(client, Action.RESEND, body.id or ALL, by)
        except (RefusedError, ValidationError) as error:
            raise _make_http_error(error) from None
        return _answer(found, 200 if found.ok else 409 if found.done else 202)


async def _verify(request: Request, verifier: TokenVerifier) -> Client:
    """Return the client of a request that may write. Raises HTTPException."""
    header, address = request.headers.get("authorization"), request.client.host if request.client else ""
    try:
        token = await verifier.verify(header, Scope.WRITE, address, time.monotonic(), time.time())
    except RefusedError as error:
        raise _make_http_error(error) from None
    return Client(token, address)


async def _read_body(request: Request, model: type[B]) -> B:
    """Return the body of a request as a value; an empty one stands for an empty object.

    Raises HTTPException or RequestValidationError.
    """
    raw = await request.body()
    if raw and request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise HTTPException(415, f"a body is {_JSON}")
    try:
        return model.model_validate_json(raw or b"{}")
    except ValidationError as error:
        raise _make_http_error(error) from None


def _make_http_error(error: RefusedError | ValidationError) -> Exception:
    """Return the error that the application answers with."""
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found])
    return HTTPException(error.status, error.reason, error.headers)


def _answer(value: Any, status: int) -> Response:
    """Return a value as JSON that nobody keeps."""
    return Response(orjson.dumps(value), status, {"Cache-Control": "no-store"}, _JSON)


def _describe_body(model: type[_Body], *, is_required: bool) -> dict[str, Any]:
    """Return the part of the OpenAPI document that describes a body."""
    schema = model.model_json_schema()
    return {"requestBody": {"required": is_required, "content": {_JSON: {"schema": schema}}}}
