"""Let programs steer the fleet under `/api/v1`: silences, acknowledgements, test messages, approvals.

Each request needs a token with the scope `write` in the header `Authorization`. Cookies count for nothing, so
no other page in a browser can act for its user. The token is verified before the body is read.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from fastapi import APIRouter, HTTPException, Request
from pydantic import ValidationError
from starlette.responses import Response

from marketswarm.operator.announcements import Announcement
from marketswarm.operator.tokens import Scope
from marketswarm.web.limits import find_quota_headers
from marketswarm.web.responses import answer_fresh
from marketswarm.web.tokens import TOKEN_HEADER, Client, TokenVerifier, find_media_type
from marketswarm.web.validation import describe_invalid, place_errors
from services.board.actions.announcements import AnnouncementBoard, AnnouncementBody, AnnouncementUpdateBody
from services.board.actions.steering import (
    AckBody,
    ApprovalAnswer,
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

_JSON: Final = "application/json"
_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {415: {"description": "The body is not JSON"}}
"""The refusals that not every operation of the API has; `describe_failures` adds the others."""
_LATER: Final = "Not answered in time: a notifier that runs within a day does it"
_NO_OTHERS: Final[Mapping[int, str]] = {}
Route = TypeVar("Route", bound=Callable[..., Any])
A = TypeVar("A")
B = TypeVar("B", bound=VerbBody)


def make_actions(
    steering: Steering, verifier: TokenVerifier, announcements: AnnouncementBoard, healing: HealingSteering
) -> APIRouter:
    """Return the routes of `/api/v1` that change the fleet; some end silences and delete announcements."""
    api = APIRouter(prefix="/api/v1", dependencies=[TOKEN_HEADER], responses=_REFUSALS)
    _add_requests(api, steering, verifier)
    _add_announcements(api, announcements, verifier)

    @add_verb(api, "POST", "/monitor/proposals/{ident}/approve", ApproveBody, ApprovalAnswer)
    async def approve(ident: str, request: Request) -> Response:
        """Have a proposal of the medic carried out, once; `fuse` lets it continue after too many remedies."""
        act = partial(healing.approve, ident=ident, now=time.time())
        return answer_fresh(await carry_out(request, verifier, ApproveBody, act))

    @add_verb(api, "POST", "/silences", SilenceBody, SilenceAnswer, status=201)
    async def add_silence(request: Request) -> Response:
        """Send no notification on some services for a while; what is still down at the end is sent then."""
        act = partial(steering.add_silence, now=time.time())
        return answer_fresh(await carry_out(request, verifier, SilenceBody, act), 201)

    @api.delete("/silences/{ident}", response_model=SilenceAnswer)
    async def end_silence(ident: str, request: Request) -> Response:
        """End a silence now; notifications on what is still down are sent at once."""
        client = await verifier.verify_client(request, Scope.WRITE)
        return answer_fresh(await steering.end_silence(client, ident, time.time()))

    return api


def _add_requests(api: APIRouter, steering: Steering, verifier: TokenVerifier) -> None:
    refusals = {202: _LATER, 409: "The notifier refused it: nothing is down under that name"}

    @add_verb(api, "POST", "/incidents/{svc:path}/ack", AckBody, RequestAnswer, also=refusals)
    async def acknowledge(svc: str, request: Request) -> Response:
        """Say that somebody sees to an outage: no reminders and no escalation until it ends.

        `svc` is the service that is down, or the id of its miss.
        """
        return _answer_request(
            await carry_out(request, verifier, AckBody, partial(steering.acknowledge, svc=svc))
        )

    late = {504: "The notifier did not finish in time"}

    @add_verb(api, "POST", "/notifications/test", ChannelTestBody, RequestAnswer, also=late)
    async def send_test(request: Request) -> Response:
        """Send a test message through the notifier's own queue; the answer has what each receiver said."""
        found = await carry_out(request, verifier, ChannelTestBody, steering.send_test)
        return answer_fresh(found, 200 if found.done else 504)

    refused = "Nothing that was given up has that id, or a channel did not take it again"

    @add_verb(
        api, "POST", "/notifications/resend", ResendBody, RequestAnswer, also={202: _LATER, 409: refused}
    )
    async def resend(request: Request) -> Response:
        """Send again what was given up, under the same id, over the channels that did not take it."""
        return _answer_request(await carry_out(request, verifier, ResendBody, steering.resend))


def _add_announcements(api: APIRouter, announcements: AnnouncementBoard, verifier: TokenVerifier) -> None:
    @add_verb(api, "POST", "/announcements", AnnouncementBody, Announcement, status=201)
    async def publish(request: Request) -> Response:
        """Tell the readers of the public page of an incident, or of maintenance."""
        act = partial(announcements.publish, now=time.time())
        return answer_fresh(await carry_out(request, verifier, AnnouncementBody, act), 201)

    @add_verb(api, "PATCH", "/announcements/{ident}", AnnouncementUpdateBody, Announcement)
    async def update(ident: str, request: Request) -> Response:
        """Add an update to an announcement; the state `withdrawn` takes it off the public page."""
        act = partial(announcements.update, ident=ident, now=time.time())
        return answer_fresh(await carry_out(request, verifier, AnnouncementUpdateBody, act))

    @api.get("/announcements", response_model=tuple[Announcement, ...])
    async def read_all() -> Response:
        """Return the announcements, the one that was changed last first, with their updates, newest first.

        It needs no token beyond the right to read.
        """
        return answer_fresh(await announcements.read())


def add_verb(
    api: APIRouter,
    method: str,
    path: str,
    model: type[VerbBody],
    answer: type,
    *,
    status: int = 200,
    also: Mapping[int, str] = _NO_OTHERS,
) -> Callable[[Route], Route]:
    """Return what adds a function that takes a `model` from the body of a request, by `carry_out`.

    FastAPI would parse the body before the token is verified, so it is told only what to say of the body.
    `also` has the meaning of each other status.
    """
    schema = model.model_json_schema()
    body = {"required": "required" in schema, "content": {_JSON: {"schema": schema}}}
    return api.api_route(
        path,
        methods=[method],
        status_code=status,
        response_model=answer,
        responses={each: {"description": words} for each, words in also.items()},
        openapi_extra={"requestBody": body},
    )


async def carry_out(
    request: Request, verifier: TokenVerifier, model: type[B], verb: Callable[[Client, B], Awaitable[A]]
) -> A:
    """Do what a request wants, by the client that its token names; an empty body stands for an empty object.

    Raises HTTPException, also for a body that is wrong.
    """
    client = await verifier.verify_client(request, Scope.WRITE)
    raw = await request.body()
    if raw and find_media_type(request) != _JSON:
        raise HTTPException(415, f"a body is {_JSON}")
    try:
        return await verb(client, model.model_validate_json(raw or b"{}"))
    except ValidationError as error:
        wrong = describe_invalid(place_errors(error, "body", model))
        raise HTTPException(422, wrong, find_quota_headers(request)) from None


def _answer_request(found: RequestAnswer) -> Response:
    return answer_fresh(found, 200 if found.ok else 409 if found.done else 202)
