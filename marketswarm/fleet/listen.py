"""Find the address at which a fleet listens for other machines (`up --listen`), or say why there is none."""

import errno
import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from marketswarm.access.certificate import Certificate
from marketswarm.access.users import JOIN
from marketswarm.bus_url import format_host_port
from marketswarm.net.addresses import HOST_NAME, WHICH_ADDRESS, Address, explain_unreachable, unmap_address

BOARD_TLS_HOST: Final = "BOARD_TLS_HOST"
BOARD_TLS_PEM: Final = "BOARD_TLS_PEM"
"""The variables by which a board listens at another address over TLS, with this certificate and its key."""
BOARD_ALLOWED_HOSTS: Final = "BOARD_ALLOWED_HOSTS"
"""The variable with the host names by which browsers may ask a board, separated by commas."""

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

    def make_board_environ(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the variables by which the board listens too, and answers to the name as well.

        `given` are the variables that it has already; host names that these allow stay allowed.
        """
        names = (given.get(BOARD_ALLOWED_HOSTS), self.at.name)
        return {
            BOARD_TLS_HOST: self.at.address,
            BOARD_TLS_PEM: str(self.certificate.file),
            BOARD_ALLOWED_HOSTS: ",".join(name for name in names if name),
        }

    def format_board_url(self, port: int) -> str:
        """Return the URL of the board for another machine."""
        return f"https://{format_host_port(self.at.name, port)}"


def find_listen_address(text: str) -> ListenAddress:
    """Return the address that `--listen` means. Look a name up, and bind a free port there for a moment.

    Raises ListenError if it is not an address of this machine, or all of them, or one that only it can reach.
    """
    if _HAS_PORT.fullmatch(text):
        raise ListenError(f"{text} has a port: it takes an address alone, and --port the ports")
    name = text.strip("[]").lower()
    address = _resolve(name)
    described = _describe(name, address)
    if problem := explain_unreachable(address, described):
        raise ListenError(problem)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise ListenError(f"{described} is not of this machine; {WHICH_ADDRESS}") from None
            raise ListenError(f"{described}: {error.strerror}") from None
    return ListenAddress(name, str(address))


def _resolve(name: str) -> Address:
    try:
        return unmap_address(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not HOST_NAME.fullmatch(name) or len(name) > 253:
        raise ListenError(f"{name!r} is neither an address nor a host name")
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ListenError(f"{name}: this machine does not know that name") from None
    return unmap_address(ipaddress.ip_address(found[0][4][0]))


def _describe(name: str, address: Address) -> str:
    return name if name == str(address) else f"{name} ({address})"
