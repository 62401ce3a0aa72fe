"""Tell outside addresses, those of the open Internet, from inside ones, those of this host or network. Pure.

The writer of a feed list chooses a feed's URL, and any server chooses where it redirects to. Neither may
make a program of ours send requests to an intranet, a cloud's metadata address or a Redis on this host. So
`rss_agg` checks each request, and `massive` each redirect. The callers resolve names.

The URLs of channels, of the language model and of massive's `targets` are not checked, because the operator
sets them, and they often are inside on purpose (an Alertmanager, a model on the next host). Requests to
channels and to the language model follow no redirects.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, Literal
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# networks that are inside, but that some versions of Python call global
ALSO_INSIDE: Final = tuple(
    ip_network(one)
    for one in ("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15")
) + tuple(ip_network(one) for one in ("64:ff9b:1::/48", "100::/64", "2001::/23", "fec0::/10"))
NAT64: Final = ip_network("64:ff9b::/96")
IPV4_COMPATIBLE: Final = ip_network("::/96")  # ::127.0.0.1, and :: and ::1 with it
LOCALHOST: Final = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
HOST_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
WHICH_ADDRESS: Final = "`ip -brief address` shows the addresses of this machine"
WITH_PORT: Final = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<four>[^:\[\]]*)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Allowance:
    """An inside destination that the truth allows: a network or a name, at one port or (None) at any."""

    network: Network | None
    name: str = ""
    port: int | None = None


def parse_allowance(word: Any) -> Allowance | None:
    """Parse `127.0.0.1:8080`, `[::1]`, `10.0.0.0/8` or `wiki.example`; return None for anything else."""
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
        return Allowance(None, host, port) if HOST_NAME.fullmatch(host) else None


def parse_address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def unmap_address(address: Address) -> Address:
    """Return the IPv4 address that `::ffff:…` means: only that says whether it is for all, or for nobody."""
    return getattr(address, "ipv4_mapped", None) or address


def explain_unreachable(address: Address, name: str) -> str | None:
    """Return why no server for other machines may listen at an address, called `name`; None if one may."""
    if address.is_unspecified:
        return (
            f"{name} means every network of this machine, those of tomorrow too: give the one address "
            f"that the other machine can reach; {WHICH_ADDRESS}"
        )
    if address.is_loopback:
        return f"{name} is this machine alone: no other can reach it"
    is_local = getattr(address, "scope_id", None) or (address.version == 6 and address.is_link_local)
    if address.is_multicast or is_local:
        return f"{name} is not an address for a server; {WHICH_ADDRESS}"
    return None


def is_web_url(url: str) -> bool:
    """Return True for an http or https URL with a host, and without the port 0."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_this_machine(host: str) -> bool:
    """Return True for `localhost` and for an address that no other machine has, such as 127.0.0.1."""
    address = parse_address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def require_encrypted_url(scheme: Literal["https", "wss"], url: str) -> str:
    """Return `url` if a key may be sent there; otherwise raise ValueError.

    Without encryption that is this machine alone. The text of the error has no URL, which may hold a secret.
    """
    plain = scheme[:-1]
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if not host or port == 0 or parts.scheme not in (scheme, plain) or not url.isprintable() or " " in url:
        raise ValueError(f"must be {scheme}://host/…")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must have no user, password or query: the key is sent in a header or a message")
    if parts.scheme == plain and not is_this_machine(host):
        raise ValueError(f"must be {scheme}://, since keys are sent there; {plain}:// is for 127.0.0.1")
    return url


def parse_literal_addresses(host: str) -> tuple[Address, ...]:
    """Return the addresses of a URL's host that need no look-up: none for a name, two for localhost.

    Only the usual notation counts as an address: 0x7f.1 and 2130706433 are resolved like names, and the
    result is checked then.
    """
    if host.lower().rstrip(".") == "localhost":
        return LOCALHOST
    address = parse_address(host.removeprefix("[").removesuffix("]"))
    return () if address is None else (address,)


def is_inside(address: Address) -> bool:
    """Return True unless the address and all that are embedded in it are public."""
    return any(map(_is_not_public, _iterate_meant(address)))


def _is_not_public(address: Address) -> bool:
    """A mapped, 6to4 or NAT64 address is not inside by itself: only the address embedded in it counts."""
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        has_embedded = isinstance(address, IPv6Address) and (
            address.ipv4_mapped is not None or address.sixtofour is not None or address in NAT64
        )
        return not has_embedded
    return any(address.version == net.version and address in net for net in ALSO_INSIDE)


def _iterate_meant(address: Address) -> Iterator[Address]:
    """Yield an address, and those that are embedded in it: mapped, 6to4, Teredo, NAT64 or compatible."""
    yield address
    if not isinstance(address, IPv6Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in NAT64 or address in IPV4_COMPATIBLE:
        yield IPv4Address(int(address) & 0xFFFF_FFFF)


def is_allowed(host: str, address: Address, port: int, allowances: Iterable[Allowance]) -> bool:
    """Return True if a request to `host`, which is at `address`, may be sent to `port`.

    Every outside address is allowed; an inside one needs one of the `allowances`.
    """
    if not is_inside(address):
        return True
    host = host.lower().rstrip(".")
    return any(
        allowance.port in (None, port)
        and (host == allowance.name if allowance.network is None else _is_within(address, allowance.network))
        for allowance in allowances
    )


def _is_within(address: Address, network: Network) -> bool:
    return any(one.version == network.version and one in network for one in _iterate_meant(address))
