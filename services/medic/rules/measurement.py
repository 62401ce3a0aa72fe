"""Run measurements that block in a thread, one of a kind at a time."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from services.medic.metric import Readings


class BlockingMeasurement:
    """A measurement that may hang: the wait for it is limited, and none begins beside one that hangs.

    All of them run in one thread: psutil compares what a processor did with the last call of the same thread.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="measurement")
        self._running: asyncio.Future[Readings] | None = None

    @property
    def is_running(self) -> bool:
        return self._running is not None and not self._running.done()

    async def run(self, measure: Callable[[], Readings], within_sec: float) -> Readings:
        """Return what was measured; nothing if it takes too long, or an earlier measurement still hangs."""
        if self.is_running:
            return {}
        self._running = asyncio.get_running_loop().run_in_executor(self._thread, measure)
        done, _ = await asyncio.wait({self._running}, timeout=within_sec)
        return self._running.result() if done else {}
