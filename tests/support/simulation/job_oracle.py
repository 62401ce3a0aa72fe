"""What jobs really did, and whether each alert about them is right: the oracle of `jobs.py`.

It knows when each run was, when its bus acknowledged the reports, who heard them, and when healers, buses and
clocks were in trouble. It holds each alert against that:

- none is false: a failure was reported, a run was not reported by its deadline, or takes too long
- none is told twice, and each ok follows a run that was complete
- an outage begins when the run was due or failed, and is as long as it was
- none is missing: what went wrong is told in time, or as late as gaps, restarts and takeovers allow

A schedule goes by the healer's wall clock. So while one is wrong, an alert is false only if it is so by each
clock that was in force; and what a healer with a wrong clock saved, or took over, proves nothing. All times
are seconds of the world, in which 0 is when it begins.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Never

from marketswarm.beat import RunReport
from marketswarm.detector import State, Verdict
from marketswarm.detector.rule import compute_warm_up_sec
from marketswarm.truth import JobRule, Schedule, Watch

DAY_SEC = 86_400.0
LEASE_SEC = 3.0
REPEAT_SEC = 60.0
"""What a report that a bus did not take has to be sent again."""
SLACK_SEC = 15.0
"""For the looks at a job, the answer of its witness, and a report that is on its way."""
LONGEST_SLEEP_SEC = 100.0 + LEASE_SEC
"""Of a healer, until it leads."""
EXACT_SEC = 1.0
"""For a report that is on its way to a healer that is awake."""


class Hearing:
    """When one run of a healer listened to each bus.

    Args:
        buses: their names.
        since: when that run began; it hears nothing yet.
    """

    def __init__(self, buses: Iterable[str], since: float) -> None:
        self.since = since
        self.gaps: dict[str, list[tuple[float, float]]] = {bus: [] for bus in buses}
        self.deaf_since = dict.fromkeys(self.gaps, since)

    def begin_gap(self, bus: str, at: float) -> None:
        self.deaf_since[bus] = min(self.deaf_since[bus], at)

    def end_gap(self, bus: str, at: float) -> None:
        self.gaps[bus].append((self.deaf_since[bus], at))
        self.deaf_since[bus] = inf

    def deaf_times(self, bus: str) -> Iterator[tuple[float, float]]:
        yield from self.gaps[bus]
        yield self.deaf_since[bus], inf


@dataclass(eq=False)
class Run:
    """One run of a job as it really was. `started` and `ended` are when its bus acknowledged the reports."""

    rid: str | None
    started: float | None = None
    ended: float | None = None
    told: bool = False
    is_start_heard: bool = False  # the leader heard that it began
    hidden: bool = False  # it failed while its job was down: one outage is one miss; or unheard, as it may
    heard_by: tuple[Hearing, ...] = ()  # all runs of healers that there were, if all heard that it failed


@dataclass(eq=False)
class JobInWorld:
    """A job, its sender, and the truth about its runs.

    Args:
        watch: its line in the truth.
        has_key: its sender writes `beat:<svc>`.
        boot: the one `boot` of its sender, or `each` if each run is a process of its own, or None.
        has_rid: its reports carry the id of the run.
    """

    watch: Watch
    has_key: bool
    boot: str | None
    has_rid: bool
    runs: list[Run] = field(default_factory=list)
    successes: list[float] = field(default_factory=list)
    failures: list[Run] = field(default_factory=list)
    waiting: list[tuple[RunReport, Run]] = field(default_factory=list)
    expected_since: float = 0.0  # when the schedule in force began to count
    old_lines: list[tuple[float, float, Watch]] = field(default_factory=list)
    """Its earlier lines in the truth: until when each counted, since when its schedule did, and the line."""
    changed_at: float = 0.0  # when its line in the truth changed last
    generation: int = 0
    i: int = 0
    number: int = 0
    told: list[tuple[float, Verdict, Hearing | None]] = field(default_factory=list)  # when, and by which run
    is_sending: bool = False
    overdue: set[float] = field(default_factory=set)  # the scheduled times that were told
    due: tuple[object, tuple[float, float]] = (
        None,
        (inf, inf),
    )  # the last one, and its reason

    @property
    def svc(self) -> str:
        return self.watch.svc

    @property
    def is_down(self) -> bool:
        return bool(self.told) and self.told[-1][1].state is State.DOWN

    @property
    def rule(self) -> JobRule:
        assert self.watch.job is not None
        return self.watch.job

    @property
    def schedule(self) -> Schedule:
        assert self.rule.schedule is not None
        return self.rule.schedule

    @property
    def leaves_runs(self) -> bool:  # it writes `run:<svc>`, as the board and `marketswarm exec` do
        return self.boot is not None

    def line_at(self, at: float) -> tuple[float, JobRule]:
        """Return since when the schedule counted that was in force at a time, and the rule of that time."""
        older = ((since, watch) for until, since, watch in self.old_lines if at < until)
        expected_since, watch = next(older, (self.expected_since, self.watch))
        assert watch.job is not None
        return expected_since, watch.job

    def watch_at(self, at: float) -> Watch:
        """Return its line in the truth at a time."""
        return next((watch for until, _, watch in self.old_lines if at < until), self.watch)

    def change(self, watch: Watch, at: float) -> None:
        """Put another line of the truth in force."""
        self.old_lines.append((at, self.expected_since, self.watch))
        self.watch, self.changed_at = watch, at

    def stays(self) -> Iterator[tuple[str, float, float]]:
        """Yield on which bus it was, from when and until when."""
        begin = 0.0
        for until, _, watch in self.old_lines:
            yield watch.bus, begin, until
            begin = until
        yield self.watch.bus, begin, inf

    def last_success(self, before: float = inf) -> float:
        return next((at for at in reversed(self.successes) if at <= before), -inf)

    def note_taken(self, what: RunReport, run: Run, at: float) -> None:
        """Note that a report was acknowledged."""
        if what == "started" and run.started is None:
            run.started = at
            self.runs.append(run)
        elif what == "ended":
            self.successes.append(at)
        elif what == "failed" and run.ended is None:
            self.failures.append(run)
            run.hidden = self.is_down
        if what in ("ended", "failed"):
            for each in (run,) if self.has_rid else (run, *self.runs):
                each.ended = each.ended or at


class Oracle:
    """The truth about a fleet; `hold` and `check` raise AssertionError with the seed and the story.

    Args:
        seed: of the dice of the world.
        wall: what a right clock shows when the world begins, in epoch seconds.
        buses: their names.
        walls: by how much the clock of each healer is wrong now.
    """

    def __init__(self, seed: int, wall: float, buses: Iterable[str], walls: dict[str, float]) -> None:
        self.seed, self.wall, self.walls = seed, wall, walls
        self.t = 0.0
        self.begun: list[float] = []  # when healers started, or began to lead
        self.troubled: list[tuple[float, float]] = []
        """When a leader was away, asleep or new, or clocks were set."""
        self.away: dict[str, list[tuple[float, float]]] = {name: [] for name in buses}
        self.offsets: list[tuple[float, float, float]] = []  # wrong clocks: from, until, by how much
        self.hearings: dict[str, Hearing] = {}  # of the healers that run
        self.ended_hearings: list[Hearing] = []
        self.leader: Hearing | None = None
        self.stories: list[str] = []

    def tell(self, at: float, story: str) -> None:
        self.stories.append(f"{at:.3f} {story}")

    def fail(self, job: JobInWorld, why: str) -> Never:
        recent = [story for story in self.stories if float(story.split()[0]) > self.t - 3 * DAY_SEC]
        mine = [story for story in recent if job.svc in story or " job" not in story]
        lines = "\n".join(mine[-60:])
        runs = [run for run in job.runs if (run.started or 0) > self.t - DAY_SEC]
        date = datetime.fromtimestamp(self.wall + self.t, UTC)
        raise AssertionError(
            f"seed {self.seed}, at {self.t:.3f} ({date:%c}): {why}\n"
            f"{job.watch}, key={job.has_key}, boot={job.boot}, rid={job.has_rid}\n"
            f"successes {job.successes[-6:]}\nruns {runs[-6:]}\n{lines}"
        )

    # -- what is told

    def hold(self, job: JobInWorld, verdict: Verdict, at: float, now: float) -> None:
        """Hold an alert that is told now against what really was when it was concluded, at `at`."""
        self.t = now
        was_told, was_down = bool(job.told), job.is_down
        job.told.append((now, verdict, self.leader))
        if was_told and was_down is (verdict.state is State.DOWN):
            self.fail(job, f"told twice: {verdict}")
        if verdict.state is State.UP:
            self.hold_ok(job, verdict)
            return
        if verdict.reason == "failed":
            begun = self.hold_failed(job, verdict)
        elif verdict.reason == "never_ended":
            begun = self.hold_never_ended(job, verdict, at)
        else:
            begun = self.hold_overdue(job, verdict, at)
        self.hold_begin(job, verdict, begun, at)

    def hold_ok(self, job: JobInWorld, verdict: Verdict) -> None:
        misses = [each for each in job.told[:-1] if each[1].state is State.DOWN]
        if not misses or self.knows_by_wrong_clock(self.t - 2 * DAY_SEC):
            return
        told, miss, by = misses[-1]
        if job.last_success() < min(told, miss.ts - self.wall) - LEASE_SEC - 120.0:
            self.fail(job, f"no run was complete: {verdict}")
        if len(self.offsets_since(told - 2 * DAY_SEC)) > 1 or miss.down_since is None:
            return
        # another healer that heard all the time has its own miss; it may have had a gap
        knows_miss = by is self.leader or self.leader is None or self.leader.since > told
        begun = miss.down_since if knows_miss else verdict.down_since
        if verdict.down_since is None or begun is None or abs(verdict.down_since - begun) > EXACT_SEC:
            self.fail(job, f"the outage began at {miss.down_since}: {verdict}")
        began = begun - self.wall
        first = min((success for success in job.successes if success > began), default=inf)
        if first == inf and not self.is_calm(job, began - LONGEST_SLEEP_SEC):
            return  # a healer that slept heard the failure and the success after it at once
        if not first - EXACT_SEC <= began + (verdict.down_sec or 0.0) <= self.t + EXACT_SEC:
            self.fail(job, f"it was down from {began} to {first} at least: {verdict}")

    def hold_begin(self, job: JobInWorld, verdict: Verdict, begun: float, at: float) -> None:
        """Hold the beginning of an outage, and by how much it was overdue, against what really was.

        What a gap hides lets it begin later, and earlier if no key shows that a run was complete meanwhile.
        """
        since = max(job.last_success(begun), 0.0)
        if len(self.offsets_since(since - DAY_SEC)) > 1:
            return
        is_calm = self.is_calm(job, min(begun, since) - SLACK_SEC)
        knows_key = job.has_key and job.changed_at <= since  # it is on this bus
        earliest = begun - EXACT_SEC if is_calm or knows_key else -inf
        latest = begun + EXACT_SEC if is_calm else at + EXACT_SEC
        if verdict.down_since is None or not earliest <= verdict.down_since - self.wall <= latest:
            self.fail(job, f"the outage began at {begun + self.wall}: {verdict}")
        # a run that failed may have gone on for longer than the schedule allows for
        is_prompt = is_calm and verdict.reason != "failed"
        if not -EXACT_SEC <= (verdict.overdue_sec or 0.0) <= (SLACK_SEC if is_prompt else inf):
            self.fail(job, f"told too late, or too early: {verdict}")

    def hold_failed(self, job: JobInWorld, verdict: Verdict) -> float:
        untold = [run for run in job.failures if not run.told]
        if not untold and self.knows_by_wrong_clock(self.t - 2 * DAY_SEC):
            untold = job.failures[-1:]  # what a wrong clock shows looks later than the last run
        if not untold:
            self.fail(job, f"a false failure, or one that is told twice: {verdict}")
        for run in untold:
            run.told = True
        return min(run.ended or inf for run in [run for run in untold if not run.hidden] or untold)

    def hold_never_ended(self, job: JobInWorld, verdict: Verdict, at: float) -> float:
        longest = job.line_at(at)[1].max_run_sec or inf
        if self.knows_by_wrong_clock(at - longest - DAY_SEC):
            return -inf
        late = [
            run
            for run in job.runs
            if run.started is not None and at - run.started >= longest - 0.5 and not run.told
            if run.ended is None or run.ended - run.started >= longest or run in job.failures
        ]
        if not late:
            self.fail(job, f"no run takes so long: {verdict}")
        for run in late:
            run.told = True
        ends = [(run.started or 0.0) + longest for run in late]
        told = (verdict.down_since or 0.0) - self.wall
        return min(ends, key=lambda end: abs(end - told))  # one that was overdue is not missed again

    def hold_overdue(self, job: JobInWorld, verdict: Verdict, at: float) -> float:
        scheduled, due = self.deadline(job, at)
        since = job.last_success(at) - DAY_SEC
        if self.knows_by_wrong_clock(since):
            return scheduled
        offsets = self.offsets_since(since)
        if min(self.deadline(job, at, offset)[1] for offset in offsets) > at + 0.5:
            if self.may_hide_runs(job, at) or self.is_hidden_by_truth(job, at):
                return -inf
            self.fail(job, f"nothing is overdue before {due}: {verdict}")
        if self.under_way(job, at) > at and not self.may_be_over(job, at):
            self.fail(job, f"a run is under way: {verdict}")
        if len(offsets) == 1:
            if self.is_long_run_known(job, at):
                self.fail(job, f"a run has taken too long, and it is known that it began: {verdict}")
            if scheduled in job.overdue:
                self.fail(job, f"told twice for {scheduled}: {verdict}")
            # a healer that started since then knows no old line
            is_kept = not any(begun > job.changed_at for begun in self.begun)
            if is_kept and at < next(self.kept_deadlines(job, at), -inf) - 0.5:
                self.fail(job, f"it was not due so early before its line changed: {verdict}")
            back = max((end for _, end in self.away[job.watch.bus] if end <= at), default=-inf)
            is_on_its_way = any(what == "ended" for what, _ in job.waiting)
            if is_on_its_way and back <= at < back + min(REPEAT_SEC, job.rule.grace_sec) - EXACT_SEC:
                self.fail(job, f"its report is on its way since the bus is back: {verdict}")
        job.overdue.add(scheduled)
        return scheduled

    # -- what is owed

    def check(self, job: JobInWorld, now: float) -> None:
        """Whether all is told by now that is to be told: misses, failures, ends of outages."""
        self.t = now
        if job.is_down:
            self.check_ok(job)
            return
        due = max(self.deadline(job)[1], self.under_way(job, self.t - SLACK_SEC))
        if self.knows_by_wrong_clock(job.last_success() - DAY_SEC):
            due = max(due, *self.begun)  # who takes over waits anew for a run that looks later than now
        if self.t > due and self.t > due + self.allowance(job, due):
            kept = max(self.kept_deadlines(job, self.t), default=-inf)  # in time in which it is heard
            if self.t > kept + self.deaf_sec(job, max(job.last_success(), 0.0)) + SLACK_SEC:
                self.fail(job, f"it was due at {due}, and is not told")
        for run in job.failures[-3:]:
            if run.ended is not None and not (run.told or run.hidden):
                self.check_failure(job, run, run.ended)

    def check_failure(self, job: JobInWorld, run: Run, at: float) -> None:
        """Whether a failure is told: in time if all is calm, and if all heard it, or its key shows it."""
        if self.t > at + SLACK_SEC and self.is_calm(job, at - SLACK_SEC):
            self.fail(job, f"it failed at {at}, and that is not told")
        began, late_sec = at - SLACK_SEC, self.t - at - SLACK_SEC
        if late_sec <= self.deaf_sec(job, began) + 10.0:
            return
        is_clear = len(self.offsets_since(at - 2 * DAY_SEC)) == 1  # else what is told looks newer than this
        is_one_outage = any(told > at - LEASE_SEC and each.state is State.DOWN for told, each, _ in job.told)
        if self.leader in run.heard_by and is_clear and not is_one_outage:
            self.fail(job, f"it failed at {at}, all heard that, and it is not told")
        is_last = run is job.failures[-1] and job.last_success() < at and job.changed_at < began
        if job.leaves_runs and is_last and len(self.offsets_since(job.last_success() - DAY_SEC)) == 1:
            self.fail(job, f"its last run failed at {at}, and that is not told")
        run.hidden = True

    def check_ok(self, job: JobInWorld) -> None:
        """Whether a job that is down should be up: a later run was heard, or its key shows it."""
        back = job.last_success()
        is_clear = len(self.offsets_since(back - DAY_SEC)) == 1 and job.changed_at < back
        late_sec = self.t - back - SLACK_SEC
        if back < job.told[-1][0] or not is_clear or late_sec < 0:
            return
        deaf_sec = self.deaf_sec(job, back - SLACK_SEC)
        if self.is_calm(job, back - SLACK_SEC) or (job.has_key and late_sec > deaf_sec + 10.0):
            self.fail(job, f"a run was complete at {back}, and it is down")

    def allowance(self, job: JobInWorld, due: float) -> float:
        """Return how much later than due a miss may be told."""
        begin = due - job.rule.grace_sec - 2 * REPEAT_SEC - (job.rule.max_run_sec or 0.0)
        if self.is_calm(job, begin):
            return SLACK_SEC
        deaf = self.deaf_sec(job, due)
        pause = job.schedule.longest_pause_sec()
        return 2 * pause + 2 * (job.rule.max_run_sec or 0.0) + job.rule.grace_sec + 300.0 + 2 * deaf

    # -- what follows from the schedule

    def next_time(self, rule: JobRule, after: float) -> float:
        assert rule.schedule is not None
        following = rule.schedule.next_run(self.wall + after)
        return inf if following is None else following - self.wall

    def deadline(self, job: JobInWorld, at: float = inf, offset: float = 0.0) -> tuple[float, float]:
        """Return the scheduled time that the next report is for, and by when that is to come.

        `offset` is by how much the clock is wrong that says so at `at`. The line of the truth that was in
        force then counts: a standby keeps a miss that the leader could not conclude, since it had a gap, and
        tells it when it takes over while that lasts, also if the schedule is another one since then.
        """
        expected_since, rule = job.line_at(at)
        follows = rule, max(job.last_success(at), expected_since), offset
        if job.due[0] != follows:
            scheduled = self.next_time(rule, follows[1] + offset) - offset
            job.due = follows, (scheduled, scheduled + rule.grace_sec)
        return job.due[1]

    def kept_deadlines(self, job: JobInWorld, at: float) -> Iterator[float]:
        """Yield before when nothing is due by each line before the present one, the newest first.

        A line that changes lets nothing be due earlier than it was, for a warm-up at most.
        """
        if job.line_at(at)[1] != job.rule:
            return
        warm_up_sec = compute_warm_up_sec(job.watch.interval_sec, job.watch.timeout_sec)
        success = job.last_success(at)
        for until, expected_since, old in reversed(job.old_lines):
            if until < success or expected_since != job.expected_since or old.job is None:
                return
            scheduled = self.next_time(old.job, max(success, expected_since))
            yield min(scheduled + old.job.grace_sec, until + warm_up_sec)

    def under_way(self, job: JobInWorld, at: float) -> float:
        """Return by when the last run that is under way is to have ended; minus infinity without one."""
        longest = job.line_at(at)[1].max_run_sec
        if longest is None:
            return -inf
        return max(
            (
                run.started + longest
                for run in job.runs
                if run.started is not None and run.started <= at and (run.ended is None or run.ended > at)
            ),
            default=-inf,
        )

    def may_be_over(self, job: JobInWorld, at: float) -> bool:
        """Return whether a run that is under way may have ended in a gap, and a later run's end shows."""
        success, deaf = job.last_success(at), list(self.deaf_times(job.watch.bus))
        return any(
            run.started is not None
            and run.started < success
            and any(begin <= at and end >= run.started for begin, end in deaf)
            for run in job.runs
            if run.ended is None or run.ended > at
        )

    def is_long_run_known(self, job: JobInWorld, at: float) -> bool:
        """Return whether a run is too long that is known to have begun, and, by a key, to go on."""
        success, longest = job.last_success(at), job.line_at(at)[1].max_run_sec
        has_key = job.has_key and job.changed_at < success and at < success + 2 * job.watch.timeout_sec
        if longest is None or not has_key or job.waiting:
            return False
        return any(
            run.started is not None
            and run.is_start_heard
            and success < run.started <= at - longest
            and run.ended is None
            and not any(begin - SLACK_SEC <= run.started <= end + SLACK_SEC for begin, end in self.troubled)
            for run in job.runs[-3:]
        )

    def may_hide_runs(self, job: JobInWorld, at: float) -> bool:
        """Return whether a run was reported unheard, no key shows it, and a healer has waited long enough.

        It waits one pause of the schedule for such runs, from the deadline after the last run that it heard.
        """
        deaf = {bus: list(self.deaf_times(bus)) for bus in self.away}
        unheard = [
            one
            for one in job.successes
            if any(begin <= one <= end for begin, end in deaf[job.watch_at(one).bus])
        ]
        heard = max((one for one in job.successes if one <= at and one not in unheard), default=-inf)
        expected_since, rule = job.line_at(at)
        due = self.next_time(rule, max(heard, expected_since)) + rule.grace_sec
        # a key does not move with its job
        is_hidden = any(heard < one <= at and not (job.has_key and job.changed_at <= one) for one in unheard)
        return is_hidden and at > due + job.schedule.longest_pause_sec()

    def is_hidden_by_truth(self, job: JobInWorld, at: float) -> bool:
        """Return whether its last run was complete before any present healer ran, and under another line.

        Its key is on another bus than now.
        """
        success = job.last_success(at)
        if any(each.since <= success for each in self.hearings.values()):
            return False
        return job.watch_at(success).bus != job.watch.bus

    # -- what befell the fleet

    def knows_by_wrong_clock(self, since: float) -> bool:
        """Whether a healer started, or began to lead, with a clock that was wrong since then.

        What an earlier run saved, or the leader knew, is known by wall clocks: nobody can tell more.
        """
        return len(self.offsets_since(since)) > 1 and any(at >= since for at in self.begun)

    def offsets_since(self, since: float) -> set[float]:
        """By how much clocks were wrong since then."""
        found = {offset for _, until, offset in self.offsets if until > since}
        return {0.0, *found, *self.walls.values()}

    def is_calm(self, job: JobInWorld, begin: float) -> bool:
        """Whether nothing befell the healers, the clocks, the bus or the job since then."""
        if self.leader is None or job.changed_at >= begin:
            return False
        bus = job.watch.bus
        away = [*self.troubled, *self.away[bus], *self.leader.deaf_times(bus)]
        return len(self.offsets_since(job.last_success() - DAY_SEC)) == 1 and not any(
            start <= self.t and end >= begin for start, end in away
        )

    def deaf_sec(self, job: JobInWorld, since: float) -> float:
        """For how long, at most, no healer that led heard the bus of a job since then.

        That is the bus on which the job was at each time: what its bus was away for is no silence of the job,
        also after it moved to another one.
        """
        times = [
            (max(begin, since, start), min(end, self.t, until))
            for bus, start, until in job.stays()
            for begin, end in self.deaf_times(bus)
        ]
        return sum(max(0.0, end - begin) for begin, end in times)

    def end_hearing(self, name: str, at: float) -> None:
        """Note that a healer was killed: what it did not hear, those after it don't know either."""
        ended = self.hearings.pop(name)
        for bus in self.away:
            if ended.deaf_since[bus] < inf:
                ended.end_gap(bus, at)
        self.ended_hearings.append(ended)

    def deaf_times(self, bus: str) -> Iterator[tuple[float, float]]:
        for hearing in self.hearings.values():
            yield from hearing.deaf_times(bus)
        # what was before all present healers, they know from the ended ones
        begun = min((hearing.since for hearing in self.hearings.values()), default=inf)
        for ended in self.ended_hearings:
            yield from ((begin, min(end, begun)) for begin, end in ended.gaps[bus] if begin < begun)
        yield from self.troubled
        yield from self.away[bus]
