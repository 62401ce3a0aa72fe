"""Verify the token that a client sends: `Authorization: Bearer mst_…`, and no cookie.

The bus is asked at each request, so a token that is revoked is refused at once. A session on the pages is
opened by a token, and asks for it at each request as well.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Depends
from fastapi.security import HTTPBearer
from starlette.requests import Request

from marketswarm import log as logs
from marketswarm.bus import Bus
from marketswarm.operator.tokens import Scope, Token, TokenText, read_token
from marketswarm.web.limits import RateLimiter, RefusedError, refuse_without_bus

FAILURES: Final = 10  # wrong tokens of an address that are answered with 401 at once; further ones get 429
FAILURES_PER_SEC: Final = 0.2
WRITES: Final = 10  # how many writes a token may do at once
WRITES_PER_SEC: Final = 0.5
LOOK_UPS: Final = 32
"""How many tokens the bus is asked for at once: strangers send them, and must not take all connections."""
READING: Final = (Scope.READ, Scope.SIGNALS)
"""The scopes that change nothing: a token reads as often as it likes."""
TOKEN_HEADER: Final = Depends(
    HTTPBearer(scheme_name="token", bearerFormat="mst_<id>_<secret>", auto_error=False)
)
"""Shows the token in the OpenAPI document; `TokenVerifier` verifies it."""
log = logs.get()


@dataclass(frozen=True, slots=True)
class Client:
    """Who acts: the token, and the address that it came from. A job that pings has no token."""

    token: Token | None
    address: str

    @property
    def name(self) -> str:
        return "" if self.token is None else self.token.name


def find_address(request: Mapping[str, Any]) -> str:
    """Return the address of the client of a request, or of its ASGI scope; empty if it is not known."""
    client = request.get("client")
    return str(client[0]) if client else ""


def note_token(scope: Mapping[str, Any], token: Token) -> None:
    """Note in the ASGI scope of a request that it is of this token, which was verified."""
    scope["state"]["token"] = token


def find_token(request: Mapping[str, Any]) -> Token | None:
    """Return the verified token of a request, or of its ASGI scope; None if it has none."""
    found: Token | None = request.get("state", {}).get("token")
    return found


def find_spender(request: Mapping[str, Any]) -> str:
    """Return to whose limits a request counts: those of its token, if it has one, else of its address."""
    token = find_token(request)
    return find_address(request) if token is None else f"token {token.id}"


def find_media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


class TokenVerifier:
    """Verify tokens, which `tokens_bus` keeps; count wrong ones by address, and limit writes by token.

    `program` is the name of the program that answers; the log events of its clients begin with it.
    """

    def __init__(self, tokens_bus: Callable[[], Bus], program: str) -> None:
        self._tokens_bus, self.program = tokens_bus, program
        self._look_ups = asyncio.Semaphore(LOOK_UPS)
        self._failures = RateLimiter(FAILURES, FAILURES_PER_SEC)
        self._writes = RateLimiter(WRITES, WRITES_PER_SEC)

    async def verify(self, header: str | None, scope: Scope, client: str, now: float, wall: float) -> Token:
        """Return the token in the header `Authorization` if it is valid and has the scope.

        `client` is the client's address, `now` monotonic, and `wall` the same moment in epoch seconds. Raises
        RefusedError, also if the bus that keeps the tokens does not answer.
        """
        token = await self.identify(header, client, now, wall)
        self.limit(token, scope, now)
        return token

    async def verify_client(self, request: Request, scope: Scope) -> Client:
        """Return the client that sends a request. Raises as `verify` does."""
        header, address = request.headers.get("authorization"), find_address(request)
        return Client(await self.verify(header, scope, address, time.monotonic(), time.time()), address)

    async def identify(self, header: str | None, client: str, now: float, wall: float) -> Token:
        """Return the valid token in the header `Authorization`, with any scopes. Raises as `verify` does."""
        if header is None:
            raise RefusedError(401, "this needs a token: `marketswarm token create` makes one")
        token = await self._find_token(header, wall)
        if token is None:
            # a right token is let in all the same: behind a proxy, all clients have one address
            wait_sec = self._failures.take(client, now)
            if wait_sec:
                raise RefusedError(429, "too many wrong tokens came from this address", wait_sec)
            event = f"{self.program}.token_refused"
            log.warning(event, client=client)
            raise RefusedError(401, "the token is not valid")
        return token

    def limit(self, token: Token, scope: Scope, now: float) -> None:
        """Count a token's use at `now` (monotonic). Raises RefusedError without the scope, or too often."""
        if scope not in token.scopes:
            raise RefusedError(403, f"the token lacks the scope {scope}")
        wait_sec = self._writes.take(token.id, now) if scope not in READING else 0.0
        if wait_sec:
            raise RefusedError(429, "the token was used too often", wait_sec)

    async def is_current(self, token: Token, wall: float) -> bool:
        """Return True if the bus still has a token that was verified before, and it is valid at `wall`.

        Raises RefusedError if the bus does not answer.
        """
        return await self._read_token(token.id) == token and not token.expired(wall)

    async def _find_token(self, header: str, wall: float) -> Token | None:
        scheme, _, rest = header.partition(" ")
        text = TokenText.parse(rest.strip()) if scheme.lower() == "bearer" else None
        if text is None:
            return None
        token = await self._read_token(text.id)
        return token if token is not None and token.matches(text) and not token.expired(wall) else None

    async def _read_token(self, ident: str) -> Token | None:
        with refuse_without_bus("keeps the tokens"):
            bus = self._tokens_bus()  # it may have no URL for the moment
            # its time limit counts the wait, too
            found: Token | None = await bus.ask(self._read_in_turn(bus, ident))
            return found

    async def _read_in_turn(self, bus: Bus, ident: str) -> Token | None:
        async with self._look_ups:
            return await read_token(bus, ident)
