"""Jobs: when a run was to be reported, and which runs are under way.

Pure. A job has no pulse: it reports a run when that ends, perhaps its start, too. So its deadline follows
from the wall clock, by which schedules go. Three things keep that from a false miss:

- The wait for the next report is counted from the last one, in elapsed time. If the wall clock was set
  since then, the wait is computed again as if the new clock had been right all the time, and the longer wait
  counts. A clock that jumps back and forth can delay a miss by the schedule's longest pause, and no more.
- A run can be reported while no healer listens. So if no healer listened for a part of the time from a
  scheduled time to its deadline, `beat:<svc>` must show an older report; where it shows none, the next
  scheduled time counts. All such delays together are the longest pause and the longest time of a run at most,
  in time in which the bus was heard.
- After a gap, reports that could not be sent get a minute to be sent again.

By the healer's clock, a run can be reported a little before its time, because one of two clocks is wrong by
that. Such a report completes the run that is to come, and not the one before once more (`_find_completed`).

A run whose start was followed by a gap may have ended in it. So before its deadline, or that of the schedule,
counts, `beat:<svc>` is read. If it shows a report from before the start, the run continues, and has its
longest time to end. If it shows nothing, or the end of another run that may have replaced that of this one,
the run is not waited for; the deadline of the schedule, or of the silence, holds. If the start itself may
have been in a gap, an overdue run gets the longest time of a run from the end of that gap.
"""

from collections.abc import Iterable
from dataclasses import InitVar, dataclass, field
from enum import Enum
from itertools import islice
from math import floor, inf
from typing import Final, NamedTuple

from marketswarm.beat import Beat
from marketswarm.detector.clock import HeardAt, ListeningClock, Moment
from marketswarm.detector.saved import SavedJob
from marketswarm.truth import JobRule, Schedule

MAX_RUNS: Final = 32
"""The runs of one job that are followed at the same time."""
REPEAT_SEC: Final = 60.0
"""Within this time after a gap, a report that could not be sent may arrive."""
OTHER_RUN_SEC: Final = 2.0
"""Two healers hear the same run up to this long apart, by their clocks."""
ROUNDING_SEC: Final = 0.001
"""Times are saved to the millisecond."""
CLOCK_STEP_SEC: Final = 1.0
"""The wall clock was set if it moved by more than this against the monotonic clock."""
EARLY_IN_A_ROW: Final = 3
HOUR_SEC: Final = 3600.0
START_TOLERANCE_SEC: Final = 60.0
"""A run may start this much before its time, by the clock of its own machine."""
EARLY_SEC: Final = 5.0
"""A run may be reported this much before its time, by the healer's clock."""
_EARLY_SHARE: Final = 0.1  # of the pauses before and after it, at most
_LEAST_PAUSE_SEC: Final = 4 * HOUR_SEC  # of a schedule whose early runs can be told from late ones
_HOUR_TOLERANCE_SEC: Final = 300.0  # of a start, from the whole hour that looks like a wrong time zone
_LONGEST_RUN_SEC: Final = 900.0  # by which the end alone may miss a whole hour


class KeptDeadlines(NamedTuple):
    """What an earlier line of the truth still grants to the run that is expected, and to those under way.

    `grace_sec` is the grace of the schedule until `until`, in monotonic seconds: a schedule does not wait
    while the bus is not heard. `run` is when the first run was to have ended, by the listening clock;
    -infinity without one. A run that completes after `since`, in monotonic seconds, ends all of that.
    """

    grace_sec: float = 0.0
    until: float = -inf
    run: float = -inf
    since: float = -inf


NOTHING_KEPT: Final = KeptDeadlines()


class Basis(Enum):
    """What happened at the time after which the next run is expected."""

    WATCHED = "watched"  # no run: the job, or its present schedule, is watched since then
    KNOWN = "known"  # a run was complete, which an earlier run of the healer, or another healer, heard
    HEARD = "heard"  # a run was complete, and this run of the healer heard it


class Expected(NamedTuple):
    """The run that is expected next: the first scheduled one after `since`.

    `is_witnessed` is False once `beat:<svc>` was asked what was reported in a gap, and showed nothing.
    """

    since: HeardAt
    basis: Basis
    is_witnessed: bool = True

    @property
    def has_run(self) -> bool:
        """Whether a run is known."""
        return self.basis is not Basis.WATCHED


class Evaluation(NamedTuple):
    """The result of one evaluation of a job, all of it as of one moment.

    Attributes:
        expected: what it is about; it is to be made again once something else is expected.
        mono: when it was made, in monotonic seconds.
        heard_since: since when the job was heard without a gap, in monotonic seconds.
        after_gap: by the listening clock, when reports of the last gap were sent again.
        is_end_unheard: whether one of the runs under way may have ended in a gap.
        due_at: by the listening clock, by when the expected run is to be reported; infinity without a
            schedule.
    """

    expected: Expected | None = None
    mono: float = -inf
    heard_since: float = -inf
    after_gap: float = -inf
    is_end_unheard: bool = False
    due_at: float = inf


NOT_EVALUATED: Final = Evaluation()


@dataclass(slots=True, eq=False)
class Job:
    """The runs of one service.

    Args:
        rule: when its runs are to be reported.
        watched_since: when it was first watched.
    """

    rule: JobRule
    watched_since: InitVar[HeardAt]
    expected: Expected = field(init=False)
    evaluation: Evaluation = NOT_EVALUATED
    kept: KeptDeadlines = NOTHING_KEPT
    runs: dict[str, HeardAt] = field(default_factory=dict)  # by id, the starts of those that have not ended
    last_end: tuple[str, float] | None = None  # the last run that ended: its id, monotonic seconds
    last_failure_ts: float = -inf  # the `ts` of the last report that a run failed, by its sender's clock
    leads_sec: tuple[float, ...] = ()  # how early the last runs were; empty after one in time
    unheard_until: float = field(init=False)  # its channel could not be heard before this (monotonic)
    moved_at: Moment | None = None  # what its bus stores of before says nothing about its last bus
    # when `beat:<svc>` was asked for last, and as of when it showed that `runs` continue (monotonic)
    asked_at: float = field(init=False)
    continued_at: float = -inf
    is_unsaved: bool = True  # the bus does not hold this state yet
    _waits: dict[int, float] = field(default_factory=dict)  # by the time from which it is counted
    _longest_pause_sec: float = field(init=False)  # of its schedule: to look it up takes as long as all else

    def __post_init__(self, watched_since: HeardAt) -> None:
        schedule = self.rule.schedule
        self._longest_pause_sec = 0.0 if schedule is None else schedule.longest_pause_sec()
        self.expected = Expected(watched_since, Basis.WATCHED)
        self.unheard_until = self.asked_at = watched_since.mono

    @property
    def early_sec(self) -> float | None:
        """How early the last run was, in seconds, if that is a habit, otherwise None."""
        return self.leads_sec[-1] if len(self.leads_sec) >= EARLY_IN_A_ROW else None

    # -- reports

    def take_start(self, beat: Beat, heard: HeardAt, clock: ListeningClock) -> None:
        """Record that a run started. With a longest run, the first start of an id since the last gap counts.

        Ignore a start that was sent again, and comes within a minute after the end of its run.
        """
        ended, ended_at = self.last_end or ("", -inf)
        if beat.rid and beat.rid == ended and heard.mono - ended_at < REPEAT_SEC:
            return
        self.is_unsaved = True
        if self.rule.max_run_sec is None:
            self.runs = {}
        rid = beat.rid or ""
        known = self.runs.get(rid)
        # after a gap, the start may be that of another run under the same id, or without one
        if (known is None and len(self.runs) < MAX_RUNS) or (
            known is not None and known.mono < self.find_heard_since(clock, heard.mono)
        ):
            self.runs[rid] = heard

    def take_failure(self, beat: Beat, heard: HeardAt) -> None:
        self.last_failure_ts = max(self.last_failure_ts, min(beat.ts, heard.wall + REPEAT_SEC))
        self._end_run(beat.rid, heard.mono)

    def take_unheard_failure(self, ts: float, last_heard: float, now: Moment) -> bool:
        """Record a failure at `ts` that `run:<svc>` shows; return False if it is not news.

        It is news if it is later than the last sign of life that was heard, at `last_heard`, than the last
        failure, and than the time from which the job is watched, but not in the future. All are epoch
        seconds. The runs that began before it have ended, since nothing shows which one failed.
        """
        if not max(last_heard, self.expected.since.wall, self.last_failure_ts) < ts <= now.wall + REPEAT_SEC:
            return False
        self.last_failure_ts = ts
        self._end_run(None, now.mono - now.since(ts))
        return True

    def take_completion(self, beat: Beat, heard: HeardAt) -> None:
        """Record a complete run that was reported at `heard`; ignore one that is older than the last."""
        started = self._end_run(beat.rid, heard.mono)
        expected = self.expected
        if self.rule.schedule is None or (expected.has_run and heard.mono <= expected.since.mono):
            return
        if heard.mono < expected.since.mono:  # under another schedule
            self.expected = expected._replace(basis=Basis.KNOWN)
            return
        lead_sec = measure_lead(self.rule, heard.wall, started and started.wall)
        self.leads_sec = (*self.leads_sec, lead_sec)[-EARLY_IN_A_ROW:] if lead_sec is not None else ()
        wall = self._find_completed(self.rule.schedule, heard.wall, started and started.wall)
        self._expect_after(heard.earlier(heard.wall - wall)._replace(wall=wall), Basis.HEARD)

    def drop_long_runs(self, running: float) -> None:
        """Drop the runs that have taken too long, because they were missed."""
        if self.rule.max_run_sec is not None:
            limit = running - self.rule.max_run_sec
            self.runs = {rid: started for rid, started in self.runs.items() if started.at > limit}

    def _end_run(self, rid: str | None, mono: float) -> HeardAt | None:
        """Remove a run that ended at `mono`, or all that began before that, if the report has no id.

        Return its start, if that was heard.
        """
        self.is_unsaved = True
        self.last_end = rid or "", mono
        if rid is not None:
            return self.runs.pop(rid, None)
        started = self.runs.get("")
        self.runs = {each: start for each, start in self.runs.items() if start.mono > mono}
        return started

    def _find_completed(self, schedule: Schedule, ended: float, started: float | None) -> float:
        """Return the time until which a run that ended at `ended` completes all scheduled ones.

        That is `ended`, or the next scheduled time if the run is that one, a little early. It is if nothing
        shows another run: its start, if that was heard, was as little early, and no run before it can still
        be reported in time. All times are epoch seconds.
        """
        since = floor(self.expected.since.wall)
        due = since + self._wait_from(since)
        if due - self.rule.grace_sec <= ended <= due:
            return ended
        following = list(islice(schedule.runs_after(ended), 2))
        if len(following) < 2 or following[0] - ended > EARLY_SEC:
            return ended
        at = following[0]
        early_sec = at - (ended if started is None else started)
        least_sec = early_sec / _EARLY_SHARE
        is_it = early_sec <= EARLY_SEC and following[1] - at >= least_sec
        return at if is_it and schedule.next_run(at - least_sec) == at else ended

    def _expect_after(self, since: HeardAt, basis: Basis) -> None:
        self.expected, self.is_unsaved = Expected(since, basis), True
        if since.mono >= self.kept.since:
            self.kept = NOTHING_KEPT

    # -- the rule

    def find_due(self, silence_due: float) -> float:
        """Return when a run is overdue or has taken too long, by the listening clock.

        Without a schedule, `silence_due` counts in place of that. While a run is under way that has a longest
        time, the schedule waits for its end. If that may have been in a gap, whichever comes first is when
        `beat:<svc>` is to be read.
        """
        run_due = self.run_due_at() if self.runs else inf
        if self.rule.schedule is None:
            return min(silence_due, run_due)
        if run_due < inf and not self.evaluation.is_end_unheard:
            return run_due
        return min(self.evaluation.due_at, run_due)

    def run_due_at(self) -> float:
        """Return when, by the listening clock, the first run is to have ended; infinity without one."""
        if self.rule.max_run_sec is None or not self.runs:
            return inf
        due = min(started.at for started in self.runs.values()) + self.rule.max_run_sec
        return max(due, self.kept.run, self.evaluation.after_gap if self.evaluation.is_end_unheard else -inf)

    @property
    def look_at(self) -> float:
        """When it is to be evaluated, by the listening clock: at once, if another run is expected since."""
        return inf if self.evaluation.expected is self.expected else self.expected.since.at

    def evaluate(self, clock: ListeningClock, now: Moment) -> None:
        """Compute by when, by the listening clock, a run was to be reported."""
        heard_since, due_at = max(clock.listening_since, self.unheard_until), inf
        repeat_sec = min(REPEAT_SEC, self.rule.grace_sec)
        after_gap = (clock.gap_end if clock.is_listening else clock.proven) + repeat_sec
        is_end_unheard = self.continued_at < heard_since and any(
            started.mono < heard_since for started in self.runs.values()
        )
        if self.rule.schedule is not None:
            running = clock.read(now.mono)
            due_at = self._compute_due(running, now, heard_since, after_gap)
            more_sec = self.kept.grace_sec - self.rule.grace_sec
            if more_sec > 0 and now.mono < self.kept.until:
                granted = self._compute_due(running, now, heard_since, after_gap, more_sec)
                due_at = max(due_at, min(granted, running + self.kept.until - now.mono))
        self.evaluation = Evaluation(self.expected, now.mono, heard_since, after_gap, is_end_unheard, due_at)

    def find_heard_since(self, clock: ListeningClock, now: float) -> float:
        """Return since when the job was heard without a gap, in monotonic seconds; `now` in a gap."""
        return max(clock.listening_since, self.unheard_until) if clock.is_listening else now

    def _compute_due(
        self, running: float, now: Moment, heard_since: float, after_gap: float, more_sec: float = 0.0
    ) -> float:
        """Return by when, by the listening clock, the next run of the schedule is to be reported.

        `heard_since` and `after_gap` are those of the evaluation; `more_sec` is added to its grace.
        """
        since = self.expected.since
        longest_run_sec = self.rule.max_run_sec or 0.0
        wait_sec = self._wait_from(since.wall) + more_sec
        set_by_sec = (now.wall - since.wall) - (now.mono - since.mono)
        if abs(set_by_sec) > CLOCK_STEP_SEC:
            wait_sec = max(wait_sec, self._wait_from(since.wall + set_by_sec) + more_sec)
        due_mono = since.mono + wait_sec
        if heard_since > since.mono:
            starts_at = due_mono - self.rule.grace_sec - more_sec - START_TOLERANCE_SEC
            if not self.expected.is_witnessed:
                wait_sec_since = self._wait_from(now.wall - (now.mono - heard_since)) + more_sec
                due_mono = max(due_mono, heard_since + wait_sec_since)
            elif heard_since > starts_at:
                due_mono = max(due_mono, heard_since + longest_run_sec)
        # the run after the one that a gap may have hidden can itself begin unheard, and end this late
        latest = since.at + wait_sec + self._longest_pause_sec + longest_run_sec
        return min(max(running + due_mono - now.mono, after_gap), latest)

    def _wait_from(self, wall: float) -> float:
        """Return the seconds from a time to the deadline of the first run after it; infinity for none."""
        wall = floor(wall)  # a second more does no harm, and a tenth less would
        if wall not in self._waits:
            if len(self._waits) >= 4:
                self._waits = {}
            schedule = self.rule.schedule
            following = None if schedule is None else schedule.next_run(wall)
            self._waits[wall] = inf if following is None else following + self.rule.grace_sec - wall
        return self._waits[wall]

    def find_missed_run(self, now: Moment) -> Moment:
        """Return when the run that is overdue was scheduled, by the clock in force; `now` at the latest.

        If a run may have been reported in a gap, that is the first one after the gap.
        """
        since, heard_since = self.expected.since, self.evaluation.heard_since
        set_by_sec = (now.wall - since.wall) - (now.mono - since.mono)
        after = [since.wall + (set_by_sec if abs(set_by_sec) > CLOCK_STEP_SEC else 0.0)]
        if not self.expected.is_witnessed and heard_since > since.mono:
            after.append(now.wall - (now.mono - heard_since))
        schedule = self.rule.schedule
        runs = [] if schedule is None else [schedule.next_run(wall) for wall in after]
        passed = (run for run in runs if run is not None and run <= now.wall)
        return now.at_wall(max(passed, default=now.wall))

    def find_long_run_end(self, now: Moment) -> Moment:
        """Return when the first of the runs was to have ended at the latest; `now` without one."""
        ends = [started.mono + (self.rule.max_run_sec or 0.0) for started in self.runs.values()]
        mono = min([now.mono, *ends])
        return Moment(mono, now.wall - (now.mono - mono))

    def note_asked(self) -> None:
        self.asked_at = self.evaluation.mono

    def note_no_witness(self) -> None:
        """Note that `beat:<svc>` shows nothing, so that what was reported in a gap is unknown."""
        self.expected = self.expected._replace(is_witnessed=False)
        self._keep_runs_after(inf)

    def note_witness(self, last_mono: float) -> None:
        """Note that `beat:<svc>` shows no later report than one at `last_mono`, in monotonic seconds.

        So the runs that began after that continue. The end of any other one may have been replaced there.
        """
        self._keep_runs_after(last_mono)
        self.continued_at = self.asked_at

    def _keep_runs_after(self, mono: float) -> None:
        """Drop the runs whose end is unknown, because a gap followed their start, which was before `mono`."""
        if self.evaluation.is_end_unheard and self.rule.max_run_sec is not None:
            oldest = min(self.evaluation.heard_since, mono)
            self.runs = {rid: each for rid, each in self.runs.items() if each.mono >= oldest}
            self.is_unsaved = True

    # -- other states

    def inherit(self, old: "Job", ahead_sec: float, *, is_same_bus: bool, had_gap: bool) -> None:
        """Take over the state of the same job under another line of the truth.

        The listening clock of its present bus is `ahead_sec` ahead of that of the old one. Another bus was
        not heard for it before; what it stores of before does not show what was reported in a gap of the old
        one, if that `had_gap` since the last run. Under another schedule, the next run is the first one from
        now on.
        """
        if is_same_bus:
            self.unheard_until, self.moved_at = old.unheard_until, old.moved_at
        elif had_gap:
            self.moved_at = self.expected.since.moment
        self.last_end, self.last_failure_ts = old.last_end, old.last_failure_ts
        if self.rule.max_run_sec is not None or not old.rule.max_run_sec:
            self.runs = {rid: run.shift(ahead_sec) for rid, run in old.runs.items()}
        if old.rule.schedule == self.rule.schedule:
            self._expect_after(old.expected.since.shift(ahead_sec), old.expected.basis)
            self.leads_sec = old.leads_sec

    def keep_deadlines(self, old: "Job", now: HeardAt, ahead_sec: float, longest_sec: float) -> None:
        """Let nothing be due before it was under the old line of the truth, for `longest_sec` at most.

        The listening clock of the present bus, which `now` has, is `ahead_sec` ahead of that of the old one.
        Another schedule begins now, so the grace of the old one does not count.
        """
        run_due, grace_sec = old.run_due_at(), 0.0
        if old.rule.schedule == self.rule.schedule:
            kept_sec = old.kept.grace_sec if now.mono < old.kept.until else 0.0
            grace_sec = max(old.rule.grace_sec, kept_sec)
        run = min(run_due + ahead_sec, now.at + longest_sec) if run_due < inf else -inf
        self.kept = KeptDeadlines(grace_sec, now.mono + longest_sec, run, now.mono)

    def restore(self, saved: SavedJob | None, fallback: HeardAt, now: HeardAt) -> None:
        """Apply the saved state of an earlier run of the healer, unless this run has heard a run meanwhile.

        Without a saved state, the next run is expected after `fallback`.
        """
        if saved is not None:
            self._restore_runs(saved.runs, now)
            if saved.moved_at is not None:
                self.moved_at = now.at_wall(saved.moved_at).moment
        if self.expected.basis is Basis.HEARD:
            return
        if saved is not None and not self._is_under(saved):  # the next run is the first one from now on
            self._expect_after(now, _find_basis(saved))
            return
        restored = now.at_wall(fallback.wall if saved is None else saved.expected_from)
        # a healer can't have listened for longer than that; the silence may be older than a schedule that had
        # no run yet, and then shows nothing
        at = max(fallback.at, restored.at) if saved is None or saved.has_run else now.at
        self._expect_after(
            restored._replace(at=at), self.expected.basis if saved is None else _find_basis(saved)
        )
        if saved is not None:
            self.leads_sec = saved.leads_sec[-EARLY_IN_A_ROW:]

    def _restore_runs(self, saved: Iterable[tuple[str, float]], now: HeardAt) -> None:
        """Add saved runs that had not ended, except those whose end was heard last."""
        ended, ended_at = self.last_end or (None, -inf)
        found = {rid: now.at_wall(wall) for rid, wall in islice(saved, MAX_RUNS)}
        # a report without an id ended all that began before it
        known = {
            rid: run
            for rid, run in found.items()
            if run.mono > ended_at + OTHER_RUN_SEC or ended not in ("", rid)
        }
        self.runs = known | self.runs

    def adopt(self, saved: SavedJob | None, clock: ListeningClock, now: Moment) -> None:
        """Adopt what the leader before us knew, where we did not hear as much.

        That is a later run, starts before our last gap, and the ends of runs that began before it. Without
        any state, the leader heard a run at an unknown time: the next one is expected from now on.
        """
        here = clock.stamp(now)
        if saved is None:
            self._expect_after(here, Basis.KNOWN)
            return
        if saved.expected_from > self.expected.since.wall + ROUNDING_SEC and self._is_under(saved):
            later = here.at_wall(saved.expected_from)
            # the listening clock may have stood still since then, but it never goes back
            at = max(later.at, self.expected.since.at)
            self._expect_after(later._replace(at=at), _find_basis(saved))
        heard_since, known = self.find_heard_since(clock, now.mono), {rid for rid, _ in saved.runs}
        self.runs = {
            rid: run
            for rid, run in self.runs.items()
            if run.mono >= heard_since or run.wall > saved.expected_from or rid in known
        }
        before = [(rid, wall) for rid, wall in saved.runs if now.at_wall(wall).mono < heard_since]
        self._restore_runs(before, here)

    def take_unsaved(self) -> SavedJob:
        self.is_unsaved = False
        return self.to_saved()

    def to_saved(self) -> SavedJob:
        """Return the state without counting it as saved."""
        runs = tuple((rid, started.wall) for rid, started in self.runs.items())
        moved_at = None if self.moved_at is None else self.moved_at.wall
        since, schedule = self.expected.since, self._schedule_text()
        return SavedJob(since.wall, self.expected.has_run, runs, self.leads_sec, schedule, moved_at)

    def _schedule_text(self) -> str:
        schedule = self.rule.schedule
        return "" if schedule is None else f"{schedule.expression} {schedule.time_zone}"

    def _is_under(self, saved: SavedJob) -> bool:
        return saved.schedule in ("", self._schedule_text())


def drop_missed_runs(saved: SavedJob, rule: JobRule, recovered_at: float | None) -> SavedJob:
    """Return a saved state without the runs that were too long when an outage of the job ended, if one did.

    It was saved before that, because its healer was killed in between. `recovered_at` is in epoch seconds.
    """
    if recovered_at is None or rule.max_run_sec is None:
        return saved
    missed_until = recovered_at - rule.max_run_sec + OTHER_RUN_SEC
    return saved._replace(runs=tuple((rid, wall) for rid, wall in saved.runs if wall > missed_until))


def _find_basis(saved: SavedJob) -> Basis:
    return Basis.KNOWN if saved.has_run else Basis.WATCHED


def measure_lead(rule: JobRule, ended: float, started: float | None) -> float | None:
    """Return by how many seconds a run was too early, if it looks like one for the next scheduled time.

    It does if it was within an hour of that, or a whole number of hours before it, as in a wrong time zone.
    `started` and `ended` are epoch seconds; the start counts if it is known.
    """
    if rule.schedule is None:
        return None
    at = ended if started is None else started
    following = list(islice(rule.schedule.runs_after(at), 2))
    if len(following) < 2:
        return None
    lead_sec, pause_sec = following[0] - at, following[1] - following[0]
    if pause_sec < _LEAST_PAUSE_SEC or not EARLY_SEC < lead_sec < pause_sec / 2:
        return None
    to_hour_sec = (lead_sec + HOUR_SEC / 2) % HOUR_SEC - HOUR_SEC / 2  # from the nearest whole hour
    least_sec = -_LONGEST_RUN_SEC if started is None else -_HOUR_TOLERANCE_SEC
    is_whole_hours = least_sec <= to_hour_sec <= _HOUR_TOLERANCE_SEC
    return lead_sec if lead_sec <= HOUR_SEC or is_whole_hours else None
