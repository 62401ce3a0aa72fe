"""Hold the open repairs of a fleet, and have each of them decided: at most one order a round. Pure.

`Planner.tick` takes what was observed and the time, and returns a `RepairPlan`: entries for the timelines,
the repairs that changed, and perhaps an order. The caller stores all of it before it carries out the order,
and passes the result to `record_result`. A medic that takes over passes what it found stored to `resume`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

from marketswarm.channels.exec import HOST_LATE_SEC
from marketswarm.operator.healing import FUSE, DiagnosisRecord, EntryKind, OutageEvidence, TimelineEntry
from marketswarm.text import format_duration
from services.medic.decision import LEASE_SEC, advise, conclude, decide, find_window_sec, open_repair, retire
from services.medic.experience import Experience
from services.medic.facts import FleetFacts
from services.medic.guards import Fuse, Situation
from services.medic.refusal import Refusal
from services.medic.remedies import OrderResult, Remedy, RemedyOrder
from services.medic.repair import Repair, RepairState, RepairStep, find_proposal
from services.medic.rules.observed_time import ObservedSpans
from services.medic.settings import MAX_COMMAND_SEC, HealingSettings

_OBSERVED: Final = (RepairState.WAITING, RepairState.SETTLING, RepairState.STABILIZING)
"""The states whose time counts only while the target is observed."""
LATE_SEC: Final = HOST_LATE_SEC + 1
"""How much later than its time the host may end a remedy that runs apart; it counts whole seconds."""


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What follows from an observation, to be stored in one step; `order` is carried out then.

    A repair that is None has ended; `used` are approvals to delete. `fuse` is its new state, None if it did
    not change; so are `questions`, those to the second tier, and `observed`. `evidence` was taken before
    `order` is carried out. `contradictions`, which are not stored, are the services whose decision was
    dropped, each with why it can't be right.
    """

    entries: tuple[TimelineEntry, ...] = ()
    repairs: Mapping[str, Repair | None] = field(default_factory=dict)
    order: RemedyOrder | None = None
    used: tuple[str, ...] = ()
    fuse: Fuse | None = None
    questions: Fuse | None = None
    diagnosis: DiagnosisRecord | None = None
    observed: ObservedSpans | None = None
    evidence: tuple[OutageEvidence, ...] = ()
    contradictions: Mapping[str, str] = field(default_factory=dict)

    def is_empty(self) -> bool:
        stored = self.fuse or self.diagnosis or self.observed
        return not (self.entries or self.repairs or self.used or stored)


class Planner:
    """Hold the open repairs of a fleet by service, and the fuse.

    `get_settings` returns the settings in force. `experience` is what the record teaches, if it was loaded.
    In a dry run nothing is ordered, and no person is asked.
    """

    def __init__(self, get_settings: Callable[[], HealingSettings], *, is_dry_run: bool = False) -> None:
        self.repairs: dict[str, Repair] = {}
        self.fuse = Fuse()
        self.experience = Experience()
        self._resumed_at = 0.0
        self._fleet_down_at = float("-inf")
        self._get_settings, self._is_dry_run = get_settings, is_dry_run
        self._looked_at = float("inf")

    def resume(self, repairs: Iterable[Repair], fuse: Fuse, now: float) -> None:
        """Go on with the repairs that another medic stored.

        How much time has passed since is not known: the clock may have been set. So each window, each
        cooldown and the time of a remedy that may still run restart, the fuse counts the last remedy as
        one of now, and a time after `now` is limited to it. A question without an answer ended with that
        medic, so it may be asked again. The record may have grown, so it is to be loaded again.
        """
        self._resumed_at, self.experience = now, Experience()
        repairs = list(repairs)
        is_down = any(each.refusal is Refusal.FLEET_DOWN for each in repairs)
        self._fleet_down_at = now if is_down else float("-inf")
        asked = (each if each.advice is not None else replace(each, asked_at=None) for each in repairs)
        self.fuse = fuse.shift_to(now)
        self._begin_windows((_restart_run(each, now) for each in asked), now)

    def _begin_windows(self, repairs: Iterable[Repair], now: float) -> None:
        """Begin each window again: what was not observed proves nothing."""
        begun = dict[str, Repair]()
        for each in repairs:
            attempts = tuple(replace(one, at=min(one.at, now)) for one in each.attempts)
            window_sec = find_window_sec(each, each.state, self._get_settings())
            until = now + (window_sec or 0.0) if each.state in _OBSERVED else each.until
            begun[each.svc] = replace(each, since=min(each.since, now), attempts=attempts, until=until)
        self.repairs = begun

    def tick(
        self,
        fleet: FleetFacts,
        approvals: Mapping[str, str],
        epoch: int,
        now: float,
        rest_sec: float = 0.0,
        *,
        running: Collection[str] = (),
        ended: Collection[str] = (),
    ) -> RepairPlan:
        """Move every repair on by what was observed at `now` (epoch seconds).

        Args:
            approvals: by the id of a proposal, the person who approved it.
            epoch: the number of the lease under which an order would be given.
            rest_sec: the rest that was planned before this round.
            running: the services for which a remedy runs apart from the rounds of this medic.
            ended: those for which an earlier medic's remedy ran apart, and has provably ended with it.
        """
        before, settings = (dict(self.repairs), self.fuse), self._get_settings()
        if now - self._looked_at > settings.find_longest_gap(rest_sec):
            self._begin_windows(self.repairs.values(), now)
        self._looked_at = now
        if FUSE in approvals and self.fuse.blown_at is not None:  # nothing is approved beforehand
            self.fuse = Fuse()
        if fleet.find_refusal(settings.fuse.down_share) is Refusal.FLEET_DOWN:
            self._fleet_down_at = now
        # what stopped them all ends for all of them, and their beats come one after the other
        is_after_fleet_down = 0 <= now - self._fleet_down_at < settings.wait_sec
        here = replace(
            self._describe(fleet, now),
            is_after_fleet_down=is_after_fleet_down,
            approvals=approvals,
            epoch=epoch,
            running=running,
            ended=ended,
        )
        found = list(self._decide_all(here))
        used = [FUSE] if FUSE in approvals else []
        return self._make_plan(found, before, used)

    def _decide_all(self, here: Situation) -> Iterator[RepairStep]:
        """Yield what follows for each outage, one after the other: the next one knows of the order before."""
        for svc, target in sorted(here.fleet.targets.items()):
            repair = self.repairs.get(svc)
            opened = open_repair(target, here) if repair is None else RepairStep(repair)
            if opened is not None:
                here = replace(here, fuse=self.fuse)
                found = _hold(opened.then(decide, target, here), opened)
                self.fuse = self.fuse.follow(found, here.settings.fuse, here.now)
                here = replace(here, is_busy=here.is_busy or found.order is not None)
                yield found
        for svc in sorted(self.repairs.keys() - here.fleet.targets.keys()):
            repair = self.repairs[svc]
            # if it returns before the deadline, the command of another medic may stop it yet
            if svc in here.running or svc in here.ended or not repair.may_still_run(here.now):
                yield retire(repair, here)

    def record_result(self, order: RemedyOrder, result: OrderResult, text: str, now: float) -> RepairPlan:
        """Record the outcome of an order; `text` is the answer, for people.

        Nothing follows if its repair has ended meanwhile, as that of a service which left the truth.
        """
        if order.svc not in self.repairs:
            return RepairPlan()
        repair = self.repairs[order.svc].forget_run()
        ordered = RepairStep(repair, order=order)
        if ordered.find_contradiction() is None:
            return self._follow(conclude(repair, result, text, self._describe(FleetFacts(), now)))
        return self._follow(_hold(ordered, RepairStep(repair)))

    def record_begin(self, order: RemedyOrder, within_sec: float, now: float) -> RepairPlan:
        """Record that an order begins to run apart from the rounds, and is over after `within_sec`.

        It is stored before the order is carried out: a medic that finds it knows that an attempt was made.
        """
        runs_sec = within_sec + LATE_SEC
        runs_until = now + runs_sec + LEASE_SEC  # it may begin a little later
        repair = self.repairs[order.svc]
        begun = RepairStep(replace(repair, runs_until=runs_until, runs_sec=runs_sec, runs_as=""))
        text = f"for {format_duration(within_sec)} at most"
        return self._follow(begun.note(EntryKind.RUNNING, now, remedy=order.remedy, text=text))

    def record_process(self, svc: str, identity: str) -> RepairPlan:
        """Record as which process group what was begun apart from the rounds runs."""
        return self._follow(RepairStep(replace(self.repairs[svc], runs_as=identity)))

    def record_progress(self, order: RemedyOrder, text: str, now: float) -> RepairPlan:
        """Record how far an order has come that runs apart from the rounds; `text` is for people."""
        running = RepairStep(self.repairs[order.svc])
        took_sec = now - running.repair.since
        return self._follow(running.note(EntryKind.RUNNING, now, took_sec, remedy=order.remedy, text=text))

    def is_running(self, svc: str, epoch: int) -> bool:
        """Return True if what runs apart for a service since the lease `epoch` is still its last attempt."""
        repair = self.repairs.get(svc)
        return repair is not None and repair.state is RepairState.INTENDED and repair.epoch == epoch

    def record_question(self, svc: str, now: float) -> RepairPlan:
        """Record that a diagnosis of a service's outage is asked for, which is done once."""
        return self._follow(RepairStep(replace(self.repairs[svc], asked_at=now)))

    def record_diagnosis(
        self, svc: str, incident: str, remedies: Iterable[Remedy], text: str, now: float
    ) -> RepairPlan:
        """Record a diagnosis, and propose its remedies if the outage is still escalated."""
        repair = self.repairs.get(svc)
        if repair is None or repair.incident != incident:
            return RepairPlan()
        return self._follow(advise(repair, remedies, text, self._describe(FleetFacts(), now)))

    def _describe(self, fleet: FleetFacts, now: float) -> Situation:
        return Situation(
            fleet,
            self._get_settings(),
            now,
            resumed_at=self._resumed_at,
            experience=self.experience,
            is_dry_run=self._is_dry_run,
        )

    def _follow(self, found: RepairStep) -> RepairPlan:
        return self._make_plan([found], (dict(self.repairs), self.fuse))

    def _make_plan(
        self,
        found: Sequence[RepairStep],
        before: tuple[Mapping[str, Repair], Fuse],
        used: Iterable[str] = (),
    ) -> RepairPlan:
        """Keep what was decided; return what changed since `before`, and the proposals that ended by it."""
        repairs, fuse = before
        decided = {each.repair.svc: each.repair for each in found}
        kept = {**self.repairs, **decided}.items()
        self.repairs = {svc: each for svc, each in kept if each.state is not RepairState.RESOLVED}
        entries = tuple(chain.from_iterable(each.entries for each in found))
        self.experience.note(entries)
        names = sorted(repairs.keys() | self.repairs.keys())
        changed = {svc: self.repairs.get(svc) for svc in names if self.repairs.get(svc) != repairs.get(svc)}
        proposed = ((_find_ident(repairs.get(svc)), _find_ident(each)) for svc, each in changed.items())
        return RepairPlan(
            entries,
            changed,
            next((each.order for each in found if each.order is not None), None),
            (*used, *(was for was, now in proposed if was is not None and was != now)),
            self.fuse if self.fuse != fuse else None,
            contradictions={each.repair.svc: each.dropped for each in found if each.dropped},
        )


def _restart_run(repair: Repair, now: float) -> Repair:
    """Return a repair whose remedy that may still run has all of its time again, bounded as any has it.

    By the deadline alone, a clock that was set ahead would end it at once.
    """
    if repair.runs_until is None:
        return repair
    left_sec = repair.runs_until - now if repair.runs_sec is None else repair.runs_sec + LEASE_SEC
    return replace(repair, runs_until=now + min(left_sec, MAX_COMMAND_SEC + LATE_SEC + LEASE_SEC))


def _hold(found: RepairStep, before: RepairStep) -> RepairStep:
    """Return a step; in place of one that can't be right, the one before, with the reason."""
    why = found.find_contradiction()
    return found if why is None else replace(before, dropped=why)


def _find_ident(repair: Repair | None) -> str | None:
    """Return by which id a person may approve what is proposed for an outage; None without a proposal."""
    proposal = None if repair is None else find_proposal(repair)
    return None if proposal is None else proposal.ident
