"""Hold all processes together to so many requests in an hour of the clock. The count is on the bus.

`SharedRateLimiter` knows several windows that move; a budget is one number that people set.
"""

from typing import Final

from marketswarm.bus.bus import Bus
from marketswarm.bus.scripts import Script

_SPEND: Final = Script.beside("marketswarm.bus", "hourly_budget.lua")


class HourlyBudget:
    """Spend what may be spent in this hour; `key` is where the count is."""

    def __init__(self, bus: Bus, key: str) -> None:
        self._bus, self._key = bus, key

    async def spend(self, per_hour: int) -> bool:
        """Take one request from this hour's budget; return False if nothing is left. Raise BusError."""
        return bool(await self._bus.script(_SPEND, [self._key], [per_hour]))
