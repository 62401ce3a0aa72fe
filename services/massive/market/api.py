"""Talk to the API of market data: REST for missing bars and the market's status, a WebSocket for new bars.

Every failure of a request is a `RestError`, and each end of a connection raises `ConnectionEnded`, both with
one word. `services.market.massive` interprets the frames.

The key is sent in a header, or in one message, and only to the host that it is meant for: redirects are not
followed, and a page's `next_url` is followed only if it leads to the same host. This module is imported only
when there is something to ask or to stream, since httpx and websockets take time and memory.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode, urljoin, urlsplit

import orjson
from pydantic import SecretStr

from marketswarm.net.errors import ConnectionEnded, NetworkReason
from marketswarm.net.http import HttpClient, HttpError
from marketswarm.net.websocket import WebSocketSession
from marketswarm.truth.env_policy import parse_destination
from services.market.massive import ConnectionState, ProtocolMachine, Request, make_bar
from services.market.records import Bar
from services.massive.market.gaps import MissingBars

BARS_PER_PAGE: Final = 5000
MAX_PAGES: Final = 20
MAX_BYTES: Final = 4_000_000
MAX_RETRY_AFTER_SEC: Final = 600.0
MAX_FRAME_BYTES: Final = 1 << 20
MAX_QUEUED_FRAMES: Final = 16
"""The frames that wait in memory; then the server has to wait, until it disconnects us as a slow consumer."""


class RestError(Exception):
    """A REST request failed.

    Args:
        reason: one word: a status, such as `http_403`, or what went wrong, such as `timeout`.
        retry_after_sec: the pause that the server asked for, if it did.
    """

    def __init__(self, reason: str, retry_after_sec: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.retry_after_sec = reason, retry_after_sec


class RestClient(HttpClient):
    """Request data from one host of the API. Use as a context manager.

    `timeout_sec` is the limit of each request, from the look-up of the host to the last byte.
    """

    def __init__(self, url: str, key: SecretStr, timeout_sec: float = 20.0) -> None:
        super().__init__(
            "massive",
            headers={"Authorization": f"Bearer {key.get_secret_value()}"},
            by_proxy=url.startswith("https:"),  # a proxy would see the key of a plain request
        )
        self._url, self._timeout_sec = url.rstrip("/"), timeout_sec

    async def fetch_bars(self, gap: MissingBars) -> list[Bar]:
        """Return the bars of a gap, oldest first, not adjusted for splits, as the stream has them.

        Raises RestError.
        """
        path = f"/v2/aggs/ticker/{quote(gap.sym, safe='')}/range/1/minute/{gap.first}/{gap.last}"
        url = f"{self._url}{path}?{urlencode({'adjusted': 'false', 'sort': 'asc', 'limit': BARS_PER_PAGE})}"
        found: dict[int, Bar] = {}
        for _ in range(MAX_PAGES):
            page = await self.fetch_json(url)
            results = page.get("results") or []
            if not isinstance(results, list):
                raise RestError("malformed")
            bars = (make_bar(gap.sym, item.get("t"), item) for item in results if isinstance(item, dict))
            found.update((bar.start_ms, bar) for bar in bars if bar and gap.first <= bar.start_ms <= gap.last)
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
            answer = await self.fetch(
                "GET", url, within_sec=self._timeout_sec, max_bytes=MAX_BYTES, body_of={200}
            )
        except HttpError as error:
            raise RestError("malformed" if error.reason == NetworkReason.BAD_URL else error.reason) from None
        if answer.status != 200:
            raise RestError(f"http_{answer.status}", answer.find_retry_after(MAX_RETRY_AFTER_SEC))
        try:
            found = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            raise RestError("malformed") from None
        if not isinstance(found, dict):
            raise RestError("malformed")
        return found

    def _require_same_host(self, following: Any) -> str:
        """Return the absolute URL of the next page, which the last page named.

        Raises RestError if that leads to another host, where the key must not be sent, or is not a URL.
        """
        try:
            url = urljoin(f"{self._url}/", str(following))
            has_user = bool(urlsplit(url).username)
        except ValueError:
            raise RestError("malformed") from None
        if has_user or parse_destination(url) != parse_destination(self._url) or len(url) > 4000:
            raise RestError("other_host")
        return url


class StreamConnection(WebSocketSession):
    """Connect to the WebSocket API. Use as a context manager.

    A dead connection is detected after `alive_sec`.
    """

    def __init__(self, url: str, key: SecretStr, open_sec: float = 10.0, alive_sec: float = 30.0) -> None:
        super().__init__(
            url,
            "massive",
            open_sec=open_sec,
            silent_sec=alive_sec,
            frame_bytes=MAX_FRAME_BYTES,
            queued_frames=MAX_QUEUED_FRAMES,
            by_proxy=url.startswith("wss:"),  # a proxy would see the key of a plain connection
        )
        self._key = key

    async def send_request(self, request: Request) -> None:
        """Send a request, with the key in an `auth`."""
        params = self._key.get_secret_value() if request.action == "auth" else request.params
        await self.send(orjson.dumps({"action": request.action, "params": params}).decode())


async def authenticate(connection: StreamConnection, machine: ProtocolMachine, timeout_sec: float) -> None:
    """Wait for the greeting, send the key, and subscribe to what `machine` wants. Raises ConnectionEnded."""
    try:
        async with asyncio.timeout(timeout_sec):
            while machine.state is not ConnectionState.STREAMING:
                content = machine.receive(await connection.receive(), 1000 * time.time())
                if content.end_reason:
                    raise ConnectionEnded(content.end_reason)
                for request in content.requests:
                    await connection.send_request(request)
    except TimeoutError:
        raise ConnectionEnded("silent") from None
