"""Define what all leases on a bus share: how often they are renewed, and the loop that renews them.

There are three, each with its own key and rules: the lease of `me.lease()` (`marketswarm/agent/lease.py`) is
decided by one bus, the notifier's (`notifier/lease.py`) by the first bus that answers, and the healer's
(`healer/lease.py`) by one bus whose decision is carried to the others. Their Lua scripts include `lease.lua`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

RENEWALS: Final = 3
"""How many times in its life a lease is renewed by its holder."""
CHECKS: Final = 8
"""How many times in a lease's life a process that waits for the lease requests it, at least."""
RELEASE_WITHIN_SEC: Final = 0.5
"""The time limit of the request that gives a lease back; after it the lease is left to expire."""
_MIN_WITHIN_SEC: Final = 0.5


def compute_interval_sec(life_sec: float, *, is_holder: bool) -> float:
    """Return the seconds between two requests for a lease of `life_sec` seconds."""
    return life_sec / (RENEWALS if is_holder else CHECKS)


def compute_request_limit_sec(life_sec: float) -> float:
    """Return the time limit of a leader's request, in seconds: half of the lease's life, at least 0.5 s."""
    return max(_MIN_WITHIN_SEC, life_sec / 2)


async def renew_repeatedly(renew: Callable[[], Awaitable[float]], due: asyncio.Event) -> None:
    """Call `renew` again and again until cancelled.

    Args:
        renew: requests or renews a lease, and returns the seconds until it must be called again.
        due: an event that ends that pause when it is set; it is cleared then.
    """
    while True:
        await wait_until_due(due, await renew())


async def wait_until_due(due: asyncio.Event, pause_sec: float) -> bool:
    """Wait `pause_sec` seconds or until `due` is set, then clear `due`. Return True if it was set."""
    try:
        async with asyncio.timeout(pause_sec):
            await due.wait()
    except TimeoutError:
        return False
    finally:
        due.clear()
    return True
