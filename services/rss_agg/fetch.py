"""What an answer says beside its body: when to come again, what to ask with next time, where to. Pure.

Everything a server says is hostile: what is too long or malformed was not said.

The HTTP client: HTTP/2, no cookies, no proxy, and no connection to an inside address that is not allowed.

A name is looked up once, all it points to is judged, and the connection goes to an address that passed: a
name that points elsewhere a moment later (DNS rebinding) changes nothing. What a connection was let through
for, it may be used for again; an address that is written out in a URL is judged with each request
(`fetching.py`).

Fetches one feed: conditional, bounded in time and size, redirects followed step by step and judged each.

Whatever goes wrong is a `Failed` with one word. Not here: what a body says (`documents.py`), and what is
remembered of an answer (`memory.py`).
"""

import asyncio
import hashlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urldefrag, urljoin, urlsplit

import anyio
import httpcore
import httpx

from marketswarm import __version__
from marketswarm.net.addresses import Address, Allowance, allowed, written_out
from services.rss_agg import decode
from services.rss_agg.decode import ACCEPTED, Unpacking
from services.rss_agg.settings import ReadSettings

LONGEST_RETRY_SEC: Final = 86_400.0
VALIDATOR_LENGTH: Final = 500
URL_LENGTH: Final = 2000
PERMANENT: Final = frozenset({301, 308})
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
BUSY: Final = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Validators:
    """What a conditional request shows; empty: it is not one."""

    etag: str = ""
    modified: str = ""

    def headers(self) -> dict[str, str]:
        """The headers of a request that wants an answer only if there is something new."""
        both = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in both.items() if value}


NO_VALIDATORS: Final = Validators()


def validators(headers: Mapping[str, str]) -> Validators:
    """What to ask with the next time."""
    return Validators(_kept(headers.get("etag")), _kept(headers.get("last-modified")))


def _kept(value: str | None) -> str:
    good = value and len(value) <= VALIDATOR_LENGTH and value.isascii() and value.isprintable()
    return value.strip() if value and good else ""


def retry_after_sec(headers: Mapping[str, str], now: float) -> float | None:
    """For how long, in seconds, the server wants to be left alone: a day at most; None when it does not say.

    `now` is in epoch seconds; the server may give a date instead of a number.
    """
    said = headers.get("retry-after", "").strip()[:50]
    if said.isascii() and said.isdigit():
        return min(float(said), LONGEST_RETRY_SEC)
    try:
        when = parsedate_to_datetime(said)
        at = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return max(0.0, min(at - now, LONGEST_RETRY_SEC))


def target(url: str, location: str) -> str | None:
    """Where a redirect from `url` leads; None when that is no web address."""
    try:
        found = urldefrag(urljoin(url, location.strip())).url
        parts = urlsplit(found)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    # a redirect that brings credentials along would have us show them to whom it likes
    good = good and len(found) <= URL_LENGTH and "@" not in parts.netloc
    return found if good and found.isprintable() else None


def origin(url: str) -> str:
    """`host:port` of a URL: whom a reading bothers; empty for what is no URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"{(parts.hostname or '').rstrip('.')}:{port}" if parts.hostname else ""
    except ValueError:
        return ""


def shown(url: str) -> str:
    """A URL fit for a log line: without credentials, query and fragment."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "?"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"[:200]


def mark(url: str) -> str:
    """A URL that may hold a secret, as something to be stored and compared."""
    return hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()[:24]


LOOK_UPS: Final = 4
TRIED: Final = 3  # addresses of one name
CONNECTIONS: Final = 100
KEPT: Final = 20
KEPT_SEC: Final = 15.0
HEADERS: Final = {
    "User-Agent": f"marketswarm-rss_agg/{__version__}",
    "Accept": (
        "application/atom+xml, application/rss+xml, application/rdf+xml, application/feed+json, "
        "application/xml;q=0.9, text/xml;q=0.9, application/json;q=0.8, */*;q=0.1"
    ),
    "Accept-Encoding": ACCEPTED,
}

LookUp = Callable[[str, int], Sequence[str]]


class Inside(Exception):  # noqa: N818 - a result like another
    """The host is inside, and the truth does not allow it."""


def system_look_up(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, as this system has them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class Outward(httpcore.AsyncNetworkBackend):
    """Connects to what is outside, and to what is allowed."""

    def __init__(self, look_up: LookUp = system_look_up) -> None:
        self.allowances: tuple[Allowance, ...] = ()
        self._look_up = look_up
        self._by = httpcore.AnyIOBackend()
        # threads of their own: a name server that hangs is not to keep the buses' names waiting
        self._threads = ThreadPoolExecutor(LOOK_UPS, thread_name_prefix="marketswarm-io feeds")

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore. Raises Inside."""
        error: Exception = httpcore.ConnectError("no address")
        for address in (await self._addresses(host, port))[:TRIED]:
            try:
                return await self._by.connect_tcp(
                    str(address), port, timeout, local_address, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as one:
                error = one
        raise error

    async def _addresses(self, host: str, port: int) -> list[Address]:
        written = written_out(host)
        if written:
            return list(written)  # judged with each request
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, self._look_up, host, port)
        addresses = [ipaddress.ip_address(one) for one in found]
        good = [one for one in addresses if allowed(host, one, port, self.allowances)]
        if addresses and not good:
            raise Inside
        return good

    def close(self) -> None:
        """Looks no more names up; one that hangs is left to itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Transport(httpx.AsyncHTTPTransport):
    """httpx's own, with a pool that connects our way; there is no other place to put that in."""

    def __init__(self, outward: Outward, context: Any) -> None:
        super().__init__(verify=context, http2=True)
        if not isinstance(getattr(self, "_pool", None), httpcore.AsyncConnectionPool):
            raise TypeError("this httpx keeps its connections elsewhere: nothing would guard them")
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=CONNECTIONS,
            max_keepalive_connections=KEPT,
            keepalive_expiry=KEPT_SEC,
            http2=True,
            network_backend=outward,
        )


def client(outward: Outward) -> httpx.AsyncClient:
    """A client for feeds. SSL_CERT_FILE and SSL_CERT_DIR name authorities; proxies are not heeded."""
    context = httpx.create_ssl_context()
    nothing = DefaultCookiePolicy(allowed_domains=[])
    return httpx.AsyncClient(
        headers=HEADERS,
        transport=_Transport(outward, context),
        cookies=CookieJar(policy=nothing),
        trust_env=False,
        follow_redirects=False,
    )


REDIRECTS_AT_MOST: Final = 5
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

    `validators` are of `of`, the mark of a URL (`mark`), and shown to that one only.
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

    async def fetch(self, wanted: Wanted, wishes: ReadSettings) -> Answer:
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
        except decode.TooLong:
            raise Failed("too_long") from None
        except decode.Broken:
            raise Failed("bad_encoding") from None
        except (httpx.HTTPError, OSError) as error:
            raise Failed(word(error)) from None
        except (ValueError, httpx.InvalidURL):
            raise Failed("bad_url") from None
        except Exception as error:  # noqa: BLE001 - whatever a hostile server does to the client's libraries
            raise Failed(f"broken ({type(error).__name__})") from None

    async def _follow(self, wanted: Wanted, wishes: ReadSettings) -> Answer:
        url, moved, for_good = wanted.moved or wanted.url, wanted.moved, True
        for _ in range(REDIRECTS_AT_MOST + 1):
            judge(url, wanted.url, wishes.allowances)
            got = await self._ask(url, wanted, wishes)
            if isinstance(got, Answer):
                return Answer(got.body, got.kind, url, moved, got.validators)
            status, url = got
            for_good = for_good and status in PERMANENT
            moved = url if for_good else moved
        raise Failed("too_many_redirects")

    async def _ask(self, url: str, wanted: Wanted, wishes: ReadSettings) -> Answer | tuple[int, str]:
        """An answer, or the status of a redirect and where it leads."""
        shown = wanted.validators if wanted.of == mark(url) else NO_VALIDATORS
        limit = httpx.Timeout(None, connect=CONNECT_SHARE * wishes.timeout_sec)
        async with self._client.stream("GET", url, headers=shown.headers(), timeout=limit) as response:
            status = response.status_code
            if status == httpx.codes.NOT_MODIFIED and shown != NO_VALIDATORS:
                return Answer(None, "", url, "", shown)
            if status in REDIRECTS:
                to = target(url, response.headers.get("location", ""))
                if to is None:
                    raise Failed("bad_redirect")
                return status, to
            if status != httpx.codes.OK:
                after_sec = retry_after_sec(response.headers, time.time())
                raise Failed(str(status), after_sec, gone=status == httpx.codes.GONE)
            body = await _body(response, wishes.max_bytes)
            kind = response.headers.get("content-type", "")[:200]
            return Answer(body, kind, url, "", validators(response.headers))


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
        raise decode.TooLong
    unpacked = Unpacking(response.headers.get("content-encoding", ""), limit)
    async for chunk in response.aiter_raw(decode.PIECE):
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
