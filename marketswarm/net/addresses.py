"""Tell the addresses of the open Internet from those of this machine, of a private network or of none.

A feed's URL comes from whoever edits a feed list, and a redirect from anyone: neither may make a program here
ask an intranet, a cloud's metadata address or a Redis on this host. `rss_agg` asks before each request,
`massive` before each redirect. This module is pure: the callers look names up.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# not on every Python's list of what is not global
ALSO_INSIDE: Final = tuple(
    ip_network(one)
    for one in ("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15")
) + tuple(ip_network(one) for one in ("64:ff9b:1::/48", "100::/64", "2001::/23", "fec0::/10"))
NAT64: Final = ip_network("64:ff9b::/96")
OLD_FORM: Final = ip_network("::/96")  # ::127.0.0.1, and :: and ::1 with it
LOCALHOST: Final = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
WITH_PORT: Final = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<four>[^:\[\]]*)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Allowance:
    """A place inside that the truth allows: a network or a name; at one port, or (None) at all."""

    network: Network | None
    name: str = ""
    port: int | None = None


def allowance(word: Any) -> Allowance | None:
    """`127.0.0.1:8080`, `[::1]`, `10.0.0.0/8`, `wiki.example` understood; None for what is none of these."""
    if not isinstance(word, str) or not 0 < len(word) <= 300:  # longer than any name
        return None
    host, port = word.strip().lower(), None
    if found := WITH_PORT.fullmatch(host):
        host, port = found["six"] or found["four"] or "", int(found["port"])
        if not 0 < port < 65_536:
            return None
    host = host.removeprefix("[").removesuffix("]")
    try:
        return Allowance(ip_network(host, strict=False), port=port)
    except ValueError:
        host = host.rstrip(".")
        return Allowance(None, host, port) if NAME.fullmatch(host) else None


def written_out(host: str) -> tuple[Address, ...]:
    """The addresses that a URL's host says without a look-up: none for a name, two for localhost.

    Only the plain form counts: 0x7f.1 and 2130706433 are looked up like names, and judged as such.
    """
    if host.lower().rstrip(".") == "localhost":
        return LOCALHOST
    try:
        return (ip_address(host.removeprefix("[").removesuffix("]")),)
    except ValueError:
        return ()


def inside(address: Address) -> bool:
    """Whether this is anything but an ordinary address of the open Internet; also if it hides another one."""
    return any(_inside(one) for one in (address, *_hidden(address)))


def _inside(one: Address) -> bool:
    if not one.is_global or one.is_multicast or one.is_reserved or one.is_unspecified:
        # these three are judged by what they carry
        carries = isinstance(one, IPv6Address) and (
            one.ipv4_mapped is not None or one.sixtofour is not None or one in NAT64
        )
        return not carries
    return any(one.version == net.version and one in net for net in ALSO_INSIDE)


def _hidden(address: Address) -> Iterator[Address]:
    if not isinstance(address, IPv6Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in NAT64 or address in OLD_FORM:
        yield IPv4Address(int(address) & 0xFFFF_FFFF)


def allowed(host: str, address: Address, port: int, by: Iterable[Allowance]) -> bool:
    """Whether `host`, which is at `address`, may be asked at `port`."""
    if not inside(address):
        return True
    host = host.lower().rstrip(".")
    return any(
        one.port in (None, port)
        and (host == one.name if one.network is None else _within(address, one.network))
        for one in by
    )


def _within(address: Address, network: Network) -> bool:
    return any(one.version == network.version and one in network for one in (address, *_hidden(address)))
