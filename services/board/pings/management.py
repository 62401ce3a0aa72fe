"""Answer Healthchecks' management API, versions 1 to 3, where a service can stand for a check.

A client sends a token of the board in `X-Api-Key`; with the scope `write` it is a key for everything, with
`read` alone a read-only one. Services come from the truth, so a check can't be made, changed or deleted here.
"""

import re
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.types import Receive, Scope

from marketswarm.bus import BusError, NoBusError
from marketswarm.operator.silences import read_silences
from marketswarm.operator.tokens import Scope as TokenScope
from marketswarm.operator.tokens import Token
from marketswarm.text import parse_digits
from marketswarm.time_slice import TimeSlice
from marketswarm.truth import Truth
from marketswarm.web.guard import MAX_BODY_BYTES
from marketswarm.web.limits import RefusedError
from marketswarm.web.tokens import Client, find_address
from services.board.actions.steering import Steering
from services.board.fleet.alerts import MAX_PAGE_EVENTS, AlertQuery, read_alerts
from services.board.fleet.fleet_board import FleetBoard, NotReady
from services.board.fleet.snapshot import ServiceSnapshot
from services.board.pings.answers import NOT_FOUND, PingAnswer, RefusedPingError
from services.board.pings.checks import (
    ApiRoot,
    StoredPings,
    find_by_slug,
    make_badges,
    make_check,
    make_flips,
    make_pings,
    read_last_pings,
    read_pings,
)
from services.board.pings.desk import AddService, PingDesk, ServiceCreator, ServicePauses, find_pauses
from services.board.pings.directory import PingDirectory
from services.board.pings.key_ring import KeyRing
from services.board.pings.requests import find_header, list_fields, read_body
from services.board.pings.writer import PingWriter

_PATH: Final = re.compile(
    r"/api/v(?P<version>[123])/(?:(?P<list>checks|channels|badges|status)"
    r"|checks/(?P<check>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{40})"
    r"(?:/(?P<part>pause|resume|pings|flips|pings/(?P<n>\d{1,19})/body))?)"
    r"/?"  # clients in the field write some of these with a last slash, and others without
)
UNIQUE_KEY_CHARS: Final = 40
_JSON: Final = b"application/json"
_TRUTH_SAYS: Final = "a check is a service of the truth: add, change or delete its section, and seed"
_READ_ONLY: Final = frozenset({"flips", None})  # what a read-only key may ask of one check


@dataclass(frozen=True, slots=True)
class _Request:
    """A request whose key is valid: what it asks for, and whose it is."""

    method: str
    parts: dict[str, str | None]
    fields: dict[str, str]
    tags: tuple[str, ...]
    token: Token
    client: str
    root: ApiRoot


class ManagementApi:
    """Answers the requests of one board.

    Links begin with BOARD_PUBLIC_URL, or with the address by which a client asks.
    """

    def __init__(self, board: FleetBoard, keys: KeyRing, pauses: ServicePauses) -> None:
        self._board, self._keys, self._pauses = board, keys, pauses

    def handles(self, path: str) -> bool:
        return path.startswith("/api/v") and _PATH.fullmatch(path) is not None

    async def answer(self, scope: Scope, receive: Receive) -> PingAnswer:
        match = _PATH.fullmatch(scope["path"])
        if match is None:
            raise RefusedPingError(NOT_FOUND)
        if match["list"] == "status":
            problem = self._board.find_problem()
            return PingAnswer(200, b"OK") if problem is None else PingAnswer(503, problem.encode(), 5.0)
        try:
            document = await _read_document(scope, receive)
            request = await self._identify(scope, match.groupdict(), document)
            if match["list"]:
                return await self._answer_list(request)
            return await self._answer_check(request)
        except RefusedError as refused:
            raise RefusedPingError(_make_error(refused.status, refused.reason, refused.retry_sec)) from None
        except NotReady as error:
            raise RefusedPingError(_make_error(503, str(error), 1.0)) from None
        except (BusError, NoBusError) as error:
            raise RefusedPingError(_make_error(503, f"a bus is away: {error}", 5.0)) from None

    async def _identify(
        self, scope: Scope, parts: dict[str, str | None], document: Mapping[str, Any]
    ) -> _Request:
        """The token stands in a header or in the body. Raises RefusedPingError and RefusedError."""
        client = find_address(scope)
        key = find_header(scope["headers"], b"x-api-key") or document.get("api_key")
        if not key or not isinstance(key, str):
            raise RefusedPingError(_make_error(401, "missing api key"))
        try:
            token = await self._board.gate.verifier.identify(
                f"Bearer {key}", client, time.monotonic(), time.time()
            )
        except RefusedError as refused:
            if refused.status == 401:
                raise RefusedPingError(_make_error(401, "wrong api key")) from None
            raise
        may_write = TokenScope.WRITE in token.scopes
        if not may_write and TokenScope.READ not in token.scopes:
            raise RefusedPingError(_make_error(401, "wrong api key"))
        asked = f"{scope.get('scheme', 'http')}://{find_header(scope['headers'], b'host')}"
        url = self._board.me.settings.board_public_url or asked
        root = ApiRoot(url, int(parts["version"] or 1), not may_write)
        fields = list_fields(scope["query_string"])
        tags = tuple(value for name, value in fields if name == "tag")
        return _Request(scope["method"], parts, dict(fields), tags, token, client, root)

    async def _answer_list(self, request: _Request) -> PingAnswer:
        what = request.parts["list"]
        if request.method != "GET":
            if what == "checks" and request.method == "POST":
                return _make_error(400, _TRUTH_SAYS)
            return PingAnswer(405, b"")
        services = self._board.snapshot.services
        if what == "channels":
            return _make_json({"channels": []})
        if what == "badges":
            return _make_json({"badges": make_badges(services, request.root)})
        wanted = [each for each in services if set(request.tags) <= set(each.tags)]
        if request.fields.get("slug"):
            wanted = find_by_slug(wanted, request.fields["slug"])
        stored = await self._read_last_pings(wanted)
        return _make_json({"checks": await self._make_checks(wanted, request.root, stored)})

    async def _answer_check(self, request: _Request) -> PingAnswer:
        part = request.parts["part"]
        service, code = await self._find_service(request.parts["check"] or "")
        if request.root.is_readonly and (part not in _READ_ONLY or request.method != "GET"):
            return _make_error(401, "wrong api key")
        if part in ("pause", "resume"):
            if request.method != "POST":
                return PingAnswer(405, b"")
            if not await self._change_pause(service, request, is_pause=part == "pause"):
                return PingAnswer(409, b"check is not paused")
            return _make_json(await self._make_check(service, code, request.root))
        if request.method != "GET":
            return _make_error(400, _TRUTH_SAYS) if part is None else PingAnswer(405, b"")
        if part is None:
            return _make_json(await self._make_check(service, code, request.root))
        if part == "flips":
            return await self._answer_flips(service, request)
        pings = (await self._read_pings(service)).pings
        if part == "pings":
            return _make_json({"pings": make_pings(pings, code, request.root)})
        body = next((ping.body for ping in pings if str(ping.n) == request.parts["n"]), b"")
        return PingAnswer(200, body, content_type=b"text/plain") if body else NOT_FOUND

    async def _answer_flips(self, service: ServiceSnapshot, request: _Request) -> PingAnswer:
        now, numbers = time.time(), {}
        for name in ("seconds", "start", "end"):
            text = request.fields.get(name)
            numbers[name] = parse_digits(text)
            if text is not None and numbers[name] is None:
                return PingAnswer(400, b"")
        start = numbers["start"] or 0.0
        if numbers["seconds"] is not None:
            start = max(start, now - numbers["seconds"])
        found = await read_alerts(self._board.buses, AlertQuery(svc=service.svc), MAX_PAGE_EVENTS)
        end = now + 60.0 if numbers["end"] is None else numbers["end"]
        # as each version of the server answers; its pages show the list alone
        return _make_json({"flips": make_flips(found.events, start, end)})

    async def _change_pause(self, service: ServiceSnapshot, request: _Request, *, is_pause: bool) -> bool:
        """Pause a service, or end its pause; return False if it has none."""
        now, token = time.time(), request.token
        self._board.gate.verifier.limit(token, TokenScope.WRITE, time.monotonic())
        if is_pause:
            await self._pauses.pause(service.svc, token, request.client, now)
            return True
        return await self._pauses.end(service.svc, Client(token, request.client), now)

    async def _make_check(self, service: ServiceSnapshot, code: uuid.UUID, root: ApiRoot) -> dict[str, Any]:
        stored = await self._read_pings(service)
        (check,) = await self._make_checks([service], root, {service.svc: stored}, code)
        return check

    async def _make_checks(
        self,
        services: Iterable[ServiceSnapshot],
        root: ApiRoot,
        stored: Mapping[str, StoredPings],
        code: uuid.UUID | None = None,
    ) -> list[dict[str, Any]]:
        """Return services as checks, with what their last pings say.

        `code` is the UUID of a single one, if a client asked by it.
        """
        now, silences = time.time(), (await read_silences(self._board.buses)).silences.values()
        paused = {svc for silence in find_pauses(silences, now) for svc in silence.services}
        time_slice, found = TimeSlice(), []
        for each in services:
            await time_slice.pause()
            pings, own = stored.get(each.svc, StoredPings()), code or self._keys.codes.code_of(each.svc)
            found.append(make_check(each, own, root, pings, is_paused=each.svc in paused))
        return found

    async def _read_pings(self, service: ServiceSnapshot) -> StoredPings:
        return await read_pings(self._board.me.bus(service.bus), service.svc)

    async def _read_last_pings(self, services: Iterable[ServiceSnapshot]) -> dict[str, StoredPings]:
        """Return the last pings of services, by service, without those whose bus does not answer."""
        by_bus: dict[str, list[str]] = {}
        for each in services:
            by_bus.setdefault(each.bus, []).append(each.svc)
        found: dict[str, StoredPings] = {}
        for name, some in by_bus.items():
            with suppress(BusError):
                found |= await read_last_pings(self._board.me.bus(name), some)
        return found

    async def _find_service(self, text: str) -> tuple[ServiceSnapshot, uuid.UUID]:
        is_unique_key = len(text) == UNIQUE_KEY_CHARS
        codes = self._keys.codes
        if is_unique_key:
            svc = codes.find_unique_key(text)
        else:
            svc = (await self._keys.find_key(text, time.time())).svc
        service = None if svc is None else self._board.snapshot.find(svc)
        if service is None:
            raise RefusedPingError(NOT_FOUND)
        return service, codes.code_of(service.svc) if is_unique_key else uuid.UUID(text)


async def _read_document(scope: Scope, receive: Receive) -> dict[str, Any]:
    """Return the object in the body of a POST; an empty one without a body. Raises RefusedPingError."""
    if scope["method"] != "POST":
        return {}
    body = await read_body(receive, MAX_BODY_BYTES)
    if not body:
        return {}
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RefusedPingError(_make_error(400, "could not parse request body")) from None
    if not isinstance(found, dict):
        raise RefusedPingError(_make_error(400, "json validation error: value is not an object"))
    return found


def _make_json(value: Any) -> PingAnswer:
    return PingAnswer(200, orjson.dumps(value), content_type=_JSON)


def _make_error(status: int, reason: str, retry_sec: float | None = None) -> PingAnswer:
    return PingAnswer(status, orjson.dumps({"error": reason}), retry_sec, _JSON)


def create_pings(
    board: FleetBoard, keys: KeyRing, steering: Steering, add_service: AddService
) -> tuple[PingDesk, ManagementApi]:
    """Return what takes pings, and the management API; they follow each truth that comes into force."""
    me = board.me
    made: tuple[Truth, PingDirectory] | None = None

    def find_directory() -> PingDirectory:
        nonlocal made
        if made is None or made[0] is not me.truth:
            made = me.truth, PingDirectory(me.truth)
        return made[1]

    def follow() -> None:
        services = frozenset(me.truth.services).union(find_directory().by_name)
        keys.follow(board.settings_now().settings.pings, services)

    follow()
    me.on_reseed(lambda _truth: follow())
    writer = PingWriter(me.bus, me.boot, lambda work, name: me.task(work, name=name))
    desk = PingDesk(find_directory, keys, writer)
    desk.creator = ServiceCreator(add_service)
    desk.pauses = ServicePauses(lambda: board.buses, steering, lambda: board.reader.snapshot)
    return desk, ManagementApi(board, keys, desk.pauses)
