"""Beats of services that the truth does not know: each told once an hour, in bounded memory. Pure."""

from typing import Final

AGAIN_SEC: Final = 3600.0
NAMES: Final = 1000


class Strangers:
    """Remembers who was told of. When full of recent names, more are counted and not told."""

    def __init__(self) -> None:
        self.untold = 0
        self._told_at: dict[str, float] = {}

    def heard(self, svc: str, now: float) -> bool:
        """Whether this one is news; `now` in seconds of a clock that only runs on."""
        told_at = self._told_at.get(svc)
        if told_at is not None and now - told_at < AGAIN_SEC:
            return False
        self._told_at.pop(svc, None)
        self._forget(now)
        if len(self._told_at) >= NAMES:
            self.untold += 1
            return False
        self._told_at[svc] = now
        return True

    def _forget(self, now: float) -> None:
        """Drop who was told of an hour ago; the oldest stand first, as names are put in again at the end."""
        while self._told_at:
            oldest = next(iter(self._told_at))
            if now - self._told_at[oldest] < AGAIN_SEC:
                return
            del self._told_at[oldest]
