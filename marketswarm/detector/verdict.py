"""What the detector returns: verdicts, suspects, ticks and counts. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from marketswarm.detector.states import Publication, State, Word


class Subject(Word):
    """The kind of thing that a verdict is about."""

    SERVICE = "service"
    BUS = "bus"
    TRUTH = "truth"  # the truth that one bus holds
    WATCH = "watch"  # whether a bus lets the healer hear a service's channel
    REACH = "reach"  # whether the healer reaches any bus


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


def make_alert(svc: str, state: State, subject: Subject, ts: float, **found: Any) -> Verdict:
    """Return a verdict on something other than a service, with the fields in `found`."""
    return Verdict(svc, state, Publication.ALERT, ts, subject, **found)


class Suspect(NamedTuple):
    """A service whose deadline has passed; its `beat:<svc>` key must be read before the miss is published."""

    svc: str
    bus: str


class ChangeTimes:
    """Dates changes of state, so that two of one service never have the same millisecond.

    An event is known by its type, its service and its milliseconds. A job may fail, succeed and fail again
    within one, and all of it may be read in one batch. A clock that was set back is believed.
    """

    def __init__(self) -> None:
        self._since_ms = 0
        self._told: dict[str, int] = {}  # by service, the last one since then

    def date(self, svc: str, wall: float) -> float:
        """Return the time to be told of a change at `wall`, both in epoch seconds."""
        ms = round(wall * 1000)
        if ms < self._since_ms:
            self._since_ms, self._told = ms, {}
        elif ms >= self._since_ms + 1000:
            self._since_ms, self._told = ms, {each: told for each, told in self._told.items() if told >= ms}
        if (last := self._told.get(svc, -1)) >= ms:
            ms = last + 1
            wall = ms / 1000
        self._told[svc] = ms
        return wall


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


class Copies(StrEnum):
    """The two copies of a state that did not agree."""

    WHEEL = "wheel"  # its bus did not return it when it was to be evaluated
    OUTAGE = "outage"  # it is down without an outage, or has one and is not down
    CHANNEL = "channel"  # its bus does not know it by its channel
    JOBS = "jobs"  # it is not among the jobs, or should not be
    REFUSAL = "refusal"  # it can't be heard, and nothing waits for that to end


class Mended(NamedTuple):
    """A service of which two copies of a state did not agree; they do now."""

    svc: str
    copies: Copies


@dataclass(frozen=True, slots=True)
class Tick:
    """The result of one evaluation.

    Attributes:
        verdicts: about buses, about the reach of buses, and about restarts in gaps.
        suspects: services whose `beat:<svc>` must be read now.
        canary_buses: buses on which a canary must be sent at once, to prove a silence.
        wake_in_sec: seconds until the next evaluation is due.
        mended: services of which two copies of a state did not agree, which is an error of the program.
    """

    verdicts: tuple[Verdict, ...]
    suspects: tuple[Suspect, ...]
    canary_buses: tuple[str, ...]
    wake_in_sec: float
    mended: tuple[Mended, ...] = ()
