"""Fetch one feed over HTTP: a conditional request, limited in time and size, with every redirect checked.

A host name is resolved once, its addresses are checked, and the connection goes to one that passed: a name
that resolves elsewhere a moment later (DNS rebinding) changes nothing. Everything a server sends is hostile:
a header that is too long or malformed counts as not sent. Each failure is a `FeedError` with one word.
"""

import asyncio
import hashlib
import ipaddress
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urldefrag, urljoin, urlsplit

import anyio
import httpcore
import httpx

from marketswarm import __version__
from marketswarm.net.addresses import Address, Allowance, is_allowed, parse_literal_addresses
from marketswarm.net.decompression import CHUNK_BYTES, BadEncodingError, BodyTooLongError, Decompressor
from marketswarm.net.errors import ReasonTable, find_reason
from marketswarm.net.http_errors import find_http_reason
from marketswarm.net.retry import parse_retry_after
from services.rss_agg.settings import ReadSettings

MAX_RETRY_AFTER_SEC: Final = 86_400.0
VALIDATOR_LENGTH: Final = 500
URL_LENGTH: Final = 2000
PERMANENT_REDIRECTS: Final = frozenset({301, 308})
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS: Final = 5
CONNECT_SHARE: Final = 0.3  # share of `timeout_sec`: the next address and the answer need time, too
CLOSE_SEC: Final = 0.5

RESOLVER_THREADS: Final = 4
MAX_ADDRESSES: Final = 3  # addresses of one name that are tried
MAX_CONNECTIONS: Final = 100
MAX_IDLE_CONNECTIONS: Final = 20
IDLE_CONNECTION_SEC: Final = 15.0
HEADERS: Final = {
    "User-Agent": f"marketswarm-rss_agg/{__version__}",
    "Accept": (
        "application/atom+xml, application/rss+xml, application/rdf+xml, application/feed+json, "
        "application/xml;q=0.9, text/xml;q=0.9, application/json;q=0.8, */*;q=0.1"
    ),
    "Accept-Encoding": "gzip, br",
}

Resolver = Callable[[str, int], Sequence[str]]
"""Return the addresses of a host name, as text. Raises OSError."""


class FeedError(Exception):
    """A feed could not be read; `str()` is one word or status, such as timeout, 404 or not_a_feed.

    Args:
        reason: the word that `str()` returns.
        retry_after_sec: for how many seconds the server asked for no further request, if it did.
        gone: True if the server answered 410: the feed will not come back.
    """

    def __init__(self, reason: str, retry_after_sec: float | None = None, *, gone: bool = False) -> None:
        super().__init__(reason)
        self.retry_after_sec, self.gone = retry_after_sec, gone


class InsideAddressError(Exception):
    """The host has an inside address that the truth does not allow."""


# -- headers and URLs


@dataclass(frozen=True, slots=True)
class Validators:
    """Hold the ETag and Last-Modified of a response for the next conditional request.

    Each is empty if the response had none.
    """

    etag: str = ""
    modified: str = ""

    def to_headers(self) -> dict[str, str]:
        """Return the headers of a conditional request, whose answer is 304 if nothing has changed."""
        both = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in both.items() if value}


NO_VALIDATORS: Final = Validators()


def read_validators(headers: Mapping[str, str]) -> Validators:
    """Return the validators in the headers of a response."""
    return Validators(_usable_value(headers.get("etag")), _usable_value(headers.get("last-modified")))


def _usable_value(value: str | None) -> str:
    """Return a header's value, stripped; empty if it is missing, too long, or not printable ASCII."""
    usable = value and len(value) <= VALIDATOR_LENGTH and value.isascii() and value.isprintable()
    return value.strip() if value and usable else ""


def read_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that `Retry-After` asks for, at most a day, or None if it is missing or unreadable.

    `now` is in epoch seconds: the header may hold a date instead of a number.
    """
    asked_sec = parse_retry_after(headers.get("retry-after"), now)
    return None if asked_sec is None else min(asked_sec, MAX_RETRY_AFTER_SEC)


def resolve_redirect(url: str, location: str) -> str | None:
    """Return the absolute URL that a redirect from `url` points to; None if it is not usable.

    A usable URL is a web URL of at most URL_LENGTH printable characters, without credentials.
    """
    try:
        target = urldefrag(urljoin(url, location.strip())).url
        parts = urlsplit(target)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    # credentials in a redirect would be sent by us to a host of the server's choice
    usable = usable and len(target) <= URL_LENGTH and "@" not in parts.netloc
    return target if usable and target.isprintable() else None


def host_and_port(url: str) -> str:
    """Return `host:port` of a URL, by which requests to one host are limited; empty for an invalid URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"{(parts.hostname or '').rstrip('.')}:{port}" if parts.hostname else ""
    except ValueError:
        return ""


def redact_url(url: str) -> str:
    """Return a URL for a log line, without credentials, query and fragment; `?` for an invalid URL."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "?"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"[:200]


def hash_url(url: str) -> str:
    """Return a hash of a URL, to be stored and compared: the URL itself may hold a secret."""
    return hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()[:24]


# -- the HTTP client


def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name as this system resolves it. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Open connections for httpcore, only to outside addresses and to those that the truth allows.

    `allowances` are the hosts and networks of `allow_inside`.
    """

    def __init__(self, resolve: Resolver = resolve_by_system) -> None:
        self.allowances: tuple[Allowance, ...] = ()
        self._resolve = resolve
        self._backend = httpcore.AnyIOBackend()
        # threads of their own: a name server that hangs must not delay the look-up of the buses' names
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="marketswarm-io feeds")

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve `host`, and connect to the first of its allowed addresses that accepts.

        At most MAX_ADDRESSES are tried. Raises InsideAddressError if none is allowed, and httpcore's errors
        if none accepts.
        """
        last_error: Exception = httpcore.ConnectError("no address")
        for address in (await self._find_addresses(host, port))[:MAX_ADDRESSES]:
            try:
                return await self._backend.connect_tcp(
                    str(address), port, timeout, local_address, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last_error = error
        raise last_error

    async def _find_addresses(self, host: str, port: int) -> list[Address]:
        """Return the allowed addresses of a host. Raises InsideAddressError if it has only others.

        The addresses of a literal host were checked by `check_address`.
        """
        literals = parse_literal_addresses(host)
        if literals:
            return list(literals)  # `check_address` has checked these, with each request
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, self._resolve, host, port)
        addresses = [ipaddress.ip_address(each) for each in found]
        permitted = [each for each in addresses if is_allowed(host, each, port, self.allowances)]
        if addresses and not permitted:
            raise InsideAddressError
        return permitted

    def close(self) -> None:
        """Resolve no more names; abandon a look-up that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _GuardedTransport(httpx.AsyncHTTPTransport):
    """Use our network backend in httpx's transport, by replacing its connection pool.

    httpx has no other place to set it.
    """

    def __init__(self, backend: GuardedBackend, context: Any) -> None:
        super().__init__(verify=context, http2=True)
        if not isinstance(getattr(self, "_pool", None), httpcore.AsyncConnectionPool):
            raise TypeError("this httpx keeps its connections elsewhere: nothing would guard them")
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_CONNECTION_SEC,
            http2=True,
            network_backend=backend,
        )


def make_client(backend: GuardedBackend) -> httpx.AsyncClient:
    """Return an HTTP client for feeds: HTTP/2, no cookies, no proxy, no redirects of its own.

    SSL_CERT_FILE and SSL_CERT_DIR name certificate authorities; other variables are ignored.
    """
    context = httpx.create_ssl_context()
    no_cookies = DefaultCookiePolicy(allowed_domains=[])
    return httpx.AsyncClient(
        headers=HEADERS,
        transport=_GuardedTransport(backend, context),
        cookies=CookieJar(policy=no_cookies),
        trust_env=False,
        follow_redirects=False,
    )


# -- fetching


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """Hold the URLs and the validators to fetch a feed with.

    `url` is the feed's URL in the truth, `moved_to` the URL that it has permanently moved to, or empty. The
    `validators` are sent only to the URL whose hash (`hash_url`) is `validators_of`.
    """

    url: str
    moved_to: str = ""
    validators: Validators = NO_VALIDATORS
    validators_of: str = ""


@dataclass(frozen=True, slots=True)
class FeedResponse:
    """Hold a feed's document; `body` is None if it has not changed.

    `url` is where it was found. `moved_to` is where the feed has permanently moved to, empty if the truth's
    URL holds.
    """

    body: bytes | None
    content_type: str
    url: str
    moved_to: str
    validators: Validators


class Fetcher:
    """Fetch feeds with one HTTP client for all. Use as a context manager."""

    def __init__(self, resolve: Resolver = resolve_by_system) -> None:
        self._backend = GuardedBackend(resolve)
        self.client = make_client(self._backend)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._backend.close()
        try:
            async with asyncio.timeout(CLOSE_SEC):
                await self.client.aclose()
        except (TimeoutError, httpx.HTTPError, OSError):
            return

    async def fetch(self, request: FeedRequest, settings: ReadSettings) -> FeedResponse:
        """Return the feed's document within `timeout_sec`, after at most MAX_REDIRECTS. Raises FeedError."""
        self._backend.allowances = settings.allowances
        try:
            # not asyncio.timeout: that also interrupts the client as it returns a connection to its pool, and
            # after a hundred of those the pool is empty
            with anyio.fail_after(settings.timeout_sec):
                return await self._follow_redirects(request, settings)
        except FeedError:
            raise
        except TimeoutError:
            raise FeedError("timeout") from None
        except Exception as error:  # noqa: BLE001 - whatever a hostile server does to the client's libraries
            raise FeedError(error_reason(error)) from None

    async def _follow_redirects(self, request: FeedRequest, settings: ReadSettings) -> FeedResponse:
        """Request the feed, and each redirect's target in turn, until a response that is no redirect.

        `moved_to` of the response changes only by redirects that are all permanent. Raises FeedError.
        """
        url, moved_to, permanent = request.moved_to or request.url, request.moved_to, True
        for _ in range(MAX_REDIRECTS + 1):
            check_address(url, request.url, settings.allowances)
            got = await self._send(url, request, settings)
            if isinstance(got, FeedResponse):
                return FeedResponse(got.body, got.content_type, url, moved_to, got.validators)
            status, url = got
            permanent = permanent and status in PERMANENT_REDIRECTS
            moved_to = url if permanent else moved_to
        raise FeedError("too_many_redirects")

    async def _send(
        self, url: str, request: FeedRequest, settings: ReadSettings
    ) -> FeedResponse | tuple[int, str]:
        """Send one GET request; return the response, or the status of a redirect and its target.

        Raises FeedError for any other status, and the client's errors.
        """
        validators = request.validators if request.validators_of == hash_url(url) else NO_VALIDATORS
        limit = httpx.Timeout(None, connect=CONNECT_SHARE * settings.timeout_sec)
        async with self.client.stream("GET", url, headers=validators.to_headers(), timeout=limit) as response:
            status = response.status_code
            if status == httpx.codes.NOT_MODIFIED and validators != NO_VALIDATORS:
                return FeedResponse(None, "", url, "", validators)
            if status in REDIRECTS:
                target = resolve_redirect(url, response.headers.get("location", ""))
                if target is None:
                    raise FeedError("bad_redirect")
                return status, target
            if status != httpx.codes.OK:
                retry_after_sec = read_retry_after(response.headers, time.time())
                raise FeedError(str(status), retry_after_sec, gone=status == httpx.codes.GONE)
            body = await _read_body(response, settings.max_bytes)
            content_type = response.headers.get("content-type", "")[:200]
            return FeedResponse(body, content_type, url, "", read_validators(response.headers))


def check_address(url: str, url_in_truth: str, allowances: Sequence[Allowance]) -> None:
    """Raise InsideAddressError if the host of `url` is an inside address that is not allowed.

    The client's reading of the URL counts. The host and port of `url_in_truth` are allowed.
    """
    host, port = _host_and_port(url)
    if (host, port) == _host_and_port(url_in_truth):
        return
    if not all(is_allowed(host, address, port, allowances) for address in parse_literal_addresses(host)):
        raise InsideAddressError


def _host_and_port(url: str) -> tuple[str, int]:
    """Return the host and the port of a URL as httpx reads it. Raises ValueError."""
    urlsplit(url)  # raises ValueError for some malformed URLs that httpx accepts
    parts = httpx.URL(url)
    return parts.raw_host.decode("ascii"), parts.port or (443 if parts.scheme == "https" else 80)


async def _read_body(response: httpx.Response, limit: int) -> bytes:
    """Return the decompressed body of a response. Raises BodyTooLongError or BadEncodingError."""
    length = response.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:18]) > limit:
        raise BodyTooLongError
    decompressor = Decompressor(response.headers.get("content-encoding", ""), limit)
    async for chunk in response.aiter_raw(CHUNK_BYTES):
        decompressor.add(chunk)
    return decompressor.finish()


_OURS: Final[ReasonTable] = (
    (InsideAddressError, "inside_address"),
    (BodyTooLongError, "too_long"),
    (BadEncodingError, "bad_encoding"),
)
_OTHERS: Final[ReasonTable] = ((httpx.TransportError, "broken"), (ValueError, "bad_url"))


def error_reason(error: BaseException) -> str:
    """Return one word for an error, from the error itself or from what caused it."""
    reason = find_reason(error, _OURS) or find_http_reason(error) or find_reason(error, _OTHERS)
    return reason or f"broken ({type(error).__name__})"
