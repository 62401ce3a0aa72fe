"""Decide whether anything may be done to a target now, and what of its ladder. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Annotated, Final

from pydantic import Field

from marketswarm.agent.outage_state import EpochSec
from services.medic.experience import Experience
from services.medic.facts import FEW, FleetFacts, Health, RestartOwner, Symptom, TargetFacts
from services.medic.refusal import PROTECTED, Refusal
from services.medic.remedies import REMEDIES, Remedy
from services.medic.repair import Repair, RepairStep
from services.medic.settings import FuseSettings, HealingSettings, Mode

MAX_ACTED: Final = 1000
"""The most remedies that a fuse counts."""
MAX_RUNNING: Final = 4
"""The most remedies that run apart from the rounds at once."""
_Name = Annotated[str, Field(max_length=100)]


@dataclass(frozen=True, slots=True)
class Fuse:
    """The remedies of the last time, by when they were begun, and when they were too many.

    Once blown, it stays so until a person approves: a medic that acts again and again heals nothing. Times
    are epoch seconds. `services` has the service of each remedy, in the same order. A medic of an older
    version stored none: then the last remedies are those of the services that are there.
    """

    acted: Annotated[tuple[EpochSec, ...], Field(max_length=MAX_ACTED)] = ()
    blown_at: EpochSec | None = None
    services: Annotated[tuple[_Name, ...], Field(max_length=MAX_ACTED)] = ()

    def is_due(self, settings: FuseSettings, now: float) -> bool:
        """Return True if one more remedy would be too many."""
        return sum(now - at < settings.within_sec for at in self.acted) >= settings.remedies

    def is_share_used(self, svc: str, settings: FuseSettings, now: float) -> bool:
        """Return True if one more remedy of this service would be more than its share of all."""
        used = sum(name == svc and now - at < settings.within_sec for at, name in self._list_acted())
        return used >= settings.share

    def add(self, settings: FuseSettings, now: float, svc: str = "") -> "Fuse":
        kept = [each for each in self._list_acted() if now - each[0] < settings.within_sec]
        return self._make([*kept, (now, svc)][-settings.remedies :])

    def follow(self, found: RepairStep, settings: FuseSettings, now: float) -> "Fuse":
        """Return the fuse after a step: it counts an order, and blows if one more would be too many."""
        if found.order is not None:
            return self.add(settings, now, found.repair.svc)
        is_refused = found.repair.refusal is Refusal.TOO_MANY_REMEDIES
        is_blown = is_refused and self.blown_at is None and self.is_due(settings, now)
        return replace(self, blown_at=now) if is_blown else self

    def shift_to(self, now: float) -> "Fuse":
        """Return the fuse with its last remedy at `now`, and the others as long before it as they were."""
        shift_sec = now - max(self.acted, default=now)
        return self._make([(max(0.0, at + shift_sec), svc) for at, svc in self._list_acted()])

    def _list_acted(self) -> list[tuple[float, str]]:
        """Return when each remedy was begun, and of which service; without a name if that is not known."""
        unknown = ("",) * (len(self.acted) - len(self.services))
        return list(zip(self.acted, unknown + self.services, strict=False))

    def _make(self, acted: Sequence[tuple[float, str]]) -> "Fuse":
        times, services = tuple(at for at, _ in acted), tuple(svc for _, svc in acted)
        return Fuse(times, self.blown_at, services if any(services) else ())


@dataclass(frozen=True, slots=True)
class Situation:
    """What a decision about one target depends on besides the target itself."""

    fleet: FleetFacts
    settings: HealingSettings
    now: float
    fuse: Fuse = field(default_factory=Fuse)
    is_busy: bool = False
    """Whether another remedy was begun in this round."""
    resumed_at: float = 0.0
    """When this medic took over."""
    experience: Experience = field(default_factory=Experience)
    is_dry_run: bool = False
    is_after_fleet_down: bool = False
    """True shortly after most of the fleet was down: wait, because targets recover one by one."""
    approvals: Mapping[str, str] = field(default_factory=dict)
    """By the id of a proposal, the person who approved it."""
    running: Collection[str] = ()
    """The services for which a remedy runs apart from the rounds of this medic."""
    ended: Collection[str] = ()
    """The services for which an earlier medic's remedy ran apart, and has provably ended with that medic."""
    epoch: int = 0
    """The number of the lease under which an order would be given."""

    def mode_of(self, svc: str, remedy: Remedy) -> Mode:
        return find_mode(self.settings, self.experience, svc, remedy)


def find_mode(settings: HealingSettings, experience: Experience, svc: str, remedy: Remedy) -> Mode:
    """Return the mode that is in force: `earned` is `act` or `propose`, by what people approved."""
    mode = settings.mode_of(svc, remedy)
    if mode is not Mode.EARNED:
        return mode
    has_earned = experience.count_helped_in_a_row(svc, remedy) >= settings.earn_after
    return Mode.ACT if has_earned else Mode.PROPOSE


def find_refusal(repair: Repair, target: TargetFacts, remedy: Remedy, here: Situation) -> Refusal | None:
    """Return the first reason not to apply a remedy now, or None."""
    return next(_list_refusals(repair, target, remedy, here), None)


def find_standing_refusal(repair: Repair, target: TargetFacts, here: Situation) -> Refusal | None:
    """Return a reason for which a proposal is withdrawn: one about the fleet, or about what people want."""
    of_fleet = _list_fleet_refusals(target, repair.proposed, here)
    return next(chain(of_fleet, _list_wishes(repair, target, repair.proposed, here)), None)


def list_offered(repair: Repair, target: TargetFacts, settings: HealingSettings) -> list[Remedy]:
    """Return the remedies of the ladder that may be tried now, with or without attempts left.

    While the target is down, one that is only of use to a target that beats is passed over, and keeps its
    attempts. So is one that has provably nothing to do, one that is only observed while another may be done
    or proposed, and a restart of what runs elsewhere, if a command may be run for it. One that does not help,
    by the record, is left out in this outage.
    """
    ladder = settings.ladder_of(repair.svc)
    fitting = [each for each in ladder if repair.symptom in REMEDIES[each].symptoms]
    offered = [each for each in fitting if REMEDIES[each].is_useful(target)]
    if target.health is Health.DOWN:
        for_down = [each for each in offered if Symptom.SILENT in REMEDIES[each].symptoms]
        offered = for_down or offered
    allowed = [each for each in offered if settings.mode_of(repair.svc, each) is not Mode.OBSERVE]
    offered = allowed or offered
    if target.owner is RestartOwner.ELSEWHERE and Remedy.COMMAND in offered:
        offered = [each for each in offered if each is not Remedy.RESTART]
    passed_over = repair.passed_over if settings.learning else ()
    return [each for each in offered if each not in passed_over]


def _list_refusals(repair: Repair, target: TargetFacts, remedy: Remedy, here: Situation) -> Iterator[Refusal]:
    yield from _list_fleet_refusals(target, remedy, here)
    # what a person approves is counted, too, and is a person's to limit
    is_asked = here.mode_of(target.svc, remedy) is Mode.PROPOSE
    if not is_asked and here.fuse.is_share_used(target.svc, here.settings.fuse, here.now):
        yield Refusal.SHARE_USED
    yield from _list_wishes(repair, target, remedy, here)
    if not target.is_unwell(repair.symptom):
        yield Refusal.UNKNOWN
    kind = REMEDIES[remedy]
    yield from kind.list_refusals(target, here.settings.start_grace_of(target.svc))
    if kind.replaces_process and target.health is Health.UP:
        needed_by = len(here.fleet.find_dependants(target.svc))
        if needed_by >= FEW and needed_by > here.settings.fuse.down_share * here.fleet.down_counts[1]:
            yield Refusal.BLAST_RADIUS
    is_full = kind.runs_apart and len(here.running) >= MAX_RUNNING
    if here.is_busy or is_full or repair.may_still_run(here.now):
        yield Refusal.ONE_AT_A_TIME
    if repair.is_cooling_down(remedy, here.now, here.resumed_at):
        yield Refusal.COOLDOWN
    if here.is_dry_run:
        yield Refusal.DRY_RUN
    if here.mode_of(target.svc, remedy) is Mode.OBSERVE:
        yield Refusal.OBSERVED


def _list_fleet_refusals(target: TargetFacts, remedy: Remedy | None, here: Situation) -> Iterator[Refusal]:
    """Yield the reasons that hold for the whole fleet, or for all that one owner runs.

    That a large part of it is down keeps no person from being asked about what may be the cause.
    """
    if here.settings.paused:
        yield Refusal.PAUSED
    if target.svc in PROTECTED or any(each.is_protected for each in target.processes):
        yield Refusal.PROTECTED
    if target.is_cut_off:
        yield Refusal.CUT_OFF
    refusal = here.fleet.find_refusal(here.settings.fuse.down_share)
    if refusal is None and here.is_after_fleet_down:
        refusal = Refusal.FLEET_DOWN
    is_asked_about = (
        remedy is not None
        and REMEDIES[remedy].is_for_fleet
        and here.mode_of(target.svc, remedy) is Mode.PROPOSE
    )
    if refusal is not None and not (refusal is Refusal.FLEET_DOWN and is_asked_about):
        yield refusal
    if here.fuse.blown_at is not None or here.fuse.is_due(here.settings.fuse, here.now):
        yield Refusal.TOO_MANY_REMEDIES


def _list_wishes(
    repair: Repair, target: TargetFacts, remedy: Remedy | None, here: Situation
) -> Iterator[Refusal]:
    """Yield the reasons that people gave, and those for which the outage is theirs.

    A service that was stopped elsewhere is left stopped: by `remedy` if that would start it, and by no other.
    """
    if target.blocked is not None:
        yield target.blocked
    starts = remedy is not None and REMEDIES[remedy].replaces_process
    is_stopped = any(each.is_stopped for each in target.processes)
    # what runs elsewhere said goodbye, and not since a remedy of this outage ended it
    is_by_others = target.has_said_goodbye and target.boot != repair.find_replaced_identity()
    if is_stopped or (starts and is_by_others and target.owner is RestartOwner.ELSEWHERE):
        yield Refusal.STOPPED
    if repair.opened_at - repair.down_since > here.settings.old_sec:
        yield Refusal.TOO_OLD
    if here.fleet.has_down_dependency(target.svc):
        yield Refusal.DEPENDENCY_DOWN
