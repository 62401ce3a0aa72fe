"""What tests of a vigil share: the program that it is part of, and how long it keeps the loop."""

import asyncio
import time

from marketswarm.testing import MemoryBus


class Keeper:
    """The healer, of which no more is needed."""

    name, boot = "healer", "b"

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus

    def bus(self, _name: str) -> MemoryBus:
        return self._bus

    def progress(self) -> None: ...

    def degraded(self, detail: str | None) -> None: ...


class Work:
    """The longest that the loop's thread worked between two turns of another task, in seconds of CPU."""

    longest = whole = 0.0

    async def measure(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.whole += now - last
            self.longest, last = max(self.longest, now - last), now
