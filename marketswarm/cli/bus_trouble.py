"""Say what to do about a bus that a command could not use, where the reason tells it. Pure."""

from collections.abc import Iterable
from typing import Final

from marketswarm.bus import get_url_variable

_REMEDIES: Final = {
    "auth": "a user and a password with the right to do this are needed:"
    " {variable}=redis://USER:PASSWORD@HOST:6379, or go to the fleet's folder, or --data DIR;"
    " in containers, `make status` and the like have them",
    "dns": "this machine does not know that name: {variable}=redis://HOST:6379 says where the server is;"
    " the names of containers are known among containers alone, where `make status` asks",
}
"""By the reason of a `BusError`. The other reasons are of servers and networks, and have no one remedy."""


def suggest_remedies(troubles: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each reason among these (bus, reason) that has a remedy, each reason once."""
    first: dict[str, str] = {}
    for bus, reason in troubles:
        first.setdefault(reason, bus)
    return [f"{reason}: {_format(reason, bus)}" for reason, bus in first.items() if reason in _REMEDIES]


def add_remedy(message: str, bus: str, reason: str) -> str:
    """Return a message about a bus, on its one line also what to do about it if there is a remedy."""
    return f"{message}; {_format(reason, bus)}" if reason in _REMEDIES else message


def _format(reason: str, bus: str) -> str:
    return _REMEDIES[reason].format(variable=get_url_variable(bus))
