"""Load many series, a limited number at a time, so that no source keeps the others waiting."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from marketswarm.due_queue import DueWork
from services.sources.cascade.series import Series

CLAIMED_PAUSE_SEC: Final = 0.2
"""Pause before retrying a series that another instance is loading."""


async def load_concurrently(
    series: Iterable[Series], at_once: int, load: Callable[[Series], Awaitable[None]]
) -> None:
    """Call `load` with each series, `at_once` at a time.

    The next series is always one of the source that has the fewest loads running, by the first source of each
    cascade: otherwise all places would wait for a source that takes one request a second. The series of one
    source keep their order. Raise an ExceptionGroup of what `load` raises, which ends all others.
    """
    by_place = {str(place): each for place, each in enumerate(series)}
    due = DueWork(lambda place: by_place[place].sources[0])
    due.limit(at_once, at_once)
    for place in by_place:
        due.put(place, float(place))

    async def work() -> None:
        while (place := due.begin(len(by_place))) is not None:
            await load(by_place[place])
            due.finish(place, len(by_place))

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
