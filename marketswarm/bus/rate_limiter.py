"""Hold all instances together to as many requests as something takes, such as a source, or as people set.

The counts are on the bus. `take_request.lua` makes each step one step there, so no two processes overdraw a
limit together, and a restart does not reset it.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from marketswarm.bus.bus import Bus
from marketswarm.bus.scripts import Script

TAKE_REQUEST: Final = Script.beside("marketswarm.bus", "take_request.lua")
_SPEND: Final = Script.beside("marketswarm.bus", "hourly_budget.lua")
SHORTEST_BLOCK_SEC: Final = 1.0
"""The shortest pause after a source asks for one, also if it names a time of 0."""

Windows = Sequence[tuple[int, int]]
"""What a source takes: for each window its seconds and its requests."""


def account_key(key: str, secret: str | None) -> str:
    """Return the key of a secret's account below `key`; a digest names it, so no secret is on the bus."""
    return key if secret is None else f"{key}:{hashlib.sha256(secret.encode()).hexdigest()[:12]}"


class SharedRateLimiter:
    """Count the requests to a source, for each of our secrets with it. Each method raises BusError.

    `key` is where the counts are, of requests without a secret; `account_key` says where the others are.
    """

    def __init__(self, bus: Bus, key: str) -> None:
        self._bus, self._key = bus, key

    async def take(self, secret: str | None, windows: Windows) -> float:
        """Grant a request now and return 0; otherwise return after how many seconds it may be granted."""
        return float(await self._run("take", secret, 0, windows)) / 1000

    async def count_left(
        self, secret: str | None, windows: Windows, waited_for_sec: float = 0.0
    ) -> list[int]:
        """Return how many requests may be sent now in each window.

        That is 0 while the source wants none, unless its pause is over within `waited_for_sec`.
        """
        return [max(0, int(left)) for left in await self._run("left", secret, waited_for_sec, windows)]

    async def block(self, secret: str | None, sec: float, windows: Windows) -> None:
        """Grant no request for so many seconds, because the source asked for that."""
        await self._run("block", secret, max(SHORTEST_BLOCK_SEC, sec), windows)

    async def _run(self, word: str, secret: str | None, pause_sec: float, windows: Windows) -> Any:
        keys = [account_key(self._key, secret)]
        if secret is not None:  # who shows the limits finds the accounts of all secrets there
            keys.append(self._key)
        numbers = [number for window in windows for number in window]
        args: list[str | bytes | float] = [word, round(1000 * pause_sec), *numbers]
        return await self._bus.script(TAKE_REQUEST, keys, args)


class HourlyBudget:
    """Spend what may be spent in this hour of the clock; `key` is where the count is.

    `SharedRateLimiter` knows several windows that move; a budget is one number that people set.
    """

    def __init__(self, bus: Bus, key: str) -> None:
        self._bus, self._key = bus, key

    async def spend(self, per_hour: int) -> bool:
        """Take one request from this hour's budget; return False if nothing is left. Raise BusError."""
        return bool(await self._bus.script(_SPEND, [self._key], [per_hour]))
