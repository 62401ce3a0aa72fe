"""Limit how often something may happen, by key: token buckets. Pure; times are monotonic seconds."""

from collections import OrderedDict
from typing import Final

MAX_KEYS: Final = 10_000
"""How many keys are known; beyond that, the one that was used longest ago is forgotten."""


class RateLimiter:
    """Allow each key `burst` times at once, and `per_sec` times a second after that."""

    def __init__(self, burst: int, per_sec: float, max_keys: int = MAX_KEYS) -> None:
        self._burst, self._per_sec, self._max_keys = burst, per_sec, max_keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and since when

    def take(self, key: str, now: float) -> float:
        """Use `key` once if that is allowed; return the seconds until it is, and 0 if it was used."""
        left = self.find_left(key, now)
        if left < 1.0:
            return (1.0 - left) / self._per_sec
        self._buckets[key] = left - 1.0, now
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return 0.0

    def find_left(self, key: str, now: float) -> float:
        """Return how often `key` is allowed at `now`, with the fraction that has grown since its last use."""
        left, since = self._buckets.get(key, (float(self._burst), now))
        return min(float(self._burst), left + max(0.0, now - since) * self._per_sec)
