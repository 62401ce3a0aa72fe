"""Put the truth back in force that was before the one with which several services went down.

It is what `marketswarm truth rollback` does: the earlier document is seeded again, as a new revision, on
every bus or on none, in place of the very document that was seen. The truth chooses this remedy by its name;
what is put back is a document that was in force before.
"""

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from marketswarm.agent.lease import clock
from marketswarm.agent.service_config import load_with_sections
from marketswarm.bus import Bus, BusError, NoBusError
from marketswarm.keys import TRUTH_META
from marketswarm.operator.audit import Act, Action, AuditOutcome, record_act
from marketswarm.seeding.transaction import REPLACED, SeedError, seed_truth
from marketswarm.status.revisions import Revision, read_revisions
from marketswarm.truth import MEDIC, SYSTEM, TruthError, diff_truths
from services.medic.facts import FleetFacts, Health, RemedyEvidence, Symptom, TargetFacts
from services.medic.refusal import PROTECTED, Refusal
from services.medic.remedies.remedy import OrderResult, RemedyContext, RemedyOrder, TracedRemedy

AUTHOR: Final = MEDIC
"""The seeder of a truth that the medic put back."""
LOOKED_AT: Final = 10
"""How many of the newest revisions are looked at: a document that was in force in one of them is not new."""
MAX_AGE_SEC: Final = 3600.0
"""How long after its seeding a truth may be rolled back."""
_OUTCOMES: Final = {OrderResult.DONE: AuditOutcome.DONE, OrderResult.CHANGED: AuditOutcome.REFUSED}


@dataclass(frozen=True, slots=True)
class RollbackStep:
    """The step back from the truth in force, `bad`, to the one before it.

    `changed` are the services that have another section in the one than in the other.
    """

    bad: Revision
    good: Revision
    changed: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class RollBackTruth(TracedRemedy):
    """Seed the revision before the outage again; the earlier truth in force, and a newer beat, verify it."""

    symptoms: frozenset[Symptom] = frozenset(Symptom)
    is_for_fleet: bool = True

    def describe(self, identity: str) -> str:
        return f"revision {identity.replace('>', ' back to revision ')}"

    def precedes(self, target: TargetFacts) -> bool:
        return bool(self.find_identity(target))

    def list_refusals(self, target: TargetFacts, _start_grace_sec: float) -> Iterator[Refusal]:
        if not self.find_identity(target):
            yield Refusal.UNKNOWN

    async def read_evidence(
        self, services: Collection[str], facts: FleetFacts, context: RemedyContext, now: float
    ) -> Mapping[str, RemedyEvidence]:
        newest = await read_newest_revisions(context.get_bus(SYSTEM), LOOKED_AT)
        # on every bus: a rollback whose medic ended may have reached some
        is_whole = len(newest) > 1 and all(
            await asyncio.gather(*(_holds(name, newest[0], context) for name in context.truth.bus_names()))
        )
        common = RemedyEvidence(
            results=dict.fromkeys(list_results(newest) if is_whole else (), True),
            undone=frozenset({make_identity(newest[0], newest[1])} if is_whole else ()),
        )
        known = dict.fromkeys(services, common)
        rollback = find_rollback(newest, now)
        if rollback is not None:
            victims = find_victims(rollback, facts, context) & known.keys()
            identity = make_identity(rollback.bad, rollback.good)
            known |= dict.fromkeys(victims, replace(common, identity=identity))
        return known

    async def apply(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        """Seed the earlier document, in place of the one that was seen, with entries in the audit log."""
        try:
            buses = [context.get_bus(name) for name in context.truth.bus_names()]
            system = context.get_bus(SYSTEM)
            rollback = find_rollback(await read_newest_revisions(system, LOOKED_AT), None)
            if rollback is None or make_identity(rollback.bad, rollback.good) != order.identity:
                return OrderResult.CHANGED, "another truth is in force now"
            detail = f"by the {MEDIC} for {order.svc}: {self.describe(order.identity)}"
            act = Act(Action.SEED, rollback.good.sha256, None, "", detail)
            await record_act(system, act, AuditOutcome.BEGUN, time.time())
        except (BusError, NoBusError) as error:
            return OrderResult.REFUSED, f"not rolled back, nothing changed: {error}"[:150]
        result, said = await _seed(rollback, buses, context)
        outcome = _OUTCOMES.get(result, AuditOutcome.FAILED)
        try:
            await record_act(system, act, outcome, time.time(), f"{said}, {detail}")
        except BusError as error:
            return result, f"{said}; the audit log lacks its end: {error.reason}"
        return result, said


async def _seed(
    rollback: RollbackStep, buses: Sequence[Bus], context: RemedyContext
) -> tuple[OrderResult, str]:
    until = context.until
    try:
        done = await seed_truth(
            rollback.good.document,
            buses,
            AUTHOR,
            key=context.truth_key,
            replaces=rollback.bad.sha256,
            loads_functions=False,
            find_left_sec=None if until is None else lambda: until - clock(),
        )
    except TruthError as error:
        return OrderResult.REFUSED, f"revision {rollback.good.number} is not valid: {error.problems[0]}"[:150]
    except SeedError as error:
        if error.unrestored:
            return OrderResult.UNKNOWN, f"in part: {error}"[:150]
        result = OrderResult.CHANGED if error.reason == REPLACED else OrderResult.REFUSED
        return result, f"not rolled back, nothing changed: {error}"[:150]
    return OrderResult.DONE, f"revision {rollback.good.number} is in force again, as revision {done.revision}"


async def read_newest_revisions(bus: Bus, most: int) -> list[Revision]:
    """Return the newest revisions that a bus keeps, `most` at most, the newest first. Raises BusError."""
    found = list[Revision]()
    async for each in read_revisions(bus, page=most):
        found.append(each)
        if len(found) == most:
            break
    return found


async def _holds(name: str, revision: Revision, context: RemedyContext) -> bool:
    """Return True if a bus provably has this revision; one that does not answer proves nothing."""
    try:
        bus = context.get_bus(name)
        held = await bus.ask(bus.client.hmget(TRUTH_META, "revision", "sha256"))
    except (BusError, NoBusError):
        return False
    return bool(held == [str(revision.number).encode(), revision.sha256.encode()])


def make_identity(bad: Revision, good: Revision) -> str:
    return f"{bad.number}>{good.number}"


def list_results(newest: Sequence[Revision]) -> Iterator[str]:
    """Yield the identity of the order that put back the truth in force, if the medic did. Pure."""
    if len(newest) > 1 and newest[0].seeded_by == AUTHOR:
        good = next((each for each in newest[2:] if each.sha256 == newest[0].sha256), None)
        if good is not None:
            yield make_identity(newest[1], good)


def find_rollback(newest: Sequence[Revision], now: float | None) -> RollbackStep | None:
    """Return the step back from the truth in force that may be made; None if it may not. Pure.

    It may not be made from a truth that is old at `now` (epoch seconds; None: whatever its age), that the
    medic itself put back, or that was in force before: then somebody has decided. Neither may it lead to
    another truth than the one directly before, to one that is damaged or not valid, or has the same sections,
    other buses, another section of a service that the medic never touches, or more services: what a truth
    dropped may have no user any more.
    """
    if len(newest) < 2:
        return None
    bad, good = newest[0], newest[1]
    is_new = now is None or 0 <= now - bad.seeded_at <= MAX_AGE_SEC
    is_decided = bad.seeded_by == AUTHOR or any(each.sha256 == bad.sha256 for each in newest[1:])
    are_whole = bad.is_intact and good.is_intact and good.number == bad.number - 1
    if not is_new or is_decided or not are_whole:
        return None
    try:
        before, present = (load_with_sections(each.document).truth for each in (good, bad))
    except TruthError:
        return None
    changes = diff_truths(before, present)
    changed = frozenset(svc for svc, _ in changes.changed)
    is_protected = bool(PROTECTED & {*changed, *changes.added})
    is_wide = bool(changes.dropped or changes.buses or changes.fleet)
    return None if not changed or is_protected or is_wide else RollbackStep(bad, good, changed)


def find_victims(rollback: RollbackStep, facts: FleetFacts, context: RemedyContext) -> frozenset[str]:
    """Return the services that the truth in force broke; none if there is too little proof of that. Pure.

    They are those with another section that went down with it, or soon after. A service has been down since
    its last beat, which may be an interval older than the seeding. One that comes up and goes down again has
    been down since its first miss: a truth seeded after that is no cause.
    """
    settings, truth, seeded_at = context.settings.rollback, context.truth, rollback.bad.seeded_at
    broken = set[str]()
    for svc in rollback.changed & facts.targets.keys() & truth.services.keys():
        target = facts.targets[svc]
        if target.health is Health.DOWN and target.down_since is not None:
            down_since = min(target.down_since, context.outages.get(svc, target.down_since))
            if -truth.interval_of(svc) <= down_since - seeded_at <= settings.within_sec:
                broken.add(svc)
    has_proved_itself = seeded_at - rollback.good.seeded_at >= settings.within_sec
    return frozenset(broken if has_proved_itself and len(broken) >= settings.services else ())
