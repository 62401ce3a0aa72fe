"""Hold all instances together to as many requests as a source takes. The counts are on the bus.

`take_request.lua` makes each step one step on the bus, so no two processes overdraw a limit together, and a
restart does not reset it.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.keys import source_account_key
from services.sources.catalog.request import ApiKey

TAKE_REQUEST: Final = Script.beside("services.sources.access", "take_request.lua")
SHORTEST_BLOCK_SEC: Final = 1.0
"""The shortest pause after a source asks for one, also if it names a time of 0."""

Windows = Sequence[tuple[int, int]]
"""What a source takes: for each window its seconds and its requests."""


def account_name(source: str, key: ApiKey | None) -> str:
    """Return the name of the account of a key: limits count for each key, and no key is in a name."""
    if key is None:
        return source
    return f"{source}:{hashlib.sha256(key.key.encode()).hexdigest()[:12]}"


class SourceLimiter:
    """Count the requests to a source, for each of its keys. Each method raises BusError."""

    def __init__(self, bus: Bus, source: str) -> None:
        self._bus, self._source = bus, source

    async def take(self, key: ApiKey | None, windows: Windows) -> float:
        """Grant a request now and return 0; otherwise return after how many seconds it may be granted."""
        return float(await self._run("take", key, 0, windows)) / 1000

    async def count_left(
        self, key: ApiKey | None, windows: Windows, waited_for_sec: float = 0.0
    ) -> list[int]:
        """Return how many requests may be sent now in each window.

        That is 0 while the source wants none, unless its pause is over within `waited_for_sec`.
        """
        return [max(0, int(left)) for left in await self._run("left", key, waited_for_sec, windows)]

    async def block(self, key: ApiKey | None, sec: float, windows: Windows) -> None:
        """Grant no request for so many seconds, because the source asked for that."""
        await self._run("block", key, max(SHORTEST_BLOCK_SEC, sec), windows)

    async def _run(self, word: str, key: ApiKey | None, pause_sec: float, windows: Windows) -> Any:
        keys = [source_account_key(account_name(self._source, key))]
        if key is not None:  # the command that shows the limits finds the accounts of all keys there
            keys.append(source_account_key(self._source))
        numbers = [number for window in windows for number in window]
        args: list[str | bytes | float] = [word, round(1000 * pause_sec), *numbers]
        return await self._bus.script(TAKE_REQUEST, keys, args)
