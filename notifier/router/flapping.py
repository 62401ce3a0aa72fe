"""Whether something goes up and down so often that each change is no news any more. Pure.

As in Icinga: the last twenty changes count, newer ones more, and to leave the state takes less than it took
to enter it. Here there are no checks between the changes, so what makes an old change weigh less is time.
"""

from collections.abc import Sequence
from typing import Final

CHANGES: Final = 20
HIGH: Final = 0.30
LOW: Final = 0.20


def restlessness(changes: Sequence[float], now: float, window_sec: float) -> float:
    """From 0 to 1: the last twenty changes (epoch seconds), each weighing less as `window_sec` passes."""
    weights = (1.0 - max(0.0, now - at) / window_sec for at in changes[-CHANGES:])
    return sum(max(0.0, weight) for weight in weights) / CHANGES


def flaps(changes: Sequence[float], now: float, window_sec: float, already: bool) -> bool:
    """Whether it flaps, given whether it did."""
    return restlessness(changes, now, window_sec) >= (LOW if already else HIGH)
