"""Process large answers in a thread, so that beats, streams and other loads continue meanwhile.

One such piece of work is done at a time: several large answers together would need too much memory.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

LARGE_BYTES: Final = 100_000
"""The size of an answer that is read in a thread; a smaller one takes a few hundredths of a second."""
MANY_RECORDS: Final = 2_000
"""The number of records that are evaluated and encoded in a thread."""

P = ParamSpec("P")
T = TypeVar("T")

_thread: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="worker")


async def run_large(is_large: bool, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    if not is_large:
        return work(*args, **named)
    return await asyncio.get_running_loop().run_in_executor(_thread, lambda: work(*args, **named))
