"""Asks the REST API for the bars of a gap, and for the market's status; one word for whatever goes wrong.

The key goes in a header, to the host it was given for and to no other: redirects are not followed, and a
page's `next_url` counts only where it leads back there. httpx is imported in this module of the market alone,
once there is something to ask.
"""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlencode, urljoin, urlsplit

import anyio
import httpx
import orjson
from pydantic import SecretStr

from marketswarm import __version__
from marketswarm.net.errors import NetworkReason
from marketswarm.net.http_errors import reason_of_http_error
from marketswarm.net.retry import parse_retry_after
from services.massive.market.bars import Bar, from_aggregate
from services.massive.market.errors import RestError
from services.massive.market.gaps import Gap

PAGE: Final = 5000
PAGES_AT_MOST: Final = 20
BYTES_AT_MOST: Final = 4_000_000
PAUSE_AT_MOST_SEC: Final = 600.0


class Rest:
    """One client for one host. `within_sec` bounds each request, from look-up to last byte."""

    def __init__(self, url: str, key: SecretStr, within_sec: float = 20.0) -> None:
        self._url, self._within_sec = url.rstrip("/"), within_sec
        self._client = httpx.AsyncClient(
            headers={
                "Authorization": f"Bearer {key.get_secret_value()}",
                "User-Agent": f"marketswarm-massive/{__version__}",
                "Accept-Encoding": "identity",  # what is packed may unpack to anything
            },
            follow_redirects=False,
            trust_env=url.startswith("https:"),  # a proxy would see the key of a plain request
            timeout=within_sec,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def bars(self, gap: Gap) -> list[Bar]:
        """The bars of a gap, oldest first, as the stream has them: unadjusted. Raises RestError."""
        path = f"/v2/aggs/ticker/{quote(gap.sym, safe='')}/range/1/minute/{gap.first}/{gap.last}"
        url = f"{self._url}{path}?{urlencode({'adjusted': 'false', 'sort': 'asc', 'limit': PAGE})}"
        found: dict[int, Bar] = {}
        for _ in range(PAGES_AT_MOST):
            page = await self.document(url)
            results = page.get("results") or []
            if not isinstance(results, list):
                raise RestError("malformed")
            bars = (from_aggregate(gap.sym, item) for item in results if isinstance(item, dict))
            found.update((bar.start, bar) for bar in bars if bar and gap.first <= bar.start <= gap.last)
            following = page.get("next_url")
            if not following:
                return [found[start] for start in sorted(found)]
            url = self._same_host(following)
        raise RestError("too_many_pages")

    async def status(self) -> Mapping[str, Any]:
        """The market's status now. Raises RestError."""
        return await self.document(f"{self._url}/v1/marketstatus/now")

    async def document(self, url: str) -> Mapping[str, Any]:
        """The JSON object that stands at `url`. Raises RestError."""
        try:
            # not asyncio's own: that can cut short what the client does to put a connection away
            with anyio.fail_after(self._within_sec):
                return await self._document(url)
        except TimeoutError:
            raise RestError("timeout") from None
        except httpx.HTTPError as error:
            raise RestError(reason_of_http_error(error) or NetworkReason.BROKEN) from None
        except (orjson.JSONDecodeError, httpx.InvalidURL, ValueError):
            raise RestError("malformed") from None

    async def _document(self, url: str) -> Mapping[str, Any]:
        async with self._client.stream("GET", url) as response:
            if response.status_code != httpx.codes.OK:
                raise RestError(f"http_{response.status_code}", _pause(response))
            body = bytearray()
            async for piece in response.aiter_raw(65_536):
                body += piece
                if len(body) > BYTES_AT_MOST:
                    raise RestError("too_long")
        found = orjson.loads(body)
        if not isinstance(found, dict):
            raise RestError("malformed")
        return found

    def _same_host(self, following: Any) -> str:
        """Where the next page is, if that is where the key may go. Raises RestError."""
        try:
            url = urljoin(f"{self._url}/", str(following))
            asked, given = urlsplit(self._url), urlsplit(url)
            same = (given.scheme, given.hostname, given.port) == (asked.scheme, asked.hostname, asked.port)
        except (TypeError, ValueError, AttributeError):
            raise RestError("malformed") from None
        if not same or given.username or len(url) > 4000:
            raise RestError("other_host")
        return url


def _pause(response: httpx.Response) -> float | None:
    """Return the seconds that `Retry-After` asks for, ten minutes at most."""
    asked_sec = parse_retry_after(response.headers.get("retry-after"), time.time())
    return None if asked_sec is None else min(asked_sec, PAUSE_AT_MOST_SEC)
