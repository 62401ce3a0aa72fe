"""Send HTTP requests to servers that are not trusted, bounded in time and size.

Redirects are not followed, because a server that may redirect us could make us call an address inside the
network, or send a key elsewhere.

This module is separate from `errors` because importing httpx takes time and memory, and a program that only
uses a bus does not need httpx.
"""

import math
import time
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final, Self

import anyio
import httpx

from marketswarm import __version__
from marketswarm.net.address_guard import AddressGuard, GuardedTransport, InsideAddressError
from marketswarm.net.decompression import BadEncodingError, BodyTooLongError, Decompressor
from marketswarm.net.errors import (
    EXACT_REASONS,
    GENERAL_REASONS,
    NetworkReason,
    ReasonTable,
    find_reason,
    lacks_resources,
)
from marketswarm.net.retry import parse_retry_after

CLOSE_SEC: Final = 0.5
LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=15.0)
TOO_LONG: Final = "too_long"
"""The reason if a body is longer than `max_bytes`, as it comes or decompressed."""
BAD_ENCODING: Final = "bad_encoding"
"""The reason if a body is not compressed as its Content-Encoding declares, or is cut off."""

INSIDE_ADDRESS: Final = "inside_address"
"""The reason if the guard does not allow any address of the host."""
CONNECT_SHARE: Final = 0.3
"""The share of the time in which one of a host's addresses is connected: the next one needs time, too."""

_TOO_MANY: Final = frozenset({418, 429})  # 418: Binance's word for a client that continued after 429
_OURS: Final[ReasonTable] = (
    (InsideAddressError, INSIDE_ADDRESS),
    (BodyTooLongError, TOO_LONG),
    (BadEncodingError, BAD_ENCODING),
)
_EXACT: Final[ReasonTable] = ((httpx.TimeoutException, NetworkReason.TIMEOUT), *EXACT_REASONS)
_GENERAL: Final[ReasonTable] = (
    (httpx.ConnectError, NetworkReason.REFUSED),
    (httpx.ProxyError, NetworkReason.PROXY),
    (httpx.UnsupportedProtocol, NetworkReason.BAD_URL),
    (httpx.TransportError, NetworkReason.BROKEN),
    (httpx.InvalidURL, NetworkReason.BAD_URL),
    *GENERAL_REASONS,
    (ValueError, NetworkReason.BAD_URL),
)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response: its status, its body, its headers (names without case). `status` is 0 if none came."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def find_retry_after(self, longest_sec: float = math.inf) -> float | None:
        """Return the seconds that `Retry-After` asks for, at most `longest_sec`; None if it asks for none."""
        asked_sec = parse_retry_after(self.headers.get("retry-after"), time.time())
        return None if asked_sec is None else min(asked_sec, longest_sec)

    def find_pause(self, default_sec: float, longest_sec: float) -> float | None:
        """Return for how many seconds the server wants no further request; None if it does not say that.

        429 says so, for `default_sec` unless it has a time. 503 does if it has a time, which is that of a
        maintenance; otherwise it is a failure.
        """
        asked_sec = self.find_retry_after(longest_sec)
        if self.status in _TOO_MANY:
            return default_sec if asked_sec is None else asked_sec
        return asked_sec if self.status == 503 else None


class HttpError(Exception):
    """A request got no whole response; the cause is the library's error, which may show the URL.

    Attributes:
        reason: one word: a `NetworkReason`, `too_long`, `bad_encoding`, `inside_address`, or
            `broken (<type>)` of any other error.
        answer: what had come by then; its status is 0 if nothing had.
    """

    def __init__(self, error: Exception, answer: HttpResponse) -> None:
        self.kind, self.answer = type(error).__name__, answer
        found = find_reason(error, _OURS, _EXACT, _GENERAL) or f"broken ({self.kind})"
        self.reason = str(NetworkReason.NO_RESOURCES) if lacks_resources(error) else found
        super().__init__(self.reason)


class HttpClient:
    """An HTTP client that keeps its connections until it is closed. Use as a context manager, or `aclose` it.

    Args:
        encodings: the compressions that are asked for, as `gzip, br`; without, a body stays as it comes.
        by_proxy: whether to use the proxy and the certificates that the environment names.
        guard: refuses inside addresses, for URLs that others choose.
    """

    def __init__(
        self,
        agent: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        encodings: str = "",
        by_proxy: bool = True,
        guard: AddressGuard | None = None,
    ) -> None:
        self._guard = guard
        self._is_compressed = bool(encodings)
        self.client = httpx.AsyncClient(
            headers={
                "User-Agent": f"marketswarm{agent and '-'}{agent}/{__version__}",
                "Accept-Encoding": encodings or "identity",
                **(headers or {}),
            },
            transport=GuardedTransport(guard, LIMITS) if guard else None,
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),  # a server could set ever more
            trust_env=by_proxy,
            follow_redirects=False,
            limits=LIMITS,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection, within CLOSE_SEC."""
        if self._guard is not None:
            self._guard.close()
        with anyio.move_on_after(CLOSE_SEC), suppress(httpx.HTTPError, OSError):
            await self.client.aclose()

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        within_sec: float,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        body_of: Container[int] | None = None,
        own_url: str = "",
    ) -> HttpResponse:
        """Send one request, and return its response, whatever the status is. Raises HttpError.

        Args:
            within_sec: the limit from the look-up of the host to the last byte.
            max_bytes: the longest body that is read; the connection of a longer one is not used again.
            body_of: the statuses whose body is read, if not that of each.
            own_url: a URL of our own choice, whose host and port the guard allows.
        """
        answer, reader = HttpResponse(0, b""), Decompressor("", max_bytes)
        limits = httpx.Timeout(None, connect=CONNECT_SHARE * within_sec if self._guard else None)
        try:
            if self._guard is not None:
                self._guard.require_allowed(url, own_url)
            # anyio's timeout: asyncio's interrupts the client while it returns a connection to its pool, and
            # after a hundred such timeouts the pool has none left
            with anyio.fail_after(within_sec):
                async with self.client.stream(
                    method, url, content=body, headers=headers, timeout=limits
                ) as response:
                    answer = HttpResponse(response.status_code, b"", response.headers)
                    if body_of is not None and answer.status not in body_of:
                        return answer
                    if self._is_compressed:
                        reader = Decompressor(response.headers.get("content-encoding", ""), max_bytes)
                    async for chunk in response.aiter_raw():
                        reader.add(chunk)
                    return replace(answer, body=reader.finish())
        except Exception as error:  # whatever a hostile server does to the client's libraries
            raise HttpError(error, replace(answer, body=bytes(reader.body[:max_bytes]))) from error
