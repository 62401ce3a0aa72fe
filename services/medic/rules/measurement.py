"""Run measurements that block in a thread, one of a kind at a time."""

import asyncio
from collections.abc import Callable

from services.medic.rules.metric import Readings


class BlockingMeasurement:
    """A measurement that may hang: the wait for it is limited, and none begins beside one that hangs."""

    def __init__(self) -> None:
        self._running: asyncio.Future[Readings] | None = None

    @property
    def is_running(self) -> bool:
        return self._running is not None and not self._running.done()

    async def run(self, measure: Callable[[], Readings], within_sec: float) -> Readings:
        """Return what was measured; nothing if it takes too long, or an earlier measurement still hangs."""
        if self.is_running:
            return {}
        self._running = asyncio.ensure_future(asyncio.to_thread(measure))
        done, _ = await asyncio.wait({self._running}, timeout=within_sec)
        return self._running.result() if done else {}
