"""What only a service has that was missed, that reported a failure, that starts, or whose channel is refused.

Pure.
"""

from math import inf
from typing import Final, NamedTuple

from marketswarm.beat import MAX_VIA_CHARS, Beat
from marketswarm.detector.clock import HeardAt, Moment

NOT_STARTING: Final = -inf
MAX_OPEN_FAILURES: Final = 8
"""The open failures of one service that are followed at the same time."""
BESIDE: Final = "beside"
"""The `via` of an open failure whose report named none: another process than the one that beats sent it."""
ANY_WAY: Final = "*" * (MAX_VIA_CHARS + 1)
"""What `resolved` holds for a report `ended` without a `via`, which ends each open failure."""


class ReportedFailure(NamedTuple):
    """A failure that is to be missed: when it was reported, its exit code, and what its sender said."""

    heard: HeardAt
    exit_code: int | None
    detail: str | None = None

    def shift(self, ahead_sec: float) -> "ReportedFailure":
        """Return the same by a listening clock that is ahead by so much."""
        return self._replace(heard=self.heard._replace(at=self.heard.at + ahead_sec))


class OpenFailure(NamedTuple):
    """A failure that somebody else reported of a service that is not a job: an alert, a ping.

    It stays open while the service beats: what comes the same way (`via`) with `ended` ends it, or an `ended`
    that names no way. One that is BESIDE has no way, so a new process of the service ends it, too, and a beat
    of the process `boot` that reported it.
    """

    report: ReportedFailure
    via: str
    boot: str | None = None

    def is_ended_by(self, beat: Beat, *, is_new_process: bool) -> bool:
        """Return True if this sign of life ends the failure."""
        if beat.run == "ended":
            return beat.via in (None, self.via)
        return self.via == BESIDE and (is_new_process or beat.boot == self.boot)

    def shift(self, ahead_sec: float) -> "OpenFailure":
        """Return the same by a listening clock that is ahead by so much."""
        return self._replace(report=self.report.shift(ahead_sec))


class Trouble(NamedTuple):  # changed in half the time of a frozen dataclass
    """What only a service that had trouble has. All others share `NO_TROUBLE`, which takes no memory of them.

    Attributes:
        missed_at: while it is down, when that began, or when it was missed.
        down_since: the same, if that is not its last beat: a run was missing.
        miss_count: how often it was missed.
        failure: the failure that it reported last, if that is to be missed; any sign of life ends it.
        open: the failures that others reported of it, each with another `via`.
        resolved: while it is restored, the ways by which failures were heard to have ended.
        ended_failure: a reported failure that ended before the restore.
        last_unheard: the last beat that only `beat:<svc>` knew.
        channel_refused_at: since when the bus refuses its channel to the healer.
        starting_until: before this, by the listening clock, it is not missed for its silence, since it is
            known to be starting; over with its first beat.
    """

    missed_at: Moment | None = None
    down_since: Moment | None = None
    miss_count: int = 0
    failure: ReportedFailure | None = None
    open: tuple[OpenFailure, ...] = ()
    resolved: tuple[str, ...] = ()
    ended_failure: ReportedFailure | None = None
    last_unheard: HeardAt | None = None
    channel_refused_at: Moment | None = None
    starting_until: float = NOT_STARTING


NO_TROUBLE: Final = Trouble()
