"""Answer the requests for badges: the state of a service, or of a tag, as a picture or as JSON.

The guard lets everyone ask for those that the truth marks public: `/badge/<svc>.svg`, `/badge/tag/<tag>.svg`.
Others need the right to read.

The words are those that people know from other badges: up, down, late. All texts in a picture are escaped,
and its width is estimated, since the server lacks the reader's font; the reader's browser makes the text fit.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import orjson
from fastapi import APIRouter, HTTPException, Request
from markupsafe import escape
from starlette.responses import Response

from marketswarm.status.service_rows import URGENCY, ServiceState
from marketswarm.text import escape_text
from marketswarm.web.responses import answer_body
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.snapshot import ServiceSnapshot
from services.board.fleet.visibility import ALL_SERVICES, is_public_path, split_badge

MAX_AGE_SEC: Final = 30
_PUBLIC_HEADERS: Final = {
    "Cache-Control": f"public, max-age={MAX_AGE_SEC}",
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
"""A page anywhere may show a badge that is public."""
_PRIVATE_HEADERS: Final = {"Cache-Control": "private, no-cache"}
MAX_LABEL: Final = 60  # the most characters of a label; the rest is cut off
HEIGHT: Final = 20
_PADDING: Final = 6
_LABEL_COLOUR: Final = "#4a4d52"
_WIDTHS: Final[Mapping[str, float]] = {
    char: width
    for chars, width in (
        ("ijlI'|!.,:;", 3.6),
        ('ft()[]{}/\\ -r"', 4.6),
        ("ckszvxyJL*", 6.2),
        ("abdeghnopqu0123456789_+=<>~FTZYXVK?", 7.0),
        ("ABCDEGHNOPQRSU&#$", 7.9),
        ("mwM@%", 10.2),
        ("W", 11.0),
    )
    for char in chars
}
"""The width of characters of Verdana at 11 pixels, about."""


@dataclass(frozen=True, slots=True)
class BadgeLook:
    """How a state is shown: its word, the colour of the picture, and the colour's name for shields.io."""

    word: str
    colour: str
    shields: str


LOOKS: Final[Mapping[ServiceState, BadgeLook]] = {
    ServiceState.UP: BadgeLook("up", "#2e7d4f", "success"),
    ServiceState.DOWN: BadgeLook("down", "#b3261e", "critical"),
    ServiceState.FAILED: BadgeLook("failed", "#b3261e", "critical"),
    ServiceState.SILENT: BadgeLook("late", "#8f5a00", "important"),
    ServiceState.UNWATCHABLE: BadgeLook("unknown", "#6b7078", "inactive"),
    ServiceState.UNKNOWN: BadgeLook("unknown", "#6b7078", "inactive"),
}


@dataclass(frozen=True, slots=True)
class Badge:
    """A label and the state beside it. Of `total` services, `down` are down and `late` are late."""

    label: str
    state: ServiceState
    total: int = 1
    down: int = 0
    late: int = 0

    @property
    def message(self) -> str:
        """The state in words: `up`, or `2 of 5 down` for a tag."""
        word = LOOKS[self.state].word
        return f"{self.down} of {self.total} {word}" if self.down and self.total > 1 else word


def make_badge(label: str, services: Sequence[ServiceSnapshot], *, is_current: bool = True) -> Badge:
    """Return the badge of a service, or of those with a tag: the most urgent of their states.

    The state is unknown if the board's last look is not current.
    """
    states = [one.state if is_current else ServiceState.UNKNOWN for one in services]
    worst = min(states, key=URGENCY.__getitem__, default=ServiceState.UNKNOWN)
    down, late = states.count(ServiceState.DOWN), states.count(ServiceState.SILENT)
    label = escape_text(label)
    if len(label) > MAX_LABEL:
        label = f"{label[: MAX_LABEL - 1]}…"
    return Badge(label, worst, len(states), down, late)


def encode_badge(badge: Badge) -> bytes:
    return orjson.dumps(
        {
            "label": badge.label,
            "status": LOOKS[badge.state].word,
            "message": badge.message,
            "total": badge.total,
            "down": badge.down,
            "grace": badge.late,  # the word of Healthchecks
        }
    )


def encode_shields(badge: Badge) -> bytes:
    return orjson.dumps(
        {
            "schemaVersion": 1,
            "label": badge.label,
            "message": badge.message,
            "color": LOOKS[badge.state].shields,
        }
    )


def draw_badge(badge: Badge) -> bytes:
    left, right = (estimate_width(text) for text in (badge.label, badge.message))
    first, width = left + 2 * _PADDING, left + right + 4 * _PADDING
    label, message, colour = escape(badge.label), escape(badge.message), LOOKS[badge.state].colour
    texts = "".join(
        f'<text x="{x}" y="14" textLength="{length}" lengthAdjust="spacingAndGlyphs">{text}</text>'
        for x, length, text in ((_PADDING, left, label), (first + _PADDING, right, message))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" '
        f'viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{label}: {message}">'
        f"<title>{label}: {message}</title>"
        f'<clipPath id="r"><rect width="{width}" height="{HEIGHT}" rx="3"/></clipPath><g clip-path="url(#r)">'
        f'<rect width="{first}" height="{HEIGHT}" fill="{_LABEL_COLOUR}"/>'
        f'<rect x="{first}" width="{width - first}" height="{HEIGHT}" fill="{colour}"/></g>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11">'
        f"{texts}</g></svg>"
    ).encode()


def estimate_width(text: str) -> int:
    """Return about how many pixels wide a text is; characters of East Asia are wider."""
    return round(
        sum(
            _WIDTHS.get(char, 11.5 if unicodedata.east_asian_width(char) in "WF" else 7.2)
            for char in text
            if not unicodedata.combining(char)
        )
    )


FORMS: Final[Mapping[str, tuple[Callable[[Badge], bytes], str]]] = {
    "svg": (draw_badge, "image/svg+xml"),
    "json": (encode_badge, "application/json"),
    "shields": (encode_shields, "application/json"),
}
"""By the end of a badge's path, what encodes it, and its media type."""


def make_badge_site(board: FleetBoard) -> APIRouter:
    site = APIRouter(include_in_schema=False)

    @site.get("/badge/tag/{file:path}")
    async def show_tag_badge(file: str, request: Request) -> Response:
        tag, form = split_badge(file)
        snapshot = board.snapshot
        found = [one for one in snapshot.services if tag == ALL_SERVICES or tag in one.tags]
        label = (snapshot.fleet or "all services") if tag == ALL_SERVICES else tag
        return answer_badge(board, request, label, found, form)

    @site.get("/badge/{file}")
    async def show_service_badge(file: str, request: Request) -> Response:
        svc, form = split_badge(file)
        found = board.snapshot.find(svc)
        return answer_badge(board, request, svc, [] if found is None else [found], form)

    return site


def answer_badge(
    board: FleetBoard, request: Request, label: str, services: Sequence[ServiceSnapshot], form: str
) -> Response:
    """Raises HTTPException, 404, without services and for a form that is not in FORMS."""
    if not services or form not in FORMS:
        raise HTTPException(404, "no such badge")
    encode, media_type = FORMS[form]
    body = encode(make_badge(label, services, is_current=board.is_current()))
    etag = f'"{sha256(body).hexdigest()[:16]}"'
    is_public = is_public_path(request.url.path, board.snapshot, board.public)
    answer = answer_body(request, body, etag, media_type)
    answer.headers.update(_PUBLIC_HEADERS if is_public else _PRIVATE_HEADERS)
    return answer
