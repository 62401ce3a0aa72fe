"""What is stored on a bus, as frozen values that the detector takes and returns. Pure.

`marketswarm.monitor` reads and writes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from marketswarm.beat import Beat
from marketswarm.detector.states import State

NO_OTHERS: Final[Mapping[str, int]] = MappingProxyType({})
NO_FAILURES: Final[Mapping[str, float]] = MappingProxyType({})
"""The instances beside the one that beat last, for a service that has one instance."""


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


class SavedJob(NamedTuple):
    """The state of a job that an earlier run of the healer saved; times are epoch seconds.

    `expected_from` is the time after which the next run is expected: the last run that was complete, or the
    time from which the job was watched if `has_run` is False. `runs` maps the ids of runs that had not ended
    to their starts. `leads_sec` is how early the last runs were. `schedule` is the schedule in force then, as
    text; empty if it is not known. `moved_at` is when it came to its bus after a gap of the one before.
    """

    expected_from: float
    has_run: bool = True
    runs: tuple[tuple[str, float], ...] = ()
    leads_sec: tuple[float, ...] = ()
    schedule: str = ""
    moved_at: float | None = None


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
