"""Send HTTP requests that are bounded in time and size, and turn every failure into a `SendError`.

Redirects are not followed: a receiver that may redirect us could make us call an address inside the
network.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import httpx
import orjson
from pydantic import SecretStr

from marketswarm import __version__
from marketswarm.channels.channel import Failure, SendError
from marketswarm.net.errors import NetworkReason
from marketswarm.net.http_errors import find_http_reason
from marketswarm.net.retry import parse_retry_after

_LATER: Final = frozenset({302, 303, 307, 408, 425, 429})
"""Statuses that may succeed later: the receiver is being moved or is too busy."""
_BROKEN: Final = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 411, 415, 421, 426, 451})
"""Statuses about the sender, the address or the form of every request, whatever the message is."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response: its status, up to MAX_RESPONSE_BYTES of its body, its headers (names without case)."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def make_response_error(answer: HttpResponse, after_sec: float | None = None) -> SendError:
    """Return the SendError for a response whose status is no 2xx.

    `after_sec` is a pause that the body asks for, in seconds; without it the header Retry-After counts.
    """
    if after_sec is None:
        after_sec = parse_retry_after(answer.headers.get("retry-after"), time.time())
    return SendError(str(answer.status), classify_status(answer.status), retry_after_sec=after_sec)


def classify_status(status: int) -> Failure:
    """Return what a status that is no 2xx means: a later attempt may succeed, or not.

    REJECTED is about this message (400, 413), BROKEN about the channel (401, 404).
    """
    if status in _LATER or not 300 <= status < 500:
        return Failure.TEMPORARY
    return Failure.BROKEN if status < 400 or status in _BROKEN else Failure.REJECTED


def make_exception_error(error: BaseException) -> SendError:
    """Return the SendError for an exception of an HTTP request; an invalid URL or request is permanent."""
    reason = find_http_reason(error)
    if reason is not None and reason != NetworkReason.BAD_URL:
        return SendError(reason)
    failure = Failure.REJECTED if reason is None else Failure.BROKEN
    return SendError(f"bad_request ({type(error).__name__})", failure)


WITHIN_SEC: Final = 5.0
"""How long one request may take, in seconds."""
MAX_RESPONSE_BYTES: Final = 64 * 1024
"""How many bytes of a response are read; the connection of a longer response is not used again."""


class Http:
    """An HTTP client that keeps its connections until it is closed; `within_sec` bounds each request."""

    def __init__(self, *, within_sec: float = WITHIN_SEC) -> None:
        self.within_sec = within_sec
        self.client = httpx.AsyncClient(
            headers={"User-Agent": f"marketswarm/{__version__}", "Accept-Encoding": "identity"},
            follow_redirects=False,
            timeout=within_sec,
            limits=httpx.Limits(max_connections=10, max_keepalive_connections=2, keepalive_expiry=30),
        )

    async def request(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """Send one request within `within_sec`. Raises SendError unless the response is a 2xx."""
        answer = await self.exchange(method, url, body=body, headers=headers)
        if not 200 <= answer.status < 300:
            raise make_response_error(answer)
        return answer

    async def exchange(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """Send one request and return any response. Raises SendError only if there is none."""
        try:
            # anyio's timeout: asyncio's interrupts the client while it returns a connection to its pool, and
            # after a hundred such timeouts the pool has none left
            with anyio.fail_after(self.within_sec):
                return await self._exchange(method, url, body, headers)
        except TimeoutError:
            raise SendError("timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            raise make_exception_error(error) from None

    async def aclose(self) -> None:
        """Close every connection."""
        await self.client.aclose()

    async def _exchange(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> HttpResponse:
        """Send one request without a bound in time; return the response, cut after MAX_RESPONSE_BYTES.

        Raises httpx errors.
        """
        async with self.client.stream(method, url, content=body, headers=headers) as response:
            read = bytearray()
            async for chunk in response.aiter_raw():
                read += chunk
                if len(read) > MAX_RESPONSE_BYTES:
                    break
            return HttpResponse(response.status_code, bytes(read[:MAX_RESPONSE_BYTES]), response.headers)


def find_host(url: str) -> str:
    """Return the host and port of a URL, which may be shown; `?` if the URL is invalid."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    except ValueError:
        return "?"


JSON: Final = "application/json; charset=utf-8"
"""The content type of JSON requests."""


async def post_json(
    http: Http, url: str, payload: Mapping[str, Any], token: SecretStr | None = None
) -> HttpResponse:
    """POST a JSON object, with a bearer token if given. Raises SendError unless the response is a 2xx."""
    answer = await exchange_json(http, url, payload, token)
    if not 200 <= answer.status < 300:
        raise make_response_error(answer)
    return answer


async def exchange_json(
    http: Http, url: str, payload: Mapping[str, Any], token: SecretStr | None = None
) -> HttpResponse:
    """POST a JSON object and return any response. Raises SendError only if there is none."""
    headers = {"content-type": JSON}
    if token is not None:
        headers["authorization"] = f"Bearer {token.get_secret_value()}"
    return await http.exchange("POST", url, body=orjson.dumps(payload), headers=headers)


def parse_json_object(answer: HttpResponse) -> dict[str, Any]:
    """Return the JSON object in a response's body; an empty one if the body is none."""
    try:
        found: Any = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def parse_pause_sec(value: Any) -> float | None:
    """Return a number of seconds from a header or from JSON; None if it is no finite number from 0 up."""
    try:
        sec = float(value)
    except (TypeError, ValueError):
        return None
    return sec if 0 <= sec < float("inf") else None
