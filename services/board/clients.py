"""Decide which clients may read without a token: those of this machine, and networks that the operator names.

In a container a browser on the host comes from the address of the container's gateway; `gateway` stands for
that address.
"""

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from marketswarm.net.addresses import Address, Network

GATEWAY: Final = "gateway"
_ROUTES: Final = Path("/proc/net/route")
_DEFAULT_ROUTE: Final = "00000000"


def check_networks(text: str) -> str:
    """Return a list of networks and `gateway`, separated by commas. Raise ValueError if a word is neither."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word != GATEWAY:
            try:
                ipaddress.ip_network(word, strict=False)
            except ValueError:
                raise ValueError(f"must be networks such as 10.1.0.0/16, or {GATEWAY}, with commas") from None
    return ",".join(words)


def find_networks(text: str, routes: Path = _ROUTES) -> tuple[Network, ...]:
    """Return the networks in a checked list; `gateway` is looked up now, and left out if there is none.

    `routes` is the file with the kernel's routes.
    """
    found: list[Network] = []
    for word in filter(None, text.split(",")):
        address = read_gateway(routes) if word == GATEWAY else word
        if address is not None:
            found.append(ipaddress.ip_network(address, strict=False))
    return tuple(found)


def read_gateway(routes: Path = _ROUTES) -> str | None:
    """Return the address of the default route's gateway; None if there is none, or it can't be read."""
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
    """Return True if a client may read without a token, by its address."""
    try:
        address = ipaddress.ip_address(client[0]) if client else None
    except ValueError:
        return False
    if address is None:
        return False
    return _to_plain(address).is_loopback or is_in(address, networks)


def is_in(address: Address | None, networks: Sequence[Network]) -> bool:
    """Return True if an address is in one of the networks; one of IPv4 may be written as one of IPv6."""
    plain = None if address is None else _to_plain(address)
    return plain is not None and any(plain.version == one.version and plain in one for one in networks)


def _to_plain(address: Address) -> Address:
    """Return an address of IPv4 as such."""
    return getattr(address, "ipv4_mapped", None) or address
