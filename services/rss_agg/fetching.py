"""Fetches one feed: conditional, bounded in time and size, redirects followed step by step and judged each.

Whatever goes wrong is a `Failed` with one word. Not here: what a body says (`documents.py`), and what is
remembered of an answer (`memory.py`).
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import anyio
import httpx

from marketswarm.net.addresses import Allowance, allowed, written_out
from services.rss_agg import answers, unpacking
from services.rss_agg.answers import NO_VALIDATORS, Validators, mark
from services.rss_agg.connecting import Inside, LookUp, Outward, client, system_look_up
from services.rss_agg.section import Wishes
from services.rss_agg.unpacking import Unpacking

REDIRECTS: Final = 5
CONNECT_SHARE: Final = 0.3  # of the time for all: the next address wants its chance, and the answer too
CLOSE_SEC: Final = 0.5


class Failed(Exception):  # noqa: N818 - a result like another
    """A feed could not be read; `str()` is one word or number, such as timeout, 404 or not_a_feed.

    `retry_after_sec`: what the server asked for. `gone`: it said 410, for good.
    """

    def __init__(self, why: str, retry_after_sec: float | None = None, *, gone: bool = False) -> None:
        super().__init__(why)
        self.retry_after_sec, self.gone = retry_after_sec, gone


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to fetch. `url`: where the truth says; `moved`: where that has moved to, or empty.

    `validators` are of `of`, the mark of a URL (`answers.mark`), and shown to that one only.
    """

    url: str
    moved: str = ""
    validators: Validators = NO_VALIDATORS
    of: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A feed's document, or (`body` is None) that it has not changed.

    `moved`: where the feed is for good, empty when that is where the truth says. `url`: where it was found.
    """

    body: bytes | None
    kind: str
    url: str
    moved: str
    validators: Validators


class Fetching:
    """One HTTP client for all feeds. Use as a context."""

    def __init__(self, look_up: LookUp = system_look_up) -> None:
        self._outward = Outward(look_up)
        self._client = client(self._outward)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._outward.close()
        try:
            async with asyncio.timeout(CLOSE_SEC):
                await self._client.aclose()
        except (TimeoutError, httpx.HTTPError, OSError):
            return

    async def fetch(self, wanted: Wanted, wishes: Wishes) -> Answer:
        """The answer, within `timeout_sec`. Raises Failed."""
        self._outward.allowances = wishes.allowances
        try:
            # not asyncio's own: that cuts short what the client does to put a connection away, and a hundred
            # of those later there is none left
            with anyio.fail_after(wishes.timeout_sec):
                return await self._follow(wanted, wishes)
        except Failed:
            raise
        except Inside:
            raise Failed("inside_address") from None
        except TimeoutError:
            raise Failed("timeout") from None
        except unpacking.TooLong:
            raise Failed("too_long") from None
        except unpacking.Broken:
            raise Failed("bad_encoding") from None
        except (httpx.HTTPError, OSError) as error:
            raise Failed(word(error)) from None
        except (ValueError, httpx.InvalidURL):
            raise Failed("bad_url") from None
        except Exception as error:  # noqa: BLE001 - whatever a hostile server does to the client's libraries
            raise Failed(f"broken ({type(error).__name__})") from None

    async def _follow(self, wanted: Wanted, wishes: Wishes) -> Answer:
        url, moved, for_good = wanted.moved or wanted.url, wanted.moved, True
        for _ in range(REDIRECTS + 1):
            judge(url, wanted.url, wishes.allowances)
            got = await self._ask(url, wanted, wishes)
            if isinstance(got, Answer):
                return Answer(got.body, got.kind, url, moved, got.validators)
            status, url = got
            for_good = for_good and status in answers.PERMANENT
            moved = url if for_good else moved
        raise Failed("too_many_redirects")

    async def _ask(self, url: str, wanted: Wanted, wishes: Wishes) -> Answer | tuple[int, str]:
        """An answer, or the status of a redirect and where it leads."""
        shown = wanted.validators if wanted.of == mark(url) else NO_VALIDATORS
        limit = httpx.Timeout(None, connect=CONNECT_SHARE * wishes.timeout_sec)
        async with self._client.stream("GET", url, headers=shown.headers(), timeout=limit) as response:
            status = response.status_code
            if status == httpx.codes.NOT_MODIFIED and shown != NO_VALIDATORS:
                return Answer(None, "", url, "", shown)
            if status in answers.REDIRECTS:
                to = answers.target(url, response.headers.get("location", ""))
                if to is None:
                    raise Failed("bad_redirect")
                return status, to
            if status != httpx.codes.OK:
                after_sec = answers.retry_after_sec(response.headers, time.time())
                raise Failed(str(status), after_sec, gone=status == httpx.codes.GONE)
            body = await _body(response, wishes.max_bytes)
            kind = response.headers.get("content-type", "")[:200]
            return Answer(body, kind, url, "", answers.validators(response.headers))


def judge(url: str, in_truth: str, allowances: Sequence[Allowance]) -> None:
    """Raise Inside for an address inside that is written out in `url`, as the client will understand it.

    One that the truth itself writes out as this feed's is meant: at that port, and for this feed.
    """
    there = _there(url)
    if there == _there(in_truth):
        return
    host, port = there
    if not all(allowed(host, address, port, allowances) for address in written_out(host)):
        raise Inside


def _there(url: str) -> tuple[str, int]:
    urlsplit(url)  # knows some that are none, and takes those for a ValueError
    parts = httpx.URL(url)
    return parts.raw_host.decode("ascii"), parts.port or (443 if parts.scheme == "https" else 80)


async def _body(response: httpx.Response, limit: int) -> bytes:
    length = response.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:18]) > limit:
        raise unpacking.TooLong
    unpacked = Unpacking(response.headers.get("content-encoding", ""), limit)
    async for chunk in response.aiter_raw(unpacking.PIECE):
        unpacked.feed(chunk)
    return unpacked.whole()


def word(error: BaseException) -> str:
    """One word for what went wrong on the way."""
    by_type: tuple[tuple[type[BaseException], str], ...] = (
        (socket.gaierror, "dns"),
        (ssl.SSLError, "tls"),
        (httpx.TimeoutException, "timeout"),
        (httpx.ConnectError, "refused"),
        (httpx.UnsupportedProtocol, "bad_url"),
        (httpx.TransportError, "broken"),
        (OSError, "broken"),
    )
    chain = list(_causes(error))
    return next(
        (said for kind, said in by_type if any(isinstance(one, kind) for one in chain)), type(error).__name__
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(8):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
