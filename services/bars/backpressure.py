"""Decide whether bars waits for the readers of its results while it works on a history. Pure.

A first load brings more entries than a stream keeps. Published as fast as bars builds them, the oldest would
be trimmed off before archive has stored them. A group that acknowledges nothing for a while does not stop
bars: what is trimmed off then, its reader counts as lost.
"""

from typing import Final

SHARE: Final = 0.5
"""The share of `keep` that may be unread; the rest is for what all instances write before they look again."""
PATIENCE_SEC: Final = 60.0
"""How long a group may acknowledge nothing before bars goes on."""


class Backpressure:
    """Watch how many entries the slowest group has not acknowledged."""

    def __init__(self) -> None:
        self._fewest: int | None = None
        self._progress_at = 0.0

    def must_wait(self, unread: int, keep: int, now: float) -> bool:
        """Return True if nothing more should be published now.

        Args:
            unread: the entries that the slowest group has not acknowledged.
        """
        if unread <= keep * SHARE:
            self._fewest = None
            return False
        if self._fewest is None or unread < self._fewest:
            self._fewest, self._progress_at = unread, now
        return 0 <= now - self._progress_at < PATIENCE_SEC
