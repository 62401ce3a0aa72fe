"""What tests of a monitor share: the agent that it is part of, and how long it keeps the event loop."""

import asyncio
import time

from marketswarm.bus import Bus


class MonitorOwner:
    """Stand in for the healer: of an agent, a monitor needs no more than this."""

    name, boot = "healer", "b"

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.details: list[str | None] = []
        """Why it was degraded, each time that this was set."""

    def bus(self, _name: str) -> Bus:
        return self._bus

    def progress(self) -> None: ...

    def set_degraded(self, detail: str | None) -> None:
        self.details.append(detail)


class LoopWork:
    """Measure how long the loop's thread worked between two turns of another task, in seconds of CPU."""

    longest = whole = 0.0

    async def measure(self) -> None:
        """Measure until cancelled."""
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.whole += now - last
            self.longest, last = max(self.longest, now - last), now
