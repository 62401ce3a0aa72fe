"""Beats of services that the truth does not know: each told once an hour, in bounded memory. Pure.

Their names are theirs to choose, so they are bounded, and bare of all that would steer a terminal.
"""

from typing import Final

from marketswarm.text import escape_text

AGAIN_SEC: Final = 3600.0
NAMES: Final = 1000
NAME_LIMIT: Final = 63
SHOWN: Final = 50  # in the picture, the latest


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

    def names(self, now: float) -> list[str]:
        """Who was told of within the hour; the latest, if they are many."""
        self._forget(now)
        return list(self._told_at)[-SHOWN:]

    def _forget(self, now: float) -> None:
        """Drop who was told of an hour ago; the oldest stand first, as names are put in again at the end."""
        while self._told_at:
            oldest = next(iter(self._told_at))
            if now - self._told_at[oldest] < AGAIN_SEC:
                return
            del self._told_at[oldest]


def fit(name: bytes) -> str | None:
    """A stranger's name as it may be shown; None when it is too long for one."""
    text = name.decode("utf-8", "replace")
    return escape_text(text) if 0 < len(text) <= NAME_LIMIT else None
