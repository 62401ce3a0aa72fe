"""Waits for a condition with a limit: what live tests do instead of sleeping."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

What = object  # a text, what prints as one, or a function that returns one
PATIENT_SEC = 60.0
"""How long to wait for what takes moments: the limit only ends a test that failed."""
LONGEST_LOOK_SEC = 0.25
_LONGEST_PAUSE_SEC = 0.04
_PAUSE_PER_LOOK = 3
"""After a look that takes long, the pause is so many times as long, and leaves the processor to others."""


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

    `what` was waited for; a function or a process, where it tells of a state that is worth knowing then.
    """
    patience, pause, begun = Patience(within), 0.01, time.monotonic()
    while not (found := predicate()):
        if patience.is_over():
            raise _late(predicate, within, what)
        took, pause = time.monotonic() - begun, min(pause * 1.2, _LONGEST_PAUSE_SEC)
        time.sleep(max(pause, min(took * _PAUSE_PER_LOOK, LONGEST_LOOK_SEC)))
        begun = time.monotonic()
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
