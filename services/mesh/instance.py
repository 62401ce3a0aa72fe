"""Keep one running process of a service as its beats show it, and count its restarts. Pure.

Restarts are counted along a line of successors, not for a service as a whole: ten instances that are
restarted once each are a deployment, and one that is restarted ten times is a crash loop.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from marketswarm.beat import Beat, BeatForm, Sender
from marketswarm.bus.stored_values import get_list, parse_count

HOUR_SEC: Final = 3600.0
MAX_RESTARTS_PER_HOUR: Final = 5
"""More restarts than that within an hour are a crash loop."""
CALM_RESTARTS_PER_HOUR: Final = 2
"""A crash loop ends at this many: with one limit for both, it would begin and end again and again."""
MAX_RESTART_TIMES: Final = 100  # times that are kept: a process may restart each second
MAX_RESTARTS: Final = 2**52
"""A stored count above this is invalid: it must be possible to keep counting within the range of JSON."""
SKEW_SEC: Final = 5.0
OVERDUE: Final = 1.5  # intervals of silence after which an instance may have been replaced


@dataclass(slots=True)
class RestartHistory:
    """The restarts of one line of successors; `times` are the latest (monotonic, oldest first)."""

    restarts: int = 0
    times: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_RESTART_TIMES))
    is_looping: bool = False

    def add(self, at: float) -> None:
        self.restarts += 1
        self.times.append(at)

    def in_last_hour(self, now: float) -> int:
        """Return at most MAX_RESTART_TIMES."""
        return sum(1 for at in self.times if now - at < HOUR_SEC)

    def detect_crash_loop(self, now: float) -> bool:
        """Update `is_looping`, and return True if a crash loop begins now."""
        while self.times and now - self.times[0] >= HOUR_SEC:
            self.times.popleft()
        was = self.is_looping
        self.is_looping = len(self.times) > (CALM_RESTARTS_PER_HOUR if was else MAX_RESTARTS_PER_HOUR)
        return self.is_looping and not was

    def to_json(self, now: float, wall: float) -> dict[str, Any]:
        """Return the history with times in whole epoch seconds; `now` and `wall` are one moment."""
        times = [round(wall - (now - at)) for at in self.times] if self.times else []
        return {"restarts": self.restarts, "restarted_at": times, "crash_loop": self.is_looping}


def parse_history(found: Mapping[str, Any], now: float, wall: float) -> RestartHistory | None:
    """Return the restart history that `to_json` wrote, without restarts that are over an hour old.

    A crash loop that grew calm since then has ended. If the wall clock was set back meanwhile, a time in the
    future counts as now. None stands for a history without a usable count.
    """
    restarts = parse_count(found.get("restarts"))
    if restarts is None or restarts > MAX_RESTARTS:
        return None
    stored = get_list(found.get("restarted_at"))[-MAX_RESTART_TIMES:]
    ago = sorted((max(0.0, wall - at) for at in stored if isinstance(at, (int, float))), reverse=True)
    recent = deque((now - each for each in ago if each < HOUR_SEC), MAX_RESTART_TIMES)
    is_looping = found.get("crash_loop") is True and len(recent) > CALM_RESTARTS_PER_HOUR
    return RestartHistory(restarts, recent, is_looping)


@dataclass(slots=True)
class Instance:
    """Hold one process of a service.

    `last_ts` and `first_ts` are in epoch seconds, the other times are monotonic. `heard_at` is when the
    instance's silence begins: later than `beat_at`, its last beat, if its bus could not be heard in between.
    `boot` is empty for a sender without one. `last` is the last beat that was parsed in full: `i` and `ts` go
    on with each beat of its `form`, and the rest of it is as in `last`.
    """

    svc: str
    boot: str
    bus: str
    last: Beat
    heard_at: float
    joined_at: float
    last_ts: float
    first_ts: float
    history: RestartHistory = field(default_factory=RestartHistory)
    sender: Sender = field(default_factory=Sender)
    skewed: bool = False
    form: BeatForm | None = None
    i: int = field(init=False)
    ts: float = field(init=False)
    beat_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.i, self.ts = self.last.i, self.last.ts
        self.beat_at = self.heard_at

    def take_counts(self, i: int, ts: float, bus: str, now: float, wall: float) -> None:
        """Record when a beat was heard, on which bus, and its `i` and `ts`."""
        self.i, self.ts, self.bus, self.last_ts = i, ts, bus, wall
        self.heard_at = self.beat_at = now

    @property
    def skew_sec(self) -> float:
        """By how many seconds its clock is ahead of ours, the transit time of a beat included."""
        return self.ts - self.last_ts

    @property
    def uptime_sec(self) -> float:
        """How long it had run at its last beat, by its own clock if its beats have a start time."""
        started = self.sender.started
        return max(0.0, self.last_ts - self.first_ts if started is None else self.ts - started)

    def is_overdue(self, now: float) -> bool:
        return now - self.heard_at > OVERDUE * (self.last.every or float("inf"))

    def to_json(self, now: float, wall: float) -> dict[str, Any]:
        """Return the instance as an object of `mesh:topology`; `uptime_sec` is as of `last_ts`."""
        last, sender, history, skew_sec = self.last, self.sender, self.history, self.skew_sec
        found = {
            "boot": self.boot or None,
            "i": self.i,
            "rev": last.rev,
            "status": last.status,
            "detail": last.detail,
            "every": last.every,
            "last_ts": round(self.last_ts, 3),
            "first_ts": round(self.first_ts, 3),
            "skew_sec": round(skew_sec, 3) if abs(skew_sec) > SKEW_SEC else None,
            "host": sender.host,
            "version": sender.version,
            "started": sender.started,
            "uptime_sec": round(self.uptime_sec, 3),
            "restarts_hour": history.in_last_hour(now) if history.times else 0,
        }
        found.update(history.to_json(now, wall))
        return found
