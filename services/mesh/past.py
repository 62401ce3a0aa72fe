"""How often a process was started anew: what its successors inherit from it. Pure; times are passed in.

Restarts are counted along a line of succession, not for a service as a whole: ten instances that are each
restarted once are a deployment, and one that is restarted ten times is a crash loop.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

HOUR_SEC: Final = 3600.0
LOOP: Final = 5  # more restarts than that within an hour are a crash loop
CALM: Final = 2  # no more than that, and it is over: around one number there would be one after the other
KEPT: Final = 100  # times remembered: whoever comes up each second must not fill the memory


@dataclass(slots=True)
class Past:
    """The restarts of one line: how many in all, when the latest were, whether that is a crash loop.

    `times` are seconds of a clock that only runs on, the oldest first.
    """

    restarts: int = 0
    times: deque[float] = field(default_factory=deque)
    looping: bool = False

    def __post_init__(self) -> None:
        self.times = deque(self.times, KEPT)

    def restarted(self, at: float) -> None:
        """Another process has taken over."""
        self.restarts += 1
        self.times.append(at)

    def in_the_hour(self, now: float) -> int:
        """How many of them are less than an hour old; not more than are remembered."""
        return sum(1 for at in self.times if now - at < HOUR_SEC)

    def begins_to_loop(self, now: float) -> bool:
        """Whether this is the beginning of a crash loop; also notes the end of one."""
        while self.times and now - self.times[0] >= HOUR_SEC:
            self.times.popleft()
        was = self.looping
        self.looping = len(self.times) > (CALM if was else LOOP)
        return self.looping and not was

    def shown(self, now: float, wall: float) -> list[int]:
        """The times in whole epoch seconds, for the picture; `now` and `wall` are the same moment."""
        return [round(wall - (now - at)) for at in self.times]


def recalled(restarts: int, times: Iterable[float], looping: bool, now: float, wall: float) -> Past:
    """What `shown` gave, read back; whatever a clock did meanwhile, no time is ahead of now."""
    ago = sorted((max(0.0, wall - at) for at in times), reverse=True)
    return Past(restarts, deque(now - each for each in ago[-KEPT:] if each < HOUR_SEC), looping)
