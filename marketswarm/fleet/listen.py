"""Find the address at which a fleet listens for other machines (`up --listen`), or say why there is none."""

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Final

from marketswarm.access.certificate import Certificate
from marketswarm.access.users import JOIN
from marketswarm.bus_url import format_host_port
from marketswarm.net.addresses import HOST_NAME

_WHICH: Final = "`ip -brief address` shows the addresses of this machine"
_HAS_PORT: Final = re.compile(r"[^:\[\]]+:\d+|\[.*\]:\d+")


class ListenError(ValueError):
    """The fleet can't listen there, or should not; the message says what is right."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address of this machine, and the name by which other machines are told of it: as it was typed."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class ListenSetup:
    """What a fleet shows to other machines: an address, and the certificate that is for its name."""

    at: ListenAddress
    certificate: Certificate

    def format_url(self, port: int) -> str:
        """Return the URL of a bus for another machine, without the password."""
        return f"rediss://{JOIN}@{format_host_port(self.at.name, port)}"

    def format_board_url(self, port: int) -> str:
        """Return the URL of the board for another machine."""
        return f"https://{format_host_port(self.at.name, port)}"


def find_listen_address(text: str) -> ListenAddress:
    """Return the address that `--listen` means. Look a name up, and bind a free port there for a moment.

    Raises ListenError if it is none of this machine, all of its addresses, or one that only it can reach.
    """
    if _HAS_PORT.fullmatch(text):
        raise ListenError(f"{text} has a port: it takes an address alone, and --port the ports")
    name = text.strip("[]").lower()
    address = _resolve(name)
    if address.is_unspecified:
        raise ListenError(
            f"{name} means every network of this machine, those of tomorrow too: give the one address "
            f"that the other machine can reach; {_WHICH}"
        )
    if address.is_loopback:
        raise ListenError(f"{_describe(name, address)} is this machine alone: no other can reach it")
    if (
        address.is_multicast
        or getattr(address, "scope_id", None)
        or (address.version == 6 and address.is_link_local)
    ):
        raise ListenError(f"{_describe(name, address)} is not an address for a server; {_WHICH}")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise ListenError(f"{_describe(name, address)} is not of this machine; {_WHICH}") from None
            raise ListenError(f"{_describe(name, address)}: {error.strerror}") from None
    return ListenAddress(name, str(address))


def _resolve(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return _unmap(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not HOST_NAME.fullmatch(name) or len(name) > 253:
        raise ListenError(f"{name!r} is neither an address nor a host name")
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ListenError(f"{name}: this machine does not know that name") from None
    return _unmap(ipaddress.ip_address(found[0][4][0]))


def _unmap(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address that `::ffff:…` means: only that says whether it is for all, or for nobody."""
    return getattr(address, "ipv4_mapped", None) or address


def _describe(name: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return name if name == str(address) else f"{name} ({address})"
