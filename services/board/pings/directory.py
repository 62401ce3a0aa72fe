"""Find the service that a ping is about, in the truth in force. Pure.

The slug of a service is its name in lower case; `_` and `.` in it may be written as `-`. A slug that several
services have is ambiguous, unless it is the name of one of them.
"""

from typing import Final

from marketswarm.truth import HEALER, Truth, Watch
from services.board.pings.answers import AMBIGUOUS, NOT_FOUND, RefusedPingError

NOT_PINGED: Final = frozenset({HEALER, "sentinel", "notifier"})
"""Services without pings, because a ping key must not be able to hide that monitoring itself has ended."""
_FOLDED: Final = str.maketrans("_.", "--")


class PingDirectory:
    """The services of one truth that can be pinged, by name and by slug."""

    def __init__(self, truth: Truth) -> None:
        self.by_name = {watch.svc: watch for watch in truth.watched() if watch.svc not in NOT_PINGED}
        self._by_lower: dict[str, list[str]] = {}
        self._by_folded: dict[str, list[str]] = {}
        for svc in self.by_name:
            self._by_lower.setdefault(svc.lower(), []).append(svc)
            self._by_folded.setdefault(fold_name(svc), []).append(svc)

    def find_slug(self, slug: str) -> Watch:
        names = self._by_lower.get(slug) or self._by_folded.get(fold_name(slug)) or ()
        if not names:
            raise RefusedPingError(NOT_FOUND)
        if len(names) > 1:
            raise RefusedPingError(AMBIGUOUS)
        return self.by_name[names[0]]


def fold_name(name: str) -> str:
    """Return a service's name as the slug that Healthchecks would make of it."""
    return name.lower().translate(_FOLDED)
