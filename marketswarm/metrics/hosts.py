"""Which `Host` a request for metrics may name. Pure, but for asking the machine its own name.

A page in somebody's browser can have its own name lead to 127.0.0.1 and then read what is answered there (DNS
rebinding). The browser still sends that name in `Host`. So only names that are ours are answered; an address
can't be rebound.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import Final

_HOST: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*))(?::[0-9]{0,5})?")
_LOCAL: Final = "localhost"


def own_names(*names: str) -> frozenset[str]:
    """Return the host names that are ours: the machine's own and `names`, without those that are empty."""
    return frozenset(_plain(name) for name in (socket.gethostname(), _LOCAL, *names) if name)


def is_ours(header: str, names: Iterable[str]) -> bool:
    """Return True if a `Host` header names an IP address, a name below `localhost`, or one of `names`."""
    found = _HOST.fullmatch(header.strip())
    if found is None:
        return False
    host = _plain(found[1] or found[2] or "")
    return host in names or host.endswith(f".{_LOCAL}") or _is_address(host)


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
