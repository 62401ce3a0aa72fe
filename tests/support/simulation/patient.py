"""A target of the medic in simulated time: its process, its beats, and a fleet that restarts it on order.

What the medic is shown is made of what really is, so a test can hold its verdicts against the truth.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from marketswarm.operator.healing import TimelineEntry
from services.medic.facts import FleetFacts, Health, ProcessFacts, RestartOwner, TargetFacts
from services.medic.planner import Planner, RepairPlan
from services.medic.remedies import REMEDIES, OrderResult, RemedyOrder
from services.medic.settings import HealingSettings

ACTING = {"mode": "act"}
DOWN = {"health": Health.DOWN}
OLD = ProcessFacts("start 1", age_sec=1000.0)


@dataclass
class Patient:
    """One service and the medic that watches it; `settings` are those of the truth.

    `plans` and `orders` keep what the medic wanted, with the times of the orders. `shown` replaces parts of
    what it is shown of the target, `blocked` of the fleet. It has beaten since `beats_from`. Since `stale_at`
    the target reads what is stale, and beats `degraded`; what is down has no beats, so its time of `degraded`
    beats begins when it is up again. `record` is what is on record of earlier outages, and `ended` has the
    services for which the command of an earlier medic has provably ended.
    """

    settings: dict[str, Any] = field(default_factory=lambda: dict(ACTING))
    now: float = 1_000_000.0
    is_up: bool = True
    starts: int = 1
    started_at: float = 999_000.0
    beats_from: float = 999_000.0
    beat_at: float = 1_000_000.0
    last_beating: int = 1
    down_at: float | None = None
    restart_helps: bool = True
    stale_at: float | None = None
    clear_helps: bool = True
    others: Mapping[str, TargetFacts] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)
    blocked: Any = None
    approvals: dict[str, str] = field(default_factory=dict)
    record: Sequence[TimelineEntry] = ()
    is_dry_run: bool = False
    ended: Collection[str] = ()

    def __post_init__(self) -> None:
        self._parsed: tuple[dict[str, Any], HealingSettings] | None = None
        self.planner = Planner(self._parse_settings, is_dry_run=self.is_dry_run)
        self.planner.experience.load(self.record, 0.0)
        self.plans: list[RepairPlan] = []
        self.orders: list[tuple[float, RemedyOrder]] = []

    def _parse_settings(self) -> HealingSettings:
        """Parse the settings again only when they changed: the planner asks for them several times a tick."""
        if self._parsed is None or self._parsed[0] != self.settings:
            self._parsed = copy.deepcopy(self.settings), HealingSettings.model_validate(self.settings)
        return self._parsed[1]

    @property
    def boot(self) -> str:
        return f"boot {self.starts}"

    @property
    def identity(self) -> str:
        return f"start {self.starts}"

    def facts(self) -> TargetFacts:
        process = ProcessFacts(self.identity, age_sec=self.now - self.started_at, is_restarting=False)
        found = TargetFacts(
            svc="feed",
            health=Health.UP if self.is_up else Health.DOWN,
            down_since=self.down_at,
            down_sec=None if self.down_at is None else self.now - self.down_at,
            boot=self.boot if self.is_up else f"boot {self.last_beating}",
            status="ok" if self.stale_at is None else "degraded",
            degraded_sec=0.0 if self.stale_at is None else self.now - max(self.stale_at, self.beats_from),
            silence_sec=self.now - self.beat_at,
            owner=RestartOwner.UP,
            processes=(process,),
        )
        return replace(found, **self.shown)

    def tick(self) -> RepairPlan:
        if self.is_up:
            self.beat_at, self.last_beating = self.now, self.starts
        fleet = FleetFacts({"feed": self.facts(), **self.others}, self.blocked)
        plan = self.planner.tick(fleet, self.approvals, 7, self.now, ended=self.ended)
        self.approvals = {ident: by for ident, by in self.approvals.items() if ident not in plan.used}
        self.plans.append(plan)
        if plan.order is not None:
            self.orders.append((self.now, plan.order))
        return plan

    def look(self, sec: float = 1.0, step_sec: float = 1.0, *, obey: bool = True) -> None:
        """Let time pass, and the medic look at each step; carry out its orders unless told otherwise."""
        for _ in range(round(sec / step_sec)):
            self.now += step_sec
            order = self.tick().order
            if order is not None and obey:
                self.obey(order)

    def obey(self, order: RemedyOrder, result: OrderResult | None = None) -> None:
        """Restart the process, or clear what it reads, if it is still the one that is meant."""
        is_restart = REMEDIES[order.remedy].replaces_process
        if result is None:
            meant = (self.identity, self.boot) if is_restart else (self.boot,)
            result = OrderResult.DONE if order.identity in meant else OrderResult.CHANGED
        if result is OrderResult.DONE and is_restart:
            self.restart(self.restart_helps)
        elif result is OrderResult.DONE and self.clear_helps:
            self.stale_at = None
        self.plans.append(self.planner.record_result(order, result, "said", self.now))

    def try_in_vain(self, remedy: str, tell: Callable[..., object], times: int) -> None:
        """Carry out orders until so many were of a remedy that has failed each time, as `tell` shows."""
        tried = 0
        while tried < times:
            self.look(1, obey=False)
            if not self.orders or self.orders[-1][0] < self.now:
                continue
            order = self.orders[-1][1]
            self.obey(order, OrderResult.DONE)
            if order.remedy == remedy:
                tried += 1
                tell(self, identity=f"r{tried + 1}", results={f"r{tried}": False})

    def die(self) -> None:
        if self.is_up:
            self.is_up, self.down_at = False, self.now

    def go_stale(self) -> None:
        self.stale_at = self.now if self.stale_at is None else self.stale_at

    def rise(self) -> None:
        if not self.is_up:
            self.is_up, self.down_at, self.beats_from = True, None, self.now

    def restart(self, helps: bool = True) -> None:
        self.starts += 1
        self.started_at = self.beats_from = self.now
        self.is_up = helps
        self.down_at = None if helps else (self.down_at or self.now)

    def set_clock(self, step_sec: float) -> None:
        """Set the clock of the machine; what the test compares with it moves along."""
        self.now += step_sec
        self.started_at += step_sec
        self.beats_from += step_sec
        self.beat_at += step_sec
        self.down_at = None if self.down_at is None else self.down_at + step_sec
        self.stale_at = None if self.stale_at is None else self.stale_at + step_sec
        self.orders = [(at + step_sec, order) for at, order in self.orders]

    def crash_medic(self) -> None:
        """Replace the medic by one that knows what is stored."""
        stored, fuse = list(self.planner.repairs.values()), self.planner.fuse
        self._parsed: tuple[dict[str, Any], HealingSettings] | None = None
        self.planner = Planner(self._parse_settings, is_dry_run=self.is_dry_run)
        self.planner.resume(stored, fuse, self.now)
        self.planner.experience.load(
            [*self.record, *(each for plan in self.plans for each in plan.entries)], 0.0
        )

    def told(self, svc: str = "feed") -> list[str]:
        """The timeline of a service, as `what` or `what reason`."""
        entries = [entry for plan in self.plans for entry in plan.entries if entry.svc == svc]
        return [" ".join(filter(None, (entry.what, entry.reason))) for entry in entries]


def down(**more: Any) -> Patient:
    """Return a patient that went down after the medic had seen it up."""
    patient = Patient(**more)
    patient.look(2)
    patient.die()
    return patient


def others(*health: Health) -> dict[str, TargetFacts]:
    """Return other targets, one of each health."""
    return {f"other{i}": TargetFacts(svc=f"other{i}", health=each) for i, each in enumerate(health)}
