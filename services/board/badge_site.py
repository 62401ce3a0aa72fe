"""Answer the requests for badges: `/badge/<svc>.svg` and `/badge/tag/<tag>.svg`, also as JSON.

The guard lets everyone ask for those that the truth marks public, and others only with the right to read.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from services.board.badges import (
    Badge,
    draw_badge,
    encode_badge,
    encode_shields,
    make_service_badge,
    make_tag_badge,
)
from services.board.board import Board
from services.board.public import ALL_SERVICES, is_public_path, split_badge

MAX_AGE_SEC: Final = 30
FORMS: Final[Mapping[str, tuple[Callable[[Badge], bytes], str]]] = {
    "svg": (draw_badge, "image/svg+xml"),
    "json": (encode_badge, "application/json"),
    "shields": (encode_shields, "application/json"),
}
"""By the end of a badge's path, what encodes it, and its media type."""
_PUBLIC_HEADERS: Final = {
    "Cache-Control": f"public, max-age={MAX_AGE_SEC}",
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
"""A page anywhere may show a badge that is public."""
_PRIVATE_HEADERS: Final = {"Cache-Control": "private, no-cache"}


def make_badge_site(board: Board) -> APIRouter:
    """Return the routes of the badges."""
    site = APIRouter(include_in_schema=False)

    @site.get("/badge/tag/{file:path}")
    async def show_tag_badge(file: str, request: Request) -> Response:
        """Show the state of all services with a tag, or of all services for `*`."""
        tag, form = split_badge(file)
        snapshot = board.snapshot
        found = [one for one in snapshot.services if tag == ALL_SERVICES or tag in one.tags]
        if not found or form not in FORMS:
            raise HTTPException(404, "no such badge")
        label = (snapshot.fleet or "all services") if tag == ALL_SERVICES else tag
        return answer_badge(board, request, make_tag_badge(label, found, is_current=board.is_current()), form)

    @site.get("/badge/{file}")
    async def show_service_badge(file: str, request: Request) -> Response:
        """Show the state of a service."""
        svc, form = split_badge(file)
        found = board.snapshot.find(svc)
        if found is None or form not in FORMS:
            raise HTTPException(404, "no such badge")
        return answer_badge(board, request, make_service_badge(found, is_current=board.is_current()), form)

    return site


def answer_badge(board: Board, request: Request, badge: Badge, form: str) -> Response:
    """Return a badge in one of its forms, or 304 if the client has it already by its `ETag`."""
    encode, media_type = FORMS[form]
    body = encode(badge)
    etag = f'"{sha256(body).hexdigest()[:16]}"'
    is_public = is_public_path(request.url.path, board.snapshot, board.public)
    headers = {"ETag": etag, **(_PUBLIC_HEADERS if is_public else _PRIVATE_HEADERS)}
    known = (each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(","))
    if etag in known:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)
