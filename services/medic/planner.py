"""Decide what to do about every outage: open repairs, move them on, and give at most one order a round. Pure.

`Planner.tick` takes what was observed and the time, and returns a `RepairPlan`: entries for the timelines,
the repairs that changed, and perhaps an order. The caller stores all of it before it carries out the order,
and passes the result to `record_result`. A medic that takes over passes what it found stored to `resume`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from marketswarm.operator.healing import FUSE, MAX_ENTRY_TEXT, UNDONE, EntryKind
from services.medic.experience import Experience
from services.medic.facts import FleetFacts, Health, RestartOwner, Symptom, TargetFacts
from services.medic.guards import Fuse, Situation, find_refusal, find_standing_refusal, list_offered
from services.medic.people import note_people
from services.medic.proposal import list_ended, make_advice_id, make_proposal_id
from services.medic.refusal import PASSING, PROTECTED, Refusal
from services.medic.remedies import REMEDIES, OrderResult, Remedy, RemedyOrder, build_ladder
from services.medic.repair import (
    MAX_NUMBER,
    Advice,
    AttemptVerdict,
    RemedyAttempt,
    Repair,
    RepairEvent,
    RepairState,
    Resolution,
)
from services.medic.repair_plan import PlanDraft, RepairPlan
from services.medic.settings import HealingSettings, Mode

CRASH_LOOP: Final = 5
"""The restarts by its owner in one outage from which a person is needed."""
CRASH_LOOPING: Final = "crash_loop"
EXHAUSTED: Final = "exhausted"
"""The reasons of an escalation."""
LEASE_SEC: Final = 10.0
"""The life of the lease, and so how long after it was lost a request under it may still be followed."""
PROBES: Final = 2
"""The answered probes that verify a restart where beats can't."""
MAX_RESTARTS: Final = 20
"""The most restarts by others in the timeline of one outage; a service that ends at each start has many."""
MAX_REFUSALS: Final = 100
"""The most refusals in the timeline of one outage."""


def find_symptom(target: TargetFacts, settings: HealingSettings) -> Symptom | None:
    """Return what is wrong with a target without a repair; None if nothing is known to be wrong."""
    if target.is_unwell(Symptom.SILENT):
        return Symptom.SILENT
    if target.is_unwell(Symptom.DEGRADED) and target.degraded_sec >= settings.degraded_sec:
        return Symptom.DEGRADED
    return Symptom.ALERT if target.is_unwell(Symptom.ALERT) else None


def _count_needed(remedy: Remedy, svc: str, here: Situation) -> int:
    """Return how many services that are up a remedy stops besides its target."""
    return len(here.fleet.find_dependants(svc)) if REMEDIES[remedy].replaces_process else 0


def _describe_needed(count: int) -> str:
    return f"; {count} that are up need it" if count else ""


class Planner:
    """Hold the open repairs of a fleet by service, and decide how they continue.

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
        self._draft = PlanDraft({}, self.fuse)

    def resume(self, repairs: Iterable[Repair], fuse: Fuse, now: float) -> None:
        """Go on with the repairs that another medic stored.

        How much time has passed since is not known: the clock may have been set. So each window and each
        cooldown restarts, the fuse counts the last remedy as one of now, and a time after `now` is limited
        to it. A question without an answer ended with that medic, so it may be asked again. The record may
        have grown, so it is to be loaded again.
        """
        self._resumed_at, self.experience = now, Experience()
        repairs = list(repairs)
        is_down = any(each.refusal is Refusal.FLEET_DOWN for each in repairs)
        self._fleet_down_at = now if is_down else float("-inf")
        asked = (each if each.advice is not None else replace(each, asked_at=None) for each in repairs)
        self.fuse = fuse.shift_to(now)
        self._begin_windows(asked, now)
        self._draft = PlanDraft(dict(self.repairs), self.fuse)

    def _begin_windows(self, repairs: Iterable[Repair], now: float) -> None:
        """Begin each window again: what was not observed proves nothing."""
        settings = self._get_settings()
        lengths: dict[RepairState, Callable[[Repair], float]] = {
            RepairState.WAITING: lambda _: settings.wait_sec,
            RepairState.SETTLING: self._find_settle_sec,
            RepairState.STABILIZING: lambda _: settings.stable_sec,
        }
        begun = dict[str, Repair]()
        for each in repairs:
            attempts = tuple(replace(one, at=min(one.at, now)) for one in each.attempts)
            until = now + lengths[each.state](each) if each.state in lengths else each.until
            begun[each.svc] = replace(each, since=min(each.since, now), attempts=attempts, until=until)
        self.repairs = begun

    def _find_settle_sec(self, repair: Repair) -> float:
        """Return how long the last remedy of a repair may take to be verified."""
        settings, kind = self._get_settings(), REMEDIES[repair.attempts[-1].remedy]
        grace_sec = settings.start_grace_of(repair.svc) if kind.replaces_process else 0.0
        return max(settings.settle_sec, kind.settle_sec, grace_sec)

    def tick(
        self,
        fleet: FleetFacts,
        approvals: Mapping[str, str],
        epoch: int,
        now: float,
        rest_sec: float = 0.0,
    ) -> RepairPlan:
        """Move every repair on by what was observed at `now` (epoch seconds).

        Args:
            approvals: by the id of a proposal, the person who approved it.
            epoch: the number of the lease under which an order would be given.
            rest_sec: the rest that was planned before this round.
        """
        settings = self._get_settings()
        if now - self._looked_at > settings.find_longest_gap(rest_sec):
            self._begin_windows(self.repairs.values(), now)
        self._looked_at = now
        if FUSE in approvals:
            self._draft.used.append(FUSE)
            if self.fuse.blown_at is not None:  # nothing is approved beforehand
                self.fuse = Fuse()
        if fleet.find_refusal(settings.fuse.down_share) is Refusal.FLEET_DOWN:
            self._fleet_down_at = now
        here = Situation(
            fleet,
            settings,
            now,
            resumed_at=self._resumed_at,
            experience=self.experience,
            is_dry_run=self._is_dry_run,
            # what stopped them all ends for all of them, and their beats come one after the other
            is_after_fleet_down=0 <= now - self._fleet_down_at < settings.wait_sec,
            approvals=approvals,
            epoch=epoch,
        )
        for svc, target in sorted(fleet.targets.items()):
            repair = self.repairs.get(svc) or self._open(target, here)
            if repair is None:
                continue
            here = replace(here, fuse=self.fuse, is_busy=self._draft.order is not None)
            repair, news = note_people(self._note_restarts(repair, target, now), target)
            for what, text in news:
                self._draft.note(repair, what, now, text=text)
            moved = self._advance(repair, target, here)
            if moved.state is RepairState.OPEN and repair.state is not RepairState.OPEN:
                moved = self._advance(moved, target, here)
            self._keep(moved)
        for svc in self.repairs.keys() - fleet.targets.keys():
            self._keep(self._resolve(self.repairs[svc], RepairEvent.RETIRE, Resolution.RETIRED, now))
        return self._take_plan()

    def record_result(self, order: RemedyOrder, result: OrderResult, text: str, now: float) -> RepairPlan:
        """Record the outcome of an order; `text` is the answer, for people."""
        repair = self.repairs[order.svc]
        if result is OrderResult.DONE:
            self._keep(self._begin_settling(repair, text, now))
        else:
            self._keep(self._abandon(repair, result, text, now))
        return self._take_plan()

    def record_question(self, svc: str, now: float) -> RepairPlan:
        """Record that a diagnosis of a service's outage is asked for, which is done once."""
        self._keep(replace(self.repairs[svc], asked_at=now))
        return self._take_plan()

    def record_diagnosis(
        self, svc: str, incident: str, remedies: Iterable[Remedy], text: str, now: float
    ) -> RepairPlan:
        """Record a diagnosis, and propose its remedies if the outage is still escalated.

        `wait` needs no approval. A remedy that could not be carried out is not proposed: one that has no
        attempts left in this outage, or is only observed, and none of a service that is left alone.
        """
        repair = self.repairs.get(svc)
        if repair is None or repair.incident != incident:
            return RepairPlan()
        left = tuple(each for each in dict.fromkeys(remedies) if self._may_be_proposed(repair, each))
        advised = replace(repair, advice=Advice(left, now + self._get_settings().proposal_sec))
        self._note_advice(advised, text, now)
        self._keep(advised)
        return self._take_plan()

    # --- one target ---

    def _open(self, target: TargetFacts, here: Situation) -> Repair | None:
        symptom = find_symptom(target, here.settings)
        if symptom is None:
            return None
        lasts = {Symptom.SILENT: target.down_sec, Symptom.DEGRADED: target.degraded_sec}
        down_since = max(0.0, here.now - (lasts.get(symptom) or 0.0))
        began_at = target.down_since if symptom is Symptom.SILENT else None
        process = target.process
        repair = Repair(
            incident=f"{target.svc}.{round(1000 * (down_since if began_at is None else began_at))}",
            svc=target.svc,
            symptom=symptom,
            down_since=down_since,
            opened_at=here.now,
            since=here.now,
            boot=target.boot,
            identity=process.identity if process is not None else "",
        )
        ended = "" if process is None else process.describe_end()
        said = "" if target.failure is None else f"reported: {target.failure}"
        words = (target.severity, f"{target.owner} restarts it", ended and f"it {ended}", said)
        text = "; ".join(filter(None, words))[:MAX_ENTRY_TEXT]
        self._draft.note(
            repair, EntryKind.OPENED, here.now, reason=symptom, text=text, severity=target.severity
        )
        return repair

    def _note_restarts(self, repair: Repair, target: TargetFacts, now: float) -> Repair:
        """Return the repair with a restart counted that was not the medic's, and the process that runs now.

        The first MAX_RESTARTS of an outage are in its timeline, too.
        """
        process = target.process
        if process is None or process.identity == repair.identity or repair.state is RepairState.INTENDED:
            return repair
        if not repair.identity and process.identity == repair.find_replaced_identity():
            return repair  # the one that was just ended: the next one is the medic's
        if repair.identity:
            repair = replace(repair, owner_restarts=min(repair.owner_restarts + 1, MAX_NUMBER))
            is_ours = target.owner is RestartOwner.MEDIC  # then it was `up` that started the next one
            owner = RestartOwner.UP if is_ours else target.owner
            if repair.owner_restarts <= MAX_RESTARTS:
                self._draft.note(repair, EntryKind.RESTARTED, now, reason=owner)
        return replace(repair, identity=process.identity)

    def _advance(self, repair: Repair, target: TargetFacts, here: Situation) -> Repair:
        is_well = here.fleet.blocked is None and target.is_well(repair.symptom)
        match repair.state:
            case RepairState.INTENDED:
                return self._look_again(repair, target, here)
            case RepairState.SETTLING:
                return self._verify(repair, target, here, is_well=is_well)
            case RepairState.STABILIZING:
                return self._stabilize(repair, target, here, is_well=is_well)
            case _ if is_well:
                return self._recover(repair, target, here.now)
            case RepairState.WAITING if repair.until is None or here.now >= repair.until:
                return repair.judge_last(AttemptVerdict.FAILED).move(RepairEvent.EXPIRE, here.now)
            case RepairState.PROPOSED:
                return self._follow_proposal(repair, target, here)
            case RepairState.OPEN:
                return self._choose(repair, target, here)
            case RepairState.ESCALATED:
                return self._follow_advice(repair, target, here)
        return repair

    def _choose(self, repair: Repair, target: TargetFacts, here: Situation) -> Repair:
        """Return the repair with the next remedy of the ladder begun or proposed, or with why not.

        In place of one that did not help, one is begun that was tried less often. At the end of the ladder, a
        person is called.
        """
        remedy = self._find_next(repair, target)
        is_looping = repair.owner_restarts >= CRASH_LOOP
        if remedy is None or (is_looping and not REMEDIES[remedy].precedes(target)):
            return self._escalate(repair, target, EXHAUSTED if remedy is None else CRASH_LOOPING, here)
        if remedy is Remedy.WAIT:
            self._draft.note(repair, EntryKind.WAITING, here.now, remedy=remedy)
            waiting = repair.add_attempt(RemedyAttempt(remedy, here.now, repair.boot))
            return waiting.move(RepairEvent.WAIT, here.now, here.now + here.settings.wait_sec)
        better = self._find_preferred(repair, target, here)
        if better is not None:
            return self._choose(better, target, here)
        instead = self._find_instead(repair, target, remedy, here) if repair.has_failed(remedy) else None
        if instead is not None:
            return self._intend(repair, target, instead, here)
        refusal = find_refusal(repair, target, remedy, here)
        mode = here.mode_of(repair.svc, remedy)
        if refusal is None and mode is Mode.OBSERVE:
            refusal = Refusal.OBSERVED
        if refusal is not None and refusal not in PASSING and remedy is repair.preferred:
            return self._choose(replace(repair, preferred=None), target, here)
        if refusal is not None:
            return self._refuse(repair, remedy, refusal, here.now)
        useless = self._find_useless(repair, target, remedy, here)
        if useless is not None:
            reason = Refusal.DOES_NOT_HELP
            self._draft.note(repair, EntryKind.REFUSED, here.now, remedy=remedy, reason=reason, text=useless)
            left = replace(repair, passed_over=(*repair.passed_over, remedy))
            return self._choose(left, target, here)
        if mode is Mode.PROPOSE:
            return self._propose(repair, target, remedy, here)
        return self._intend(repair, target, remedy, here)

    def _propose(self, repair: Repair, target: TargetFacts, remedy: Remedy, here: Situation) -> Repair:
        """Return the repair that waits for an approval of the remedy; its entry names the command."""
        moved = repair.move(RepairEvent.PROPOSE, here.now, here.now + here.settings.proposal_sec)
        kind = REMEDIES[remedy]
        bound = kind.find_identity(target) if kind.binds_proposal else ""
        needed_by = _count_needed(remedy, repair.svc, here)
        proposed = replace(moved, proposed=remedy, proposed_for=bound, proposed_needed=needed_by)
        ident = make_proposal_id(proposed, remedy)
        text = f"marketswarm medic approve {ident}" + _describe_needed(needed_by)
        self._draft.note(repair, EntryKind.PROPOSED, here.now, remedy=remedy, text=text, proposal=ident)
        return proposed

    def _find_preferred(self, repair: Repair, target: TargetFacts, here: Situation) -> Repair | None:
        """Return the repair with the remedy that comes before cheaper ones, by the record; None without one.

        It is chosen before the first remedy, if it could be applied at once, and asks no person where a
        cheaper one would not.
        """
        if not here.settings.learning or repair.preferred is not None or repair.count_remedies():
            return None
        offered = list_offered(repair, target, self._get_settings())
        modes = {each: here.mode_of(repair.svc, each) for each in offered}
        if any(REMEDIES[each].precedes(target) for each in offered):
            return None

        def is_allowed(remedy: Remedy) -> bool:
            would_ask = modes[remedy] is Mode.PROPOSE and Mode.ACT in modes.values()
            is_free = modes[remedy] is not Mode.OBSERVE and not would_ask
            return is_free and find_refusal(repair, target, remedy, here) is None

        found = here.experience.find_preferred(repair.svc, repair.symptom, offered, is_allowed)
        if found is None:
            return None
        remedy, text = found
        self._draft.note(repair, EntryKind.PREFERRED, here.now, remedy=remedy, text=text)
        return replace(repair, preferred=remedy)

    def _find_instead(
        self, repair: Repair, target: TargetFacts, tried: Remedy, here: Situation
    ) -> Remedy | None:
        """Return a remedy that was tried less often than one that did not help; None without such a one.

        No person is asked about it: what may act without a question has its attempts before.
        """
        offered = build_ladder(list_offered(repair, target, self._get_settings()))
        fewer = [each for each in offered if repair.count_attempts(each) < repair.count_attempts(tried)]
        for remedy in sorted(fewer, key=repair.count_attempts):
            if (
                repair.has_attempts_left(remedy)
                and REMEDIES[remedy].may_precede_cheaper
                and here.mode_of(repair.svc, remedy) is Mode.ACT
                and find_refusal(repair, target, remedy, here) is None
                and self._find_useless(repair, target, remedy, here) is None
            ):
                return remedy
        return None

    def _find_useless(
        self, repair: Repair, target: TargetFacts, remedy: Remedy, here: Situation
    ) -> str | None:
        """Return in words that a remedy does not help, by the record; None if it is to be tried."""
        if not here.settings.learning or REMEDIES[remedy].precedes(target):
            return None
        return here.experience.find_useless(repair.svc, repair.symptom, remedy)

    def _find_next(self, repair: Repair, target: TargetFacts) -> Remedy | None:
        """Return the next remedy of the ladder; None at its end."""
        offered = list_offered(repair, target, self._get_settings())
        first = [each for each in offered if REMEDIES[each].precedes(target)]
        if not first and self._get_settings().learning:
            first = [each for each in offered if each is repair.preferred]
        return (repair.find_next_remedy(first) if first else None) or repair.find_next_remedy(offered)

    def _follow_proposal(self, repair: Repair, target: TargetFacts, here: Situation) -> Repair:
        """Carry out a proposal that was approved, withdraw one that a reason forbids, or let it expire.

        It is withdrawn, too, if an order would name something else now than what is proposed.
        """
        remedy = self._find_next(repair, target)
        if remedy is None or remedy is not repair.proposed:
            return repair.move(RepairEvent.WITHDRAW, here.now)
        bound = REMEDIES[remedy].find_identity(target) if repair.proposed_for else ""
        if bound not in ("", repair.proposed_for) or here.mode_of(repair.svc, remedy) is not Mode.PROPOSE:
            return repair.move(RepairEvent.WITHDRAW, here.now)
        standing = find_standing_refusal(repair, target, here)
        if standing is not None:
            return self._refuse(repair.move(RepairEvent.WITHDRAW, here.now), remedy, standing, here.now)
        if repair.until is not None and here.now >= repair.until:
            self._draft.note(repair, EntryKind.EXPIRED, here.now, remedy=remedy)
            expired = RemedyAttempt(remedy, here.now, repair.boot, verdict=AttemptVerdict.EXPIRED)
            return repair.add_attempt(expired).move(RepairEvent.EXPIRE, here.now)
        author = here.approvals.get(make_proposal_id(repair, remedy))
        if author is None or find_refusal(repair, target, remedy, here) is not None:
            return repair  # an approval stays until it can be followed, or the proposal has expired
        self._draft.note(repair, EntryKind.APPROVED, here.now, remedy=remedy, text=f"by {author}"[:200])
        return self._intend(replace(repair, approved_by=author), target, remedy, here)

    def _escalate(self, repair: Repair, target: TargetFacts, reason: str, here: Situation) -> Repair:
        """Leave an outage to people, who are called once: one that comes back before it was stable is known.

        The diagnosis has its next remedy proposed, unless nothing was tried since the last one was.
        """
        if reason == EXHAUSTED and (here.fleet.blocked is not None or target.is_cut_off):
            return repair  # nothing can be seen, so the last remedy may have helped, or there is another one
        before = repair.escalated_after
        if before is None:
            self._draft.note(repair, EntryKind.ESCALATED, here.now, reason=reason)
        moved = replace(repair.move(RepairEvent.ESCALATE, here.now), escalated_after=len(repair.attempts))
        advised = () if moved.advice is None else moved.advice.remedies
        left = tuple(each for each in advised if self._may_be_proposed(moved, each))
        if not left or before == moved.escalated_after:
            return moved
        renewed = replace(moved, advice=Advice(left, here.now + here.settings.proposal_sec))
        self._note_advice(renewed, "the next remedy of the diagnosis", here.now)
        return renewed

    def _may_be_advised(self, repair: Repair, remedy: Remedy) -> bool:
        is_in_ladder = remedy in self._get_settings().ladder_of(repair.svc)
        if REMEDIES[remedy].binds_proposal:  # what an approval would be for is not known beforehand
            return False
        return is_in_ladder and repair.has_attempts_left(remedy)

    def _may_be_proposed(self, repair: Repair, remedy: Remedy) -> bool:
        """Return False for a remedy of a diagnosis that no approval would have carried out."""
        if self._is_dry_run or repair.svc in PROTECTED:
            return False
        is_observed = self._get_settings().mode_of(repair.svc, remedy) is Mode.OBSERVE
        return not is_observed and self._may_be_advised(repair, remedy)

    def _note_advice(self, repair: Repair, text: str, now: float) -> None:
        ident = make_advice_id(repair)
        remedy = repair.advice.remedies[0] if ident is not None and repair.advice is not None else ""
        self._draft.note(
            repair, EntryKind.DIAGNOSED, now, remedy=remedy, text=text[:300], proposal=ident or ""
        )

    def _follow_advice(self, repair: Repair, target: TargetFacts, here: Situation) -> Repair:
        """Carry out the next remedy of a diagnosis if a person approved it and no guard refuses it."""
        ident, advice = make_advice_id(repair), repair.advice
        if ident is None or advice is None:
            return repair
        remedy = advice.remedies[0]
        if here.now >= advice.until or not self._may_be_advised(repair, remedy):
            self._draft.note(repair, EntryKind.EXPIRED, here.now, remedy=remedy)
            return replace(repair, advice=replace(advice, remedies=()))
        author = here.approvals.get(ident)
        if author is None or here.settings.mode_of(repair.svc, remedy) is Mode.OBSERVE:
            return repair
        if find_refusal(repair, target, remedy, here) is not None:
            return repair  # an approval stays until it can be followed, or the proposal has expired
        self._draft.note(repair, EntryKind.APPROVED, here.now, remedy=remedy, text=f"by {author}"[:200])
        followed = replace(repair, approved_by=author, advice=replace(advice, remedies=advice.remedies[1:]))
        return self._intend(followed, target, remedy, here)

    def _intend(self, repair: Repair, target: TargetFacts, remedy: Remedy, here: Situation) -> Repair:
        kind = REMEDIES[remedy]
        identity = kind.find_identity(target)
        self._draft.order = RemedyOrder(repair.svc, remedy, identity, target.owner)
        self.fuse = self.fuse.add(here.settings.fuse, here.now, repair.svc)
        text = kind.describe(identity) + _describe_needed(_count_needed(remedy, repair.svc, here))
        is_earned = here.settings.mode_of(repair.svc, remedy) is Mode.EARNED
        text += "; by the mode that it earned" * (is_earned and here.mode_of(repair.svc, remedy) is Mode.ACT)
        self._draft.note(repair, EntryKind.INTENDED, here.now, remedy=remedy, text=text[:200])
        attempt = RemedyAttempt(remedy, here.now, target.boot or repair.boot, identity)
        seen = identity if kind.replaces_process else repair.identity
        intended = replace(repair.add_attempt(attempt), epoch=here.epoch, identity=seen)
        return intended.move(RepairEvent.INTEND, here.now)

    def _look_again(self, repair: Repair, target: TargetFacts, here: Situation) -> Repair:
        """Find out about an intent that another medic left; it is never carried out again.

        If the target shows that the remedy was done, it is to be verified. If it shows that it was not, the
        intent is no attempt; but only as many as there may be attempts, since a remedy may be what ends the
        medics. Otherwise nothing is known.
        """
        attempt = repair.attempts[-1]
        kind, text = REMEDIES[attempt.remedy], "found after a change of medics"
        if kind.is_done(attempt.identity, target):
            return self._begin_settling(repair, "found done after a change of medics", here.now)
        is_early = here.now < repair.since + here.settings.settle_sec
        if is_early and not kind.can_tell(target):
            return repair  # its owner may answer yet, or is about to start the next process
        undone = sum(
            each.remedy is kind.name and each.verdict is AttemptVerdict.UNDONE for each in repair.attempts
        )
        if not kind.is_undone(attempt.identity, target) or undone >= kind.attempts:
            return self._abandon(repair, OrderResult.UNKNOWN, text, here.now)
        if here.now < here.resumed_at + LEASE_SEC:
            return repair  # a medic that was stopped gave its lease back, and its request may come yet
        return self._abandon(repair, UNDONE, text, here.now)

    def _begin_settling(self, repair: Repair, text: str, now: float) -> Repair:
        attempt = repair.attempts[-1]
        self._draft.note(repair, EntryKind.ACTED, now, remedy=attempt.remedy, text=text[:200])
        acted = repair.move(RepairEvent.ACT, now, now + self._find_settle_sec(repair))
        # the next process that is seen is the one that the remedy started
        return replace(acted, identity="") if REMEDIES[attempt.remedy].replaces_process else acted

    def _abandon(self, repair: Repair, reason: str, text: str, now: float) -> Repair:
        remedy = repair.attempts[-1].remedy
        self._draft.note(repair, EntryKind.ABANDONED, now, remedy=remedy, reason=reason, text=text[:200])
        if reason == OrderResult.UNKNOWN and REMEDIES[remedy].replaces_process:
            repair = replace(repair, identity="")  # the next process may be by this restart, not by its owner
        verdict = AttemptVerdict.UNDONE if reason == UNDONE else AttemptVerdict.ABANDONED
        return repair.judge_last(verdict).move(RepairEvent.ABANDON, now)

    def _verify(self, repair: Repair, target: TargetFacts, here: Situation, *, is_well: bool) -> Repair:
        """Judge a remedy by what was observed after it: the target is well, and provably by the remedy.

        The time for that restarts while nothing can be seen.
        """
        attempt, now = repair.attempts[-1], here.now
        took_sec = max(0.0, now - repair.since)
        kind = REMEDIES[attempt.remedy]
        has_helped = kind.has_helped(attempt.boot, attempt.identity, target)
        is_named = attempt.boot is not None and target.boot is not None
        if kind.replaces_process and not is_named:  # its beats don't say of which process they are
            has_helped = target.count_probes(took_sec) >= PROBES or None
        is_fresh = target.silence_sec is not None and target.silence_sec < took_sec
        if repair.symptom is Symptom.ALERT:
            is_fresh = is_fresh and target.alert_age_sec < took_sec
        if is_well and has_helped and is_fresh:
            self._draft.note(repair, EntryKind.VERIFIED, now, remedy=attempt.remedy, sec=took_sec)
            return self._settle(repair, AttemptVerdict.VERIFIED, target, here)
        is_unseen = here.fleet.blocked is not None or target.health is Health.UNKNOWN
        if has_helped is not False and is_unseen:
            return replace(repair, until=now + self._find_settle_sec(repair))
        # what takes an hour to be verified must not keep one that went down meanwhile from being restarted
        is_late = took_sec >= here.settings.settle_sec and not kind.replaces_process
        is_over = has_helped is False or (is_late and target.health is Health.DOWN)
        if not is_over and repair.until is not None and now < repair.until:
            return repair
        if is_well:
            self._draft.note(repair, EntryKind.RECOVERED, now, remedy=attempt.remedy, sec=took_sec)
            return self._settle(repair, AttemptVerdict.RECOVERED, target, here)
        self._draft.note(repair, EntryKind.FAILED, now, remedy=attempt.remedy, sec=took_sec)
        return repair.judge_last(AttemptVerdict.FAILED).move(RepairEvent.FAIL, now)

    def _settle(
        self, repair: Repair, verdict: AttemptVerdict, target: TargetFacts, here: Situation
    ) -> Repair:
        event = RepairEvent.VERIFY if verdict is AttemptVerdict.VERIFIED else RepairEvent.RECOVER
        judged = repair.judge_last(verdict).move(event, here.now, here.now + here.settings.stable_sec)
        return replace(judged, up_at=here.now, boot=target.boot)

    def _recover(self, repair: Repair, target: TargetFacts, now: float) -> Repair:
        """Note that a target is up again without a remedy of the medic's, or by `wait`."""
        if repair.state is RepairState.WAITING:
            repair = repair.judge_last(AttemptVerdict.RECOVERED)
        self._draft.note(repair, EntryKind.RECOVERED, now, sec=max(0.0, now - repair.down_since))
        moved = repair.move(RepairEvent.RECOVER, now, now + self._get_settings().stable_sec)
        return replace(moved, up_at=now, boot=target.boot or repair.boot)

    def _stabilize(self, repair: Repair, target: TargetFacts, here: Situation, *, is_well: bool) -> Repair:
        """End the repair of a target that stayed up; an outage that comes back counts against the remedy."""
        now = here.now
        if target.is_unwell(repair.symptom):
            self._draft.note(repair, EntryKind.RELAPSED, now, sec=max(0.0, now - repair.since))
            verdicts = (AttemptVerdict.VERIFIED, AttemptVerdict.RECOVERED)
            if repair.attempts and repair.attempts[-1].verdict in verdicts:
                repair = repair.judge_last(AttemptVerdict.RELAPSED)
            return replace(repair.move(RepairEvent.RELAPSE, now), up_at=None)
        if not is_well:  # nothing is known, so the time to be stable restarts
            return replace(repair, until=now + here.settings.stable_sec)
        if repair.until is not None and now < repair.until:
            return repair
        resolution = Resolution.RESTARTED if repair.owner_restarts else Resolution.RECOVERED
        if repair.attempts and repair.attempts[-1].verdict is AttemptVerdict.VERIFIED:
            resolution = Resolution.HEALED
        return self._resolve(repair, RepairEvent.STABILIZE, resolution, now)

    def _resolve(self, repair: Repair, event: RepairEvent, resolution: Resolution, now: float) -> Repair:
        up_at = now if repair.up_at is None else repair.up_at
        sec = max(0.0, up_at - repair.down_since)
        self._draft.note(repair, EntryKind.RESOLVED, now, reason=resolution, sec=sec)
        return repair.move(event, now)

    def _refuse(self, repair: Repair, remedy: Remedy, refusal: Refusal, now: float) -> Repair:
        """Record why a remedy is not applied, once until the reason is another one."""
        if refusal is Refusal.TOO_MANY_REMEDIES and self.fuse.blown_at is None:
            self.fuse = replace(self.fuse, blown_at=now)
        is_news = repair.refusal is not refusal and refusal not in PASSING and repair.refusals < MAX_REFUSALS
        if is_news:
            self._draft.note(repair, EntryKind.REFUSED, now, remedy=remedy, reason=refusal)
        return replace(repair, refusal=refusal, refusals=repair.refusals + is_news)

    # --- what is returned ---

    def _keep(self, repair: Repair) -> None:
        before = self.repairs.get(repair.svc)
        if before is not None:
            self._draft.used += list_ended(before, repair)
        if repair.state is RepairState.RESOLVED:
            self.repairs.pop(repair.svc, None)
        else:
            self.repairs[repair.svc] = repair

    def _take_plan(self) -> RepairPlan:
        """Return what changed since the last plan."""
        draft, before, after = self._draft, self._draft.before, self.repairs
        self.experience.note(draft.entries)
        self._draft = PlanDraft(dict(after), self.fuse)
        names = sorted(before.keys() | after.keys())
        changed = {svc: after.get(svc) for svc in names if after.get(svc) != before.get(svc)}
        fuse = self.fuse if self.fuse != draft.fuse else None
        return RepairPlan(tuple(draft.entries), changed, draft.order, tuple(draft.used), fuse)
