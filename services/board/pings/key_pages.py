"""Show the ping keys to people who are signed in, and let them make and delete one, without JavaScript too.

The secret of a new key stands in the answer to its form alone, so it is seen once and kept nowhere.
"""

import time
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from marketswarm.operator.ping_lines import make_ping_lines
from marketswarm.operator.tokens import PingKey
from marketswarm.text import escape_text, parse_digits
from marketswarm.truth.document_edit import AddedKind
from marketswarm.web.limits import RefusedError
from marketswarm.web.responses import make_sentence, redirect
from marketswarm.web.sessions import PageNotice, SentForm
from services.board.actions.forms import read_body, run_act
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.frame import Frame, Section
from services.board.pings.key_ring import KeyRing
from services.board.pings.key_steering import KeySteering, PingKeyBody
from services.board.pings.requests import PREFIX

SHOWN: Final = 500
"""How many keys, and how many names of services, the page has at most."""
EVERY_SERVICE: Final = "*"
"""What is typed for a key for every service."""
KEYS: Final[Section] = ("/keys", "Ping keys")
"""The page of ping keys, in the menu of who is signed in and may change something."""
_PATH, _TITLE = KEYS
_DAY_SEC: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class KeyView:
    """A ping key without the hash of its secret; its texts can be shown, and times are epoch seconds.

    `used_at` is its last ping that this board answered, None without one.
    """

    id: str
    name: str
    svc: str | None
    author: str
    created_at: float
    expires_at: float | None
    is_over: bool
    used_at: float | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made right now: its name, and the lines to paste, which have its secret."""

    name: str
    lines: dict[str, str]


@dataclass(frozen=True, slots=True)
class KeysPage:
    """The newest keys of all `count`, or the `problem` for which they were not read.

    Without a session that may write there are none. `since` is when this board began to note their use.
    """

    template: ClassVar = "keys.html"
    frame: Frame
    keys: tuple[KeyView, ...] = ()
    count: int = 0
    services: tuple[str, ...] = ()
    since: float = 0.0
    problem: str = ""
    made: NewKey | None = None
    every_service: ClassVar = EVERY_SERVICE


def make_key_pages(board: FleetBoard, keys: KeyRing, ping_keys: KeySteering) -> APIRouter:
    site = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @site.get(_PATH)
    async def show_keys(request: Request) -> Response:
        return board.templates.answer(await _make_page(await _make_frame(board, request), keys, ping_keys))

    @site.post(_PATH)
    async def make_key(request: Request) -> Response:
        form = await board.gate.read_form(request)
        made: list[NewKey] = []

        async def create(form: SentForm) -> PageNotice:
            body = _read_key_form(form)
            key, secret = await ping_keys.create(form.client, body, time.time())
            origin = board.me.settings.board_public_url or f"{request.url.scheme}://{request.url.netloc}"
            made.append(_make_new_key(key, f"{origin.rstrip('/')}{PREFIX}{secret}"))
            return PageNotice(f"{escape_text(key.name)}: the key is made.")

        notice = await run_act(board.gate, form, create)
        frame = replace(await _make_frame(board, request), notice=notice)
        page = await _make_page(frame, keys, ping_keys)
        return board.templates.answer(replace(page, made=made[0] if made else None))

    @site.post(f"{_PATH}/delete")
    async def delete_key(request: Request) -> Response:
        """Revoke the key with the `id` of a form, and lead back to the page, which says what came of it."""
        form = await board.gate.read_form(request)

        async def revoke(form: SentForm) -> PageNotice:
            key = await ping_keys.revoke(form.client, form.fields.get("id", ""))
            return PageNotice(f"{escape_text(key.name)}: the key is deleted. Its pings are refused.")

        notice = await run_act(board.gate, form, revoke)
        return redirect(f"{_PATH}?said={form.session.add_notice(notice)}")

    return site


async def _make_frame(board: FleetBoard, request: Request) -> Frame:
    return await board.make_session_frame(request, _TITLE, _PATH)


async def _make_page(frame: Frame, keys: KeyRing, ping_keys: KeySteering) -> KeysPage:
    if frame.session is None or not frame.session.may_write:
        return KeysPage(frame)
    try:
        found = await ping_keys.read()
    except RefusedError as error:
        return KeysPage(frame, problem=make_sentence(error.reason))
    now = time.time()
    views = tuple(_make_view(key, keys.find_use(key.sha256), now) for key in found[:SHOWN])
    services = tuple(map(escape_text, ping_keys.list_services()[:SHOWN]))
    return KeysPage(frame, views, len(found), services, keys.began_at)


def _make_view(key: PingKey, used_at: float | None, now: float) -> KeyView:
    svc = None if key.svc is None else escape_text(key.svc)
    name, author = escape_text(key.name), escape_text(key.author)
    return KeyView(key.id, name, svc, author, key.created_at, key.expires_at, key.expired(now), used_at)


def _read_key_form(form: SentForm) -> PingKeyBody:
    """Return the key that a form asks for. Raises RefusedError, and ValidationError for what is too long."""
    svc, days = form.fields.get("svc", ""), form.fields.get("days", "")
    if not svc:
        raise RefusedError(422, f"a key is for a service; {EVERY_SERVICE} is every one")
    if days and not parse_digits(days, 4):
        raise RefusedError(422, "a key is valid for days")
    return read_body(
        form,
        PingKeyBody,
        name=form.fields.get("name", ""),
        svc=None if svc == EVERY_SERVICE else svc,
        for_sec=_DAY_SEC * (parse_digits(days) or 0) if days else None,
    )


def _make_new_key(key: PingKey, url: str) -> NewKey:
    svc = key.svc or "SERVICE"
    address = url if key.svc else f"{url}/SERVICE"
    return NewKey(escape_text(key.name), {"address": address, **make_ping_lines(AddedKind.JOB, svc, address)})
