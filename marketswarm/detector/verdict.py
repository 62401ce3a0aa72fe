"""Values that the detector takes and returns: states, transitions, verdicts, suspects, saved state, ticks.

`TRANSITIONS` has the table of DETECTION.md, in the same order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from marketswarm.beat import Beat
from marketswarm.detector.job import SavedJob

NO_OTHERS: Final[Mapping[str, int]] = MappingProxyType({})
NO_FAILURES: Final[Mapping[str, float]] = MappingProxyType({})
"""The instances beside the one that beat last, for a service that has one instance."""


class _Word(StrEnum):
    """A word that is looked up in tables at each step: its hash is that of its text, made without Python."""

    __hash__ = str.__hash__


class State(_Word):
    """The state of a service or bus; the same word as in the roster."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    UNWATCHED = "unwatched"


class Subject(_Word):
    """The kind of thing that a verdict is about."""

    SERVICE = "service"
    BUS = "bus"
    TRUTH = "truth"  # the truth that one bus holds
    WATCH = "watch"  # whether a bus lets the healer hear a service's channel
    REACH = "reach"  # whether the healer reaches any bus


class Trigger(_Word):
    """The event that moves a service or bus from one state to another."""

    BEAT = "beat"
    DUE = "due"
    REMOVED = "removed"


class Publication(StrEnum):
    """The places where a verdict is published."""

    ALERT = "alert"  # health key, log of alerts, and channel
    LOG = "log"  # health key and log of alerts, not the channel
    NONE = "none"  # nowhere; the roster's entry is deleted


class Reason(StrEnum):
    """The reason of a miss; `WatchedService.miss_reason` decides which it is."""

    SILENT = "silent"
    NEVER_SEEN = "never_seen"
    STOPPED = "stopped"
    FAILED = "failed"  # a run failed, and its report or the truth asks for an alert on that
    OVERDUE = "overdue"  # a run of a job was not reported by its deadline
    NEVER_ENDED = "never_ended"  # a run of a job started, and did not end within its longest time


TRANSITIONS: Final[dict[tuple[State, Trigger], tuple[State, Publication]]] = {
    (State.UNKNOWN, Trigger.BEAT): (State.UP, Publication.LOG),
    (State.UNKNOWN, Trigger.DUE): (State.DOWN, Publication.ALERT),
    (State.UP, Trigger.DUE): (State.DOWN, Publication.ALERT),
    (State.DOWN, Trigger.BEAT): (State.UP, Publication.ALERT),
    (State.UNKNOWN, Trigger.REMOVED): (State.UNWATCHED, Publication.NONE),
    (State.UP, Trigger.REMOVED): (State.UNWATCHED, Publication.NONE),
    (State.DOWN, Trigger.REMOVED): (State.UNWATCHED, Publication.ALERT),
}
"""Transitions of a service."""


class Stage(_Word):
    """What the detector does with a service; whether that is up is its `State`."""

    RESTORING = "restoring"  # what an earlier run saved about it was not applied yet
    EVALUATED = "evaluated"  # its deadline counts, unless it is down
    SUSPECTED = "suspected"  # its deadline has passed, and its `beat:<svc>` is being read
    DROPPED = "dropped"  # it is no longer watched, or replaced by another object


class Step(_Word):
    """What moves a service from one stage to another."""

    RESTORED = "restored"
    DUE = "due"
    ANSWERED = "answered"  # the read of `beat:<svc>` was answered or failed, or is not needed any more
    DROPPED = "dropped"


STAGES: Final[dict[tuple[Stage, Step], Stage]] = {
    (Stage.RESTORING, Step.RESTORED): Stage.EVALUATED,
    (Stage.EVALUATED, Step.DUE): Stage.SUSPECTED,
    (Stage.SUSPECTED, Step.ANSWERED): Stage.EVALUATED,
    (Stage.RESTORING, Step.DROPPED): Stage.DROPPED,
    (Stage.EVALUATED, Step.DROPPED): Stage.DROPPED,
    (Stage.SUSPECTED, Step.DROPPED): Stage.DROPPED,
}
"""Transitions of a service's stage. A step that is not here changes nothing."""

BUS_TRANSITIONS: Final[dict[tuple[State, Trigger], tuple[State, Publication]]] = {
    (State.UNKNOWN, Trigger.BEAT): (State.UP, Publication.NONE),
    (State.UNKNOWN, Trigger.DUE): (State.DOWN, Publication.ALERT),
    (State.UP, Trigger.DUE): (State.DOWN, Publication.ALERT),
    (State.DOWN, Trigger.BEAT): (State.UP, Publication.ALERT),
}
"""Transitions of a bus. A bus that is heard from the start is not published."""


class Verdict(NamedTuple):  # made in a quarter of the time of a frozen dataclass
    """One transition of one service, of one bus, or of the truth on one bus; `svc` is its name.

    Durations are in seconds: `timeout_sec` is the timeout of the service or bus; a miss has `late_sec` (the
    silence) and `overdue_sec` (the part of the silence after the deadline), a recovery has `down_sec`. `ts`
    and `since` (the last beat; None if there was none) are epoch seconds, and so is `down_since`, when an
    outage began; None for one that began with the last beat. `i` is the highest `i` heard from
    the instance `boot`. `host` is where the last beat came from; `exit_code` how a command ended that failed,
    and `detail` what the report of that failure said, as the sender wrote it. `via` is
    the way by which a failure was reported that stays open while the service beats. `host_up`, of a service
    that fell silent on one known host, is how many others that beat from there are up.

    A verdict with `gap_sec` changes no state: it reports what a service that is up did while no healer
    listened. It has an `event_id`, which is the same whichever healer concludes it.
    """

    svc: str
    state: State
    publication: Publication
    ts: float
    subject: Subject = Subject.SERVICE
    # the rarer a value, the later it comes: those that are kept for a while are kept without the empty end
    timeout_sec: float | None = None
    age_sec: float | None = None
    boot: str | None = None
    i: int | None = None
    host: str | None = None
    since: float | None = None
    reason: str | None = None
    late_sec: float | None = None
    overdue_sec: float | None = None
    down_sec: float | None = None
    down_since: float | None = None
    exit_code: int | None = None
    gap_sec: float | None = None
    restarted: bool | None = None
    event_id: str | None = None
    via: str | None = None
    detail: str | None = None
    host_up: int | None = None

    @property
    def is_about_bus(self) -> bool:
        return self.subject is Subject.BUS

    def trim(self) -> tuple[Any, ...]:
        """Return the values without the empty ones at the end, from which `Verdict(*values)` makes it again.

        That of a service that came up takes 112 bytes, not 200.
        """
        end = len(self)
        if self[_RARE_FROM:] == _NO_RARE_ONES:  # as of almost all, which one look tells
            end = _RARE_FROM
        while self[end - 1] is None:
            end -= 1
        return self[:end]


_RARE_FROM: Final = Verdict._fields.index("down_sec")
_NO_RARE_ONES: Final = (None,) * (len(Verdict._fields) - _RARE_FROM)


class Suspect(NamedTuple):
    """A service whose deadline has passed; its `beat:<svc>` key must be read before the miss is published."""

    svc: str
    bus: str


@dataclass(frozen=True, slots=True)
class LastBeat:
    """The beat stored under `beat:<svc>` and its age in seconds (None if the key's TTL is unusable)."""

    beat: Beat
    age_sec: float | None


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that failed, as it is stored under `run:<svc>`: when, by the sender's clock, and its exit code.

    `alive_ts` is the `ts` of the beat under `beat:<svc>`, by the same sender; None if there is none. `detail`
    is what its sender said about the failure.
    """

    ts: float
    exit_code: int | None = None
    alive_ts: float | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A report under `run:<svc>` that all is well: when, by the sender's clock, and the way it came."""

    ts: float
    via: str


@dataclass(frozen=True, slots=True)
class UnheardBeat:
    """A suspect's stored beat that the detector never heard: the service is alive, the listener may be deaf.

    A beat of a small `age_sec` may still be on its way. `is_repeated` is True if the service's beat before
    this one was not heard either.
    """

    svc: str
    bus: str
    age_sec: float
    is_repeated: bool = False


class SavedBeat(NamedTuple):
    """The last beat of a service as an earlier run saved it; that run heard it at `wall` (epoch seconds).

    `stopped` is True if the service said goodbye afterwards. `others` maps the other instances that were
    alive then to the highest `i` heard from each. `pace_sec` is the measured time between two beats (0 if it
    was not measured), `timeout_sec` the longest silence that the truth allowed then. `failures` has the open
    failures: by the way by which each came, when it was reported, in epoch seconds.
    `host` is the one that its beats named last.
    """

    boot: str
    i: int
    ts: float
    wall: float
    stopped: bool = False
    others: Mapping[str, int] = NO_OTHERS
    pace_sec: float = 0.0
    timeout_sec: float = 0.0
    failures: Mapping[str, float] = NO_FAILURES
    host: str | None = None

    def instances(self) -> dict[str, int]:
        """Return the highest `i` of every known instance; the instance that beat last comes last."""
        return {**self.others, self.boot: self.i}


@dataclass(frozen=True, slots=True)
class SavedService:
    """The state of one service that an earlier run saved.

    `silent_sec` is how long the service had been silent (if `seen`) or watched without a beat (if not) at the
    last save of that, in seconds of listening; None if it had beaten shortly before. That was measured under
    a timeout of `silent_under_sec`, None if it is not known. Beats of the instance
    `boot` up to `i` are replays, and so are those before `last_beat`. `missed_at` is when the miss of a
    service that is down was published, `down_since` when its outage began, if not with the last beat, and
    `recovered_at` when an outage ended that had begun otherwise; all are epoch seconds. `open_via` is the way
    by which the failure came that is open, if the outage is one.
    """

    state: State
    since: float | None = None
    silent_sec: float | None = None
    seen: bool = True
    boot: str | None = None
    i: int = 0
    last_beat: SavedBeat | None = None
    job: SavedJob | None = None
    missed_at: float | None = None
    down_since: float | None = None
    recovered_at: float | None = None
    silent_under_sec: float | None = None
    open_via: str | None = None


@dataclass(slots=True)
class Counts:
    """Events since the process began."""

    heard: int = 0
    malformed: int = 0
    replayed: int = 0
    dropped: int = 0
    """Payloads that were not even parsed, because their service had sent too many within a second."""
    unheard: int = 0
    unreadable: int = 0
    stalls: int = 0


class BatchResult(NamedTuple):
    """The result of a batch of messages: verdicts, and the messages on channels that belong to no service."""

    verdicts: list[Verdict]
    others: list[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Tick:
    """The result of one evaluation.

    Attributes:
        verdicts: about buses, about the reach of buses, and about restarts in gaps.
        suspects: services whose `beat:<svc>` must be read now.
        canary_buses: buses on which a canary must be sent at once, to prove a silence.
        wake_in_sec: seconds until the next evaluation is due.
    """

    verdicts: tuple[Verdict, ...]
    suspects: tuple[Suspect, ...]
    canary_buses: tuple[str, ...]
    wake_in_sec: float
