"""Decide which clients may read without a token, and who a client behind a proxy is. Pure.

Those of this machine may, and those of the networks that the operator names. In a container a browser on the
host comes from the address of the container's gateway; `gateway` stands for that address. Behind a proxy the
client is the one that the proxy names, if the operator trusts that proxy.
"""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from marketswarm.net.addresses import Address, Network, parse_address, unmap_address

GATEWAY: Final = "gateway"
_ROUTES: Final = Path("/proc/net/route")
_DEFAULT_ROUTE: Final = "00000000"
MAX_HOSTS: Final = 1000
"""Of how many hosts it is kept whether they may read: each request asks it of one."""
MAX_HOPS: Final = 20  # how many proxies are looked at, the nearest ones
RawHeaders = Sequence[tuple[bytes, bytes]]


def check_networks(text: str) -> str:
    """Return a list of networks and `gateway`, without blanks. Raise ValueError if a word is neither."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word != GATEWAY:
            try:
                ipaddress.ip_network(word, strict=False)
            except ValueError:
                raise ValueError(f"must be networks such as 10.1.0.0/16, or {GATEWAY}, with commas") from None
    return ",".join(words)


def find_networks(text: str, routes: Path = _ROUTES) -> tuple[Network, ...]:
    """Return the networks in a checked list; `gateway` is looked up now, and left out if it is missing.

    `routes` is the file with the kernel's routes.
    """
    words = (read_gateway(routes) if word == GATEWAY else word for word in text.split(","))
    return tuple(ipaddress.ip_network(word, strict=False) for word in words if word)


def read_gateway(routes: Path = _ROUTES) -> str | None:
    """Return the address of the default gateway (IPv4); `routes` is a file like `/proc/net/route`."""
    try:
        lines = routes.read_text(encoding="ascii").splitlines()[1:]
    except (OSError, UnicodeDecodeError):
        return None
    for fields in map(str.split, lines):
        if len(fields) > 2 and fields[1] == _DEFAULT_ROUTE:
            try:
                address = ipaddress.IPv4Address(int.from_bytes(bytes.fromhex(fields[2]), "little"))
            except ValueError:
                return None
            return None if address.is_unspecified else str(address)
    return None


def may_read(client: tuple[str, int] | None, networks: Sequence[Network]) -> bool:
    return client is not None and _may_host_read(client[0], tuple(networks))


@lru_cache(MAX_HOSTS)
def _may_host_read(host: str, networks: tuple[Network, ...]) -> bool:
    """Say it of a host that was found out: the address of a connection, or one that was parsed before."""
    address = _parse_address(host)
    return address is not None and (unmap_address(address).is_loopback or is_in(address, networks))


def is_in(address: Address | None, networks: Sequence[Network]) -> bool:
    plain = None if address is None else unmap_address(address)
    return plain is not None and any(plain.version == one.version and plain in one for one in networks)


class ClientFinder:
    """An ASGI application that hands requests on as those of the clients that trusted `proxies` name.

    The client of a request that comes from `gateway` over TLS is taken for unknown, and not believed as a
    proxy's either. The port with TLS is for other machines. An engine may give all of them the gateway's
    address (a proxy of its own, rootless containers), and they must not be taken for the browser on the host.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[Network], gateway: Sequence[Network] = ()) -> None:
        self._app, self._proxies, self._gateway = app, proxies, gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client") if scope["type"] in ("http", "websocket") else None
        address = _parse_address(client[0]) if client else None
        if scope.get("scheme") in ("https", "wss") and is_in(address, self._gateway):
            scope = {**scope, "client": None}
        elif client and is_in(address, self._proxies):
            scope = {**scope, **find_forwarded(scope["headers"], client, self._proxies)}
        await self._app(scope, receive, send)


def find_forwarded(
    headers: RawHeaders, proxy: tuple[str, int], proxies: Sequence[Network]
) -> dict[str, tuple[str, int] | str | None]:
    """Return the `client` and the `scheme` of a request that a proxy sent, if the proxy names them.

    The client is None (unknown) if the headers can't be read or contradict each other, because a proxy that
    sets one of them may hand on the other as its client has sent it.
    """
    found: dict[str, tuple[str, int] | str | None] = {}
    hops = _parse_forwarded(_join(headers, b"forwarded"))
    plain = _split(_join(headers, b"x-forwarded-for"))
    claims = [
        _find_client([_parse_address(text) for text in texts], proxies)
        for texts in ([hop.get("for", "") for hop in hops], plain)
        if texts
    ]
    if claims:
        is_clear = all(claim is not None and claim == claims[0] for claim in claims)
        found["client"] = (str(claims[0]), proxy[1]) if is_clear else None
    words = [hops[-1].get("proto", "") if hops else "", *_split(_join(headers, b"x-forwarded-proto"))[-1:]]
    schemes = {word.lower() for word in words if word}
    if len(schemes) == 1 and schemes <= {"http", "https"}:
        found["scheme"] = schemes.pop()
    return found


def _find_client(hops: Sequence[Address | None], proxies: Sequence[Network]) -> Address | None:
    return next((hop for hop in reversed(hops) if hop is None or not is_in(hop, proxies)), hops[0])


def _parse_forwarded(text: str) -> list[dict[str, str]]:
    """Return what each proxy says in a header `Forwarded` (RFC 7239), the nearest one last."""
    found: list[dict[str, str]] = []
    for hop in _split(text):
        pairs = (pair.partition("=") for pair in hop.split(";"))
        found.append({name.strip().lower(): value.strip().strip('"') for name, _, value in pairs})
    return found


def _parse_address(text: str) -> Address | None:
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    return parse_address(host)


def _split(text: str) -> list[str]:
    return [each.strip() for each in text.rsplit(",", MAX_HOPS)[-MAX_HOPS:]] if text.strip() else []


def _join(headers: RawHeaders, wanted: bytes) -> str:
    return ",".join(value.decode("latin-1") for name, value in headers if name == wanted)
