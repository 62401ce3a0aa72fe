"""Keep an HTTP client from inside addresses, wherever a URL, a name or a redirect leads.

A host name is resolved once, its addresses are checked, and the connection goes to one that passed: a name
that resolves elsewhere a moment later (DNS rebinding) changes nothing.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore
import httpx

from marketswarm.net.addresses import Address, Allowance, is_allowed, parse_literal_addresses

RESOLVER_THREADS: Final = 4
MAX_ADDRESSES: Final = 3  # addresses of one name that are tried

Resolver = Callable[[str, int], Sequence[str]]
"""Return the addresses of a host name, as text. Raises OSError."""


class InsideAddressError(Exception):
    """The host has an inside address that is not allowed."""


def resolve_by_system(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class AddressGuard(httpcore.AsyncNetworkBackend):
    """Open connections for httpcore, only to outside addresses and to those that the `allowances` allow."""

    def __init__(self, resolve: Resolver = resolve_by_system) -> None:
        self.allowances: tuple[Allowance, ...] = ()
        self._resolve = resolve
        self._backend = httpcore.AnyIOBackend()
        # threads of their own, because a name server that hangs must not delay the look-up of the buses'
        # names
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="marketswarm-io http")

    def require_allowed(self, url: str, own_url: str) -> None:
        """Raise InsideAddressError if the host of `url` is an inside address that is not allowed.

        The host and port of `own_url` are allowed. Raises ValueError or httpx.InvalidURL for a malformed URL.
        """
        host, port = _find_host_and_port(url)
        if (host, port) == _find_host_and_port(own_url):
            return
        if not all(
            is_allowed(host, address, port, self.allowances) for address in parse_literal_addresses(host)
        ):
            raise InsideAddressError

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first of a host's allowed addresses that accepts; MAX_ADDRESSES are tried.

        Raises InsideAddressError if none is allowed, and httpcore's errors if none accepts.
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
        """Raises InsideAddressError if the host has no allowed address."""
        literals = parse_literal_addresses(host)
        if literals:
            return list(literals)  # `require_allowed` has checked these, with each request
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, self._resolve, host, port)
        addresses = [ip_address(each) for each in found]
        permitted = [each for each in addresses if is_allowed(host, each, port, self.allowances)]
        if addresses and not permitted:
            raise InsideAddressError
        return permitted

    def close(self) -> None:
        """Resolve no more names; abandon a look-up that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class GuardedTransport(httpx.AsyncHTTPTransport):
    """Connect as an `AddressGuard` allows, over HTTP/2 where a server speaks it, and never by a proxy.

    SSL_CERT_FILE and SSL_CERT_DIR name certificate authorities. This replaces httpx's connection pool, since
    httpx has no other place for the guard.
    """

    def __init__(self, guard: AddressGuard, limits: httpx.Limits) -> None:
        context = httpx.create_ssl_context()
        super().__init__(verify=context, http2=True)
        if not isinstance(getattr(self, "_pool", None), httpcore.AsyncConnectionPool):
            raise TypeError("this httpx keeps its connections elsewhere: nothing would guard them")
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            http2=True,
            network_backend=guard,
        )


def _find_host_and_port(url: str) -> tuple[str, int]:
    urlsplit(url)  # raises ValueError for some malformed URLs that httpx accepts
    parts = httpx.URL(url)
    return parts.raw_host.decode("ascii"), parts.port or (443 if parts.scheme == "https" else 80)
