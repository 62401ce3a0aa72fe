"""Waits for a condition with a bound: what live tests do instead of sleeping."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from support.processors import StolenShare

What = str | Callable[[], str]
PATIENT_SEC = 15.0
"""How long to wait for what takes moments: no bound of the product, and enough on a machine that is busy."""


def _late(predicate: Callable[[], Any], within: float, what: What) -> AssertionError:
    return AssertionError(f"not within {within:g} s: {(what() if callable(what) else what) or predicate}")


class Patience:
    """Says, look by look, whether so many seconds are over, of those that the machine had for its own work.

    A look counts for a quarter of a second at most: where this process stood still, nobody had the time to
    come. What the host of a virtual machine took from its processors does not count either.
    """

    def __init__(self, within: float) -> None:
        self._left = within
        self._looked_at = self._asked_at = time.monotonic()
        self._processors = StolenShare()
        self._share = 1.0

    def is_over(self) -> bool:
        now = time.monotonic()
        if now - self._asked_at > 0.5:
            self._share, self._asked_at = 1.0 - self._processors.measure(), now
        self._left -= min(now - self._looked_at, 0.25) * self._share
        self._looked_at = now
        return self._left < 0


class Stopwatch:
    """Measures how long something took, from its creation on, and how much of that the machine had itself.

    What the product promises is held against `own_sec`, since what the host of a virtual machine took was
    nobody's to use; `sec` is for what must not come too early.
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._processors = StolenShare(keeps_start=True)

    @property
    def sec(self) -> float:
        """The seconds since the creation."""
        return time.monotonic() - self._begun

    @property
    def own_sec(self) -> float:
        """The seconds since the creation, less the host's share of them."""
        return self.sec * (1.0 - self._processors.measure())


def until(predicate: Callable[[], Any], within: float = PATIENT_SEC, what: What = "") -> Any:
    """Wait until `predicate()` is true and return its result; raise AssertionError after `within` seconds.

    `what` was waited for; a function, where it tells of a state that is worth knowing then.
    """
    patience = Patience(within)
    while not (found := predicate()):
        if patience.is_over():
            raise _late(predicate, within, what)
        time.sleep(0.01)
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
