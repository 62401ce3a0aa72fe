"""Whether all go by one revision of the truth, and how long that took. Pure; times are passed in."""

from collections.abc import Collection
from typing import Final

EARLY_KEPT: Final = 8  # revisions that were heard of before this process had them
EARLY_SEC: Final = 10.0  # nobody is ahead of us for longer: what was said before that was something else


class Convergence:
    """`at` is the revision that was converged on last, `took_sec` how long it took; None when not witnessed.

    A reseed is reckoned from when its revision was first seen here: by mesh itself, or in someone's beat.
    """

    def __init__(self) -> None:
        self.at: int | None = None
        self.took_sec: float | None = None
        self._force: int | None = None
        self._since: float | None = None  # when the one in force was first seen, if it came by a reseed
        self._early: dict[int, float] = {}

    def applied(self, rev: int | None, now: float) -> None:
        """Mesh itself goes by this revision now."""
        if rev is None or rev == self._force:
            return
        early = self._early.get(rev, now)
        self._since = None if self._force is None else early if now - early < EARLY_SEC else now
        self._force = rev
        self._early.clear()

    def heard(self, rev: int | None, now: float) -> None:
        """Someone's beat shows this revision."""
        if rev is not None and rev > (self._force or 0) and len(self._early) < EARLY_KEPT:
            self._early.setdefault(rev, now)

    def reached(self, shown: Collection[int], now: float) -> bool:
        """Whether all show the revision in force, and did not before; `shown` are those that anyone shows."""
        if self._force is None or set(shown) != {self._force} or self.at == self._force:
            return False
        self.at = self._force
        self.took_sec = None if self._since is None else max(0.0, now - self._since)
        return True
