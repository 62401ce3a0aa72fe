"""Load many series, a limited number at a time, so that no source keeps the others waiting."""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable

from services.sources.cascade.series import Series


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
