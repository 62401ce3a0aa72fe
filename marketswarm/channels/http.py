"""One request over HTTP, bounded in every way, with what can go wrong as `SendError`.

Redirects are not followed: a receiver that may send us elsewhere could send us inside. Not here: what is
sent, and to whom; and which refusals are for good (`refusing.py`).
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import anyio
import httpx

from marketswarm import __version__
from marketswarm.channels.message import SendError
from marketswarm.channels.refusing import Answer, refusal_in, refusal_of

WITHIN_SEC: Final = 5.0
ANSWER_AT_MOST: Final = 64 * 1024
"""Bytes of an answer that are read, so that its connection can be used again; a longer one costs that."""


class Http:
    """A client that keeps its connections until it is closed."""

    def __init__(self, *, within_sec: float = WITHIN_SEC) -> None:
        self.within_sec = within_sec
        self._client = httpx.AsyncClient(
            headers={"User-Agent": f"marketswarm/{__version__}", "Accept-Encoding": "identity"},
            follow_redirects=False,
            timeout=within_sec,
            limits=httpx.Limits(max_connections=10, max_keepalive_connections=2, keepalive_expiry=30),
        )

    async def request(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Makes one request, within a few seconds in all. Raises SendError unless the answer is a 2xx."""
        answer = await self.exchange(method, url, body=body, headers=headers)
        if not 200 <= answer.status < 300:
            raise refusal_of(answer)
        return answer

    async def exchange(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The same for who reads refusals too. Raises SendError only where there is no answer at all."""
        try:
            # not asyncio's own: that cuts short what the client does to put a connection away, and a hundred
            # of those later there is none left
            with anyio.fail_after(self.within_sec):
                return await self._exchange(method, url, body, headers)
        except TimeoutError:
            raise SendError("timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            raise refusal_in(error) from None

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._client.aclose()

    async def _exchange(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> Answer:
        async with self._client.stream(method, url, content=body, headers=headers) as response:
            read = bytearray()
            async for chunk in response.aiter_raw():
                read += chunk
                if len(read) > ANSWER_AT_MOST:
                    break
            return Answer(response.status_code, bytes(read[:ANSWER_AT_MOST]), response.headers)


def host_of(url: str) -> str:
    """Host and port of a URL: all of it that may be shown."""
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    except ValueError:
        return "?"
