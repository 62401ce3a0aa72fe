"""Decide who is answered, and bound what a request may cost: an ASGI middleware around the whole application.

A page in a browser can make its own host name resolve to 127.0.0.1 and read a local server's answers (DNS
rebinding). The browser still sends that name in `Host`, so only requests for our own names and for plain
addresses are answered. A client on another machine needs a token to read; routes that change something ask
every client for one themselves.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from marketswarm.metrics.exporter import is_own_host
from marketswarm.net.addresses import Network
from marketswarm.operator import token as tokens
from services.board.clients import may_read
from services.board.refusal import RefusedError
from services.board.tokens import TokenVerifier

MAX_BODY_BYTES: Final = 64 * 1024
"""The most bytes of a request's body."""
MAX_PATH_CHARS: Final = 2000
MAX_HEADER_BYTES: Final = 16 * 1024
ANSWER_SEC: Final = 10.0
"""How long an answer may take to begin; a stream goes on after that."""

OPEN_PATHS: Final = ("/healthz", "/readyz")
"""Paths that are answered without a token everywhere: probes of other machines ask for them."""
_READING: Final = ("GET", "HEAD")
_NO_HEADERS: Final[Mapping[str, str]] = {}

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


class Guard:
    """Answers only requests that may be answered, each within its bounds.

    Args:
        app: the application.
        names: the host names that requests may have, besides addresses and names below `localhost`.
        verifier: verifies the tokens of clients on other machines.
        networks: whose clients may read without a token, besides this machine.
        is_open: returns True for a path that everyone may read.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: Collection[str],
        verifier: TokenVerifier,
        networks: Sequence[Network] = (),
        is_open: Callable[[str], bool] = OPEN_PATHS.__contains__,
    ) -> None:
        self._app, self._names, self._verifier, self._networks = app, names, verifier, networks
        self._is_open = is_open
        self.responses: Counter[int] = Counter()
        """How many requests were answered, by HTTP status."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or say why not."""
        if scope["type"] != "http":
            return
        has_begun = asyncio.Event()

        async def send_guarded(message: Message) -> None:
            """Send a message, the first one with our headers."""
            if message["type"] == "http.response.start":
                has_begun.set()
                self.responses[message["status"]] += 1
                present = {name.lower() for name, _ in message["headers"]}
                more = [each for each in HEADERS if each[0] not in present]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        refusal = find_refusal(scope, self._names)
        if refusal is not None:
            await _refuse(send_guarded, *refusal)
            return
        try:
            await self._verify_reader(scope)
        except RefusedError as denied:
            await _refuse(send_guarded, denied.status, denied.reason, denied.headers)
            return
        await self._answer(scope, _limit_body(receive), send_guarded, has_begun)

    async def _verify_reader(self, scope: Scope) -> None:
        """Raise RefusedError if a client on another machine reads without a token for that."""
        client = scope.get("client")
        if (
            may_read(client, self._networks)
            or scope["method"] not in _READING
            or self._is_open(scope["path"])
        ):
            return
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        header = given[0].decode("latin-1") if len(given) == 1 else None
        address = client[0] if client else ""
        await self._verifier.verify(header, tokens.Scope.READ, address, time.monotonic(), time.time())

    async def _answer(self, scope: Scope, receive: Receive, send: Send, has_begun: asyncio.Event) -> None:
        """Run the application; refuse a body that is too long, and an answer that does not begin in time."""
        try:
            async with asyncio.timeout(ANSWER_SEC) as limit:

                async def send_and_go_on(message: Message) -> None:
                    """Send a message; once an answer has begun, it has no time limit of ours."""
                    await send(message)
                    if has_begun.is_set() and limit.when() is not None and not limit.expired():
                        limit.reschedule(None)

                await self._app(scope, receive, send_and_go_on)
        except _BodyTooLong:
            if not has_begun.is_set():
                await _refuse(send, 413, f"a body has at most {MAX_BODY_BYTES} bytes")
        except TimeoutError:
            if has_begun.is_set():
                raise
            await _refuse(send, 503, "the buses did not answer in time")


def find_refusal(scope: Scope, names: Collection[str]) -> tuple[int, str] | None:
    """Return the status and the reason why a request is not answered; None if it is."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1 or not is_own_host(hosts[0].decode("latin-1"), names):
        return 421, "this host name is not ours: BOARD_ALLOWED_HOSTS names those that are"
    if len(scope["path"]) > MAX_PATH_CHARS or len(scope["query_string"]) > MAX_PATH_CHARS:
        return 414, f"a path has at most {MAX_PATH_CHARS} characters"
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        return 431, f"headers have at most {MAX_HEADER_BYTES} bytes"
    sizes = [value for name, value in scope["headers"] if name == b"content-length"]
    if any(not size.isdigit() or int(size[:20]) > MAX_BODY_BYTES for size in sizes):
        return 413, f"a body has at most {MAX_BODY_BYTES} bytes"
    return None


class _BodyTooLong(Exception):  # noqa: N818 - becomes an answer
    """A body has more bytes than it may have."""


def _limit_body(receive: Receive) -> Receive:
    """Return a function that receives, and raises _BodyTooLong after too many bytes of a body."""
    left = MAX_BODY_BYTES

    async def receive_limited() -> Message:
        """Receive a message of the request."""
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise _BodyTooLong
        return message

    return receive_limited


async def _refuse(send: Send, status: int, reason: str, more: Mapping[str, str] = _NO_HEADERS) -> None:
    """Answer with a status, a reason as text and `more` headers, and close the connection."""
    body = f"{reason}\n".encode()
    headers = [
        *((name.lower().encode(), value.encode()) for name, value in more.items()),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
