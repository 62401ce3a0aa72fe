"""A limit of the payloads that are parsed for each service, so that none hides the others. Pure.

To parse a payload takes several times as long as to drop it. Beats that are as expected need no parsing when
they arrive (`service`), and do not count. So a service reaches the limit only with payloads that are not
beats, with replays, or with beats of very many instances. `now` is in monotonic seconds.
"""

from math import inf
from typing import Final

FLOOD: Final = "flood"
"""The reason of a `watch_miss` of a service that sent more payloads than are parsed."""
MAX_PARSED_PER_SEC: Final = 10_000
"""Payloads of one service that are parsed within a second: less than a tenth of a core."""
OVER_AFTER_SEC: Final = 5.0
"""A flood has ended when nothing was dropped for so long."""


class FloodLimit:
    """Says of each payload whether it may be parsed; `flooding` has the services of which some were dropped.

    The services are in the order in which their floods began, each with the time of its last dropped payload.
    """

    def __init__(self) -> None:
        self.flooding: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._since = -inf  # the beginning of the second that the counts are of

    def admit_payload(self, svc: str, now: float) -> bool:
        """Count a payload of a service; return False, and note the flood, if it is to be dropped."""
        if now - self._since >= 1.0:
            self._since = now
            self._counts.clear()
        count = self._counts.get(svc, 0) + 1
        self._counts[svc] = count
        if count <= MAX_PARSED_PER_SEC:
            return True
        self.flooding[svc] = now
        return False

    def take_ended(self, now: float) -> list[str]:
        """Remove and return the services whose floods have ended."""
        ended = [svc for svc, at in self.flooding.items() if now - at >= OVER_AFTER_SEC]
        for svc in ended:
            del self.flooding[svc]
        return ended

    def forget_service(self, svc: str) -> None:
        """Forget the flood of a service, because it is no longer watched."""
        self.flooding.pop(svc, None)
