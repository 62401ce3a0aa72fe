"""Decide who is answered, and bound what a request may cost: an ASGI middleware around the whole application.

A page in a browser can make its own host name resolve to 127.0.0.1 and read a local server's answers (DNS
rebinding). The browser still sends that name in `Host`, so only requests for our own names and for plain
addresses are answered. A client on another machine is refused: it has no right to read yet.
"""

import asyncio
import ipaddress
from collections.abc import Collection
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from marketswarm.metrics.exporter import is_own_host

MAX_BODY_BYTES: Final = 64 * 1024
"""The most bytes of a request's body."""
MAX_PATH_CHARS: Final = 2000
MAX_HEADER_BYTES: Final = 16 * 1024
ANSWER_SEC: Final = 10.0
"""How long an answer may take to begin; a stream goes on after that."""

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
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or say why not."""
        if scope["type"] != "http":
            return
        has_begun = asyncio.Event()

        async def send_guarded(message: Message) -> None:
            """Send a message, the first one with our headers."""
            if message["type"] == "http.response.start":
                has_begun.set()
                present = {name.lower() for name, _ in message["headers"]}
                more = [each for each in HEADERS if each[0] not in present]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        refusal = find_refusal(scope, self._names)
        if refusal is not None:
            await _refuse(send_guarded, *refusal)
            return
        await self._answer(scope, _limit_body(receive), send_guarded, has_begun)

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
    if not is_loopback(scope.get("client")):
        return 403, "only clients on this machine may read"
    if len(scope["path"]) > MAX_PATH_CHARS or len(scope["query_string"]) > MAX_PATH_CHARS:
        return 414, f"a path has at most {MAX_PATH_CHARS} characters"
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        return 431, f"headers have at most {MAX_HEADER_BYTES} bytes"
    sizes = [value for name, value in scope["headers"] if name == b"content-length"]
    if any(not size.isdigit() or int(size[:20]) > MAX_BODY_BYTES for size in sizes):
        return 413, f"a body has at most {MAX_BODY_BYTES} bytes"
    return None


def is_loopback(client: tuple[str, int] | None) -> bool:
    """Return True if a client's address is one of this machine's loopback addresses."""
    try:
        address = ipaddress.ip_address(client[0]) if client else None
    except ValueError:
        return False
    if address is None:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


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


async def _refuse(send: Send, status: int, reason: str) -> None:
    """Answer with a status and a reason as text, and close the connection."""
    body = f"{reason}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
