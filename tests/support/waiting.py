"""Waits for a condition with a bound: what live tests do instead of sleeping."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

What = str | Callable[[], str]


def _late(predicate: Callable[[], Any], within: float, what: What) -> AssertionError:
    return AssertionError(f"not within {within:g} s: {(what() if callable(what) else what) or predicate}")


def _patience(within: float) -> Callable[[], bool]:
    """Says, look by look, whether so many seconds are over.

    A look counts for a quarter of one at most: where the machine stood still, nobody had the time to come.
    """
    waited, looked_at = 0.0, time.monotonic()

    def over() -> bool:
        nonlocal waited, looked_at
        now = time.monotonic()
        waited, looked_at = waited + min(now - looked_at, 0.25), now
        return waited > within

    return over


def until(predicate: Callable[[], Any], within: float = 5.0, what: What = "") -> Any:
    """Wait until `predicate()` is true and return its result; raise AssertionError after `within` seconds.

    `what` was waited for; a function, where it tells of a state that is worth knowing then.
    """
    over = _patience(within)
    while not (found := predicate()):
        if over():
            raise _late(predicate, within, what)
        time.sleep(0.01)
    return found


async def auntil(predicate: Callable[[], Any], within: float = 5.0, what: What = "") -> Any:
    """As `until`; `predicate` may be a coroutine function, and the loop runs on meanwhile."""
    over = _patience(within)
    while True:
        found = predicate()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if over():
            raise _late(predicate, within, what)
        await asyncio.sleep(0.01)
