"""Publish the results of probes on the market bus: each on the stream, a target's latest under a key.

While the bus is down, results wait; the oldest are dropped when there are too many.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.bus import Bus
from marketswarm.bus.outage import Outage, retrying
from marketswarm.keys import probe_key
from services.massive.probes.result import ProbeFinding

STREAM_LENGTH: Final = 10_000
KEPT_INTERVALS: Final = 3  # `probe:<target>` expires when so many intervals brought no new result
MAX_PENDING: Final = 2000
BATCH_SIZE: Final = 200

log = logs.get("massive")


class ResultPublisher:
    """Publish results in the order in which they are added.

    `get_stream` returns the bus and the key of the stream. May raise BusError.

    Attributes:
        published: how many results were published.
        lost: how many were dropped.
        outage: why results can't be published now.
    """

    def __init__(self, get_stream: Callable[[], tuple[Bus, str]]) -> None:
        self._get_stream = get_stream
        self._pending: deque[tuple[ProbeFinding, float]] = deque(maxlen=MAX_PENDING)
        self._has_pending = asyncio.Event()
        self.published = self.lost = 0
        self.outage = Outage(log, "probes.unpublished", "probes.published")

    def add(self, finding: ProbeFinding, every_sec: float) -> None:
        """Add a result, to be published by `run`; `every_sec` is its target's interval.

        If MAX_PENDING results wait, the oldest one is lost.
        """
        self.lost += len(self._pending) == MAX_PENDING
        self._pending.append((finding, every_sec))
        self._has_pending.set()

    async def run(self) -> None:
        """Publish results until cancelled; retry after a BusError."""
        async for attempt in retrying(self.outage):
            await self._has_pending.wait()
            batch = [self._pending.popleft() for _ in range(min(BATCH_SIZE, len(self._pending)))]
            with attempt:
                await self._publish(batch)
                self.published += len(batch)
                batch = []
            # what was not published goes back in front, as far as there is room; the oldest are dropped
            dropped = max(0, len(batch) - (MAX_PENDING - len(self._pending)))
            self.lost += dropped
            self._pending.extendleft(reversed(batch[dropped:]))
            if not self._pending:
                self._has_pending.clear()

    async def _publish(self, batch: list[tuple[ProbeFinding, float]]) -> None:
        """Add results to the stream and set their targets' keys, in one pipeline. Raises BusError."""
        bus, stream = self._get_stream()
        pipe = bus.pipeline()
        for finding, every_sec in batch:
            fields: dict[Any, Any] = finding.fields()
            pipe.xadd(stream, fields, maxlen=STREAM_LENGTH, approximate=True)
            ttl_ms = max(1, round(1000 * KEPT_INTERVALS * every_sec))
            pipe.set(probe_key(finding.target), finding.encode(), px=ttl_ms)
        await bus.ask(pipe.execute())
