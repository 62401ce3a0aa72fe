"""Find the strings of a bus by a pattern, a bounded number of them, without holding up the server."""

import time
from collections.abc import AsyncIterator
from typing import Final

from marketswarm.bus.bus import Bus

PAGE: Final = 1000
"""About how many keys the server looks at in one request."""


class MatchingKeys:
    """The keys of strings that match a pattern, page by page, as they are when each page is read.

    At most `most` keys are found, within `within_sec` seconds. `is_whole` is True once the last page was
    read, and no key was left out; a key may come twice.
    """

    def __init__(self, bus: Bus, pattern: str, *, most: int, within_sec: float) -> None:
        self._bus, self._pattern, self._most, self._within_sec = bus, pattern, most, within_sec
        self.is_whole = False

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        """Yield the keys of each page that has some. Raises BusError."""
        cursor, count, ends_at = 0, 0, time.monotonic() + self._within_sec
        while count < self._most and time.monotonic() < ends_at:
            scanning = self._bus.client.scan(cursor, match=self._pattern, count=PAGE, _type="STRING")
            cursor, found = await self._bus.ask(scanning)
            keys = found[: self._most - count]
            count += len(keys)
            if keys:
                yield keys
            if cursor == 0 and len(keys) == len(found):
                self.is_whole = True
                return
