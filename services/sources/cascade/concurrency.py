"""Load many series, a limited number at a time, so that no source keeps the others waiting."""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from marketswarm.bus import BusError
from services.sources.cascade.series import Series

T = TypeVar("T")


async def load_concurrently(
    series: Iterable[Series], at_once: int, load: Callable[[Series], Awaitable[None]]
) -> None:
    """Call `load` with each series, `at_once` at a time.

    The next series is always one of the source that has the fewest loads running, by the first source of each
    cascade: otherwise all places would wait for a source that takes one request a second. The series of one
    source keep their order. Raise an ExceptionGroup of what `load` raises, which ends all others.
    """
    waiting: dict[str, deque[Series]] = {}
    for each in series:
        waiting.setdefault(each.sources[0], deque()).append(each)
    running: Counter[str] = Counter()

    async def work() -> None:
        while waiting:
            source = min(waiting, key=running.__getitem__)
            each = waiting[source].popleft()
            if not waiting[source]:
                del waiting[source]
            running[source] += 1
            try:
                await load(each)
            finally:
                running[source] -= 1

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())


async def retry_bus(
    work: Callable[[], Awaitable[T]],
    pause_sec: float,
    patience_sec: float = math.inf,
    on_error: Callable[[BusError], None] | None = None,
) -> T:
    """Return what `work` returns; while the bus fails, call it again after a pause.

    Args:
        pause_sec: the time between two attempts.
        patience_sec: for how long after the first failure it is tried; then the BusError is raised.
        on_error: is called with each failure.
    """
    give_up_at = math.inf
    while True:
        try:
            return await work()
        except BusError as error:
            give_up_at = min(give_up_at, time.monotonic() + patience_sec)
            if on_error is not None:
                on_error(error)
            if time.monotonic() >= give_up_at:
                raise
        await asyncio.sleep(pause_sec)
