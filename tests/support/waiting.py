"""Waits for a condition with a limit: what live tests do instead of sleeping."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

What = str | Callable[[], str]
PATIENT_SEC = 30.0
"""How long to wait for what takes moments: the limit only ends a test that failed."""
LONGEST_LOOK_SEC = 0.25
_SHORTEST_PAUSE_SEC, _LONGEST_PAUSE_SEC = 0.01, 0.05


class Patience:
    """Says, look by look, whether so many seconds are over.

    A look counts for a quarter of a second at most: while this process stood still, on a busy machine or in a
    container that was frozen, nothing that it waits for could come.
    """

    def __init__(self, within: float) -> None:
        self._left = within
        self._looked_at = time.monotonic()

    def is_over(self) -> bool:
        now = time.monotonic()
        self._left -= min(now - self._looked_at, LONGEST_LOOK_SEC)
        self._looked_at = now
        return self._left < 0


def _late(predicate: Callable[[], Any], within: float, what: What) -> AssertionError:
    return AssertionError(f"not within {within:g} s: {(what() if callable(what) else what) or predicate}")


def until(predicate: Callable[[], Any], within: float = PATIENT_SEC, what: What = "") -> Any:
    """Wait until `predicate()` is true and return its result; raise AssertionError after `within` seconds.

    `what` was waited for; a function, where it tells of a state that is worth knowing then. A look at a
    server costs more than a millisecond of a processor, so what takes a while is looked at less often.
    """
    patience, pause_sec = Patience(within), _SHORTEST_PAUSE_SEC
    while not (found := predicate()):
        if patience.is_over():
            raise _late(predicate, within, what)
        time.sleep(pause_sec)
        pause_sec = min(pause_sec * 1.2, _LONGEST_PAUSE_SEC)
    return found


async def auntil(predicate: Callable[[], Any], within: float = PATIENT_SEC, what: What = "") -> Any:
    """As `until`; `predicate` may be a coroutine function, and the loop runs on meanwhile."""
    patience = Patience(within)
    while True:
        found = predicate()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if patience.is_over():
            raise _late(predicate, within, what)
        await asyncio.sleep(0.01)


def fault_lasts(sec: float) -> None:
    """Let a fault of a real process or server last: it is to outlast a time that the product keeps."""
    time.sleep(sec)
