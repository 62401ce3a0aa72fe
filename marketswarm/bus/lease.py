"""What all leases on a bus have in common: how often they are renewed, and the loop that does it.

There are three, each with its own key and rules: the lease of `me.lease()` (`marketswarm/agent/lease.py`) is
decided by one bus, the notifier's (`notifier/lease.py`) by the first bus that answers, and the healer's
(`healer/lease.py`) by one bus whose decision is carried to the others. Their Lua scripts include `lease.lua`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

RENEWALS: Final = 3
"""How often the holder renews a lease in the lease's life."""
CHECKS: Final = 8
"""How often a process that waits for a lease asks for it in the lease's life, at least."""
RELEASE_WITHIN_SEC: Final = 0.5
"""The longest time that giving a lease back may take; after it the lease is left to expire."""
_MIN_WITHIN_SEC: Final = 0.5


def interval_sec(life_sec: float, *, is_holder: bool) -> float:
    """Return the seconds between two requests for a lease of `life_sec` seconds."""
    return life_sec / (RENEWALS if is_holder else CHECKS)


def request_within_sec(life_sec: float) -> float:
    """Return the time limit of a leader's request, in seconds: half of the lease's life, at least 0.5 s."""
    return max(_MIN_WITHIN_SEC, life_sec / 2)


async def renew_repeatedly(renew: Callable[[], Awaitable[float]], due: asyncio.Event) -> None:
    """Call `renew` until cancelled.

    Args:
        renew: requests or renews a lease and returns the seconds until it must be called again.
        due: ends that pause when it is set, and is cleared then.
    """
    while True:
        await wait_until_due(due, await renew())


async def wait_until_due(due: asyncio.Event, pause_sec: float) -> bool:
    """Wait `pause_sec` seconds, or until `due` is set; clear it. Return True if it was set."""
    try:
        async with asyncio.timeout(pause_sec):
            await due.wait()
    except TimeoutError:
        return False
    finally:
        due.clear()
    return True
