"""Waits until buses answer PING, for a bounded time.

A bus that loads its data, asks for a password or refuses connections does not answer yet; why not is in the
log as soon as it changes, and in the error at the end.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import WITHIN_SEC, Bus, BusError
from marketswarm.seeding.looking import Unseeded

FIRST_PAUSE_SEC: Final = 0.1
LONGEST_PAUSE_SEC: Final = 1.0

log = logs.get("seeding")


async def wait_until_all_answer(buses: Sequence[Bus], timeout_sec: float) -> None:
    """Returns once every bus answered. Raises Unseeded after `timeout_sec`, naming each that did not."""
    until = asyncio.get_running_loop().time() + timeout_sec
    reasons = await asyncio.gather(*(_answers(bus, until) for bus in buses))
    silent = [error for error in reasons if error is not None]
    if silent:
        first, *others = silent
        more = "".join(f"; {error}" for error in others)
        raise Unseeded(first.bus, first.reason, f"no answer within {timeout_sec:g} s: {first.detail}{more}")


async def _answers(bus: Bus, until: float) -> BusError | None:
    clock = asyncio.get_running_loop().time
    pause_sec, told = FIRST_PAUSE_SEC, ""
    last: BusError | None = None
    while True:
        within_sec = min(WITHIN_SEC, max(0.1, until - clock()))
        try:
            await bus.ask(bus.client.ping(), within_sec)
        except BusError as error:
            # at the end a look has little time; that it was too little says less than what came before
            if last is None or error.reason != "timeout" or within_sec >= WITHIN_SEC:
                last = error
            if clock() >= until:
                return last
            if error.reason != told:
                told = error.reason
                log.info(
                    "bus.waiting", bus=bus.name, where=bus.where, reason=error.reason, detail=error.detail
                )
        else:
            if told:
                log.info("bus.answers", bus=bus.name, where=bus.where)
            return None
        await asyncio.sleep(max(0.0, min(pause_sec, until - clock())))
        pause_sec = min(2 * pause_sec, LONGEST_PAUSE_SEC)
