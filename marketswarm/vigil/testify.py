"""The second witness: what `beat:<svc>` says of services, read many at a time.

A beat's age is what its key has lived: twice the timeout less what it has left. No clocks are compared.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Final

from marketswarm.beat import Beat, parse
from marketswarm.bus import Bus, Script
from marketswarm.liveness import Testimony

AT_ONCE: Final = 500
_SCRIPT: Final = Script.beside("marketswarm.vigil", "testify.lua")


async def testify(bus: Bus, timeouts: Mapping[str, float]) -> dict[str, Testimony]:
    """Reads the last beats of services, given with their timeouts in seconds.

    Whoever left none, or none that can be read, is not in the answer. Raises BusError.
    """
    found: dict[str, Testimony] = {}
    services = iter(timeouts.items())
    while some := list(islice(services, AT_ONCE)):
        replies = await bus.script(_SCRIPT, [f"beat:{svc}" for svc, _ in some], [])
        for (svc, timeout_sec), payload, left_ms in zip(some, replies[::2], replies[1::2], strict=True):
            beat = parse(payload, svc) if payload else None
            if isinstance(beat, Beat):
                found[svc] = Testimony(beat, age(timeout_sec, left_ms))
    return found


def age(timeout_sec: float, left_ms: int) -> float | None:
    """A beat's age in seconds from its key's PTTL; None when that is missing or longer than we set it."""
    life_ms = 2000 * timeout_sec
    # rounding on the way may make it a millisecond longer
    return max(0.0, life_ms - left_ms) / 1000 if 0 <= left_ms <= life_ms + 1 else None
