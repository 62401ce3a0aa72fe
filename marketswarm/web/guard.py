"""Decide who is answered, and bound what a request may cost: an ASGI middleware around the whole application.

A page in a browser can make its own host name resolve to 127.0.0.1 and read a local server's answers (DNS
rebinding). The browser still sends that name in `Host`, so only requests for our own names and for plain
addresses are answered. A client on another machine needs a token or a session to read; routes that change
something ask every client for one themselves. What a page of another origin has a browser of this machine ask
in its back is refused, since it would use up the limits of that browser's own requests. Only a client that
may seed may send a whole truth. A long answer, such as a stream or a WebSocket, ends once the token that it
was opened with is refused.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from marketswarm import log as logs
from marketswarm.metrics.exporter import is_own_host
from marketswarm.net.addresses import Network
from marketswarm.operator import tokens
from marketswarm.operator.signed_link import LINK_PATH
from marketswarm.text import escape_text
from marketswarm.web.clients import may_read
from marketswarm.web.cross_origin import OtherOrigins, RawHeader
from marketswarm.web.limits import RefusedError
from marketswarm.web.server import WHOLE_ANSWER, WholeAnswer, make_head
from marketswarm.web.sessions import SessionGate, is_foreign, names_other_origin
from marketswarm.web.tokens import TokenVerifier, find_address, find_token, note_token

CHECK_SEC: Final = 2.0  # how often the bus is asked whether a token is still valid
ENDED: Final = "the token is not valid any more"
MayRead = Callable[[], Awaitable[bool]]
"""Returns False once a client may no longer read. Raises RefusedError while the bus does not answer."""
MAX_BODY_BYTES: Final = 64 * 1024
MAX_PATH_CHARS: Final = 2000
MAX_HEADER_BYTES: Final = 16 * 1024
MAX_WHOLE_BYTES: Final = 64 * 1024  # of a body that is copied behind its head, to be sent with it
ANSWER_SEC: Final = 10.0  # how long an answer may take to begin; a stream continues after that
MAX_LOGGED_CHARS: Final = 300  # of a path and of a query in the log
TOKEN_REFUSED: Final = 4401  # the code by which a WebSocket is closed whose token is not valid any more
_OPEN_PATHS: Final = ("/healthz", "/readyz", "/favicon.ico")  # answered everywhere
_OPEN_FOLDER: Final = "/static/"
_READING: Final = ("GET", "HEAD")
_TOO_LONG: Final = "the body is too long"
_NOTHING: Final[Mapping[str, WholeAnswer]] = {}
_CONTROLS: Final = bytes({*range(32), 127} - {ord("\t")})  # no header has one, besides the end of its line
_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Final = (
    (b"content-security-policy", _CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
"""The headers of every answer: no inline script, no other origin, no frame."""
log = logs.get()


@dataclass(frozen=True, slots=True)
class SiteRules:
    """Hold what a guard must know of the program that it stands before.

    `names` are the host names that requests may have, besides addresses and names below `localhost`; the
    operator adds to them by the variable `names_variable`. `sign_in` is the address of the page to which a
    browser without a session is sent. `large_bodies` has, by path, the most bytes of a body that a client
    with the scope `seed` may send; others send MAX_BODY_BYTES. `reading_posts` are the paths of requests that
    have a body and change nothing: a client that may read may send them. `read_by` has, by path, the scope
    that is enough to read it and all below it, in place of `read`. `shortened` are paths that everyone may
    read, and whose answer leaves out what only those may see that may read the rest (`is_stranger`).
    """

    names: Collection[str]
    names_variable: str
    sign_in: str = "/sign-in"
    large_bodies: Mapping[str, int] = field(default_factory=dict)
    reading_posts: Collection[str] = ()
    read_by: Mapping[str, tokens.Scope] = field(default_factory=dict)
    shortened: Collection[str] = ()

    def is_open(self, path: str) -> bool:
        """Return True for what everyone may read in every program: its health, and its page to sign in."""
        return path in _OPEN_PATHS or path == self.sign_in_path or path in self.shortened

    def find_reading_scope(self, path: str, token: tokens.Token) -> tokens.Scope:
        """Return the scope by which a token may read a path: `read`, unless it has one that is enough."""
        own = (one for top, one in self.read_by.items() if path == top or path.startswith(f"{top}/"))
        return next((one for one in own if one in token.scopes), tokens.Scope.READ)

    @property
    def sign_in_path(self) -> str:
        return self.sign_in.partition("?")[0]


def is_stranger(request: Mapping[str, Any]) -> bool:
    """Return True for a request to a `shortened` path from a client that may read nothing else."""
    return bool(request.get("state", {}).get("is_stranger"))


class Guard:
    """Answers only requests that may be answered, each within its bounds.

    Clients in `networks` may read without a token, as those of this machine; `is_open` tells which paths
    everyone may read, besides those that `rules` has. `origins` are those whose pages may read, too. With
    `logs_reads`, each read is logged once it is answered: who asked for what, the status, and how long that
    took.
    """

    def __init__(
        self,
        app: ASGIApp,
        rules: SiteRules,
        verifier: TokenVerifier,
        networks: Sequence[Network] = (),
        *,
        is_open: Callable[[str], bool] = lambda _path: False,
        gate: SessionGate | None = None,
        origins: OtherOrigins | None = None,
        logs_reads: bool = False,
    ) -> None:
        self._app, self._rules, self._verifier, self._networks = app, rules, verifier, networks
        self._is_open, self._gate, self._origins, self._logs_reads = is_open, gate, origins, logs_reads
        self.responses: Counter[int] = Counter()
        """How many requests were answered, by HTTP status."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._answer_socket(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        scope.setdefault("state", {})
        more = () if self._origins is None else self._origins.list_headers(scope)
        sender = _AnswerSender(scope, send, self.responses, more)
        begun = time.monotonic()
        try:
            await self._answer_request(scope, receive, sender)
        finally:
            if self._logs_reads and self._is_reading(scope):
                self._log_read(scope, sender.status, begun)

    async def _answer_request(self, scope: Scope, receive: Receive, sender: "_AnswerSender") -> None:
        refusal = find_refusal(scope, self._rules)
        if refusal is not None:
            await _make_refusal(*refusal)(scope, receive, sender.send)
            return
        preflight = None if self._origins is None else self._origins.find_preflight(scope)
        if preflight is not None:
            await preflight(scope, receive, sender.send)
            return
        try:
            may_read_on = await self._verify_reader(scope)
            max_bytes = await self._find_body_limit(scope)
        except RefusedError as denied:
            answer = _make_refusal(denied.status, denied.reason, denied.headers)
            if denied.status == HTTPStatus.UNAUTHORIZED and _is_page(scope):
                answer = _make_refusal(303, denied.reason, {"Location": self._rules.sign_in})
            await answer(scope, receive, sender.send)
            return
        answering = self._answer(scope, _limit_body(receive, max_bytes), sender)
        if await run_while_allowed(answering, may_read_on):
            return
        if sender.has_begun:
            await sender.send({"type": "http.response.body", "body": b""})
        else:
            await _make_refusal(HTTPStatus.UNAUTHORIZED, ENDED)(scope, receive, sender.send)

    async def _answer_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a client of a WebSocket in as one that reads, or say why not.

        A browser lets any page open a WebSocket to any host, and sends our cookie with it; but it names the
        page's origin.
        """
        scope.setdefault("state", {})
        request, begun, status = {**scope, "type": "http", "method": "GET"}, time.monotonic(), 101

        async def send_refusal(message: Message) -> None:
            nonlocal status
            if "status" in message:
                status = message["status"]
                self.responses[status] += 1
            await send(message)

        try:
            refusal, may_read_on = await self._verify_socket(request)
            if refusal is None:
                await self._answer_opened(scope, receive, send, may_read_on)
            else:
                await refusal(scope, receive, send_refusal)
        finally:
            if self._logs_reads:
                self._log_read(request, status, begun)

    async def _verify_socket(self, request: Scope) -> tuple[Response | None, MayRead | None]:
        """Return the refusal of a client of a WebSocket or None; and how to find out if it still may read."""
        refusal = find_refusal(request, self._rules)
        is_allowed = self._origins is not None and self._origins.is_allowed(request)
        if refusal is None and not is_allowed and names_other_origin(Request(request)):
            refusal = 403, "a page of another origin opened this connection"
        if refusal is not None:
            return _make_refusal(*refusal), None
        try:
            return None, await self._verify_reader(request)
        except RefusedError as denied:
            return _make_refusal(denied.status, denied.reason, denied.headers), None

    async def _answer_opened(
        self, scope: Scope, receive: Receive, send: Send, may_read_on: MayRead | None
    ) -> None:
        if not await run_while_allowed(self._app(scope, receive, send), may_read_on):
            with suppress(RuntimeError):  # the client has closed it at the same time
                await send({"type": "websocket.close", "code": TOKEN_REFUSED, "reason": ENDED})

    async def _verify_reader(self, scope: Scope) -> MayRead | None:
        """Raise RefusedError if a client on another machine reads without a token or a session for that.

        So it does if a page of another origin had the browser of a client that needs none send the request.

        Return how to find out later whether it still may; None for a client that needs no token.
        """
        path = scope["path"]
        if not self._is_reading(scope):
            return None
        is_open = path.startswith(_OPEN_FOLDER) or self._rules.is_open(path) or self._is_open(path)
        if may_read(scope.get("client"), self._networks):
            if not is_open and self._is_sent_by_other_page(scope):
                raise RefusedError(403, "a page of another origin sent this request")
            await self._note_own_token(scope)
            return None
        if path in self._rules.shortened:
            try:
                return await self._require_reader(scope)
            except RefusedError:
                scope["state"]["is_stranger"] = True
                return None
        return None if is_open else await self._require_reader(scope)

    def _is_sent_by_other_page(self, scope: Scope) -> bool:
        """Return True if a page sent a request whose origin is not ours, and none of those that may read."""
        is_allowed = self._origins is not None and self._origins.is_allowed(scope)
        return not is_allowed and is_foreign(Request(scope))

    def _is_reading(self, scope: Scope) -> bool:
        return scope["method"] in _READING or scope["path"] in self._rules.reading_posts

    async def _note_own_token(self, scope: Scope) -> None:
        """Note the token of a client that needs none: its requests count to it, and not to the address.

        One that is not valid changes nothing for such a client.
        """
        header = _find_authorization(scope)
        if header is not None:
            now, wall = time.monotonic(), time.time()
            with suppress(RefusedError):
                note_token(scope, await self._verifier.identify(header, find_address(scope), now, wall))

    async def _require_reader(self, scope: Scope) -> MayRead:
        """Return how to find out later whether a client with a token or a session still may read.

        Notes that token. Raises RefusedError.
        """
        path, header = scope["path"], _find_authorization(scope)
        token = await self._find_session_token(scope) if header is None else None
        if token is not None and self._rules.find_reading_scope(path, token) not in token.scopes:
            reason = f"the token of this session lacks the scope read: see {self._rules.sign_in_path}"
            raise RefusedError(403, reason)
        if token is None:
            now, wall = time.monotonic(), time.time()
            verified = await self._verifier.identify(header, find_address(scope), now, wall)
            self._verifier.limit(verified, self._rules.find_reading_scope(path, verified), now)
            note_token(scope, verified)
            return lambda: self._verifier.is_current(verified, time.time())

        async def has_session() -> bool:
            return await self._find_session_token(scope) is not None

        note_token(scope, token)
        return has_session

    def _log_read(self, scope: Scope, status: int, begun: float) -> None:
        """Log a read that was answered; not that of a signed link, which acts for whoever has its address."""
        path, query = scope["path"], scope["query_string"].decode("latin-1")
        if path in _OPEN_PATHS or path.startswith((_OPEN_FOLDER, LINK_PATH)):
            return
        token = find_token(scope)
        event = f"{self._verifier.program}.read"
        log.info(
            event,
            client=find_address(scope),
            token=None if token is None else token.id,
            name=None if token is None else token.name,
            method=scope["method"],
            path=escape_text(path)[:MAX_LOGGED_CHARS],
            query=escape_text(query)[:MAX_LOGGED_CHARS] or None,
            status=status,
            took_ms=round(1000 * (time.monotonic() - begun), 1),
        )

    async def _find_body_limit(self, scope: Scope) -> int:
        """Return how many bytes the body of a request may have. Raises RefusedError if it announces more."""
        if scope["path"] not in self._rules.large_bodies or scope["method"] in _READING:
            return MAX_BODY_BYTES
        sizes = [value for name, value in scope["headers"] if name == b"content-length"]
        if len(sizes) == 1 and int(sizes[0][:20]) <= MAX_BODY_BYTES:
            return MAX_BODY_BYTES
        header = _find_authorization(scope)
        if header is None:
            token = await self._find_session_token(scope)
        else:
            now, wall = time.monotonic(), time.time()
            token = await self._verifier.identify(header, find_address(scope), now, wall)
        if token is not None and tokens.Scope.SEED in token.scopes:
            return self._rules.large_bodies[scope["path"]]
        if sizes:
            reason = f"a body has at most {MAX_BODY_BYTES} bytes without a token with the scope seed"
            raise RefusedError(413, reason)
        return MAX_BODY_BYTES

    async def _find_session_token(self, scope: Scope) -> tokens.Token | None:
        return None if self._gate is None else await self._gate.find_token(Request(scope))

    async def _answer(self, scope: Scope, receive: Receive, sender: "_AnswerSender") -> None:
        """Run the application; refuse a body that is too long, and an answer that does not begin in time."""
        try:
            async with asyncio.timeout(ANSWER_SEC) as limit:

                async def send_and_go_on(message: Message) -> None:
                    await sender.send(message)
                    if limit.when() is not None and not limit.expired():
                        limit.reschedule(None)

                await self._app(scope, receive, send_and_go_on)
        except _BodyTooLong:
            if not sender.has_begun:
                await _make_refusal(413, _TOO_LONG)(scope, receive, sender.send)
        except TimeoutError:
            if sender.has_begun:
                raise
            await _make_refusal(503, "no answer in time")(scope, receive, sender.send)


class _AnswerSender:
    """Sends an answer with the headers of every answer, and counts it by its status in `responses`.

    `more` are further headers of this one; `status` is 0 until it has begun. An answer that says how long it
    is, and comes as one body, is sent in one write if the server can do that.
    """

    __slots__ = ("_held", "_more", "_responses", "_send", "_send_whole", "has_begun", "status")

    def __init__(
        self, scope: Scope, send: Send, responses: Counter[int], more: Sequence[RawHeader] = ()
    ) -> None:
        self._send, self._responses, self._more = send, responses, more
        self.status = 0
        self._send_whole: WholeAnswer | None = scope.get("extensions", _NOTHING).get(WHOLE_ANSWER)
        self._held: Message | None = None  # a start that is not sent yet
        self.has_begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun, self.status = True, message["status"]
            self._responses[self.status] += 1
            present = {name.lower() for name, _ in message["headers"]}
            more = [*(each for each in HEADERS if each[0] not in present), *self._more]
            message = {**message, "headers": [*message["headers"], *more]}
            if self._send_whole is not None and b"content-length" in present and b"connection" not in present:
                self._held = message  # its body follows at once: it is known already
                return
        elif self._held is not None:
            start, self._held = self._held, None
            head = find_whole_head(start, message)
            if head is not None and self._send_whole is not None:
                await self._send_whole(head, message["body"])
                return
            await self._send(start)
        await self._send(message)


def find_whole_head(start: Message, body: Message) -> bytes | None:
    """Return the head of an answer with this start and this body; None if it must go the server's usual way.

    That checks headers: one that has the end of a line within it is refused there.
    """
    headers, text = start["headers"], body.get("body", b"")
    length = next(value for name, value in headers if name.lower() == b"content-length")
    if body.get("more_body") or len(text) > MAX_WHOLE_BYTES or length != b"%d" % len(text):
        return None
    head = make_head(start["status"], headers)
    ends = 2 * (len(headers) + 1)  # of the status line, and of each header
    return head if len(head.translate(None, _CONTROLS)) == len(head) - ends else None


def find_refusal(
    scope: Scope, rules: SiteRules, max_query_chars: int = MAX_PATH_CHARS
) -> tuple[int, str] | None:
    """Return the status and the reason why a request is not answered; None if it is."""
    hosts, sizes, header_bytes = [], [], 0
    for name, value in scope["headers"]:  # once, for all that is asked of them: each request passes here
        header_bytes += len(name) + len(value)
        if name == b"host":
            hosts.append(value)
        elif name == b"content-length":
            sizes.append(value)
    if len(hosts) != 1 or not is_own_host(hosts[0].decode("latin-1"), rules.names):
        return 421, f"this host name is not ours: {rules.names_variable} names those that are"
    if len(scope["path"]) > MAX_PATH_CHARS or len(scope["query_string"]) > max_query_chars:
        return 414, f"a path has at most {MAX_PATH_CHARS} characters, and a query {max_query_chars}"
    if header_bytes > MAX_HEADER_BYTES:
        return 431, f"headers have at most {MAX_HEADER_BYTES} bytes"
    max_bytes = rules.large_bodies.get(scope["path"], MAX_BODY_BYTES)
    if sizes and any(not size.isdigit() or int(size[:20]) > max_bytes for size in sizes):
        return 413, f"a body has at most {max_bytes} bytes"
    return None


def _is_page(scope: Scope) -> bool:
    accepted = b",".join(value for name, value in scope["headers"] if name == b"accept")
    is_page = scope["method"] in _READING and b"text/html" in accepted
    return is_page and not scope["path"].startswith("/api/") and _find_authorization(scope) is None


def _find_authorization(scope: Scope) -> str | None:
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    return given[0].decode("latin-1") if len(given) == 1 else None


class _BodyTooLong(HTTPException):
    """A body has more bytes than it may have; the application answers it as any error of a request."""


def _limit_body(receive: Receive, max_bytes: int) -> Receive:
    left = max_bytes

    async def receive_limited() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise _BodyTooLong(413, _TOO_LONG)
        return message

    return receive_limited


def _make_refusal(status: int, reason: str, more: Mapping[str, str] | None = None) -> PlainTextResponse:
    """Return the answer that refuses a request, or the handshake of a WebSocket."""
    headers = {**(more or {}), "Cache-Control": "no-store", "Connection": "close"}
    return PlainTextResponse(f"{reason}\n", status, headers)


async def run_while_allowed(answering: Awaitable[None], may_read: MayRead | None) -> bool:
    """Run an answer to its end; cancel it, and return False, once its client may no longer read.

    While the bus that keeps the tokens does not answer, the answer continues. `may_read` is None for a client
    that needs no token.
    """
    if may_read is None:
        await answering
        return True
    try:
        async with asyncio.timeout(None) as limit:
            checking = asyncio.create_task(_expire(limit, may_read))
            try:
                await answering
            finally:
                checking.cancel()
    except TimeoutError:
        if not limit.expired():
            raise
        return False
    return True


async def _expire(limit: asyncio.Timeout, may_read: MayRead) -> None:
    while True:
        await asyncio.sleep(CHECK_SEC)  # first of all, since the client was just let in
        with suppress(RefusedError):  # the bus does not answer: the client may continue
            if not await may_read():
                limit.reschedule(asyncio.get_running_loop().time())
                return
