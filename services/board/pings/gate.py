"""Answer pings before the rest of the application sees them: an ASGI application around it.

A ping is sent by programs that have nothing but an address, from everywhere. So what proves that it may be
sent is the secret in that address alone, and the page's rules on who may read don't hold. Those on `Host`,
sizes and headers do. A ping is answered with 200 only when the bus has it.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from marketswarm.pings import MAX_BODY_BYTES
from marketswarm.truth import Watch
from marketswarm.web.guard import HEADERS, SiteRules, find_refusal
from marketswarm.web.server import MAX_HEAD_BYTES, WHOLE_ANSWER, WholeAnswer, make_head
from marketswarm.web.tokens import find_address
from services.board.pings.answers import BAD_METHOD, CREATED, NOT_FOUND, OK, PingAnswer, RefusedPingError
from services.board.pings.desk import PingDesk
from services.board.pings.management import ManagementApi
from services.board.pings.other_gates import ALERTMANAGER_PATH, KUMA_PREFIX, OtherGates, find_gatus_key
from services.board.pings.requests import (
    PREFIX,
    LostClientError,
    PingAddress,
    PingBody,
    announces_body,
    announces_too_much,
    make_ping,
    parse_ping_path,
    parse_query,
    parse_run_id,
    read_ping_body,
)

_NOTHING: Final[Mapping[str, WholeAnswer]] = {}
_NO_BODY: Final = PingBody()
_METHODS: Final = ("GET", "HEAD", "POST")
_OWN_HEADERS: Final = (
    (b"cache-control", b"max-age=0, no-cache, no-store, must-revalidate, private"),
    (b"access-control-allow-origin", b"*"),
    # pages of other origins may send pings, as to Healthchecks
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"ping-body-limit", str(MAX_BODY_BYTES).encode()),
)
_OWN_NAMES: Final = frozenset(name for name, _ in _OWN_HEADERS)
_ALL_HEADERS: Final = (*_OWN_HEADERS, *(each for each in HEADERS if each[0] not in _OWN_NAMES))
_PREFLIGHT: Final = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, DELETE, OPTIONS"),
    (b"access-control-allow-headers", b"X-Api-Key"),
    (b"access-control-max-age", b"600"),
)
_NO_CONTENT: Final = PingAnswer(204, b"")
"""The answer to a preflight request."""


_OK_HEAD: Final = make_head(OK.status, (*OK.make_headers(), *_ALL_HEADERS))
PathAnswer = Callable[[Scope, Receive], Awaitable[PingAnswer]]
"""Answers the requests of one form of pings. Raises RefusedPingError."""


class PingGate:
    """Answers pings, and hands all other requests on.

    `rules` are those of the guard; `responses` counts the answers by status.
    """

    def __init__(
        self,
        app: ASGIApp,
        rules: SiteRules,
        desk: PingDesk,
        responses: Counter[int],
        management: ManagementApi | None = None,
    ) -> None:
        self._app, self._rules, self._desk, self._responses = app, rules, desk, responses
        self._others = OtherGates(desk)
        self.management = management

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        form = self._find_form(scope["path"]) if scope["type"] == "http" else None
        if form is None:
            await self._app(scope, receive, send)
            return
        try:
            answer = self._find_refusal(scope) or await form(scope, receive)
        except RefusedPingError as refused:
            answer = refused.answer
        except LostClientError:
            return
        self._responses[answer.status] += 1
        await _send_answer(answer, scope, send)

    def _find_form(self, path: str) -> PathAnswer | None:
        if path.startswith(PREFIX):
            return self._answer_ping
        if path.startswith(KUMA_PREFIX):
            return self._others.answer_kuma
        if self.management is not None and self.management.handles(path):
            return self.management.answer
        if path.removesuffix("/") == ALERTMANAGER_PATH:
            return self._others.answer_alertmanager
        return self._others.answer_gatus if find_gatus_key(path) is not None else None

    def _find_refusal(self, scope: Scope) -> PingAnswer | None:
        # some clients report a failure in the query; the server refuses one that is longer than this
        refusal = find_refusal(scope, self._rules, MAX_HEAD_BYTES)
        if refusal is not None and (refusal[0] != 413 or announces_too_much(scope["headers"])):
            return PingAnswer(refusal[0], f"{refusal[1]}\n".encode())
        return _NO_CONTENT if scope["method"] == "OPTIONS" else None

    async def _answer_ping(self, scope: Scope, receive: Receive) -> PingAnswer:
        """Store the ping that a request asks for, and create its check if the request may.

        Raise RefusedPingError if it is not a ping, its key is unknown, or there are too many.
        """
        if scope["method"] not in _METHODS:
            raise RefusedPingError(BAD_METHOD)
        address = parse_ping_path(scope["path"])
        fields = parse_query(scope["query_string"])
        may_create = fields.get("create") == "1"
        to = await self._find_destination(address, find_address(scope), may_create=may_create)
        rid = parse_run_id(fields)
        body = await read_ping_body(receive) if announces_body(scope["headers"]) else _NO_BODY
        ping = make_ping(scope, address.kind, body, rid=rid, exit_code=address.exit_code)
        is_new = to is None
        await self._desk.take(
            ping, to or await self._desk.create_destination(address.secret, address.slug or "")
        )
        return CREATED if is_new else OK

    async def _find_destination(self, address: PingAddress, client: str, *, may_create: bool) -> Watch | None:
        """Return the service of an address; None if it is to be created. Raises RefusedPingError."""
        try:
            return await self._desk.find_destination(address.secret, address.slug, client)
        except RefusedPingError as refused:
            if refused.answer is NOT_FOUND and address.slug is not None and may_create:
                return None
            raise


async def _send_answer(answer: PingAnswer, scope: Scope, send: Send) -> None:
    """Send an answer, in one write where the server can do that: clients ping by the thousand."""
    more = (*_ALL_HEADERS, *_PREFLIGHT) if answer is _NO_CONTENT else _ALL_HEADERS
    headers = [*answer.make_headers(), *more]
    send_whole: WholeAnswer | None = scope.get("extensions", _NOTHING).get(WHOLE_ANSWER)
    if send_whole is not None:
        await send_whole(_OK_HEAD if answer is OK else make_head(answer.status, headers), answer.body)
        return
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
