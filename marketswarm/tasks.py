"""End tasks, wait for all of several works or in spite of a cancellation, or run works until one ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

_T = TypeVar("_T")


async def end_tasks(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks, and return when they have ended. What they raise is ignored."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def run_beside(work: Coroutine[Any, Any, _T]) -> AsyncIterator[asyncio.Task[_T]]:
    """Run a coroutine while the block runs, then cancel it. Ignore what it raises, unless it is awaited."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        await end_tasks(task)


async def gather_all(works: Iterable[Awaitable[_T]]) -> list[_T]:
    """Return all results in their order. What one raises is raised when the others have ended, too."""
    results = await asyncio.gather(*works, return_exceptions=True)
    for each in results:
        if isinstance(each, BaseException):
            raise each
    return [each for each in results if not isinstance(each, BaseException)]


async def finish_despite_cancellation(work: Coroutine[Any, Any, _T]) -> _T:
    """Ignore every cancellation of this task until `work`, which is bounded in time, has ended."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue
    return task.result()


async def run_until_first(*works: Coroutine[Any, Any, object]) -> None:
    """Run coroutines at once until one ends, and cancel the others. Raises what that one raises."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_tasks(*tasks)
    for task in done:
        task.result()
