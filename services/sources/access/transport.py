"""Send one request to a source, and return what came back.

Redirects are not followed, since a key must not go anywhere else. Everything that a source sends is hostile:
each answer is limited in size and time, and each failure is one word.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import anyio
import httpx

from marketswarm import __version__
from marketswarm.net.http_errors import find_http_reason
from services.sources.catalog.request import ApiKey, SourceRequest
from services.sources.catalog.source import MarketSource

CLOSE_SEC: Final = 0.5


@dataclass(frozen=True, slots=True)
class Reply:
    """Hold what came back; `error` is why nothing could be read, or empty. `status` is 0 if nothing came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    error: str = ""


class _UnreadableError(Exception):
    """The body of a reply can't be read; `str()` is one word."""


class SourceTransport:
    """Send requests over HTTP, with one pool of connections for all sources. Use as a context manager.

    Args:
        base_urls: where to find a source instead of where its file says, as for a test or a proxy.
    """

    def __init__(self, base_urls: Mapping[str, str]) -> None:
        self._base_urls = base_urls
        self._client = httpx.AsyncClient(
            # a chunk of gzip becomes a thousand chunks at most, which fits; one of brotli has no such bound
            headers={"User-Agent": f"marketswarm-sources/{__version__}", "Accept-Encoding": "gzip"},
            timeout=None,  # noqa: S113 - each request has a limit as a whole
            trust_env=False,
            follow_redirects=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        with anyio.move_on_after(CLOSE_SEC):
            await self._client.aclose()

    async def send(
        self,
        source: MarketSource,
        request: SourceRequest,
        key: ApiKey | None,
        *,
        within_sec: float,
        max_bytes: int,
    ) -> Reply:
        """Send a request with its key, and return what came back within this time."""
        status, body = 0, b""
        headers: Mapping[str, str] = {}
        try:
            # here already: the address may be of a source's own making, as that of a next page is
            sent = self._relocate(source, request.with_key(source, key))
            with anyio.fail_after(within_sec):
                response = await self._client.send(sent, stream=True)
                try:
                    status, headers = response.status_code, response.headers
                    body = await _read_body(response, max_bytes)
                finally:
                    await response.aclose()
        except _UnreadableError as error:
            return Reply(status, headers, body, str(error))
        except TimeoutError:
            return Reply(status, headers, body, "timeout")
        except Exception as error:  # noqa: BLE001 - whatever a hostile server does to the client's libraries
            return Reply(status, headers, body, find_http_reason(error) or "broken")
        return Reply(status, headers, body)

    def _relocate(self, source: MarketSource, request: SourceRequest) -> httpx.Request:
        """Return the request as it is sent, to where the source is found."""
        base = self._base_urls.get(source.name, source.base_url)
        url = base + request.url.removeprefix(source.base_url)
        parts = urlsplit(url)
        # a next page's address has a query of its own
        query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *request.params])
        url = urlunsplit((*parts[:3], query, ""))
        return self._client.build_request(
            request.method, url, headers=dict(request.headers), content=request.body
        )


async def _read_body(response: httpx.Response, max_bytes: int) -> bytes:
    """Return the body of an answer, decompressed. Raise _UnreadableError if it is too long."""
    if response.headers.get("content-encoding", "identity").lower() not in ("identity", "gzip", ""):
        raise _UnreadableError("encoding")  # one that nobody asked for: it may be a bomb
    body: Any = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > max_bytes:
            raise _UnreadableError("too_long")
    return bytes(body)
