"""Publish the results of probes on the market bus: each on the stream, a target's latest under a key.

In the same step each is counted in the past of its target, from which the board draws its charts. While the
bus is down, results wait; the oldest are dropped when there are too many.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import orjson

from marketswarm import log as logs
from marketswarm.bus import Bus
from marketswarm.bus.outage import Outage, retrying
from marketswarm.bus.scripts import Script
from marketswarm.bus.stream_length import StreamLength
from marketswarm.keys import probe_failures_key, probe_key, probe_past_key
from marketswarm.status.probe_past import KEPT_FAILURES, KEPT_SEC, encode_days
from services.massive.probes.result import ProbeFinding

STREAM_LENGTH: Final = 10_000
KEPT_INTERVALS: Final = 3  # `probe:<target>` expires when so many intervals brought no new result
MAX_PENDING: Final = 2000
BATCH_SIZE: Final = 25
"""A batch is one script, for which all other clients of the bus wait."""
MAX_US: Final = 99_999_999
"""The longest response time in a past, in microseconds."""
_PUBLISH: Final = Script.beside("services.massive.probes", "publish.lua")

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
        self._length = StreamLength()
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
        """Publish results by one script, which counts each in the past of its target. Raises BusError."""
        bus, stream = self._get_stream()
        places = {name: 2 + 3 * n for n, name in enumerate(dict.fromkeys(each.target for each, _ in batch))}
        keys = [stream]
        for name in places:
            keys += [probe_key(name), probe_past_key(stream, name), probe_failures_key(stream, name)]
        length = await self._length.compute(bus, stream, STREAM_LENGTH)
        args: list[str | bytes | float] = [length, KEPT_SEC, KEPT_FAILURES]
        for finding, every_sec in batch:
            result = finding.result
            pairs = [text for pair in finding.fields().items() for text in pair]
            args += [
                places[finding.target],
                max(1, round(1000 * KEPT_INTERVALS * every_sec)),
                orjson.dumps(pairs),
                finding.encode(),
                f"{finding.ts:.3f}",
                int(result.ok),
                min(MAX_US, round(1000 * result.ms.get("total", 0.0))),
                encode_days(result.facts.get("days_left")),
                result.stage,
                result.error or "",
            ]
        await bus.script(_PUBLISH, keys, args)
