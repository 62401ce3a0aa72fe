"""What is known of a service that is silent, is down, reported a failure, or can't be heard.

Pure: frozen values, each with the functions that give the next one. Almost all services share the empty ones,
which take no memory of them.
"""

from math import inf
from typing import Final, NamedTuple

from marketswarm.beat import MAX_VIA_CHARS, Beat
from marketswarm.detector.clock import HeardAt, Moment
from marketswarm.detector.states import Reason

NOT_STARTING: Final = -inf
MAX_OPEN_FAILURES: Final = 8
"""The open failures of one service that are followed at the same time."""
BESIDE: Final = "beside"
"""The `via` of an open failure whose report named none: another process than the one that beats sent it."""
ANY_WAY: Final = "*" * (MAX_VIA_CHARS + 1)
"""What `resolved` holds for a report `ended` without a `via`, which ends each open failure."""


class PresentSilence(NamedTuple):
    """What is known of the present silence besides when it began; the next beat that is parsed ends it all.

    Attributes:
        is_saved: whether it is saved on the bus, or about to be.
        stopped: whether the service said goodbye.
        starting_until: before this, by the listening clock, it is not missed for its silence, since it is
            known to be starting.
        unheard: the last beat, if only `beat:<svc>` knew it.
    """

    is_saved: bool = False
    stopped: bool = False
    starting_until: float = NOT_STARTING
    unheard: HeardAt | None = None

    def save(self) -> "PresentSilence":
        """Return the same, saved."""
        return SAVED if self is PLAIN else self._replace(is_saved=True)

    def drop(self) -> "PresentSilence":
        """Return the same, not saved any more."""
        if not self.is_saved:
            return self
        return PLAIN if self is SAVED else self._replace(is_saved=False)

    def stop(self, stopped: bool) -> "PresentSilence":
        """Return the same after a goodbye; without one if a sign of life followed it."""
        return self if stopped is self.stopped else self._replace(stopped=stopped)

    def shift(self, ahead_sec: float) -> "PresentSilence":
        """Return the same by a listening clock that is ahead by so much, for another line of the truth."""
        if self is PLAIN or self is SAVED:
            return self
        return self._replace(starting_until=self.starting_until + ahead_sec, unheard=None)


PLAIN: Final = PresentSilence()
SAVED: Final = PresentSilence(is_saved=True)


class ServiceOutage(NamedTuple):
    """The outage of a service that is down; a service in any other state has none.

    Attributes:
        missed_at: when its failure was reported, or when it was missed; None if no healer has saved that.
        down_since: when it began, if that is not the last beat: a run was missing, a failure was reported.
        reason: why it was missed, if this run of the healer did.
    """

    missed_at: Moment | None
    down_since: Moment | None = None
    reason: Reason | None = None


class ReportedFailure(NamedTuple):
    """A failure that is to be missed: when it was reported, its exit code, and what its sender said."""

    heard: HeardAt
    exit_code: int | None
    detail: str | None = None

    def shift(self, ahead_sec: float) -> "ReportedFailure":
        """Return the same by a listening clock that is ahead by so much."""
        return self._replace(heard=self.heard.shift(ahead_sec))


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


class Trouble(NamedTuple):
    """The failures of one service, and what else only a service that had trouble has.

    Attributes:
        failure: the failure that it reported last, if that is to be missed; any sign of life ends it.
        open: the failures that others reported of it, each with another `via`.
        ended_failure: while it is restored, a reported failure that ended since.
        resolved: while it is restored, the ways by which failures were heard to have ended.
        channel_refused_at: since when the bus refuses its channel to the healer.
        miss_count: how often it was missed.
    """

    failure: ReportedFailure | None = None
    open: tuple[OpenFailure, ...] = ()
    ended_failure: ReportedFailure | None = None
    resolved: tuple[str, ...] = ()
    channel_refused_at: Moment | None = None
    miss_count: int = 0

    @property
    def due_failure(self) -> ReportedFailure | None:
        """The failure that is to be missed: the one that it reported last, or else the first open one."""
        return self.open[0].report if self.failure is None and self.open else self.failure

    @property
    def via(self) -> str | None:
        """The way by which the failure came that is to be missed; None for one of the service itself."""
        return self.open[0].via if self.failure is None and self.open else None

    def add_failure(self, report: ReportedFailure, via: str | None, boot: str | None) -> "Trouble":
        """Return this with another failure, which is its own without a `via`.

        Return it unchanged if there is one of the same kind already, or there are too many.
        """
        if via is None:
            return self if self.failure is not None else self._replace(failure=report)
        if len(self.open) >= MAX_OPEN_FAILURES or any(each.via == via for each in self.open):
            return self
        return self._replace(open=(*self.open, OpenFailure(report, via, boot)))

    def end_failures(self, beat: Beat | None = None, *, is_new_process: bool = False) -> "Trouble":
        """Return this without the failures that a sign of life ends: its own, and the open ones of `beat`.

        Without a beat, none is left.
        """
        if self.failure is None and not self.open:
            return self
        if beat is None:
            return self._replace(failure=None, open=())
        left = (each for each in self.open if not each.is_ended_by(beat, is_new_process=is_new_process))
        return self._replace(failure=None, open=tuple(left))

    def note_ended(self, before: "Trouble", beat: Beat) -> "Trouble":
        """Return this with what this sign of life has ended of `before`, for a service that is restored."""
        found = self
        if before.due_failure is not None and self.due_failure is not before.due_failure:
            found = found._replace(ended_failure=before.due_failure)
        if beat.run == "ended":
            ways = dict.fromkeys((*found.resolved, beat.via or ANY_WAY))
            found = found._replace(resolved=tuple(ways)[-MAX_OPEN_FAILURES:])
        return found

    def begin_ended(self) -> "Trouble":
        """Return this with the failure that ended as the present one, unless a later one has not ended."""
        if self.ended_failure is None:
            return self
        present = self.failure if self.due_failure else self.ended_failure
        return self._replace(failure=present, ended_failure=None)

    def shift(self, ahead_sec: float) -> "Trouble":
        """Return the same by a listening clock that is ahead by so much."""
        own, ended = self.failure, self.ended_failure
        if own is None and ended is None and not self.open:
            return self
        return self._replace(
            failure=own and own.shift(ahead_sec),
            open=tuple(each._replace(report=each.report.shift(ahead_sec)) for each in self.open),
            ended_failure=ended and ended.shift(ahead_sec),
        )


NO_TROUBLE: Final = Trouble()
