"""Wait until the buses of a truth can be seeded: until they answer, and until the healer may subscribe.

A bus that loads its data, asks for a password or refuses connections does not answer PING yet. The reason is
logged whenever it changes; the error after the timeout has the last one.

On buses where each service has its own user, a new service needs new users before its truth is published;
otherwise the healer would report a service whose heartbeats it may not receive. The buses may not have the
new users yet, since Kubernetes restarts the buses with them while bootstrap runs. Not here: what users may do
(`marketswarm.access`), and what loads users into a bus.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import WITHIN_SEC, Bus, BusError
from marketswarm.bus.outage import PAUSES
from marketswarm.pages import split_pages
from marketswarm.seeding.transaction import SeedError
from marketswarm.truth import HEALER, Truth, Watch

log = logs.get("seeding")

CHECKS_PER_REQUEST: Final = 100
"""How many ACL DRYRUN commands are sent in one pipeline."""
PAUSE_SEC: Final = 0.5
"""Seconds between two checks of the healer's access."""
_UNCHECKABLE: Final = ("auth", "error")
"""Reasons of a BusError if the bus has no user for the healer, no ACL DRYRUN, or does not let us call it."""


async def wait_until_all_answer(buses: Sequence[Bus], timeout_sec: float) -> None:
    """Wait until every bus answers PING. Raises SeedError after `timeout_sec`, which names the others."""
    deadline = asyncio.get_running_loop().time() + timeout_sec
    reasons = await asyncio.gather(*(_wait_for_answer(bus, deadline) for bus in buses))
    errors = [error for error in reasons if error is not None]
    if errors:
        first, *others = errors
        detail = f": {first.detail}" if first.detail else ""
        more = "".join(f"; {error}" for error in others)
        raise SeedError(first.bus, first.reason, f"no answer within {timeout_sec:g} s{detail}{more}")


async def _wait_for_answer(bus: Bus, deadline: float) -> BusError | None:
    """Return None once the bus answers PING, or its last error once the loop's clock reaches `deadline`."""
    clock = asyncio.get_running_loop().time
    failures, logged_reason = 0, ""
    last_error: BusError | None = None
    while True:
        within_sec = min(WITHIN_SEC, max(0.1, deadline - clock()))
        try:
            await bus.ask(bus.client.ping(), within_sec)
        except BusError as error:
            # the last attempt has little time, so keep the error before it rather than its timeout
            if last_error is None or error.reason != "timeout" or within_sec >= WITHIN_SEC:
                last_error = error
            if clock() >= deadline:
                return last_error
            if error.reason != logged_reason:
                logged_reason = error.reason
                log.info(
                    "bus.waiting", bus=bus.name, where=bus.where, reason=error.reason, detail=error.detail
                )
        else:
            if logged_reason:
                log.info("bus.answers", bus=bus.name, where=bus.where)
            return None
        failures += 1
        await asyncio.sleep(max(0.0, min(PAUSES.pause_sec(failures), deadline - clock())))


async def wait_for_healer_access(
    buses: Sequence[Bus], truth: Truth, timeout_sec: float
) -> Mapping[str, Sequence[str]]:
    """Wait until the users of each bus let the healer subscribe to every heartbeat channel of the truth.

    Return, after `timeout_sec` at the latest (0: ask each bus once), the services by bus that the healer may
    not hear. A bus that is away, has no user for the healer, or does not let us ask, counts as one that
    refuses nothing.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + timeout_sec
    refused: dict[str, list[str]] = {}
    is_logged = False
    while True:
        try:
            refused = await _find_refused(buses, truth)
        except BusError as error:  # the bus restarts, perhaps with new users
            log.info("users.bus_away", bus=error.bus, reason=error.reason)
        # none are refused also when a bus went away before it was asked: seeding reports that
        if not refused or clock() >= deadline:
            return refused
        if not is_logged:
            is_logged = True
            log.info("users.waiting", refused=refused, at_most_sec=timeout_sec)
        await asyncio.sleep(min(PAUSE_SEC, max(0.0, deadline - clock())))


async def _find_refused(buses: Sequence[Bus], truth: Truth) -> dict[str, list[str]]:
    """Return, by bus, the services that the healer's user may not hear there. Raises BusError."""
    watches = truth.watched()
    found = {
        bus.name: await _find_refused_on_bus(bus, [watch for watch in watches if watch.bus == bus.name])
        for bus in buses
    }
    return {name: services for name, services in found.items() if services}


async def _find_refused_on_bus(bus: Bus, watches: Sequence[Watch]) -> list[str]:
    """Return the services that one bus refuses; none if it has no such user or does not let us ask."""
    found = []
    for batch in split_pages(watches, CHECKS_PER_REQUEST):
        pipeline = bus.client.pipeline(transaction=False)
        for watch in batch:
            pipeline.acl_dryrun(HEALER, "SUBSCRIBE", watch.channel)
        try:
            answers = await bus.ask(pipeline.execute())
        except BusError as error:
            if error.reason in _UNCHECKABLE:
                return []
            raise
        found += [watch.svc for watch, answer in zip(batch, answers, strict=True) if answer != b"OK"]
    return found
