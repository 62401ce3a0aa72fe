"""The HTTP client: HTTP/2, no cookies, no proxy, and no connection to an inside address that is not allowed.

A name is looked up once, all it points to is judged, and the connection goes to an address that passed: a
name that points elsewhere a moment later (DNS rebinding) changes nothing. What a connection was let through
for, it may be used for again; an address that is written out in a URL is judged with each request
(`fetching.py`).
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpcore
import httpx

from marketswarm import __version__
from marketswarm.net.addresses import Address, Allowance, allowed, written_out
from services.rss_agg.unpacking import ACCEPTED

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
