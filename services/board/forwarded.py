"""Believe what a proxy in front of the board says of its clients: where they are, and whether they use TLS.

Only proxies that the operator names are believed (`BOARD_TRUSTED_PROXIES`): anybody can send a header. A
proxy adds the address of its own client at the end of `Forwarded` or `X-Forwarded-For`, so the last address
that is no such proxy is the client's. What stands before it was sent by the client.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from marketswarm.net.addresses import Address, Network
from services.board.clients import is_in

MAX_HOPS: Final = 20
"""How many proxies are looked at, the nearest ones."""
_SCHEMES: Final = ("http", "https")

RawHeaders = Sequence[tuple[bytes, bytes]]


class ForwardedClients:
    """An ASGI application that hands requests on as those of the clients that named proxies speak for.

    Args:
        app: the application.
        proxies: the networks in which such proxies are.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[Network]) -> None:
        self._app, self._proxies = app, proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand one request on."""
        client = scope.get("client") if scope["type"] in ("http", "websocket") else None
        if client and is_in(_parse_address(client[0]), self._proxies):
            scope = {**scope, **find_forwarded(scope["headers"], client, self._proxies)}
        await self._app(scope, receive, send)


def find_forwarded(
    headers: RawHeaders, proxy: tuple[str, int], proxies: Sequence[Network]
) -> dict[str, tuple[str, int] | str | None]:
    """Return the `client` and the `scheme` of a request that a proxy sent; nothing of what it does not say.

    The client is None, one of whom nothing is known, if the headers can't be read or contradict each other: a
    proxy that sets one of them may hand on another one as its client has sent it.
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
    if len(schemes) == 1 and schemes <= set(_SCHEMES):
        found["scheme"] = schemes.pop()
    return found


def _find_client(hops: Sequence[Address | None], proxies: Sequence[Network]) -> Address | None:
    """Return the last address that is no proxy, or the first one if all are; None if it can't be read."""
    return next((hop for hop in reversed(hops) if hop is None or not is_in(hop, proxies)), hops[0])


def _parse_forwarded(text: str) -> list[dict[str, str]]:
    """Return what each proxy says in a header `Forwarded` (RFC 7239), the nearest one last."""
    found: list[dict[str, str]] = []
    for hop in _split(text):
        pairs = (pair.partition("=") for pair in hop.split(";"))
        found.append({name.strip().lower(): value.strip().strip('"') for name, _, value in pairs})
    return found


def _parse_address(text: str) -> Address | None:
    """Return the address in a text, which may have a port; None if there is none."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _split(text: str) -> list[str]:
    """Return the last entries of a list with commas; none if it is empty."""
    return [each.strip() for each in text.rsplit(",", MAX_HOPS)[-MAX_HOPS:]] if text.strip() else []


def _join(headers: RawHeaders, wanted: bytes) -> str:
    """Return a header, whose parts may be in several lines."""
    return ",".join(value.decode("latin-1") for name, value in headers if name == wanted)
