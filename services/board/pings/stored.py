"""Read the pings that the buses keep of services, with the numbers that Healthchecks gives them: 1, 2, 3."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.keys import pings_key
from marketswarm.pings import PINGS_KEPT, JobPing, parse_ping

LAST: Final = 10
"""How many pings of each service are read for a list of services, without their bodies."""
SERVICES_AT_ONCE: Final = 100
_READ: Final = Script.beside("services.board.pings", "read.lua")


@dataclass(frozen=True, slots=True)
class StoredPings:
    """The last pings of a service, the oldest first, and how many there were since the first one of all.

    The stream of a service ends 35 days after its last ping; the next one is the first again.
    """

    pings: Sequence[JobPing] = ()
    count: int = 0


async def read_pings(bus: Bus, svc: str) -> StoredPings:
    """Return all pings of a service that are kept, with their bodies. Raises BusError."""
    (found,) = await _read(bus, [svc], 2 * PINGS_KEPT, "bodies")
    return found


async def read_last_pings(bus: Bus, services: Sequence[str]) -> dict[str, StoredPings]:
    """Return the last few pings of services on one bus, by service, without bodies. Raises BusError."""
    found: dict[str, StoredPings] = {}
    for at in range(0, len(services), SERVICES_AT_ONCE):
        some = services[at : at + SERVICES_AT_ONCE]
        found.update(zip(some, await _read(bus, some, LAST, ""), strict=True))
    return found


async def _read(bus: Bus, services: Sequence[str], count: int, bodies: str) -> list[StoredPings]:
    """Run the script. Raises BusError."""
    keys = [pings_key(svc) for svc in services]
    return [_make_stored(*each) for each in await bus.script(_READ, keys, [count, bodies])]


def _make_stored(count: int, entries: Sequence[tuple[bytes, Sequence[bytes]]]) -> StoredPings:
    """Return what a stream holds of a service's pings: `entries` (the newest first) of `count` ever added."""
    found: list[JobPing] = []
    for number, (entry_id, fields) in zip(range(count, 0, -1), entries, strict=False):
        ping = parse_ping(entry_id, dict(zip(fields[::2], fields[1::2], strict=True)))
        if ping is not None:
            found.append(replace(ping, n=number))
    return StoredPings(found[::-1], count)
