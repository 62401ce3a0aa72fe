"""Watched buses: the services and wheel of each, whether it is lost, and whether any bus is reached.

Pure. A lost bus gives one verdict, not one for each of its services: their clocks stand still meanwhile.
While no bus is reached, the healer's own network may have failed: no bus is declared lost, and when one is
reached again, one verdict says for how long none was. The others then have their whole timeout to follow.
"""

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import InitVar, dataclass, field
from math import inf
from typing import Final, NamedTuple

from marketswarm.detector.clock import OVERDUE_SEC, ListeningClock, ListeningShare, Moment, WindowProof
from marketswarm.detector.service import WatchedService
from marketswarm.detector.states import BUS_TRANSITIONS, Publication, State, Trigger
from marketswarm.detector.verdict import Copies, Subject, Verdict, make_alert
from marketswarm.detector.wheel import TimingWheel
from marketswarm.due_queue import DueQueue
from marketswarm.event import UNWATCHED_REASON, Kind
from marketswarm.truth import HEALER

MAX_PER_EVALUATION: Final = 500
"""Services looked at in one evaluation: a few milliseconds of work, also if all of them are silent."""

OVERLOOKED_SEC: Final = 10.0
"""A service is overlooked if it was to be evaluated this long ago, and nothing that is due is left."""

JOB_WEIGHT: Final = 100
"""A job counts as so many services: its next scheduled time takes up to some tenths of a millisecond."""

NO_TIMEOUT: Final = inf
"""The timeout of a bus whose loss another program publishes."""

SERVER_REASONS: Final = frozenset({"auth", "loading", "readonly", "oom", "misconf", "busy"})
"""Reasons that only a server which was reached can give."""


class BusLoss(NamedTuple):
    """The loss of a bus that is down; a bus in any other state has none.

    Attributes:
        heard_at: when it was heard last, if ever.
        as_deaf: whether it was heard too little, so that one canary does not end that.
    """

    heard_at: Moment | None
    as_deaf: bool = False

    @property
    def heard_wall(self) -> float | None:
        """When it was heard last, in epoch seconds."""
        return None if self.heard_at is None else self.heard_at.wall


@dataclass(slots=True, eq=False)
class WatchedBus:
    """One bus with its services, listening clock and timing wheel. Mutable; only the detector writes to it.

    Args:
        timeout_sec: seconds without a canary after which the bus is declared lost.
        start: when it was first watched.
    """

    name: str
    timeout_sec: float
    start: InitVar[Moment]
    clock: ListeningClock = field(init=False)
    listening_share: ListeningShare = field(init=False)
    state: State = State.UNKNOWN
    loss: BusLoss | None = None
    channels: dict[bytes, WatchedService] = field(default_factory=dict)
    refused_channels: frozenset[bytes] | None = None  # None until the first session
    turn: int = 0  # the clock's turn at which every service's next beat was last asked to be parsed
    turn_of_jobs: int = 0  # the clock's turn at which its jobs were evaluated last
    jobs: DueQueue = field(default_factory=DueQueue)
    wheel: TimingWheel[WatchedService] = field(default_factory=lambda: TimingWheel(WatchedService.wheel_time))
    awaiting_canary: list[WatchedService] = field(default_factory=list)  # due, if a canary proves it
    postponed: deque[WatchedService] = field(default_factory=deque)  # to be evaluated, a few at once
    # to be evaluated before all others, in order
    returned: list[WatchedService] = field(default_factory=list)
    _job_services: dict[str, WatchedService] = field(default_factory=dict)
    _waiting_evaluated_at: float = -inf  # what the clock had proven when they were last returned

    def __post_init__(self, start: Moment) -> None:
        self.clock = ListeningClock(start)
        self.listening_share = ListeningShare(self.clock, start)

    # -- the roster

    def add_service(self, service: WatchedService) -> None:
        """Listen for a service on its channel."""
        self.channels[service.channel] = service
        if service.job is not None:
            self._job_services[service.svc] = service

    def remove_service(self, service: WatchedService) -> None:
        """Listen no longer for a service; its channel may be that of another one already."""
        if self.channels.get(service.channel) is service:
            del self.channels[service.channel]
        if service.job is not None:
            del self._job_services[service.svc]
            self.jobs.put(service.svc, inf)

    # -- what is due

    def schedule(self, service: WatchedService) -> None:
        """Put a service on the wheel, unless it is there already; a job, again if it is due earlier.

        The entry of another service is never too late: a beat only moves the due time to a later one, and
        a time to save a silence that follows an unheard part of a timeout is no earlier than the due time
        before it. A job is due earlier after a gap, and when a run has started or ended.
        """
        if service.job is not None:
            self.jobs.put_earlier(service.svc, service.wheel_time())
        elif not service.is_on_wheel:
            service.is_on_wheel = True
            self.wheel.add(service)

    def next_due(self) -> float:
        """Return the earliest time at which `pop_due` may find a service; infinity if there is none.

        Those that are returned by the next call whatever the time is, `postponed`, do not count.
        """
        return min(self.wheel.next_due(), self.jobs.next_at())

    def find_evaluated_until(self, now: float) -> float:
        """Return the reading of the clock up to which all that was due was returned by `pop_due`.

        That is -infinity while some of that is left. `now` is in monotonic seconds.
        """
        running = self.clock.read_for_looks(now)
        has_left = self.postponed or self.has_waiting or self.next_due() <= running
        return -inf if has_left or not self.clock.is_listening else running

    def find_disagreement(
        self, service: WatchedService, evaluated_until: float, *, is_job: bool, is_awaited: bool
    ) -> Copies | None:
        """Return the first copies of the state of a service that do not agree; None if all do.

        Were a service silent of which the wheel knows nothing, it would never be missed.

        Args:
            evaluated_until: what `find_evaluated_until` returns.
            is_job: whether it is among the jobs.
            is_awaited: whether something waits until its channel can be heard.
        """
        if (service.state is State.DOWN) is (service.outage is None):
            return Copies.OUTAGE
        if service.channel not in self.channels:
            return Copies.CHANNEL
        if (service.job is not None) is not is_job:
            return Copies.JOBS
        if service.channel_refused_at is not None and not is_awaited:
            return Copies.REFUSAL
        is_overlooked = service.next_evaluation() < evaluated_until - OVERLOOKED_SEC
        return Copies.WHEEL if is_overlooked else None

    @property
    def has_waiting(self) -> bool:
        """Whether services are to be evaluated once a canary has come."""
        return bool(self.awaiting_canary or self.returned)

    def pop_due(self, running: float) -> list[WatchedService]:
        """Remove and return the services that are due at `running`, 500 at most; a job counts as 100.

        Services that wait for a canary are included only if one came since the last call, and every job if a
        gap began or ended since then, because it may be due earlier. If more are due, some are `postponed`,
        or `next_due` is not later than `running`.
        """
        if self.clock.is_listening and self.turn_of_jobs != self.clock.turns:
            self.turn_of_jobs = self.clock.turns
            self.postponed += self._job_services.values()
        if self._waiting_evaluated_at != self.clock.proven:
            # they were looked at before those that are still postponed, so they are due earlier
            self.postponed.extendleft(reversed(self.awaiting_canary))
            self.awaiting_canary = []
            self._waiting_evaluated_at = self.clock.proven
        self.postponed.extendleft(reversed(self.returned))
        self.returned = []
        found: list[WatchedService] = []
        budget = MAX_PER_EVALUATION
        while self.postponed and budget > 0:
            found.append(self.postponed.popleft())
            budget -= 1 if found[-1].job is None else JOB_WEIGHT
        jobs = [self._job_services[svc] for svc in self.jobs.take(running, budget // JOB_WEIGHT)]
        on_wheel = self.wheel.pop_due(running, budget - JOB_WEIGHT * len(jobs))
        for service in on_wheel:
            service.is_on_wheel = False
        return [*found, *on_wheel, *jobs]

    def retry(self, service: WatchedService) -> None:
        """Return a service from the next `pop_due`, before all that fell due later.

        Its `beat:<svc>` could not be read, or it reported a failure.
        """
        self.returned.append(service)

    # -- lost and found

    @property
    def is_poorly_heard(self) -> bool:
        """Whether the bus was heard for too little of the recent time, even if it is heard now."""
        share = self.listening_share
        return self.is_lost_as_deaf or share.poor_count > 0 or share.is_late

    @property
    def is_lost_as_deaf(self) -> bool:
        """Whether it is lost, and one canary does not end that."""
        return self.loss is not None and self.loss.as_deaf

    def evaluate(self, now: Moment, *, may_blame: bool) -> Verdict | None:
        """Return the verdict that the bus is lost, or that a bus lost as deaf is found; otherwise None.

        A bus is lost if it was not heard for its timeout, or for too much of the time. The former counts only
        with `may_blame`, which says that the bus is away and not this process.
        """
        window = self.listening_share.close_window(self.timeout_sec, now)
        if self.loss is not None:
            return self._declare_found(now) if self.loss.as_deaf and window is WindowProof.GOOD else None
        if self.listening_share.is_deaf:
            since = self.listening_share.poor_since
            return self._declare_lost("deaf", now.mono - since.mono, since, now)
        silent_sec = self.clock.silent_sec(now.mono)
        if self.clock.is_listening or not may_blame or silent_sec < self.timeout_sec:
            return None
        return self._declare_lost(self.clock.reason, silent_sec, self.clock.proof, now)

    def note_heard(self, now: Moment) -> Verdict | None:
        """Note that a canary was heard; return the verdict that the bus is found, if it was lost."""
        if self.state is State.UP or self.is_lost_as_deaf:
            return None
        return self._declare_found(now)

    def restore_lost(self, since: float | None, now: Moment, *, as_deaf: bool) -> Verdict | None:
        """Apply a published loss; `since` is when the bus was last heard, in epoch seconds, or None.

        Return the verdict that the bus is found, if it is heard already and not `as_deaf`; otherwise None.
        """
        was_heard, known = self.state is State.UP, self.loss and self.loss.heard_at
        self.state = State.DOWN
        self.loss = BusLoss(known if since is None else now.at_wall(since), as_deaf)
        return self.note_heard(now) if was_heard else None

    def drop(self, now: Moment) -> Verdict | None:
        """Return the verdict that closes the loss of a bus that leaves the truth; None if it is not lost."""
        return None if self.loss is None else make_dropped_bus_verdict(self.name, self.loss.heard_wall, now)

    def adopt_found(self) -> None:
        """Apply that no loss is published; if the bus is not heard, its loss is declared again."""
        if self.loss is not None:
            self.state, self.loss = State.UP, None

    def _declare_lost(self, reason: str, late_sec: float, since: Moment, now: Moment) -> Verdict | None:
        """Move to `down` and return the verdict that the bus is lost.

        `since` is when it was last heard, `late_sec` the seconds since then.
        """
        self.loss = loss = BusLoss(since if self.state is State.UP else None, reason == "deaf")
        return self._apply_transition(
            Trigger.DUE,
            now,
            reason=reason,
            late_sec=late_sec,
            timeout_sec=self.timeout_sec,
            since=loss.heard_wall,
        )

    def _declare_found(self, now: Moment) -> Verdict | None:
        """Move to `up` and return the verdict that the bus is found; None for the first time it is heard."""
        loss, self.loss = self.loss, None
        self.listening_share.restart(now)
        if loss is None or (lost_at := loss.heard_at) is None:
            return self._apply_transition(Trigger.BEAT, now)
        return self._apply_transition(Trigger.BEAT, now, down_sec=now.mono - lost_at.mono, since=lost_at.wall)

    def _apply_transition(self, trigger: Trigger, now: Moment, **found: float | str | None) -> Verdict | None:
        """Apply a transition.

        Return its verdict with the fields in `found`, or None if it is not published.
        """
        self.state, publication = BUS_TRANSITIONS[self.state, trigger]
        if publication is Publication.NONE:
            return None
        return Verdict(self.name, self.state, publication, now.wall, subject=Subject.BUS, **found)  # type: ignore[arg-type]  # the callers above name the fields


def make_dropped_bus_verdict(name: str, since: float | None, now: Moment) -> Verdict:
    """Return the verdict that closes the loss of a bus that the truth no longer names.

    `since` is when the bus was last heard, in epoch seconds; None if it never was. There is no `down_sec`:
    whether the bus is back is not known.
    """
    return make_alert(name, State.UP, Subject.BUS, now.wall, reason=UNWATCHED_REASON, since=since)


class UnsavedSilences:
    """Changes of the saved silences of a detector's services, until `take`."""

    def __init__(self) -> None:
        self.unsaved: dict[str, WatchedService | None] = {}
        """The service whose silence is to be saved, or None if it is to be deleted."""
        self._has_ended = False  # a saved silence ended since `take_ended`

    def save(self, service: WatchedService) -> None:
        self.unsaved[service.svc] = service

    def delete(self, *services: str) -> None:
        for svc in services:
            self.unsaved[svc] = None

    def end(self, svc: str) -> None:
        """Delete a saved silence that a beat has just ended."""
        self.delete(svc)
        self._has_ended = True

    def take(self) -> dict[str, WatchedService | None]:
        """Return the changes, and count them as saved."""
        unsaved, self.unsaved = self.unsaved, {}
        return unsaved

    def give_back(self, unsaved: Mapping[str, WatchedService | None]) -> None:
        """Take back changes that could not be saved; newer changes of the same services are kept."""
        self.unsaved = {**unsaved, **self.unsaved}

    def take_ended(self) -> bool:
        """Return True if a saved silence ended since the last call, so that it is to be deleted soon."""
        has_ended, self._has_ended = self._has_ended, False
        return has_ended


class Reach:
    """Whether this process reaches any bus.

    A bus that refuses for a reason of its own (`oom`, `auth`) is reached, and so is a bus that accepts
    canaries and delivers none.
    """

    def __init__(self) -> None:
        self._last: Moment | None = None  # when a bus was reached last, if ever
        self._stalled_sec = 0.0  # for how long since then this process did not run
        self._is_reached = False
        self._back_at = -inf  # when a bus was reached again after none had been, in monotonic seconds

    def evaluate(self, buses: Collection[WatchedBus], now: Moment) -> Verdict | None:
        """Check whether a bus is reached; after none was, for too long, return the verdict on that gap.

        Too long means the shortest timeout of the buses.
        """
        found = [at for bus in buses if (at := _find_reached_at(bus.clock, now)) is not None]
        was_reached, self._is_reached = self._is_reached, bool(found)
        if not found:
            return None
        last, self._last = self._last, max(found, key=lambda at: at.mono)
        stalled_sec, self._stalled_sec = self._stalled_sec, 0.0
        if was_reached:
            return None
        if last is None:
            self._back_at = now.mono
            return None
        if now.mono - last.mono - stalled_sec < min(bus.timeout_sec for bus in buses):
            return None
        self._back_at = now.mono
        for bus in buses:
            bus.listening_share.restart(now)
        gap_sec, event_id = now.mono - last.mono, f"{Kind.REACH_GAP}.{HEALER}.{round(1000 * last.wall)}"
        about = {"since": last.wall, "gap_sec": gap_sec, "event_id": event_id}
        return make_alert(HEALER, State.UP, Subject.REACH, now.wall, **about)

    def note_stall(self, stalled_sec: float) -> None:
        """Note that this process itself did not run for so many seconds."""
        self._stalled_sec += stalled_sec

    def may_blame(self, bus: WatchedBus, now: Moment) -> bool:
        """Return True if a bus that is not heard is away, rather than this process cut off from it.

        That holds if some bus is reached, and has been for the bus's whole timeout since a gap without any.
        """
        return self._is_reached and now.mono - self._back_at >= bus.timeout_sec


def _find_reached_at(clock: ListeningClock, now: Moment) -> Moment | None:
    """Return the latest time at which a bus that is reached now was reached; None if it is not reached.

    For a `deaf` bus, the last accepted canary counts for one second.
    """
    if clock.is_listening:
        return clock.proof
    if clock.reason in SERVER_REASONS:
        return now
    accepted_at = clock.accepted_at if clock.reason == "deaf" else None
    return accepted_at if accepted_at is not None and now.mono - accepted_at.mono <= OVERDUE_SEC else None
