"""Define what all leases on a bus share: how often they are renewed, and the actions on them.

The lease of `me.lease()` (`marketswarm/agent/lease.py`) is decided by one bus. Those of the healer and the
notifier are on every bus: `fleet_lease.py`. The notifier's is a string with the id of its holder, as is the
claim of a series: `apply_lease_action`. The Lua scripts of all include `lease.lua`.
"""

from enum import StrEnum
from typing import Final

from marketswarm.bus.bus import Bus
from marketswarm.bus.scripts import Script

RENEWALS: Final = 3
"""How many times in its life a lease is renewed by its holder."""
CHECKS: Final = 8
"""How many times in a lease's life a process that waits for the lease requests it, at least."""
RELEASE_WITHIN_SEC: Final = 0.5
"""The time limit of the request that gives a lease back; after it the lease is left to expire."""
STRING_LEASE: Final = Script.beside("marketswarm.bus", "string_lease.lua")


class LeaseAction(StrEnum):
    """An action on the lease of one bus."""

    TAKE = "take"  # take the lease if it is free, renew it if it is ours
    RENEW = "renew"  # renew the lease if it is ours
    SEIZE = "seize"  # take the lease from any holder, since another bus has decided so
    RELEASE = "give"  # give the lease back if it is ours
    READ = "look"  # only read the holder


async def apply_lease_action(
    bus: Bus, key: str, holder: str, action: LeaseAction, *, life_sec: float, within_sec: float | None = None
) -> tuple[str, float]:
    """Apply an action for `holder` to a lease that is a string with the id of its holder.

    Return the id of the holder, which is empty if the lease is free, and the seconds until the lease of
    another holder expires. Raises BusError when the bus does not answer within `within_sec`.
    """
    args: list[str | bytes | float] = [holder, max(1, round(1000 * life_sec)), action]
    found, left_ms = await bus.script(STRING_LEASE, [key], args, within_sec)
    return found.decode("utf-8", "replace"), int(left_ms) / 1000
