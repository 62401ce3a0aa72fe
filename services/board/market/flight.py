"""Answer a question once for all who ask it at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Shares one answer among those who ask while it is made; a failure is shared as well."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, asyncio.Task[T]] = {}

    async def ask(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """Return the answer to `key`, made by `make` unless it is being made already."""
        task = self._flights.get(key)
        if task is None:

            async def run_make() -> T:
                """Make the answer."""
                return await make()

            task = self._flights[key] = asyncio.create_task(run_make())
            task.add_done_callback(lambda _done: self._flights.pop(key, None))
            task.add_done_callback(_retrieve)
        return await asyncio.shield(task)  # one that gives up must not take the answer from the others


def _retrieve(task: asyncio.Task[T]) -> None:
    """Take note of a failure that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
