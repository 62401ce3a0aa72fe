"""Incidents of a small fleet with a hidden truth: faults that heal, return, spread, or never end.

The medic's planner is the product's own. It is shown what healer, beats, rules and `marketswarm up` would
show it, which is late, and at times old or missing. `incident_oracle.py` knows what really is, and judges
what the planner says and does. All of it follows from a seed: `IncidentWorld(7).run()` repeats a story.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import exp, inf, log
from typing import Any, Final, NamedTuple

from services.medic.facts import FleetFacts, Health, ProcessFacts, RestartOwner, Symptom, TargetFacts
from services.medic.observer import DegradedTimes
from services.medic.planner import Planner, RepairPlan
from services.medic.refusal import Refusal
from services.medic.remedies import REMEDIES, OrderResult, Remedy, RemedyOrder
from services.medic.repair import RepairState, find_proposal
from services.medic.settings import HealingSettings
from support.simulation.event_loop import World
from support.simulation.incident_oracle import IncidentOracle

FEED, STORE, OTHER = "feed", "store", "other"
BEAT_SEC: Final = 2.0
TIMEOUT_SEC: Final = 6.0
MEASURE_SEC: Final = 10.0
ROSTER_LIFE_SEC: Final = 8.0
"""How long what a dead healer left may still be taken for its word."""
WALL: Final = 1_790_000_000.0
BEGIN_SEC: Final = 300.0
END_SEC: Final = 2400.0
QUIET: Final = (RepairState.OPEN, RepairState.STABILIZING, RepairState.ESCALATED)
NO_REMEDY: Final = frozenset[Remedy]()
RESTART: Final = frozenset({Remedy.RESTART})
CACHES: Final = (Remedy.QUOTES_CACHE, Remedy.CHARTS_CACHE)


@dataclass
class Fault:
    """What is wrong with a service, and what ends it.

    `cures` are the remedies that end it, after `spares` attempts in vain. `heals_sec` is after how long it
    ends by itself, `returns` after how long each time it is there again. With `crashes`, the process ends.
    """

    symptom: Symptom = Symptom.SILENT
    cures: frozenset[Remedy] = NO_REMEDY
    heals_sec: float = inf
    returns: list[float] = field(default_factory=list)
    spares: int = 0
    crashes: bool = False


class Beat(NamedTuple):
    at: float
    boot: str
    status: str


class SimService:
    """A service in truth, and what its beats have shown."""

    def __init__(self, world: "IncidentWorld", name: str, owner: RestartOwner = RestartOwner.UP) -> None:
        self.world, self.name, self.owner = world, name, owner
        self.needs: SimService | None = None
        self.fault: Fault | None = None
        self.starts, self.started_at, self.ready_at = 1, -1000.0, -1000.0
        self.is_ended = self.is_stopped = self.is_silenced = False
        self.has_returned = False
        self.pauses = 0
        self.since = 0.0
        """When the truth changed last; a beat was sent then."""
        self.cause = ""
        """What ended the last fault."""
        self._beat = Beat(0.0, self.boot, "ok")
        self._health, self._down_since = Health.UP, 0.0
        self._alert: tuple[float, bool | None] = (0.0, False)
        self._degraded = DegradedTimes()

    @property
    def boot(self) -> str:
        return f"{self.name} boot {self.starts}"

    @property
    def identity(self) -> str:
        return f"{self.name} start {self.starts}"

    # -- the truth

    def find_symptom(self) -> Symptom | None:
        """Return what is really wrong now."""
        fault = None if self.fault is None or self.fault.crashes else self.fault.symptom
        is_mute = self.is_ended or self.is_stopped or self.world.t < self.ready_at
        is_cut = self.needs is not None and self.needs.find_symptom() is Symptom.SILENT
        return Symptom.SILENT if is_mute or is_cut else fault

    def change(self, do: Callable[[], None] = lambda: None) -> None:
        """Change the truth, after the beats up to now were sent."""
        users = [each for each in self.world.services.values() if each is self or each.needs is self]
        for each in users:
            each.send_beats()
        do()
        for each in users:
            each.since = self.world.t
            cause = self.cause if each is self else "dependency"
            self.world.oracle.note(each.name, each.find_symptom(), cause, self.world.t)

    def begin_fault(self, fault: Fault) -> None:
        def begin() -> None:
            self.fault = fault
            if fault.crashes:
                self._end_process()
            if fault.heals_sec < inf:
                self.world.after(fault.heals_sec, lambda: self.end_fault("self"), lambda: self.fault is fault)

        self.change(begin)

    def end_fault(self, cause: str) -> None:
        fault = self.fault
        self.cause = cause

        def end() -> None:
            self.fault = None
            if fault is not None and fault.returns:
                self.has_returned = True
                again = replace(fault, returns=fault.returns[1:])
                self.world.after(
                    fault.returns[0], lambda: self.begin_fault(again), lambda: self.fault is None
                )

        self.change(end)

    def _end_process(self) -> None:
        """Let the process end; its owner starts it after a pause that grows."""
        starts, self.is_ended = self.starts, True
        self.pauses += 1
        pause_sec = min(30.0, 0.5 * 2**self.pauses)
        self.world.after(pause_sec, lambda: self.start_process("owner"), lambda: self.starts == starts)

    def start_process(self, cause: str) -> None:
        """Start the process anew; the last start of one that crashes is the end of its fault."""
        fault = self.fault

        def start() -> None:
            self.starts += 1
            self.is_ended, self.started_at = False, self.world.t
            self.ready_at = self.world.t + self.world.start_sec
            self.world.after(self.world.start_sec, self.change)
            if fault is None or fault.crashes:
                self.cause = cause
            if fault is not None and fault.crashes:
                self._plan_crash(fault)

        self.change(start)

    def _plan_crash(self, fault: Fault) -> None:
        if not fault.returns:
            self.fault = None
            return
        again, starts = replace(fault, returns=fault.returns[1:]), self.starts
        sec = self.world.start_sec + fault.returns[0]
        self.world.after(sec, lambda: self.begin_fault(again), lambda: self.starts == starts)

    def apply(self, order: RemedyOrder) -> OrderResult:
        """Carry out an order on what really is."""
        kind, fault = REMEDIES[order.remedy], self.fault
        self.send_beats()
        meant = (self.identity, self.boot) if kind.replaces_process else (self._beat.boot,)
        if order.identity not in meant:
            return OrderResult.CHANGED
        if kind.replaces_process:
            self.start_process(order.remedy)
        if fault is not None and order.remedy in fault.cures:
            fault.spares -= 1
            if fault.spares < 0:
                self.end_fault(order.remedy)
        return OrderResult.DONE

    # -- what is seen

    def send_beats(self) -> None:
        symptom, now = self.find_symptom(), self.world.t
        if symptom is not Symptom.SILENT:
            at = self.since + (now - self.since) // BEAT_SEC * BEAT_SEC
            self._beat = Beat(at, self.boot, "degraded" if symptom is Symptom.DEGRADED else "ok")

    def measure(self) -> None:
        """Evaluate the rule that holds while the fault is there."""
        symptom = self.find_symptom()
        self._alert = self.world.t, None if symptom is Symptom.SILENT else symptom is Symptom.ALERT

    def show(self, now: float, *, is_roster_old: bool, hidden: str) -> TargetFacts:
        """Return what the medic is shown; `now` is its time."""
        t = self.world.t
        self.send_beats()
        silence_sec: float | None = t - self._beat.at
        if not is_roster_old:
            is_up = t - self._beat.at <= TIMEOUT_SEC
            if self._health is Health.UP and not is_up:
                self._down_since = self._beat.at + self.world.clock - t
            self._health = Health.UP if is_up else Health.DOWN
        is_down = self._health is Health.DOWN and hidden != "roster"
        status: str | None = self._beat.status
        if t - self._beat.at > TIMEOUT_SEC:  # the key of the last beat has expired
            silence_sec = status = None
        boot: str | None = self._beat.boot
        silence_sec = None if hidden == "silence" else silence_sec
        status, boot = (None if hidden == "beat" else status), (None if hidden == "beat" else boot)
        process = ProcessFacts(self.identity, self.is_ended, self.is_stopped, t - self.started_at, False)
        measured_at, is_alerted = self._alert
        return TargetFacts(
            svc=self.name,
            health=Health.UNKNOWN if hidden == "roster" else self._health,
            down_since=self._down_since if is_down else None,
            down_sec=max(0.0, self.world.clock - self._down_since) if is_down else None,
            boot=boot,
            status=status,
            silence_sec=silence_sec,
            degraded_sec=self._measure_degraded(boot, status, now),
            owner=self.owner,
            processes=() if self.owner is RestartOwner.ELSEWHERE else (process,),
            blocked=Refusal.SILENCED if self.is_silenced else None,
            depends_on=() if self.needs is None else (self.needs.name,),
            is_alerted=is_alerted,
            alert_age_sec=t - measured_at,
        )

    def begin_term(self) -> None:
        self._degraded = DegradedTimes()

    def _measure_degraded(self, boot: str | None, status: str | None, now: float) -> float:
        self._degraded.begin_look((self.name,), now, self.world.settings.find_longest_gap(0.0))
        return self._degraded.measure(self.name, boot, status, now)


class IncidentWorld(World):
    """A fleet of three services, one incident of a drawn kind, and the medics that lead in turn."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed, self.random = seed, random.Random(seed)
        self.oracle = IncidentOracle()
        dice = self.random
        self.start_sec = dice.uniform(0.5, 12.0)
        self.ladder: tuple[Remedy, ...] = (Remedy.RESTART,)
        self.wall = self.medic_wall = WALL
        self.services = {name: SimService(self, name) for name in (FEED, STORE, OTHER)}
        self.feed, self.store = self.services[FEED], self.services[STORE]
        self.kind = list(KINDS)[seed % len(KINDS)]
        KINDS[self.kind](self)
        self.settings = HealingSettings.model_validate(
            {
                "mode": "propose" if dice.random() < 0.1 else "act",
                "every_sec": 2.0,
                "wait_sec": dice.uniform(2, 8),
                "settle_sec": dice.uniform(16, 30),
                "stable_sec": dice.uniform(40, 90),
                "start_grace_sec": dice.uniform(16, 30),
                "degraded_sec": dice.uniform(4, 20),
                "fuse": {"down_share": 0.7, "remedies": 20},
                "targets": {FEED: {"ladder": self.ladder}},
            }
        )
        self.planner = Planner(lambda: self.settings)
        self.epoch = 1
        self._blind_until = self._old_until = self._hidden_until = self._away_until = -1.0
        self._old_since = 0.0
        self._hidden = ""
        self._plan_disturbances()
        self.at(MEASURE_SEC, self._measure)

    def after(self, sec: float, do: Callable[[], None], if_still: Callable[[], bool] = lambda: True) -> None:
        self.at(self.t + sec, lambda: do() if if_still() else None)

    def draw(self, least: float, most: float) -> float:
        """Return a time that is as often of one magnitude as of another."""
        return exp(self.random.uniform(log(least), log(most)))

    # -- what disturbs the medic's view

    def _plan_disturbances(self) -> None:
        dice = self.random
        for do in (self._blind, self._age_roster, self._hide, self._take_over, self._set_clock):
            if dice.random() < 0.25:
                self.at(BEGIN_SEC + self.draw(1, 400), do)

    def _blind(self) -> None:
        self._blind_until = self.t + self.draw(2, 60)

    def _age_roster(self) -> None:
        self._old_since, self._old_until = self.t, self.t + self.draw(2, 40)

    def _hide(self) -> None:
        self._hidden_until = self.t + self.draw(2, 60)
        self._hidden = self.random.choice(("silence", "beat", "roster"))

    def _set_clock(self) -> None:
        """Set the clock: the medic that leads keeps its own time."""
        self.wall += self.random.choice((-3600.0, -60.0, 60.0, 3600.0))

    def _take_over(self) -> None:
        """Let another medic lead, after the lease of the first one has expired."""
        self._away_until = self.t + 10.0

    def _measure(self) -> None:
        for each in self.services.values():
            each.measure()
        self.after(MEASURE_SEC, self._measure)

    # -- the medic

    @property
    def now(self) -> float:
        """The time of the medic that leads."""
        return self.t + self.medic_wall

    @property
    def clock(self) -> float:
        """The clock of the machine, in epoch seconds."""
        return self.t + self.wall

    def run(self) -> IncidentOracle:
        """Let the story happen to its end; return the oracle."""
        while self.t < END_SEC and not self._is_over():
            self._pass_time(self._choose_step())
            if self.t < self._away_until:
                continue
            if self._away_until > 0:
                stored, fuse, self._away_until = list(self.planner.repairs.values()), self.planner.fuse, -1.0
                self.planner, self.medic_wall = Planner(lambda: self.settings), self.wall
                for each in self.services.values():
                    each.begin_term()
                self.planner.resume(stored, fuse, self.now)
                self.oracle.note_takeover(self.t)
                self.epoch += 1
            self._look()
        self.oracle.judge_end(self.planner.repairs, self.services, self.t)
        return self.oracle

    def _is_over(self) -> bool:
        """Return True once nothing more is planned, and the medic had time to conclude."""
        if self.t < BEGIN_SEC or len(self._events) > 1:
            return False
        is_done = self.oracle.is_concluded(self.planner.repairs, self.services)
        return self.t > self.oracle.changed_at + (60.0 if is_done else 700.0)

    def _choose_step(self) -> float:
        """Return the time to the next round: short while something is about to be decided."""
        if self.t < BEGIN_SEC - 10:
            return BEGIN_SEC - 10 - self.t
        busy = any(each.state not in QUIET for each in self.planner.repairs.values())
        is_news = self.t < self.oracle.changed_at + 3 * TIMEOUT_SEC
        return self.random.uniform(0.5, 2.5) if busy or is_news else self.random.uniform(5.0, 9.5)

    def _pass_time(self, sec: float) -> None:
        until = self.t + sec
        while self.next_at() <= until:
            self.t = max(self.t, self.next_at())
            self.do_next()
        self.t = until

    def _look(self) -> None:
        is_blind, is_old = self.t < self._blind_until, self.t < self._old_until
        blocked = Refusal.CUT_OFF if is_blind else None
        if is_old and self.t - self._old_since > ROSTER_LIFE_SEC:
            blocked = blocked or Refusal.HEALER_ABSENT
        hidden = self._hidden if self.t < self._hidden_until else ""
        targets = {
            name: TargetFacts(svc=name, is_alerted=None)
            if is_blind
            else each.show(self.now, is_roster_old=is_old, hidden=hidden)
            for name, each in self.services.items()
        }
        self.oracle.note_view(self.t, is_clear=not (is_blind or is_old or hidden))
        plan = self.planner.tick(FleetFacts(targets, blocked), self._approve(), self.epoch, self.now)
        self._judge(plan)
        if plan.order is not None:
            self.oracle.judge_order(plan.order, self.services, blocked, self.t)
            self._carry_out(plan.order)

    def _approve(self) -> dict[str, str]:
        """Let a person approve a proposal, after a while."""
        found = (find_proposal(each) for each in self.planner.repairs.values())
        return {each.ident: "ann" for each in found if each is not None and self.random.random() < 0.05}

    def _carry_out(self, order: RemedyOrder) -> None:
        """Carry out an order; now and then the medic dies before or after it, or gets no answer."""
        fate = self.random.choices(("done", "dies before", "dies after", "no answer"), (91, 3, 3, 3))[0]
        self.oracle.tell(self.t, f"{order.remedy} of {order.svc}: {fate}")
        result = OrderResult.DONE if fate == "dies before" else self.services[order.svc].apply(order)
        is_done = fate != "dies before" and result is OrderResult.DONE
        self.oracle.note_order(order.svc, is_done=is_done)
        if fate.startswith("dies"):
            self._take_over()
            return
        result = OrderResult.UNKNOWN if fate == "no answer" else result
        self._judge(self.planner.record_result(order, result, "", self.now))

    def _judge(self, plan: RepairPlan) -> None:
        for entry in plan.entries:
            self.oracle.judge(entry, self.services, self.settings, self.t)


# -- the kinds of incidents


def _begin(world: IncidentWorld, svc: str = FEED, **fault: Any) -> None:
    world.at(BEGIN_SEC, partial(world.services[svc].begin_fault, Fault(**fault)))


def _draw_symptom(world: IncidentWorld) -> Symptom:
    return world.random.choice(list(Symptom))


def _draw_times(world: IncidentWorld, least: float, most: float, count: int) -> list[float]:
    return [world.draw(least, most) for _ in range(world.random.randint(1, count))]


def heals_itself(world: IncidentWorld) -> None:
    _begin(world, symptom=_draw_symptom(world), heals_sec=world.draw(2, 900))


def hangs(world: IncidentWorld) -> None:
    _begin(world, cures=RESTART)


def hangs_for_a_while(world: IncidentWorld) -> None:
    _begin(world, cures=RESTART, heals_sec=world.draw(5, 300))


def leaks(world: IncidentWorld) -> None:
    _begin(world, symptom=Symptom.ALERT, cures=RESTART)


def reads_a_stale_cache(world: IncidentWorld) -> None:
    world.ladder = (*CACHES, Remedy.RESTART)
    _begin(world, symptom=Symptom.DEGRADED, cures=frozenset({world.random.choice(CACHES)}))


def is_degraded_until_restarted(world: IncidentWorld) -> None:
    world.ladder = (*CACHES[: world.random.randint(0, 2)], Remedy.RESTART)
    _begin(world, symptom=Symptom.DEGRADED, cures=RESTART)


def is_helped_for_a_while(world: IncidentWorld) -> None:
    _begin(world, symptom=_draw_symptom(world), cures=RESTART, returns=_draw_times(world, 20, 200, 4))


def needs_more_than_one_attempt(world: IncidentWorld) -> None:
    _begin(world, symptom=_draw_symptom(world), cures=RESTART, spares=world.random.randint(1, 2))


def is_broken(world: IncidentWorld) -> None:
    world.ladder = (*CACHES[: world.random.randint(0, 2)], Remedy.RESTART)
    _begin(world, symptom=_draw_symptom(world))


def lacks_its_dependency(world: IncidentWorld) -> None:
    world.feed.needs = world.store
    _begin(world, STORE, cures=RESTART, heals_sec=world.random.choice((inf, world.draw(10, 300))))


def starts_slowly(world: IncidentWorld) -> None:
    world.start_sec = world.random.uniform(10, 15)
    _begin(world, cures=RESTART)


def flaps(world: IncidentWorld) -> None:
    spell_sec = world.random.uniform(10, 40)
    symptom, returns = _draw_symptom(world), _draw_times(world, 20, 200, 6)
    _begin(world, symptom=symptom, cures=RESTART, heals_sec=spell_sec, returns=returns)


def crashes(world: IncidentWorld) -> None:
    world.feed.owner = world.random.choice(list(RestartOwner))
    _begin(world, crashes=True, returns=_draw_times(world, 1, 60, 3)[1:])


def crashes_for_ever(world: IncidentWorld) -> None:
    world.feed.owner = world.random.choice((RestartOwner.UP, RestartOwner.MEDIC))
    _begin(world, crashes=True, returns=[world.draw(1, 20) for _ in range(12)])


def runs_elsewhere(world: IncidentWorld) -> None:
    world.feed.owner = RestartOwner.ELSEWHERE
    world.ladder = (Remedy.RESTART, *world.random.choice(((), (Remedy.COMMAND,))))
    _begin(world, cures=frozenset({Remedy.COMMAND}), heals_sec=world.draw(200, 900))


def is_silenced(world: IncidentWorld) -> None:
    def silence(*, is_silenced: bool) -> None:
        world.feed.is_silenced = is_silenced

    world.at(BEGIN_SEC - 1, partial(silence, is_silenced=True))
    world.at(BEGIN_SEC + world.draw(30, 300), partial(silence, is_silenced=False))
    _begin(world, cures=RESTART)


def was_stopped_by_a_person(world: IncidentWorld) -> None:
    feed = world.feed

    def stop(*, is_stopped: bool) -> None:
        feed.is_stopped, feed.is_ended = is_stopped, True

    world.at(BEGIN_SEC, partial(feed.change, partial(stop, is_stopped=True)))
    end_at = BEGIN_SEC + world.draw(30, 300)
    world.at(end_at, partial(feed.change, partial(stop, is_stopped=False)))
    world.at(end_at, partial(feed.start_process, "owner"))


def all_stand_still(world: IncidentWorld) -> None:
    heals_sec = world.draw(10, 300)
    for svc in world.services:
        _begin(world, svc, heals_sec=heals_sec)


KINDS: Final[Mapping[str, Callable[[IncidentWorld], None]]] = {
    each.__name__: each
    for each in (
        heals_itself,
        hangs,
        hangs_for_a_while,
        leaks,
        reads_a_stale_cache,
        is_degraded_until_restarted,
        is_helped_for_a_while,
        needs_more_than_one_attempt,
        is_broken,
        lacks_its_dependency,
        starts_slowly,
        flaps,
        crashes,
        crashes_for_ever,
        runs_elsewhere,
        is_silenced,
        was_stopped_by_a_person,
        all_stand_still,
    )
}
