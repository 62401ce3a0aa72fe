"""Publish results on the market bus as they come: each on the stream, the latest of a target under its key.

While the bus is down, results wait; the oldest are dropped when there are too many.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.keys import probe_key
from services.massive.probes.result import Finding

STREAM_LENGTH: Final = 10_000
KEPT_ROUNDS: Final = 3  # `probe:<target>` expires when so many rounds brought nothing new
WAITING_AT_MOST: Final = 2000
AT_ONCE: Final = 200
AGAIN_SEC: Final = 0.5

log = logs.get("massive")


class ResultPublisher:
    """Results that are not published yet. `place` returns the bus and the stream; it may raise BusError."""

    def __init__(self, place: Callable[[], tuple[Bus, str]]) -> None:
        self._place = place
        self._waiting: deque[tuple[Finding, float]] = deque(maxlen=WAITING_AT_MOST)
        self._filled = asyncio.Event()
        self.published = self.lost = 0
        self.trouble: str | None = None

    def put(self, finding: Finding, every_sec: float) -> None:
        """Add a result of a target that is probed every `every_sec`."""
        self.lost += len(self._waiting) == WAITING_AT_MOST
        self._waiting.append((finding, every_sec))
        self._filled.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._filled.wait()
            some = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            try:
                await self._publish(some)
            except BusError as error:
                room = WAITING_AT_MOST - len(self._waiting)
                self.lost += max(0, len(some) - room)
                self._waiting.extendleft(reversed(some[max(0, len(some) - room) :]))
                if self.trouble is None:
                    log.warning("probes.unpublished", bus=error.bus, reason=error.reason)
                self.trouble = f"results not published: {error.bus} {error.reason}"
                await asyncio.sleep(AGAIN_SEC)
            else:
                self.trouble = None
                self.published += len(some)
                if not self._waiting:
                    self._filled.clear()

    async def _publish(self, some: list[tuple[Finding, float]]) -> None:
        bus, stream = self._place()
        pipe = bus.pipeline()
        for finding, every_sec in some:
            fields: dict[Any, Any] = finding.fields()
            pipe.xadd(stream, fields, maxlen=STREAM_LENGTH, approximate=True)
            life_ms = max(1, round(1000 * KEPT_ROUNDS * every_sec))
            pipe.set(probe_key(finding.target), finding.encoded(), px=life_ms)
        await bus.ask(pipe.execute())
