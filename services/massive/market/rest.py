"""Fetch the bars of a gap, or the market's status, from the REST API. Every failure is a `RestError`.

The key is sent in a header, and only to the host that it is meant for: redirects are not followed, and a
page's `next_url` is followed only if it leads to the same host. No other module of the market data imports
httpx, and this one is imported only when there is something to fetch.
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
from marketswarm.net.http_errors import find_http_reason
from marketswarm.net.retry import parse_retry_after
from services.massive.market.bars import MinuteBar, parse_rest_bar
from services.massive.market.errors import RestError
from services.massive.market.gaps import MissingBars

BARS_PER_PAGE: Final = 5000
MAX_PAGES: Final = 20
MAX_BYTES: Final = 4_000_000
MAX_RETRY_AFTER_SEC: Final = 600.0


class RestClient:
    """Request data from one host of the API. Use as a context manager.

    Args:
        url: the URL of the API.
        key: the API key.
        timeout_sec: the limit of each request, from the look-up of the host to the last byte.
    """

    def __init__(self, url: str, key: SecretStr, timeout_sec: float = 20.0) -> None:
        self._url, self._timeout_sec = url.rstrip("/"), timeout_sec
        self._client = httpx.AsyncClient(
            headers={
                "Authorization": f"Bearer {key.get_secret_value()}",
                "User-Agent": f"marketswarm-massive/{__version__}",
                "Accept-Encoding": "identity",  # compressed bytes may unpack to any size
            },
            follow_redirects=False,
            trust_env=url.startswith("https:"),  # a proxy would see the key of a plain request
            timeout=timeout_sec,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def fetch_bars(self, gap: MissingBars) -> list[MinuteBar]:
        """Return the bars of a gap, oldest first, not adjusted for splits, as the stream has them.

        Raises RestError.
        """
        path = f"/v2/aggs/ticker/{quote(gap.sym, safe='')}/range/1/minute/{gap.first}/{gap.last}"
        url = f"{self._url}{path}?{urlencode({'adjusted': 'false', 'sort': 'asc', 'limit': BARS_PER_PAGE})}"
        found: dict[int, MinuteBar] = {}
        for _ in range(MAX_PAGES):
            page = await self.fetch_json(url)
            results = page.get("results") or []
            if not isinstance(results, list):
                raise RestError("malformed")
            bars = (parse_rest_bar(gap.sym, item) for item in results if isinstance(item, dict))
            found.update((bar.start, bar) for bar in bars if bar and gap.first <= bar.start <= gap.last)
            following = page.get("next_url")
            if not following:
                return [found[start] for start in sorted(found)]
            url = self._require_same_host(following)
        raise RestError("too_many_pages")

    async def fetch_market_status(self) -> Mapping[str, Any]:
        """Return the API's market status, whose `market` is `open` or `closed`, for example.

        Raises RestError.
        """
        return await self.fetch_json(f"{self._url}/v1/marketstatus/now")

    async def fetch_json(self, url: str) -> Mapping[str, Any]:
        """Return the JSON object at `url`, within the time limit. Raises RestError."""
        try:
            # not asyncio.timeout: that can interrupt the client as it returns a connection to its pool
            with anyio.fail_after(self._timeout_sec):
                return await self._fetch_json(url)
        except TimeoutError:
            raise RestError("timeout") from None
        except httpx.HTTPError as error:
            raise RestError(find_http_reason(error) or NetworkReason.BROKEN) from None
        except (orjson.JSONDecodeError, httpx.InvalidURL, ValueError):
            raise RestError("malformed") from None

    async def _fetch_json(self, url: str) -> Mapping[str, Any]:
        """Return the JSON object at `url`, without a time limit.

        Raises RestError, and the errors of httpx and orjson.
        """
        async with self._client.stream("GET", url) as response:
            if response.status_code != httpx.codes.OK:
                raise RestError(f"http_{response.status_code}", _read_retry_after(response))
            body = bytearray()
            async for piece in response.aiter_raw(65_536):
                body += piece
                if len(body) > MAX_BYTES:
                    raise RestError("too_long")
        found = orjson.loads(body)
        if not isinstance(found, dict):
            raise RestError("malformed")
        return found

    def _require_same_host(self, following: Any) -> str:
        """Return the absolute URL of the next page.

        Raises RestError if it leads to another host, where the key must not be sent.
        """
        try:
            url = urljoin(f"{self._url}/", str(following))
            ours, given = urlsplit(self._url), urlsplit(url)
            same = (given.scheme, given.hostname, given.port) == (ours.scheme, ours.hostname, ours.port)
        except (TypeError, ValueError, AttributeError):
            raise RestError("malformed") from None
        if not same or given.username or len(url) > 4000:
            raise RestError("other_host")
        return url


def _read_retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that `Retry-After` asks for, at most ten minutes; None if it asks for none."""
    asked_sec = parse_retry_after(response.headers.get("retry-after"), time.time())
    return None if asked_sec is None else min(asked_sec, MAX_RETRY_AFTER_SEC)
