"""Jobs over days of simulated time: two healers, what befalls them, and an oracle that knows what really ran.

The detectors, the restore, the takeover and the saved state are the product's own. Time jumps from one event
to the next, so a day of a fleet takes a fraction of a second. The oracle holds each alert against what the
jobs really did and their buses acknowledged:

- none is false: a failure was reported, a run was not reported by its deadline, or takes too long
- none is told twice, and each ok follows a run that was complete
- none is missing: what went wrong is told in time, or as late as gaps, restarts and takeovers allow

A schedule goes by the healer's wall clock. So while one is wrong, an alert is false only if it is so by each
clock that was in force; and what a healer with a wrong clock saved, or took over, proves nothing.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from heapq import heappop, heappush
from itertools import count, takewhile
from math import inf

from marketswarm.beat import RunReport, encode_beat
from marketswarm.detector import (
    Detector,
    FailedRun,
    Moment,
    Publication,
    RestartObserver,
    SavedService,
    State,
    Subject,
    Verdict,
    adopt_state,
    restore_services,
)
from marketswarm.monitor.job_entry import encode_job_entry, parse_job_entry
from marketswarm.monitor.store import (
    RosterEntry,
    SavedSilence,
    combine_saved_state,
    encode_saved_beat,
    encode_silence,
    parse_saved_beat,
    parse_saved_silence,
)
from marketswarm.monitor.verdict_queue import PendingVerdict, VerdictQueue, find_unpublished
from marketswarm.truth import JobRule, Schedule, Watch
from support.simulation.manual_detector import stored
from support.simulation.world import Bus, Key

DAY_SEC = 86_400.0
BUS_TIMEOUT_SEC = 10.0
LEASE_SEC = 3.0
AWAKE_SEC = 1.2
"""A healer that nothing happens to wakes at least so often."""
RESEND_SEC = 5.0
"""What a job does if its bus does not answer: it sends its report again after so long."""
SLACK_SEC = 15.0
"""For the looks at a job, the answer of its witness, and a report that is on its way."""
REPEAT_SEC = 60.0
CHECK_EVERY_SEC = 120.0
SCHEDULES = (
    "*/10 * * * *",
    "*/30 * * * *",
    "7 * * * *",
    "0 */3 * * *",
    "30 2 * * *",
    "0 3 * * *",
    "15 1,13 * * *",
    "0 22 * * 1-5",
    "Mon..Fri 18:30",
    "*:20:30",
)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")


@dataclass(eq=False)
class Run:
    """One run of a job as it really was. `started` and `ended` are when its bus acknowledged the reports."""

    rid: str | None
    started: float | None = None
    ended: float | None = None
    told: bool = False
    hidden: bool = False  # it failed while its job was down already: one outage is one miss


@dataclass(eq=False)
class JobInWorld:
    """A job, its sender, and the truth about its runs; all times are those of the world.

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
    told: list[tuple[float, Verdict]] = field(default_factory=list)
    is_sending: bool = False
    overdue: set[float] = field(default_factory=set)  # the scheduled times that were told

    @property
    def rule(self) -> JobRule:
        assert self.watch.job is not None
        return self.watch.job

    @property
    def schedule(self) -> Schedule:
        assert self.rule.schedule is not None
        return self.rule.schedule

    @property
    def leaves_runs(self) -> bool:
        """Whether its sender writes `run:<svc>`, as the board and `marketswarm exec` do."""
        return self.boot is not None

    def line_at(self, at: float) -> tuple[float, JobRule]:
        """Return since when the schedule counted that was in force at a time, and the rule of that time."""
        older = ((since, watch) for until, since, watch in self.old_lines if at < until)
        expected_since, watch = next(older, (self.expected_since, self.watch))
        assert watch.job is not None
        return expected_since, watch.job

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


class Healer:
    """One run of a healer. It leads if the world says so."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name = world, name
        self.wall = world.walls[name]
        self.detector = Detector(self.now)
        self.restarts = RestartObserver(self.detector)
        self.queue = VerdictQueue()
        self.compared: dict[str, float] = {}
        self.sessions: dict[str, int] = {}
        self.awake_at = world.t
        self.asleep = False
        self.inbox: list[Callable[[], None]] = []
        self.number = 0
        self.wake_at = inf
        self.is_saving = False
        self.is_gone = False
        self.gaps: dict[str, list[tuple[float, float]]] = {bus: [] for bus in world.buses}
        self.deaf_since: dict[str, float] = dict.fromkeys(world.buses, world.t)
        self.rewatch()
        for bus in world.buses:
            self.open(bus)
        world.at(world.t + world.random.uniform(0.05, 1.5), self.restore)

    @property
    def now(self) -> Moment:
        return Moment(self.world.t, self.world.wall + self.world.t + self.wall)

    # -- time

    def advance(self) -> None:
        """Lets the time until now pass: it was awake, and its canaries came back."""
        world = self.world
        while self.awake_at < world.t - AWAKE_SEC:
            self.awake_at += AWAKE_SEC
            self.detector.note_awake(Moment(self.awake_at, world.wall + self.awake_at + self.wall))
        self.awake_at = world.t
        self.detector.note_awake(self.now)
        self.number += 1
        for name, bus in self.detector.buses.items():
            if name in self.sessions and world.buses[name].answers:
                bus.clock.note_canary_sent(self.number, world.t)
                bus.clock.note_canary_accepted(self.now)
                was = bus.clock.is_listening
                self.conclude(*self.detector.take_canary(name, self.number, self.now))
                if bus.clock.is_listening and not was:
                    self.gaps[name].append((self.deaf_since[name], world.t))
                    self.deaf_since[name] = inf

    def do(self, what: Callable[[], None]) -> None:
        """Does something now, or when it wakes; then it evaluates."""
        if self.is_gone:
            return
        if self.asleep:
            self.inbox.append(what)
            return
        self.advance()
        what()
        self.look()

    def look(self) -> None:
        tick = self.detector.tick(self.now)
        self.conclude(*tick.verdicts)
        for suspect in tick.suspects:
            after = self.world.random.choice((0.003, 0.003, 0.003, 0.7))
            self.world.at(self.world.t + after, partial(self.do, partial(self.ask, suspect.bus, suspect.svc)))
        self.plan(0.02 if tick.canary_buses else None)
        self.save_soon()

    def plan(self, within_sec: float | None) -> None:
        """Finds when to evaluate next."""
        dues = [
            0.0 if bus.has_more_due else bus.next_due() - bus.clock.read(self.world.t)
            for bus in self.detector.buses.values()
            if bus.clock.is_listening and not self.detector.is_restoring
        ]
        wait_sec = min(dues, default=inf)
        if within_sec is not None:
            wait_sec = min(wait_sec, within_sec)
        self.wake_at = self.world.t + max(wait_sec, 0.001)

    # -- what it hears

    def open(self, name: str) -> None:
        """Begins a session, if the bus answers; else tries again."""
        world = self.world
        if self.is_gone:
            return
        if not world.buses[name].answers:
            world.at(world.t + 0.5, partial(self.do, partial(self.open, name)))
            return
        self.sessions[name] = next(world.numbers)
        self.detector.buses[name].clock.note_session_opened()
        for after in (0.25, 0.5):
            world.at(world.t + after, partial(self.do, lambda: None))
        self.ask_about_down(name)

    def cut(self, name: str, sec: float) -> None:
        """Its session on a bus ends; the next one begins after so long."""
        if self.sessions.pop(name, None) is not None:
            self.detector.buses[name].clock.note_session_lost("refused")
            self.deaf_since[name] = min(self.deaf_since[name], self.world.t)
            self.world.at(self.world.t + sec, partial(self.do, partial(self.open, name)))

    def hear(self, name: str, session: int, channel: str, payload: bytes) -> None:
        if self.sessions.get(name) == session:
            message = [b"message", channel.encode(), payload]
            self.conclude(*self.detector.take_messages(name, [message], self.now).verdicts)

    def ask(self, name: str, svc: str) -> None:
        """Reads `beat:<svc>` of a suspect."""
        service = self.detector.services.get(svc)
        if not self.world.buses[name].answers or service is None:
            self.detector.retry_suspect(svc)
            self.world.at(self.world.t + 0.5, partial(self.do, lambda: None))
            return
        word = self.world.buses[name].word_of(service.watch, self.world.t)
        found = self.detector.evaluate_suspect(svc, word, self.now)
        if isinstance(found, Verdict):
            self.conclude(found)
        elif found is not None:
            self.cut(name, 0.05)

    def ask_about_down(self, name: str) -> None:
        if self.is_gone or not self.world.buses[name].answers:
            return
        for svc in self.detector.find_down(name) if not self.detector.is_restoring else ():
            word = self.world.buses[name].word_of(self.detector.services[svc].watch, self.world.t)
            if word is not None and (verdict := self.detector.end_outage(svc, word, self.now)) is not None:
                self.conclude(verdict)
        for svc in self.detector.find_jobs_not_down(name) if not self.detector.is_restoring else ():
            if (failed := self.world.failed_runs.get((name, svc))) is None:
                continue
            word = self.world.buses[name].word_of(self.detector.services[svc].watch, self.world.t)
            failed = replace(failed, alive_ts=None if word is None else word.beat.ts)
            verdict = self.detector.take_failed_run(svc, failed, self.now, self.now)
            if verdict is not None:
                self.world.found_failures += 1
                self.conclude(verdict)

    # -- what it concludes and saves

    def conclude(self, *verdicts: Verdict) -> None:
        for verdict in verdicts:
            if verdict.subject is Subject.SERVICE and verdict.gap_sec is None:
                self.queue.add(PendingVerdict(verdict, self.world.t))
                self.world.tell(f"{self.name} concludes: {verdict.svc} {verdict.state} {verdict.reason}")
                if self.world.leader is not self:
                    for after in (0.5, 2.5):
                        self.world.at(self.world.t + after, self.compare)
        if self.world.leader is self:
            self.publish()

    def publish(self) -> None:
        while len(self.queue):
            at = next(iter(self.queue)).at
            self.world.publish(self.queue.pop_oldest(), at)

    def compare(self) -> None:
        """Drops what the leader has published, as a standby does."""
        if self.is_gone or self.asleep or self.world.leader is self:
            return
        pending: dict[str, list[PendingVerdict]] = {}
        for one in self.queue:
            pending.setdefault(one.verdict.svc, []).append(one)
        before, self.compared = self.compared, {}
        for svc, some in pending.items():
            entry = self.world.entry(svc)
            leads = self.world.leader
            is_alive = leads is not None and not leads.asleep and not leads.is_gone
            seen_at = self.world.t if is_alive else self.world.leader_seen_at
            left = find_unpublished(some, entry, compared_ts=before.get(svc), leader_seen_at=seen_at)
            still = {id(one) for one in left}
            self.queue.remove([one for one in some if id(one) not in still])
            if entry is not None and left:
                self.compared[svc] = entry.ts

    def save_soon(self) -> None:
        if self.world.leader is self and not self.is_saving:
            self.is_saving = True
            self.world.at(self.world.t + self.world.random.uniform(0.05, 1.0), self.save)

    def save(self) -> None:
        self.is_saving = False
        world = self.world
        if self.is_gone or world.leader is not self or self.detector.is_restoring or self.asleep:
            return
        for svc, service in self.detector.jobs.items():
            if service.job is not None and service.job.is_unsaved:
                world.jobs_saved[svc] = encode_job_entry(service.job.take_unsaved())
        for svc in world.jobs_saved.keys() - self.detector.jobs.keys():
            del world.jobs_saved[svc]
        for name, bus in self.detector.buses.items():
            world.clocks_saved[name] = round(bus.clock.proven, 3), round(self.now.wall, 3)
        for svc, service in self.detector.take_unsaved_silences().items():
            world.silences_saved.pop(svc, None)
            if service is not None:
                found = parse_saved_silence(encode_silence(service).encode())
                assert found is not None
                world.silences_saved[svc] = found
        for svc, beat in self.restarts.take_unsaved(world.t).items():
            world.beats_saved.pop(svc, None)
            if beat is not None:
                world.beats_saved[svc] = encode_saved_beat(beat)

    # -- restore and takeover

    def saved(self) -> dict[str, SavedService]:
        world = self.world
        beats = {svc: parse_saved_beat(raw) for svc, raw in world.beats_saved.items()}
        roster = {svc: entry for svc in world.roster if (entry := world.entry(svc)) is not None}
        buses = {each.svc: each.bus for each in world.watches()}
        return dict(combine_saved_state(roster, world.silences_saved, world.clocks_saved, buses, beats))

    def restore(self) -> None:
        if self.is_gone:
            return
        if self.asleep:
            self.inbox.append(self.restore)
            return
        self.advance()
        world, saved = self.world, self.saved()
        for svc, raw in world.jobs_saved.items():
            if svc in self.detector.jobs and (job := parse_job_entry(raw)) is not None:
                saved[svc] = replace(saved.get(svc, SavedService(State.UNKNOWN, seen=False)), job=job)
        words = {}
        for watch in world.watches():
            bus = world.buses[watch.bus]
            if bus.answers and (word := bus.word_of(watch, world.t)) is not None:
                words[watch.svc] = word
        for found in restore_services(self.detector, saved, words, self.now):
            if found is not None:
                self.conclude(found)
        for name in self.sessions:
            self.ask_about_down(name)
        self.look()

    def take_over(self) -> None:
        """Leads from now on."""
        if self.detector.is_restoring:  # it restores what the leader left, and publishes then
            self.world.leader = self
            return
        self.compare()
        self.world.leader = self
        fields = set(self.queue.fields)
        for svc, published in self.saved().items():
            raw = self.world.jobs_saved.get(svc)
            if svc not in fields and svc in self.detector.services:
                known = replace(published, silent_sec=None, job=None if raw is None else parse_job_entry(raw))
                adopt_state(self.detector, svc, known, self.now)
        for service in self.detector.jobs.values():
            if service.job is not None:
                service.job.save_again()
        self.detector.delete_silences(list(self.world.silences_saved))
        self.detector.save_all_silences()
        for name in self.sessions:
            self.ask_about_down(name)
        self.publish()

    def rewatch(self) -> None:
        self.conclude(
            *self.detector.set_roster(
                self.world.watches(), dict.fromkeys(self.world.buses, BUS_TIMEOUT_SEC), self.now
            )
        )

    def was_deaf(self, name: str, since: float, until: float) -> bool:
        """Whether it was not listening to a bus for a part of that time."""
        gaps = [*self.gaps[name], (self.deaf_since[name], inf)]
        return any(begin <= until and end >= since for begin, end in gaps)


class World:
    """A fleet of jobs; `run` moves it. Everything in it follows from the seed.

    Args:
        seed: of the dice.
        jobs: how many jobs there are.
    """

    def __init__(self, seed: int, *, jobs: int = 6) -> None:
        self.seed, self.random = seed, random.Random(seed)
        self.t = 0.0
        start = datetime(2026, self.random.choice((2, 3, 4, 10, 11)), self.random.randint(1, 28), tzinfo=UTC)
        self.wall = start.timestamp() + self.random.uniform(0, DAY_SEC)
        self.numbers = count()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.buses = {"x": Bus(), "y": Bus()}
        self.walls = {"A": 0.0, "B": 0.0}
        self.roster: dict[str, dict[str, object]] = {}
        self.jobs_saved: dict[str, bytes] = {}
        self.silences_saved: dict[str, SavedSilence] = {}
        self.clocks_saved: dict[str, tuple[float, float]] = {}
        self.beats_saved: dict[str, bytes] = {}
        self.leader: Healer | None = None
        self.leader_seen_at = 0.0
        self.begun: list[float] = []  # when healers started, or began to lead
        self.troubled: list[
            tuple[float, float]
        ] = []  # when a leader was away, asleep or new, or clocks were set
        self.away: dict[str, list[tuple[float, float]]] = {name: [] for name in self.buses}
        self.offsets: list[tuple[float, float, float]] = []  # wrong clocks: from, until, by how much
        self.stories: list[str] = []
        self.alerts = 0
        self.runs = 0
        self.failed_runs: dict[tuple[str, str], FailedRun | None] = {}  # `run:<svc>`, by bus and job
        self.found_failures = 0  # that a healer did not hear
        self.jobs = {f"job{n}": self.make_job(f"job{n}") for n in range(jobs)}
        self.healers: dict[str, Healer] = {}
        for name in self.walls:
            self.healers[name] = Healer(self, name)
        self.lead(self.healers["A"])
        for job in self.jobs.values():
            self.plan_run(job)
        self.plan_trouble()

    # -- the truth

    def watches(self) -> list[Watch]:
        return [job.watch for job in self.jobs.values()]

    def make_rule(self) -> JobRule:
        dice = self.random
        schedule = Schedule(dice.choice(SCHEDULES), dice.choice(ZONES))
        grace = dice.choice((60.0, 180.0, 300.0, 1800.0))
        longest = min(schedule.longest_pause_sec() / 2, 4 * 3600.0)
        max_run = dice.choice((None, None, 30.0, 500.0, longest, longest))
        return JobRule(schedule, grace, max_run)

    def make_watch(self, svc: str, rule: JobRule) -> Watch:
        silence = rule.longest_silence_sec()
        assert silence is not None
        bus, interval = self.random.choice("xy"), silence - rule.grace_sec
        return Watch(svc, bus, f"{svc}:heartbeat", interval, silence, job=rule)

    def make_job(self, svc: str) -> JobInWorld:
        boot = self.random.choice(("each", f"board-{svc}", f"board-{svc}", None))
        has_key = boot is not None or self.random.random() < 0.5
        has_rid = boot == "each" or self.random.random() < 0.5
        return JobInWorld(self.make_watch(svc, self.make_rule()), has_key, boot, has_rid)

    # -- time

    def at(self, t: float, do: Callable[[], None]) -> None:
        heappush(self.events, (max(t, self.t), next(self.numbers), do))

    def run(self, sec: float) -> None:
        until = self.t + sec
        while True:
            awake = [each for each in self.healers.values() if not each.asleep]
            healer = min(awake, key=lambda each: each.wake_at, default=None)
            wake_at = inf if healer is None else healer.wake_at
            if min(wake_at, self.events[0][0]) > until:
                break
            if wake_at < self.events[0][0]:
                assert healer is not None
                self.t = max(self.t, wake_at)
                healer.advance()
                healer.look()
            else:
                at, _, do = heappop(self.events)
                self.t = max(self.t, at)
                do()
        self.t = until
        self.check_owed()

    # -- jobs

    def next_time(self, rule: JobRule, after: float) -> float:
        assert rule.schedule is not None
        following = rule.schedule.next_run(self.wall + after)
        return inf if following is None else following - self.wall

    def plan_run(self, job: JobInWorld, after: float | None = None) -> None:
        at = self.next_time(job.rule, self.t if after is None else after)
        if at < inf:
            late = self.random.choice((0.02, 0.5, 3.0))
            self.at(at + late, partial(self.begin_run, job, job.generation, at))

    def begin_run(self, job: JobInWorld, generation: int, scheduled: float) -> None:
        if generation != job.generation:
            return
        dice, rule = self.random, job.rule
        self.runs += 1
        pause = self.next_time(rule, scheduled) - scheduled
        longest = 0.6 * rule.grace_sec if rule.max_run_sec is None else 0.8 * rule.max_run_sec
        longest = max(1.0, min(longest, 0.7 * pause - 60.0))
        sec = dice.choice((1.0, dice.uniform(0.3, longest), longest))
        fate = dice.choices(("ok", "fail", "skip", "hang", "late"), (88, 4, 3, 3, 2))[0]
        job.number += 1
        run = Run(f"{job.watch.svc}-{job.number}" if job.has_rid else None)
        if fate == "skip":
            self.tell(f"{job.watch.svc} skips the run of {scheduled}")
        else:
            after = min(dice.uniform(0, 2 * rule.grace_sec), 0.25 * pause) if fate == "late" else 0.0
            sec = min(sec, max(1.0, 0.7 * pause - after - 60.0))
            if rule.max_run_sec is not None or dice.random() < 0.5:
                self.at(self.t + after, partial(self.report, job, "started", run))
                if dice.random() < 0.1:
                    self.at(self.t + after + sec / 2, partial(self.report, job, "log", run))
            end: RunReport = "failed" if fate == "fail" else "ended"
            if fate != "hang":
                self.at(self.t + after + sec, partial(self.report, job, end, run))
            self.aim(job, (self.t + after, self.t + after + sec, scheduled + rule.grace_sec))
            if fate != "ok":
                self.tell(f"{job.watch.svc} {fate} at {self.t + after + sec}, for {scheduled}")
        self.plan_run(job, scheduled)

    def report(self, job: JobInWorld, what: RunReport, run: Run) -> None:
        """A report is to be sent, after those that its bus did not take yet."""
        job.waiting.append((what, run))
        if not job.is_sending:
            job.is_sending = True
            self.send(job)

    def send(self, job: JobInWorld) -> None:
        job.is_sending = bool(job.waiting)
        if not job.waiting:
            return
        bus = self.buses[job.watch.bus]
        if not bus.answers:
            self.at(self.t + RESEND_SEC, partial(self.send, job))
            return
        what, run = job.waiting[0]
        self.deliver(job, bus, what, run)
        if self.random.random() < 0.04:  # its answer is lost: it is sent again
            self.at(self.t + self.random.uniform(0.2, 8.0), partial(self.send, job))
            return
        job.waiting.pop(0)
        self.at(self.t + 0.005, partial(self.send, job))

    def deliver(self, job: JobInWorld, bus: Bus, what: RunReport, run: Run) -> None:
        """A bus takes a report: it is acknowledged, kept if it is a sign of life, and published."""
        job.i += 1
        svc, t = job.watch.svc, self.t
        boot = f"{svc}-run{job.number}" if job.boot == "each" else job.boot
        payload = encode_beat(svc, job.i, self.wall + t, boot=boot, run=what, rid=run.rid)
        self.note_taken(job, what, run)
        if what == "ended" and job.has_key:
            bus.keys[svc] = Key(payload, t, 2 * job.watch.timeout_sec)
        if job.leaves_runs and what in ("ended", "failed"):
            failed = FailedRun(round(self.wall + t, 3))
            self.failed_runs[job.watch.bus, svc] = failed if what == "failed" else None
        for healer in list(self.healers.values()):
            session = healer.sessions.get(job.watch.bus)
            if session is not None:
                hears = partial(healer.hear, job.watch.bus, session, job.watch.channel, payload)
                self.at(t + 0.002, partial(healer.do, hears))

    def note_taken(self, job: JobInWorld, what: RunReport, run: Run) -> None:
        """Note for the oracle that a report was acknowledged."""
        if what == "started" and run.started is None:
            run.started = self.t
            job.runs.append(run)
        elif what == "ended":
            job.successes.append(self.t)
        elif what == "failed" and run.ended is None:
            job.failures.append(run)
            run.hidden = self.roster.get(job.watch.svc, {}).get("verdict") == "down"
        if what in ("ended", "failed"):
            for each in (run,) if job.has_rid else (run, *job.runs):
                each.ended = each.ended or self.t

    # -- what befalls the fleet

    def plan_trouble(self) -> None:
        self.at(self.t + self.random.expovariate(1 / 2400.0), self.make_trouble)

    def make_trouble(self) -> None:
        dice = self.random
        kinds: tuple[tuple[Callable[[], None], int], ...] = (
            (self.cut, 10),
            (self.restart, 3),
            (self.kill_leader, 3),
            (self.stall, 4),
            (self.stop_bus, 2),
            (self.step_clock, 2),
            (self.reseed, 3),
            (self.flap, 1),
        )
        dice.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]()
        self.plan_trouble()

    def aim(self, job: JobInWorld, moments: tuple[float, ...]) -> None:
        """Have something befall the fleet when a run starts, ends, or is due; more while its job is down."""
        is_down = self.roster.get(job.watch.svc, {}).get("verdict") == "down"
        if self.random.random() < (0.5 if is_down else 0.08):
            at = self.random.choice(moments) - self.random.choice((0.3, 1.0, 20.0))
            what = self.random.choice((self.cut_all, self.cut_all, self.kill_one, self.move))
            self.at(at, partial(what, job))

    def cut_all(self, job: JobInWorld) -> None:
        sec = self.random.choice((2.0, 30.0))
        self.tell(f"all are cut off {job.watch.bus} for {sec}, for {job.watch.svc}")
        for healer in list(self.healers.values()):
            healer.do(partial(healer.cut, job.watch.bus, sec))

    def kill_one(self, _job: JobInWorld) -> None:
        if (healer := self.some_healer()) is not None:
            self.kill(healer)

    def move(self, job: JobInWorld) -> None:
        """The job moves to the other bus, in the middle of a run or not; its sender knows that at once."""
        job.change(replace(job.watch, bus="y" if job.watch.bus == "x" else "x"), self.t)
        self.tell(f"{job.watch.svc} moves to {job.watch.bus}")
        for healer in list(self.healers.values()):
            healer.do(healer.rewatch)

    def tell(self, story: str) -> None:
        self.stories.append(f"{self.t:.3f} {story}")

    def some_healer(self) -> Healer | None:
        return self.random.choice([*self.healers.values(), None])

    def cut(self) -> None:
        both = self.random.random() < 0.5
        name, sec = self.random.choice("xy"), self.random.choice((0.05, 2.0, 30.0, 200.0))
        for healer in list(self.healers.values()) if both else filter(None, [self.some_healer()]):
            self.tell(f"{healer.name} is cut off {name} for {sec}")
            healer.do(partial(healer.cut, name, sec))

    def flap(self) -> None:
        name, healer = self.random.choice("xy"), self.some_healer()
        self.tell(f"{healer and healer.name} is cut off {name} again and again")
        for n in range(self.random.randint(3, 40)):
            if healer is not None:
                self.at(self.t + 7 * n, partial(healer.do, partial(healer.cut, name, 0.5)))

    def stall(self) -> None:
        if (healer := self.some_healer()) is None or healer.asleep:
            return
        sec = self.random.choice((1.5, 10.0, 100.0))
        self.tell(f"{healer.name} sleeps for {sec}")
        healer.advance()
        healer.asleep = True
        for name in self.buses:
            healer.deaf_since[name] = min(healer.deaf_since[name], self.t)
        self.troubled.append((self.t, self.t + sec + 2.0))
        if sec > LEASE_SEC and self.leader is healer:
            self.leader_seen_at = self.t
            self.at(self.t + LEASE_SEC, partial(self.replace_leader, healer))
        self.at(self.t + sec, partial(self.wake, healer))

    def wake(self, healer: Healer) -> None:
        if healer.is_gone or not healer.asleep:
            return
        healer.asleep = False
        healer.detector.note_awake(healer.now)  # a stall, whatever comes first
        healer.awake_at = self.t
        waiting, healer.inbox = healer.inbox, []
        for what in waiting:
            what()
        for after in (0.0, 0.25, 0.5):
            self.at(self.t + after, partial(healer.do, lambda: None))

    def replace_leader(self, before: Healer | None) -> None:
        """The lease of a leader is over: the other healer takes it, if it is awake."""
        if self.leader is not before or (before is not None and not before.asleep and not before.is_gone):
            return
        others = [each for each in self.healers.values() if each is not before and not each.asleep]
        if others:
            self.lead(others[0])
        else:
            self.at(self.t + 1.0, partial(self.replace_leader, before))

    def lead(self, healer: Healer) -> None:
        self.tell(f"{healer.name} leads")
        self.troubled.append((self.t - LEASE_SEC - 1.0, self.t + 3.0))
        if not self.begun:
            self.leader = healer
        else:
            healer.advance()
            healer.take_over()
            healer.look()
        self.begun.append(self.t)

    def kill_leader(self) -> None:
        if self.leader is not None and self.healers.get(self.leader.name) is self.leader:
            self.kill(self.leader)

    def restart(self) -> None:
        if (healer := self.some_healer()) is not None:
            self.kill(healer)

    def kill(self, healer: Healer) -> None:
        away = self.random.choice((0.5, 2.0, 60.0, 1800.0))
        self.tell(f"{healer.name} is killed, and away for {away}")
        if self.leader is healer and not healer.asleep:
            healer.advance()
            if self.random.random() < 0.5:
                healer.save()
        healer.is_gone = True
        del self.healers[healer.name]
        self.troubled.append((self.t, self.t + away + 5.0))
        if self.leader is healer:
            self.leader_seen_at = self.t
            self.at(self.t + LEASE_SEC, partial(self.replace_leader, healer))
        self.at(self.t + away, partial(self.start_healer, healer.name))

    def start_healer(self, name: str) -> None:
        if name not in self.healers:
            self.tell(f"{name} starts")
            self.begun.append(self.t)
            self.healers[name] = Healer(self, name)

    def stop_bus(self) -> None:
        name = self.random.choice("xy")
        if not self.buses[name].up:
            return
        sec = self.random.choice((3.0, 40.0, 900.0, 15_000.0))
        self.tell(f"{name} is away for {sec}")
        self.buses[name].up = False
        self.away[name].append((self.t, self.t + sec))
        for healer in list(self.healers.values()):
            healer.do(partial(healer.cut, name, sec + 0.2))
        self.at(self.t + sec, partial(self.start_bus, name))

    def start_bus(self, name: str) -> None:
        self.buses[name].up = True

    def step_clock(self) -> None:
        name, sec = self.random.choice("AB"), self.random.choice((-3600.0, -30.0, 5.0, 3600.0, 90_000.0))
        self.tell(f"the clock of {name} is set by {sec}")
        self.troubled.append((self.t, self.t))
        self.walls[name] += sec
        if name in self.healers:
            self.healers[name].wall = self.walls[name]
        back = self.random.uniform(10.0, 40_000.0)
        self.offsets.append((self.t, self.t + back, self.walls[name]))
        self.at(self.t + back, partial(self.set_clock_right, name, sec))

    def set_clock_right(self, name: str, sec: float) -> None:
        self.tell(f"the clock of {name} is set by {-sec}")
        self.walls[name] -= sec
        if name in self.healers:
            self.healers[name].wall = self.walls[name]

    def reseed(self) -> None:
        """A job gets another bus, grace, longest run or schedule; its sender knows that at once."""
        job = self.random.choice(list(self.jobs.values()))
        kind = self.random.choice(("bus", "grace", "max_run", "schedule"))
        if job.waiting or any(run.ended is None for run in job.runs):
            return  # what was begun under one line of the truth ends under it
        watch, rule = job.watch, job.rule
        if kind == "bus":
            watch = replace(watch, bus="y" if watch.bus == "x" else "x")
        elif kind == "grace":
            rule = replace(rule, grace_sec=self.random.choice((60.0, 300.0, 1800.0)))
        elif kind == "max_run":
            rule = replace(rule, max_run_sec=self.random.choice((None, 500.0, 3600.0)))
        else:
            rule = self.make_rule()
        silence = rule.longest_silence_sec()
        assert silence is not None
        interval = silence - rule.grace_sec
        job.change(replace(watch, job=rule, timeout_sec=silence, interval_sec=interval), self.t)
        if kind == "schedule":
            job.expected_since = self.t
        job.generation += 1
        self.tell(f"{job.watch.svc}: {kind}, now {job.watch}")
        for healer in list(self.healers.values()):
            healer.do(healer.rewatch)
        self.plan_run(job)

    # -- what is told, and what is to be told

    def entry(self, svc: str) -> RosterEntry | None:
        found = self.roster.get(svc)
        return None if found is None else stored(**found)

    def publish(self, verdict: Verdict, at: float) -> None:
        """What publish.lua does: a verdict that is stored already is not told again.

        `at` is when a healer concluded it.
        """
        before = self.roster.get(verdict.svc, {}).get("verdict", "unknown")
        if before == verdict.state:
            return
        if verdict.state is State.UNWATCHED:
            self.roster.pop(verdict.svc, None)
            return
        entry = {"verdict": str(verdict.state), "since": verdict.since, "ts": round(verdict.ts, 3)}
        entry |= {"boot": verdict.boot, "i": verdict.i}
        self.roster[verdict.svc] = {name: value for name, value in entry.items() if value is not None}
        # a first report is on the log alone, also for a standby that did not know of the leader's miss
        if verdict.publication is Publication.ALERT or before == State.DOWN:
            self.alerts += 1
            self.tell(f"told: {verdict.svc} {verdict.state} {verdict.reason}")
            self.hold(self.jobs[verdict.svc], verdict, at)
        for healer in list(self.healers.values()):
            if healer is not self.leader:
                self.at(self.t + 0.5, healer.compare)

    def fail(self, job: JobInWorld, why: str) -> None:
        recent = [story for story in self.stories if float(story.split()[0]) > self.t - 3 * DAY_SEC]
        mine = [story for story in recent if job.watch.svc in story or " job" not in story]
        lines = "\n".join(mine[-60:])
        runs = [run for run in job.runs if (run.started or 0) > self.t - DAY_SEC]
        date = datetime.fromtimestamp(self.wall + self.t, UTC)
        raise AssertionError(
            f"seed {self.seed}, at {self.t:.3f} ({date:%c}): {why}\n"
            f"{job.watch}, key={job.has_key}, boot={job.boot}, rid={job.has_rid}\n"
            f"successes {job.successes[-6:]}\nruns {runs[-6:]}\n{lines}"
        )

    def hold(self, job: JobInWorld, verdict: Verdict, at: float) -> None:
        """Hold an alert against what really was when it was concluded."""
        told_before = job.told[-1][1].state if job.told else State.UP
        job.told.append((self.t, verdict))
        if verdict.state is told_before and len(job.told) > 1:
            self.fail(job, f"told twice: {verdict}")
        if verdict.state is State.UP:
            self.hold_ok(job, verdict)
        elif verdict.reason == "failed":
            self.hold_failed(job, verdict)
        elif verdict.reason == "never_ended":
            self.hold_never_ended(job, verdict, at)
        else:
            self.hold_overdue(job, verdict, at)

    def hold_ok(self, job: JobInWorld, verdict: Verdict) -> None:
        misses = [at for at, each in job.told[:-1] if each.state is State.DOWN]
        if self.knows_by_wrong_clock(self.t - 2 * DAY_SEC):
            return
        if misses and job.last_success() < misses[-1] - LEASE_SEC - 120.0:
            self.fail(job, f"no run was complete: {verdict}")

    def hold_failed(self, job: JobInWorld, verdict: Verdict) -> None:
        untold = [run for run in job.failures if not run.told]
        if not untold:
            self.fail(job, f"a false failure, or one that is told twice: {verdict}")
        for run in untold:
            run.told = True

    def hold_never_ended(self, job: JobInWorld, verdict: Verdict, at: float) -> None:
        longest = job.line_at(at)[1].max_run_sec or inf
        if self.knows_by_wrong_clock(at - longest - DAY_SEC):
            return
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

    def deadline(self, job: JobInWorld, at: float = inf, offset: float = 0.0) -> tuple[float, float]:
        """Return the scheduled time that the next report is for, and by when that is to come.

        `offset` is by how much the clock is wrong that says so at `at`. The line of the truth that was in
        force then counts: a standby keeps a miss that the leader could not conclude, since it had a gap, and
        tells it when it takes over while that lasts, also if the schedule is another one since then.
        """
        expected_since, rule = job.line_at(at)
        scheduled = self.next_time(rule, max(job.last_success(at), expected_since) + offset) - offset
        return scheduled, scheduled + rule.grace_sec

    def kept_deadline(self, job: JobInWorld) -> float:
        """Return by when the next report is to come: as before, if the truth has a shorter grace since."""
        scheduled, due = self.deadline(job)
        older = [(until, watch.job) for until, _, watch in job.old_lines if until > job.last_success()]
        graces = [rule.grace_sec for _, rule in older if rule is not None and rule.schedule == job.schedule]
        return max([due, *(scheduled + grace for grace in graces)])

    def knows_by_wrong_clock(self, since: float) -> bool:
        """Whether a healer started, or began to lead, with a clock that was wrong since then.

        What an earlier run saved, or the leader knew, is known by wall clocks: nobody can tell more.
        """
        return len(self.offsets_since(since)) > 1 and any(at >= since for at in self.begun)

    def offsets_since(self, since: float) -> set[float]:
        """By how much clocks were wrong since then."""
        found = {offset for _, until, offset in self.offsets if until > since}
        return {0.0, *found, *self.walls.values()}

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

    def hold_overdue(self, job: JobInWorld, verdict: Verdict, at: float) -> None:
        scheduled, due = self.deadline(job, at)
        since = job.last_success(at) - DAY_SEC
        if self.knows_by_wrong_clock(since):
            return
        if not job.has_key and len(self.unheard(job, at)) > 1:
            return  # of two reports in a row that went into gaps nothing can be known: the second is missed
        offsets = self.offsets_since(since)
        if min(self.deadline(job, at, offset)[1] for offset in offsets) > at + 0.5:
            self.fail(job, f"nothing is overdue before {due}: {verdict}")
        if self.under_way(job, at) > at:
            self.fail(job, f"a run is under way: {verdict}")
        if scheduled in job.overdue and len(offsets) == 1:
            self.fail(job, f"told twice for {scheduled}: {verdict}")
        job.overdue.add(scheduled)

    def unheard(self, job: JobInWorld, at: float) -> list[float]:
        """Return the last successes before `at` that one of the healers may not have heard."""
        gaps = list(self.deaf_times(job.watch.bus))
        past = (success for success in reversed(job.successes) if success <= at)
        return list(takewhile(lambda one: any(a - 1.0 <= one <= b + 1.0 for a, b in gaps), past))

    def check_owed(self) -> None:
        """Whether all is told by now that is to be told: misses, failures, ends of outages."""
        for job in self.jobs.values():
            if self.roster.get(job.watch.svc, {}).get("verdict") == "down":
                self.check_ok(job)
                continue
            due = max(self.kept_deadline(job), self.under_way(job, self.t - SLACK_SEC))
            if self.t > due and self.t > due + self.allowance(job, due):
                self.fail(job, f"it was due at {due}, and is not told")
            failed = [run.ended for run in job.failures if not (run.told or run.hidden)]
            at = failed[-1] if failed and failed[-1] is not None else inf
            if self.t > at + SLACK_SEC and self.is_calm(job, at - SLACK_SEC):
                self.fail(job, f"it failed at {at}, and that is not told")
            self.check_last_failure(job)

    def check_last_failure(self, job: JobInWorld) -> None:
        """Whether the last run is told if it failed: where nobody heard that, its key shows it."""
        last = job.failures[-1] if job.failures else None
        if last is None or last.ended is None or last.told or last.hidden or not job.leaves_runs:
            return
        begin, late_sec = last.ended - SLACK_SEC, self.t - last.ended - SLACK_SEC
        is_last = job.last_success() < last.ended and job.changed_at < begin
        is_clear = is_last and len(self.offsets_since(job.last_success() - DAY_SEC)) == 1
        if is_clear and late_sec > self.deaf_sec(job, begin) + 10.0:
            self.fail(job, f"its last run failed at {last.ended}, and that is not told")

    def check_ok(self, job: JobInWorld) -> None:
        """Whether a job that is down should be up: a later run was heard, or its key shows it."""
        misses = [at for at, each in job.told if each.state is State.DOWN]
        back = job.last_success()
        is_clear = len(self.offsets_since(back - DAY_SEC)) == 1 and job.changed_at < back
        late_sec = self.t - back - SLACK_SEC
        if not misses or back < misses[-1] or not is_clear or late_sec < 0:
            return
        deaf_sec = self.deaf_sec(job, back - SLACK_SEC)
        if self.is_calm(job, back - SLACK_SEC) or (job.has_key and late_sec > deaf_sec + 10.0):
            self.fail(job, f"a run was complete at {back}, and it is down")

    def is_calm(self, job: JobInWorld, begin: float) -> bool:
        """Whether nothing befell the healers, the clocks, the bus or the job since then."""
        away = [*self.troubled, *self.away[job.watch.bus]]
        return (
            job.changed_at < begin
            and len(self.offsets_since(job.last_success() - DAY_SEC)) == 1
            and self.leader is not None
            and not self.leader.was_deaf(job.watch.bus, begin, self.t)
            and not any(start <= self.t and end >= begin for start, end in away)
        )

    def allowance(self, job: JobInWorld, due: float) -> float:
        """Return how much later than due a miss may be told."""
        begin = due - job.rule.grace_sec - 2 * REPEAT_SEC - (job.rule.max_run_sec or 0.0)
        if self.is_calm(job, begin):
            return SLACK_SEC
        deaf = self.deaf_sec(job, due)
        pause = job.schedule.longest_pause_sec()
        return 2 * pause + 2 * (job.rule.max_run_sec or 0.0) + job.rule.grace_sec + 300.0 + 2 * deaf

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

    def deaf_times(self, bus: str) -> Iterator[tuple[float, float]]:
        for healer in self.healers.values():
            yield from healer.gaps[bus]
            yield healer.deaf_since[bus], inf
        yield from self.troubled
        yield from self.away[bus]


def run_world(seed: int, days: float, *, jobs: int = 6) -> World:
    """Run a fleet for so many days; return it, or raise AssertionError with the seed and the story."""
    world = World(seed, jobs=jobs)
    try:
        for _ in range(round(days * DAY_SEC / CHECK_EVERY_SEC)):
            world.run(CHECK_EVERY_SEC)
    except Exception as error:
        error.add_note(f"again: run_world({seed}, {days}, jobs={jobs})")
        raise
    return world
