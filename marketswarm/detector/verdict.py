"""What the healer can conclude, as values: the states, what moves between them, and what is then told.

The table below is DETECTION's, to be held against it line by line.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from marketswarm.beat import Beat


class State(StrEnum):
    """A verdict's word."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    UNWATCHED = "unwatched"


class Of(StrEnum):
    """What a verdict is on."""

    SERVICE = "service"
    BUS = "bus"
    TRUTH = "truth"
    WATCH = "watch"  # whether a service can be heard at all
    REACH = "reach"  # of the healer itself, over all buses


class On(StrEnum):
    """What moves a service from one state to another."""

    BEAT = "beat"
    DUE = "due"
    REMOVED = "removed"


class Told(StrEnum):
    """How far a verdict carries."""

    ALERT = "alert"  # health, the log, and the channel
    QUIETLY = "quietly"  # health and the log: no news for anyone who sleeps
    FORGOTTEN = "forgotten"  # nothing is said; what was kept of it goes


class Reason(StrEnum):
    """Why a service is missed."""

    SILENT = "silent"
    NEVER_SEEN = "never_seen"
    STOPPED = "stopped"


TRANSITIONS: Final[dict[tuple[State, On], tuple[State, Told]]] = {
    (State.UNKNOWN, On.BEAT): (State.UP, Told.QUIETLY),
    (State.UNKNOWN, On.DUE): (State.DOWN, Told.ALERT),
    (State.UP, On.DUE): (State.DOWN, Told.ALERT),
    (State.DOWN, On.BEAT): (State.UP, Told.ALERT),
    (State.UNKNOWN, On.REMOVED): (State.UNWATCHED, Told.FORGOTTEN),
    (State.UP, On.REMOVED): (State.UNWATCHED, Told.FORGOTTEN),
    (State.DOWN, On.REMOVED): (State.UNWATCHED, Told.ALERT),
}

# a bus that is there from the start is no news
BUS_TRANSITIONS: Final[dict[tuple[State, On], tuple[State, Told]]] = {
    (State.UNKNOWN, On.BEAT): (State.UP, Told.FORGOTTEN),
    (State.UNKNOWN, On.DUE): (State.DOWN, Told.ALERT),
    (State.UP, On.DUE): (State.DOWN, Told.ALERT),
    (State.DOWN, On.BEAT): (State.UP, Told.ALERT),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One transition of one service, of one bus, or of the truth on one bus; `svc` names it.

    Durations are in seconds: `timeout_sec` is the service's own, `late_sec` of a miss and `overdue_sec` how
    much of that is beyond its deadline, `down_sec` of a recovery; `ts` and `since` (the last beat, None when
    never seen) epoch seconds. `i` is the highest heard of `boot`. A verdict with `gap_sec` moves nothing: it
    tells of a service that is up what it did while nobody listened; the like of it has the same `mark`,
    whoever concludes it.
    """

    svc: str
    state: State
    told: Told
    ts: float
    of: Of = Of.SERVICE
    reason: str | None = None
    late_sec: float | None = None
    timeout_sec: float | None = None
    age_sec: float | None = None
    down_sec: float | None = None
    since: float | None = None
    boot: str | None = None
    i: int | None = None
    gap_sec: float | None = None
    restarted: bool | None = None
    mark: str | None = None
    overdue_sec: float | None = None

    @property
    def of_bus(self) -> bool:
        """Whether it is on a bus itself."""
        return self.of is Of.BUS


@dataclass(frozen=True, slots=True)
class Suspect:
    """A service that is due, by all that was heard; the second witness is still to be asked."""

    svc: str
    bus: str


@dataclass(frozen=True, slots=True)
class Testimony:
    """What `beat:<svc>` says: the beat it holds, and that beat's age in seconds (None: it can't tell)."""

    beat: Beat
    age_sec: float | None


@dataclass(frozen=True, slots=True)
class Acquitted:
    """The second witness knows a beat that was never heard: the service lives, and the listener is deaf.

    Unless that beat, `age_sec` seconds old, is still on its way. `again`: the beat before it was not heard
    either.
    """

    svc: str
    bus: str
    age_sec: float
    again: bool = False


@dataclass(frozen=True, slots=True)
class Noted:
    """A service's last beat as an earlier run noted it, heard at `wall`.

    `stopped`: it said goodbye after that. `beside` has other instances that lived then, and the highest `i`
    that was heard of each. `pace_sec` is the
    time between its beats, 0 where that was not measured; `timeout_sec` the longest silence it was allowed.
    """

    boot: str
    i: int
    ts: float
    wall: float
    stopped: bool = False
    beside: Mapping[str, int] = field(default_factory=dict)
    pace_sec: float = 0.0
    timeout_sec: float = 0.0

    def instances(self) -> dict[str, int]:
        """The highest `i` of each instance that is known, the last one at the end."""
        return {**self.beside, self.boot: self.i}


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an earlier run knew of one service.

    `silent_for` is in seconds of listening: how long it had been silent (`seen`), or watched in vain, when
    that was last saved; None when it had beaten a short while before. Beats of `boot` up to `i` are replays,
    and so are those that came before the one that was `noted`.
    """

    state: State
    since: float | None = None
    silent_for: float | None = None
    seen: bool = True
    boot: str | None = None
    i: int = 0
    noted: Noted | None = None
