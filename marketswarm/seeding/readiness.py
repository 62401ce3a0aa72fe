"""Wait until the buses of a truth can be seeded: until they answer, and until the healer may subscribe.

A bus that loads its data, asks for a password or refuses connections does not answer PING yet. The reason is
logged whenever it changes, and stands in the error at the end.

On buses where each service has its own user, a new service needs new users before its truth is published:
else the healer would report a service whose heartbeats it may not hear. The users may still be on their
way, since Kubernetes restarts the buses with the new users while bootstrap runs. Not here: what users may
do (`marketswarm.acl`), and what loads users into a bus.
"""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import WITHIN_SEC, Bus, BusError
from marketswarm.net.retry import Backoff
from marketswarm.seeding.transaction import SeedError
from marketswarm.truth import HEALER, Truth, Watch

BACKOFF: Final = Backoff(first_sec=0.1, longest_sec=1.0)

log = logs.get("seeding")


async def wait_until_all_answer(buses: Sequence[Bus], timeout_sec: float) -> None:
    """Return once every bus answers. Raise SeedError after `timeout_sec`, naming each bus that did not."""
    until = asyncio.get_running_loop().time() + timeout_sec
    reasons = await asyncio.gather(*(_wait_for_answer(bus, until) for bus in buses))
    errors = [error for error in reasons if error is not None]
    if errors:
        first, *others = errors
        more = "".join(f"; {error}" for error in others)
        raise SeedError(first.bus, first.reason, f"no answer within {timeout_sec:g} s: {first.detail}{more}")


async def _wait_for_answer(bus: Bus, until: float) -> BusError | None:
    """Return None once the bus answers PING, or the last error when the loop's clock reaches `until`."""
    clock = asyncio.get_running_loop().time
    failures, logged_reason = 0, ""
    last: BusError | None = None
    while True:
        within_sec = min(WITHIN_SEC, max(0.1, until - clock()))
        try:
            await bus.ask(bus.client.ping(), within_sec)
        except BusError as error:
            # the last attempt has little time: its timeout says less than the error before it
            if last is None or error.reason != "timeout" or within_sec >= WITHIN_SEC:
                last = error
            if clock() >= until:
                return last
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
        await asyncio.sleep(max(0.0, min(BACKOFF.pause_sec(failures), until - clock())))


CHECKS_PER_REQUEST: Final = 100
PAUSE_SEC: Final = 0.5
_UNCHECKABLE: Final = ("auth", "error")
"""Reasons of a BusError if the bus has no user for the healer, no ACL DRYRUN, or does not let us call it."""


async def wait_for_healer_access(
    buses: Sequence[Bus], truth: Truth, timeout_sec: float
) -> Mapping[str, Sequence[str]]:
    """Wait until the users of each bus let the healer subscribe to every heartbeat channel of the truth.

    After `timeout_sec`, return the services whose channels the healer still may not subscribe to, by bus. A
    bus that can't be asked counts as one that refuses nothing. With a timeout of 0, ask each bus once.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + timeout_sec
    refused: dict[str, list[str]] = {}
    logged = False
    while True:
        try:
            refused = await _find_refused(buses, truth)
        except BusError as error:  # the bus restarts, perhaps with new users
            log.info("users.bus_away", bus=error.bus, reason=error.reason)
        if not refused:  # also when a bus went away before it was asked: seeding reports that
            return refused
        if clock() >= until:
            return refused
        if not logged:
            logged = True
            log.info("users.waiting", refused=refused, at_most_sec=timeout_sec)
        await asyncio.sleep(min(PAUSE_SEC, max(0.0, until - clock())))


async def _find_refused(buses: Sequence[Bus], truth: Truth) -> dict[str, list[str]]:
    """Return the refused services by bus. Raise BusError when a bus is away."""
    watches = truth.watched()
    found = {
        bus.name: await _find_refused_on(bus, [watch for watch in watches if watch.bus == bus.name])
        for bus in buses
    }
    return {name: services for name, services in found.items() if services}


async def _find_refused_on(bus: Bus, watches: Sequence[Watch]) -> list[str]:
    """Return the services whose channels the healer's user may not subscribe to on this bus."""
    found, left = [], iter(watches)
    while some := list(islice(left, CHECKS_PER_REQUEST)):
        asked = bus.client.pipeline(transaction=False)
        for watch in some:
            asked.acl_dryrun(HEALER, "SUBSCRIBE", watch.channel)
        try:
            answers = await bus.ask(asked.execute())
        except BusError as error:
            if error.reason in _UNCHECKABLE:
                return []
            raise
        found += [watch.svc for watch, answer in zip(some, answers, strict=True) if answer != b"OK"]
    return found
