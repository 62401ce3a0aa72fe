"""How fast counts grow, over a window. Pure; times are passed in, in seconds of a clock that only runs on."""

from collections import deque
from collections.abc import Collection, Hashable
from typing import Final

SAMPLES: Final = 64  # of one count, however long the window and however often one looks


class Rates:
    """The last readings of each count."""

    def __init__(self) -> None:
        self._readings: dict[Hashable, deque[tuple[float, int]]] = {}

    def note(self, what: Hashable, count: int | None, now: float, window_sec: float) -> float | None:
        """Take a reading in; its growth a second since the window began, None from a single reading.

        A count that fell began anew.
        """
        if count is None:
            self._readings.pop(what, None)
            return None
        readings = self._readings.setdefault(what, deque(maxlen=SAMPLES))
        if readings and count < readings[-1][1]:
            readings.clear()
        readings.append((now, count))
        while len(readings) > 2 and now - readings[1][0] >= window_sec:
            readings.popleft()
        since, first = readings[0]
        return (count - first) / (now - since) if now > since else None

    def keep(self, known: Collection[Hashable]) -> None:
        """Forget all but these."""
        self._readings = {what: found for what, found in self._readings.items() if what in known}
