"""One running process of a service, as far as its beats tell. Pure."""

from dataclasses import dataclass, field
from typing import Any, Final

from marketswarm.beat import Beat, Sender
from services.mesh.past import Past

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
