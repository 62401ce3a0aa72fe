"""How often a process was started anew: what its successors inherit from it. Pure; times are passed in.

Restarts are counted along a line of succession, not for a service as a whole: ten instances that are each
restarted once are a deployment, and one that is restarted ten times is a crash loop.

One running process of a service, as far as its beats tell. Pure.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from marketswarm.beat import Beat, Sender

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


SKEW_SEC: Final = 5.0
OVERDUE: Final = 1.5  # times `every`: silent for longer, an instance may have been replaced


@dataclass(slots=True)
class Instance:
    """`last_ts` and `first_ts` are epoch seconds, the others of a clock that only runs on.

    `heard_at` is where its silence begins: later than `beat_at`, its last beat, where nobody could be heard.
    """

    svc: str
    boot: str  # empty for a sender that has no such thing
    bus: str
    last: Beat
    heard_at: float
    joined_at: float
    last_ts: float
    first_ts: float
    past: Past = field(default_factory=Past)
    sender: Sender = field(default_factory=Sender)
    skewed: bool = False
    beat_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.beat_at = self.heard_at

    @property
    def skew_sec(self) -> float:
        """How far its clock is ahead of ours, the way of a beat included."""
        return self.last.ts - self.last_ts

    @property
    def uptime_sec(self) -> float:
        """How long it had run when it beat last, by its own clock; as far as seen, if it does not say."""
        started = self.sender.started
        return max(0.0, self.last_ts - self.first_ts if started is None else self.last.ts - started)

    def overdue(self, now: float) -> bool:
        """Whether it said when it would beat again, and did not."""
        return now - self.heard_at > OVERDUE * (self.last.every or float("inf"))

    def begins_to_skew(self) -> bool:
        """Whether its clock is wrong now and was not before."""
        # an incident is over well below where it begins: a clock that wavers there is one, not many
        was, self.skewed = self.skewed, abs(self.skew_sec) > (SKEW_SEC / 2 if self.skewed else SKEW_SEC)
        return self.skewed and not was

    def shown(self, now: float, wall: float) -> dict[str, Any]:
        """The instance as it stands in `mesh:topology`; `uptime_sec` is as of `last_ts`."""
        skew_sec = round(self.skew_sec, 3)
        return {
            "boot": self.boot or None,
            "i": self.last.i,
            "rev": self.last.rev,
            "status": self.last.status,
            "detail": self.last.detail,
            "every": self.last.every,
            "last_ts": round(self.last_ts, 3),
            "first_ts": round(self.first_ts, 3),
            "restarts": self.past.restarts,
            "skew_sec": skew_sec if abs(skew_sec) > SKEW_SEC else None,
            "host": self.sender.host,
            "version": self.sender.version,
            "started": self.sender.started,
            "uptime_sec": round(self.uptime_sec, 3),
            "restarts_hour": self.past.in_the_hour(now),
            "restarted_at": self.past.shown(now, wall),
            "crash_loop": self.past.looping,
        }
