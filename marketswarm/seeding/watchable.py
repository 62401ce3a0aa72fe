"""Wait until the users of each bus let the healer subscribe to every heartbeat channel of a truth.

Where each service has a user of its own, a new service needs new users before its truth is published, or the
healer reports a service that it can't watch. The users may be on their way: in Kubernetes the buses restart
with them while bootstrap runs. Not here: what users may do (`marketswarm.acl`), what loads them into a bus.
"""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.truth import HEALER, Truth, Watch

AT_ONCE: Final = 100
PAUSE_SEC: Final = 0.5
_UNKNOWN: Final = ("auth", "error")
"""The bus has no user for the healer, has no ACL DRYRUN, or does not let us call it."""

log = logs.get("seeding")


async def wait_until_watchable(
    buses: Sequence[Bus], truth: Truth, timeout_sec: float
) -> Mapping[str, Sequence[str]]:
    """Wait for at most `timeout_sec`; return, by bus, the services whose channels the healer may not hear.

    A bus that can't be asked is taken for one that refuses nothing. A timeout of 0 is a single look.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + timeout_sec
    refused: dict[str, list[str]] = {}
    logged = False
    while True:
        try:
            refused = await _refused(buses, truth)
        except BusError as error:  # it restarts, perhaps with new users
            log.info("users.bus_away", bus=error.bus, reason=error.reason)
        if not refused:  # nor if a bus went before it was asked: seeding says so
            return refused
        if clock() >= until:
            return refused
        if not logged:
            logged = True
            log.info("users.waiting", refused=refused, at_most_sec=timeout_sec)
        await asyncio.sleep(min(PAUSE_SEC, max(0.0, until - clock())))


async def _refused(buses: Sequence[Bus], truth: Truth) -> dict[str, list[str]]:
    """Ask each bus. Raise BusError when one is away."""
    watches = truth.watched()
    found = {
        bus.name: await _refused_on(bus, [watch for watch in watches if watch.bus == bus.name])
        for bus in buses
    }
    return {name: services for name, services in found.items() if services}


async def _refused_on(bus: Bus, watches: Sequence[Watch]) -> list[str]:
    found, left = [], iter(watches)
    while some := list(islice(left, AT_ONCE)):
        asked = bus.client.pipeline(transaction=False)
        for watch in some:
            asked.acl_dryrun(HEALER, "SUBSCRIBE", watch.channel)
        try:
            answers = await bus.ask(asked.execute())
        except BusError as error:
            if error.reason in _UNKNOWN:
                return []
            raise
        found += [watch.svc for watch, answer in zip(some, answers, strict=True) if answer != b"OK"]
    return found
