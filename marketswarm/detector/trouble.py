"""What only a service has that was missed, that reported a failure, or whose channel is refused. Pure."""

from typing import Final, NamedTuple

from marketswarm.detector.clock import HeardAt, Moment


class ReportedFailure(NamedTuple):
    """A failure that is to be missed: when it was reported, and its exit code."""

    heard: HeardAt
    exit_code: int | None

    def shift(self, ahead_sec: float) -> "ReportedFailure":
        """Return the same by a listening clock that is ahead by so much."""
        return self._replace(heard=self.heard._replace(at=self.heard.at + ahead_sec))


class Trouble(NamedTuple):  # changed in half the time of a frozen dataclass
    """What only a service that had trouble has. All others share `NO_TROUBLE`, which takes no memory of them.

    Attributes:
        missed_at: while it is down, when that began, or when it was missed.
        down_since: the same, if that is not its last beat: a run was missing.
        miss_count: how often it was missed.
        failure: the failure that it reported last, if that is to be missed.
        ended_failure: a reported failure that ended before the restore.
        last_unheard: the last beat that only `beat:<svc>` knew.
        channel_refused_at: since when the bus refuses its channel to the healer.
    """

    missed_at: Moment | None = None
    down_since: Moment | None = None
    miss_count: int = 0
    failure: ReportedFailure | None = None
    ended_failure: ReportedFailure | None = None
    last_unheard: HeardAt | None = None
    channel_refused_at: Moment | None = None


NO_TROUBLE: Final = Trouble()
