"""What is known of one watched service, and DETECTION's rule for when it falls due.

Pure. `at` is always a reading of the listening clock of the service's bus.
"""

from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from marketswarm.liveness.verdict import State
from marketswarm.truth import Watch

if TYPE_CHECKING:  # the two name each other
    from marketswarm.liveness.watched_bus import WatchedBus

BOOTS_KEPT: Final = 32
"""Instances whose highest `i` is remembered: a replay of an older one would pass for life."""


class Heard(NamedTuple):
    """When a beat was heard, on three clocks, in seconds; one for all the beats that came at once."""

    at: float
    mono: float
    wall: float


def warm_up(interval_sec: float, timeout_sec: float) -> float:
    """The reference's formula, in seconds: how long a service has to show up after a gap."""
    return min(timeout_sec, max(2 * interval_sec, 0.75 * timeout_sec))


class Record:
    """One service's place in the roster. Mutable, and changed by `Liveness` alone."""

    __slots__ = (
        "asked",
        "boots",
        "bus",
        "enter",
        "filed",
        "floor",
        "gone",
        "last",
        "marked",
        "state",
        "stopped",
        "warm_up_sec",
        "watch",
    )

    def __init__(self, watch: Watch, bus: "WatchedBus", enter: float) -> None:
        self.watch = watch
        self.bus = bus
        self.warm_up_sec = warm_up(watch.interval_sec, watch.timeout_sec)
        self.state = State.UNKNOWN
        self.last: Heard | None = None
        self.enter = enter  # when it was first watched
        self.floor = -inf  # never due before: what a change of interval or timeout grants
        self.boots: dict[str, int] = {}  # the highest `i` of each instance, the oldest instance first
        self.marked = False  # its silence is being remembered beyond this process
        self.stopped = False  # it said goodbye, and nothing since
        self.asked = False  # the second witness is being asked
        self.filed = False  # it lies on its bus's wheel: there is one entry for a record, never two
        self.gone = False  # no longer watched, or replaced by another record

    def due(self) -> float:
        """When it may be declared down: after a gap each gets a warm-up, one silence at most one."""
        timeout, warm = self.watch.timeout_sec, self.warm_up_sec
        grace = self.bus.clock.gap_end + warm
        if self.last is None:
            due = min(max(self.enter + warm, grace), self.enter + 2 * warm)
        else:
            due = min(max(self.last.at + timeout, grace), self.last.at + timeout + warm)
        return max(due, self.floor)

    def mark_at(self) -> float:
        """When its silence becomes worth remembering over a restart."""
        return self.enter if self.last is None else self.last.at + self.watch.timeout_sec / 2

    def next_at(self) -> float:
        """When the timing wheel should bring it up; infinity while nothing can fall due."""
        if self.gone or self.asked or self.state is State.DOWN:
            return inf
        return self.due() if self.marked else min(self.mark_at(), self.due())

    def silence(self, now: float) -> float:
        """Seconds without a beat by the listening clock `now`; since it is watched, if never seen."""
        return now - (self.enter if self.last is None else self.last.at)

    def is_replay(self, boot: str | None, i: int) -> bool:
        """Whether this beat, or a later one of its process, was heard before; takes note of it if not."""
        if boot is None:
            return False
        highest = self.boots.get(boot)
        if highest is not None and i <= highest:
            return True
        if highest is None and len(self.boots) >= BOOTS_KEPT:
            del self.boots[next(iter(self.boots))]
        self.boots[boot] = i
        return False

    def boot(self) -> str | None:
        """The instance that was first heard last, if instances can be told apart."""
        return next(reversed(self.boots), None)

    def is_news(self, boot: str | None, i: int, age_sec: float, now: float) -> bool:
        """Whether a beat that another witness knows was never heard here.

        Without a `boot` only ages can tell; a quarter of a second is left to the network.
        """
        if boot is None:
            return age_sec < self.silence(now) - 0.25
        return i > self.boots.get(boot, -1)
