"""Have a bus refuse what comes after the end of the lease under which it was sent.

A medic may stand still between its last look at the lease and its request, or on the way. So the request says
until when it holds, by the clock of the bus that follows it, and a script compares that (`in_time.lua`).
"""

from typing import Final

from marketswarm.agent.lease import clock
from marketswarm.bus import Bus

LATE: Final = b"late"
"""What a script answers to a request that came too late: nothing was done."""
_NEVER_MS: Final = 253_402_300_799_000


async def find_deadline_ms(bus: Bus, until: float | None) -> int:
    """Return when a lease ends that ends at `until` by our `clock`, in epoch milliseconds of the bus.

    None is a lease without an end. Raises BusError.
    """
    if until is None:
        return _NEVER_MS
    seconds, micros = await bus.ask(bus.client.time())
    left_sec = until - clock()  # after the answer, so that the end is rather too early
    return int(1000 * (seconds + left_sec)) + int(micros) // 1000
