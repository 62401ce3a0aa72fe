"""Saves that a bus refused: each is counted, and what is not saved now is a trouble that is said.

A state that is not saved is lost with the process; a `health:` key that is not refreshed expires, and whoever
reads it concludes that nobody vouches for the service.
"""

import time
from collections import Counter
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import BusError

COMPLAIN_EVERY_SEC: Final = 30.0

log = logs.get("vigil")


class SaveFailures:
    """What can't be saved now, and how often a save failed since the process began.

    `counts` has the failed attempts by what was to be saved: `silences`, `notes`, `health`.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._now: dict[str, BusError] = {}
        self._said: dict[str, tuple[str, float]] = {}  # the last reason that was logged, and when

    def failed(self, what: str, error: BusError) -> None:
        """Note that a save failed; log a new reason at once, and a lasting one again every 30 s."""
        self.counts[what] += 1
        self._now[what] = error
        reason, at = self._said.get(what, ("", 0.0))
        now = time.monotonic()
        if error.reason != reason or now - at >= COMPLAIN_EVERY_SEC:
            self._said[what] = error.reason, now
            log.warning(
                "vigil.not_saved",
                what=what,
                bus=error.bus,
                reason=error.reason,
                detail=error.detail,
                total=self.counts[what],
            )

    def saved(self, what: str) -> None:
        """Note that a save succeeded; log the end of a trouble that was logged."""
        if self._now.pop(what, None) is not None:
            del self._said[what]
            log.info("vigil.saved_again", what=what)

    def trouble(self) -> str | None:
        """Return what is not saved, in words for a beat's `detail`; None when all is."""
        found = [f"{what} not saved on {error.bus} ({error.reason})" for what, error in self._now.items()]
        return ", ".join(found) or None
