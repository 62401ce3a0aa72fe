"""Jobs over days of simulated time: what they run, and what befalls the two healers that watch them.

`job_healer.py` has the healers, which are the product's own; `job_oracle.py` knows what really ran, and holds
each alert against that. A day of a fleet takes a fraction of a second.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from math import inf

import orjson

from marketswarm.beat import Beat, RunReport, compute_life_sec, encode_beat
from marketswarm.keys import last_beat_key, last_run_key
from marketswarm.monitor.state import SAVE_EVERY_SEC
from marketswarm.truth import JobRule, Schedule, Watch
from support.simulation.job_healer import Bus, Healer, Surroundings
from support.simulation.job_oracle import DAY_SEC, LEASE_SEC, JobInWorld, Run

RESEND_SEC = 5.0
"""What a job does if its bus does not answer: it sends its report again after so long."""
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


class World(Surroundings):
    """A fleet of jobs; `run` moves it. Everything in it follows from the seed.

    Args:
        seed: of the dice. In two of five worlds, more befalls the fleet, and just when it matters.
        jobs: how many jobs there are.
    """

    def __init__(self, seed: int, *, jobs: int = 6) -> None:
        dice = random.Random(seed)
        start = datetime(2026, dice.choice((2, 3, 4, 10, 11)), dice.randint(1, 28), tzinfo=UTC)
        super().__init__(seed, dice, start.timestamp() + dice.uniform(0, DAY_SEC))
        self.is_stormy = seed % 5 in (1, 3)
        self.runs = 0
        self.jobs = {f"job{n}": self.make_job(f"job{n}") for n in range(jobs)}
        for name in self.walls:
            self.healers[name] = Healer(self, name)
        self.lead(self.healers["A"])
        for job in self.jobs.values():
            self.plan_run(job)
        self.plan_trouble()

    # -- the truth

    def make_rule(self) -> JobRule:
        dice = self.random
        schedule = Schedule(dice.choice(SCHEDULES), dice.choice(ZONES))
        grace = dice.choice((60.0, 180.0, 300.0, 1800.0))
        longest = min(schedule.longest_pause_sec() / 2, 4 * 3600.0)
        max_run = dice.choice((None, None, 30.0, 500.0, longest, longest))
        return JobRule(schedule, grace, max_run)

    def make_watch(self, svc: str, rule: JobRule, bus: str) -> Watch:
        silence = rule.longest_silence_sec()
        assert silence is not None
        return Watch(svc, bus, f"{svc}:heartbeat", silence - rule.grace_sec, silence, job=rule)

    def make_job(self, svc: str) -> JobInWorld:
        boot = self.random.choice(("each", f"board-{svc}", f"board-{svc}", None))
        has_key = boot is not None or self.random.random() < 0.5
        has_rid = boot == "each" or self.random.random() < 0.5
        watch = self.make_watch(svc, self.make_rule(), self.random.choice("xy"))
        return JobInWorld(watch, has_key, boot, has_rid)

    def run(self, sec: float) -> None:
        super().run(sec)
        for job in self.jobs.values():
            self.oracle.check(job, self.t)

    # -- jobs

    def plan_run(self, job: JobInWorld, after: float | None = None) -> None:
        at = self.oracle.next_time(job.rule, self.t if after is None else after)
        if at < inf:
            late = self.random.choice((0.02, 0.5, 3.0))
            self.at(at + late, partial(self.begin_run, job, job.generation, at))

    def begin_run(self, job: JobInWorld, generation: int, scheduled: float) -> None:
        if generation != job.generation:
            return
        dice, rule = self.random, job.rule
        self.runs += 1
        pause = self.oracle.next_time(rule, scheduled) - scheduled
        longest = 0.6 * rule.grace_sec if rule.max_run_sec is None else 0.8 * rule.max_run_sec
        longest = max(1.0, min(longest, 0.7 * pause - 60.0))
        sec = dice.choice((1.0, dice.uniform(0.3, longest), longest))
        fates = ("ok", "fail", "retry", "skip", "hang", "late")
        fate = dice.choices(fates, (84, 4, 4, 3, 3, 2))[0]
        job.number += 1
        run = Run(f"{job.svc}-{job.number}" if job.has_rid else None)
        if fate == "skip":
            self.tell(f"{job.svc} skips the run of {scheduled}")
            self.at(scheduled + dice.uniform(0.1, 0.9) * rule.grace_sec, partial(self.tighten, job))
        else:
            after = min(dice.uniform(0, 2 * rule.grace_sec), 0.25 * pause) if fate == "late" else 0.0
            sec = min(sec, max(1.0, 0.7 * pause - after - 60.0))
            if rule.max_run_sec is not None or dice.random() < 0.5:
                self.at(self.t + after, partial(self.report, job, "started", run))
                if dice.random() < 0.1:
                    self.at(self.t + after + sec / 2, partial(self.report, job, "log", run))
            end = self.t + after + sec
            if fate in ("fail", "retry"):
                self.at(end, partial(self.report, job, "failed", run))
                self.aim_at_failure(job, end)
            if fate == "retry":
                again = Run(f"{run.rid}-again" if run.rid else None)
                end += dice.choice((0.2, 5.0, 30.0))
                self.at(end, partial(self.report, job, "ended", again))
            elif fate in ("ok", "late"):
                self.at(end, partial(self.report, job, "ended", run))
                if dice.random() < (0.3 if self.is_stormy else 0.1):
                    self.at(end + dice.uniform(0.3, 4.0), partial(self.report, job, "log", run))
            self.aim(job, (self.t + after, end, scheduled + rule.grace_sec))
            if fate != "ok":
                self.tell(f"{job.svc} {fate} at {self.t + after + sec}, for {scheduled}")
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
        svc, t, healers = job.svc, self.t, list(self.healers.values())
        boot = f"{svc}-run{job.number}" if job.boot == "each" else job.boot
        ts = round(self.wall + t, 3)
        life_sec = compute_life_sec(job.watch.timeout_sec)
        payload = encode_beat(Beat(svc, job.i, ts, boot=boot, run=what, rid=run.rid, life=life_sec))
        if what == "failed" and run.ended is None:
            all_hear = all(bus.name in each.sessions and not each.asleep for each in healers)
            run.heard_by = tuple(each.hearing for each in healers) if all_hear else ()
        if what == "started" and run.started is None and self.leader in healers:
            heard_in = self.leader.sessions.get(bus.name, -1)
            self.at(t + 0.01, partial(self.note_start, run, self.leader, bus.name, heard_in))
        job.note_taken(what, run, t)
        if what == "ended" and job.has_key:
            bus.stored[last_beat_key(svc)] = payload, t + life_sec
        if job.leaves_runs and what in ("ended", "failed"):
            last = {"svc": svc, "ok": what == "ended", "ts": ts} | ({"code": 1} if job.boot == "each" else {})
            bus.stored[last_run_key(svc)] = orjson.dumps(last), t + 30 * DAY_SEC
        for healer in healers:
            if (session := healer.sessions.get(bus.name)) is not None:
                hears = partial(healer.hear, bus.name, session, job.watch.channel, payload)
                self.at(t + 0.002, partial(healer.do, hears))

    def note_start(self, run: Run, leader: Healer, bus: str, session: int) -> None:
        run.is_start_heard = not leader.asleep and leader.sessions.get(bus) == session

    # -- what befalls the fleet

    def plan_trouble(self) -> None:
        mean_sec = 1600.0 if self.is_stormy else 2400.0
        self.at(self.t + self.random.expovariate(1 / mean_sec), self.make_trouble)

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
        if self.random.random() < (0.5 if job.is_down else 0.3 if self.is_stormy else 0.08):
            at = self.random.choice(moments) + self.random.choice((-20.0, -1.0, -0.3, 0.1, 0.5))
            kinds = (self.cut_all, self.cut_all, self.kill_one, self.move, self.lose_other, self.deploy)
            self.at(at, partial(self.random.choice(kinds), job))

    def aim_at_failure(self, job: JobInWorld, at: float) -> None:
        """Have something befall the fleet while a failure is on its way, or is looked at."""
        if self.random.random() < (0.8 if self.is_stormy else 0.1):
            what: tuple[tuple[Callable[[JobInWorld], None], float], ...] = (
                (self.restart_all, at - 0.45),
                (self.move, at + 0.1),
                (self.lose_other, at + 0.1),
                (self.cut_all, at - 0.3),
            )
            kind, when = self.random.choice(what)
            self.at(when, partial(kind, job))

    def restart_all(self, _job: JobInWorld) -> None:
        for healer in list(self.healers.values()):
            self.kill(healer, 0.4)

    def deploy(self, job: JobInWorld) -> None:
        """All healers are away for a while, and begin again under a truth with another grace for the job."""
        for healer in list(self.healers.values()):
            self.kill(healer, 20.0)
        grace_sec = self.random.choice((60.0, 300.0, 1800.0, 6 * 3600.0))
        self.at(self.t + 10.0, partial(self.change_grace, job, grace_sec))

    def change_grace(self, job: JobInWorld, grace_sec: float) -> None:
        """Change the grace of a job, unless a run is under way: that ends under the line it began under."""
        if not job.waiting and all(run.ended is not None for run in job.runs):
            self.set_rule(job, replace(job.rule, grace_sec=grace_sec))

    def lose_other(self, job: JobInWorld) -> None:
        """The healer that does not lead is cut off for a moment, and leads a little later."""
        others = [healer for healer in self.healers.values() if healer is not self.leader]
        for healer in others:
            sec = self.random.choice((2.0, 80.0))
            self.tell(f"{healer.name} is cut off {job.watch.bus} for {sec}, and leads soon")
            healer.do(partial(healer.cut, job.watch.bus, sec))
        self.at(self.t + self.random.choice((50.0, 50.0, 400.0)), self.kill_leader)

    def cut_all(self, job: JobInWorld) -> None:
        sec = self.random.choice((2.0, 30.0))
        self.tell(f"all are cut off {job.watch.bus} for {sec}, for {job.svc}")
        for healer in list(self.healers.values()):
            healer.do(partial(healer.cut, job.watch.bus, sec))

    def kill_one(self, _job: JobInWorld) -> None:
        if (healer := self.some_healer()) is not None:
            self.kill(healer)

    def move(self, job: JobInWorld) -> None:
        """The job moves to the other bus, in the middle of a run or not; its sender knows that at once."""
        job.change(replace(job.watch, bus="y" if job.watch.bus == "x" else "x"), self.t)
        self.tell(f"{job.svc} moves to {job.watch.bus}")
        self.rewatch()

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
            healer.hearing.begin_gap(name, self.t)
        self.oracle.troubled.append((self.t, self.t + sec + 2.0))
        if sec > LEASE_SEC and self.leader is healer:
            self.leader_seen_at = self.t
            self.at(self.t + LEASE_SEC, partial(self.replace_leader, healer))
        self.at(self.t + sec, partial(self.wake, healer))

    def wake(self, healer: Healer) -> None:
        if healer.is_gone or not healer.asleep:
            return
        healer.asleep = False
        healer.detector.note_awake(healer.now)  # a stall, whatever comes first
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
        self.oracle.troubled.append((self.t - LEASE_SEC - 1.0, self.t + 3.0))
        if not self.oracle.begun:
            healer.set_leader()
        else:
            healer.advance()
            healer.take_over()
            healer.look()
        self.oracle.begun.append(self.t)

    def kill_leader(self) -> None:
        if self.leader is not None and self.healers.get(self.leader.name) is self.leader:
            self.kill(self.leader)

    def restart(self) -> None:
        if (healer := self.some_healer()) is not None:
            self.kill(healer)

    def kill(self, healer: Healer, away: float | None = None) -> None:
        away = self.random.choice((0.5, 2.0, 60.0, 1800.0)) if away is None else away
        self.tell(f"{healer.name} is killed, and away for {away}")
        if self.leader is healer and not healer.asleep:
            healer.advance()
            if self.random.random() < 0.5:
                healer.save()
        healer.is_gone = True
        del self.healers[healer.name]
        self.oracle.end_hearing(healer.name, self.t)
        # what it heard since it last saved, it heard for nothing
        self.oracle.troubled.append((self.t - SAVE_EVERY_SEC, self.t + away + 5.0))
        if self.leader is healer:
            self.leader_seen_at = self.t
            self.at(self.t + LEASE_SEC, partial(self.replace_leader, healer))
        self.at(self.t + away, partial(self.start_healer, healer.name))

    def start_healer(self, name: str) -> None:
        if name not in self.healers:
            self.tell(f"{name} starts")
            self.oracle.begun.append(self.t)
            self.healers[name] = Healer(self, name)

    def stop_bus(self) -> None:
        name = self.random.choice("xy")
        if not self.buses[name].answers:
            return
        sec = self.random.choice((3.0, 40.0, 900.0, 15_000.0))
        self.tell(f"{name} is away for {sec}")
        self.buses[name].answers = False
        self.oracle.away[name].append((self.t, self.t + sec))
        for healer in list(self.healers.values()):
            healer.do(partial(healer.cut, name, sec + 0.2))
        self.at(self.t + sec, partial(self.start_bus, name))
        job = self.random.choice(list(self.jobs.values()))  # the clocks of the buses differ by that time
        self.at(self.t + sec + 300.0, partial(self.move, job))

    def start_bus(self, name: str) -> None:
        self.buses[name].answers = True

    def step_clock(self) -> None:
        name, sec = self.random.choice("AB"), self.random.choice((-3600.0, -30.0, 5.0, 3600.0, 90_000.0))
        self.tell(f"the clock of {name} is set by {sec}")
        self.oracle.troubled.append((self.t, self.t))
        self.walls[name] += sec
        if name in self.healers:
            self.healers[name].wall = self.walls[name]
        back = self.random.uniform(10.0, 40_000.0)
        self.oracle.offsets.append((self.t, self.t + back, self.walls[name]))
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
        rule = job.rule
        if kind == "bus":
            self.move(job)
        elif kind == "grace":
            rule = replace(rule, grace_sec=self.random.choice((60.0, 300.0, 1800.0)))
        elif kind == "max_run":
            rule = replace(rule, max_run_sec=self.random.choice((None, 500.0, 3600.0)))
        else:
            rule = self.make_rule()
        self.set_rule(job, rule)

    def tighten(self, job: JobInWorld) -> None:
        """A run that is skipped gets less grace, and so is overdue perhaps."""
        self.change_grace(job, 60.0)

    def set_rule(self, job: JobInWorld, rule: JobRule) -> None:
        if rule == job.rule:
            return
        expected_since = job.expected_since if rule.schedule == job.schedule else self.t
        job.change(self.make_watch(job.svc, rule, job.watch.bus), self.t)
        job.expected_since = expected_since
        job.generation += 1
        self.tell(f"{job.svc}: now {job.watch}")
        self.rewatch()
        self.plan_run(job)

    def rewatch(self) -> None:
        for healer in list(self.healers.values()):
            healer.do(healer.rewatch)


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
