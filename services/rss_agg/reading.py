"""Reads one feed over HTTP and parses it; whatever goes wrong is a `Failed` with one word.

httpx and feedparser are imported here alone, and this module only once there is a feed to read: an idle
rss_agg stays small.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from types import TracebackType
from typing import Any, Final, Self

import feedparser
import httpx

from marketswarm import __version__
from marketswarm.truth import resolve
from services.rss_agg.items import Feed, Item, Wishes, items_of

PARSE_WITHIN_SEC: Final = 10.0
HEADERS: Final = {
    "User-Agent": f"marketswarm-rss_agg/{__version__}",
    "Accept": "application/rss+xml, application/atom+xml, application/xml;q=0.9, */*;q=0.1",
}


class Failed(Exception):  # noqa: N818 - a result like another
    """A feed could not be read; `str()` is one word or number, such as timeout, 404 or not_a_feed."""


class Reader:
    """Reads feeds, several at a time; one HTTP client and one parsing thread for all of them."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(headers=HEADERS, follow_redirects=True, max_redirects=5)
        # one thread: a parser that hangs on a hostile document keeps no more than itself
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="marketswarm-io feeds")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._parser.shutdown(wait=False, cancel_futures=True)
        await self._client.aclose()

    async def read(self, feed: Feed, wishes: Wishes) -> list[Item]:
        """The items of a feed, oldest first. Raises Failed, within `timeout_sec` and ten seconds to parse."""
        try:
            async with asyncio.timeout(wishes.timeout_sec):
                body, kind = await self._fetch(resolve(feed.url, os.environ), wishes)
            async with asyncio.timeout(PARSE_WITHIN_SEC):
                loop = asyncio.get_running_loop()
                entries = await loop.run_in_executor(self._parser, parsed, body, kind)
        except TimeoutError:
            raise Failed("timeout") from None
        except httpx.HTTPError as error:
            raise Failed(_word(error)) from None
        except (LookupError, ValueError, httpx.InvalidURL):
            raise Failed("bad_url") from None
        return items_of(feed, entries)

    async def _fetch(self, url: str, wishes: Wishes) -> tuple[bytes, str]:
        async with self._client.stream("GET", url, timeout=wishes.timeout_sec) as response:
            if response.status_code != httpx.codes.OK:
                raise Failed(str(response.status_code))
            body = bytearray()
            async for chunk in response.aiter_bytes(65_536):
                body += chunk
                if len(body) > wishes.max_bytes:
                    raise Failed("too_long")
            return bytes(body), response.headers.get("content-type", "")[:200]


def parsed(body: bytes, kind: str) -> list[Any]:
    """The entries of a feed's document. Raises Failed when it is none."""
    try:
        # a file object: feedparser takes bare bytes for the name of a file as well
        found = feedparser.parse(BytesIO(body), response_headers={"content-type": kind or "application/xml"})
    except Exception as error:  # noqa: BLE001 - whatever a hostile document does to the parser
        raise Failed(f"not_a_feed ({type(error).__name__})") from None
    entries = found.get("entries") or []
    if not found.get("version") and not entries:
        raise Failed("not_a_feed")
    return list(entries)


def _word(error: httpx.HTTPError) -> str:
    by_type = (
        (httpx.TimeoutException, "timeout"),
        (httpx.ConnectError, "refused"),
        (httpx.TooManyRedirects, "too_many_redirects"),
        (httpx.UnsupportedProtocol, "bad_url"),
        (httpx.TransportError, "broken"),
    )
    return next((word for kind, word in by_type if isinstance(error, kind)), type(error).__name__)
