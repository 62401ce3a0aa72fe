"""Decide what follows for one outage at one moment: its repair, entries for its timeline, an order. Pure.

`decide` goes by the table of states and events in `repair.py`. A function for each state finds the event that
has come, if one has. docs/services/medic-decisions.md has the same table in words.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from marketswarm.operator.healing import UNDONE, EntryKind
from services.medic.facts import Health, RestartOwner, Symptom, TargetFacts
from services.medic.guards import Situation, find_refusal, find_standing_refusal, list_offered
from services.medic.people import note_people
from services.medic.refusal import PASSING, PROTECTED, Refusal
from services.medic.remedies import REMEDIES, OrderResult, Remedy, RemedyOrder, build_ladder
from services.medic.repair import (
    MAX_NUMBER,
    TRANSITIONS,
    Advice,
    AttemptVerdict,
    RemedyAttempt,
    Repair,
    RepairEvent,
    RepairState,
    RepairStep,
    Resolution,
    make_advice_id,
    make_proposal_id,
)
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
_WATCHING: Final = (RepairState.INTENDED, RepairState.SETTLING, RepairState.STABILIZING)
"""The states in which a target that is well is one more thing to judge."""

Decide = Callable[[Repair, TargetFacts, Situation], RepairStep]


def decide(repair: Repair, target: TargetFacts, here: Situation) -> RepairStep:
    """Return what follows for an outage from what is known of its target and of all else.

    Where the repair becomes `open`, the next remedy is chosen at once.
    """
    is_over = repair.svc in here.ended or not repair.may_still_run(here.now)
    if repair.runs_until is not None and is_over:
        repair = repair.forget_run()  # the next medic must not await it again
    found = RepairStep(repair).then(_note_restarts, target, here).then(note_people, target, here.now)
    found = found.then(_advance, target, here)
    is_reopened = found.repair.state is RepairState.OPEN and repair.state is not RepairState.OPEN
    return found.then(_advance, target, here) if is_reopened else found


def open_repair(target: TargetFacts, here: Situation) -> RepairStep | None:
    """Return the repair of an outage that begins; None if nothing is known to be wrong with the target."""
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
        identity="" if process is None else process.identity,
    )
    ended = "" if process is None else process.describe_end()
    said = "" if target.failure is None else f"reported: {target.failure}"
    words = (target.severity, f"{target.owner} restarts it", ended and f"it {ended}", said)
    text = "; ".join(filter(None, words))
    return RepairStep(repair).note(
        EntryKind.OPENED, here.now, reason=symptom, text=text, severity=target.severity
    )


def find_symptom(target: TargetFacts, settings: HealingSettings) -> Symptom | None:
    """Return what is wrong with a target without a repair; None if nothing is known to be wrong."""
    if target.is_unwell(Symptom.SILENT):
        return Symptom.SILENT
    if target.is_unwell(Symptom.DEGRADED) and target.degraded_sec >= settings.degraded_sec:
        return Symptom.DEGRADED
    return Symptom.ALERT if target.is_unwell(Symptom.ALERT) else None


def find_window_sec(repair: Repair, state: RepairState, settings: HealingSettings) -> float | None:
    """Return how long a repair stays in a state unless something happens; None where no time ends it."""
    match state:
        case RepairState.WAITING:
            return settings.wait_sec
        case RepairState.PROPOSED:
            return settings.proposal_sec
        case RepairState.SETTLING:
            kind = REMEDIES[repair.attempts[-1].remedy]
            grace_sec = settings.start_grace_of(repair.svc) if kind.replaces_process else 0.0
            return max(settings.settle_sec, kind.settle_sec, grace_sec)
        case RepairState.STABILIZING:
            return settings.stable_sec
    return None


def conclude(repair: Repair, result: str, text: str, here: Situation) -> RepairStep:
    """Return what follows from the outcome of an order, an `OrderResult` or UNDONE; `text` is for people."""
    kind = REMEDIES[repair.attempts[-1].remedy]
    if result == OrderResult.DONE:
        event, reason = RepairEvent.ACT, ""
    else:
        event, reason = RepairEvent.UNDO if result == UNDONE else RepairEvent.ABANDON, result
    if kind.replaces_process and result in (OrderResult.DONE, OrderResult.UNKNOWN, OrderResult.BROKEN_OFF):
        repair = replace(repair, identity="")  # the next process that is seen is the one that it started
    return _step(repair, event, here, remedy=kind.name, reason=reason, text=text)


def advise(repair: Repair, remedies: Iterable[Remedy], text: str, here: Situation) -> RepairStep:
    """Return the repair with the remedies of a diagnosis, which are proposed one after the other.

    `wait` needs no approval. A remedy that could not be carried out is not proposed: one that has no attempts
    left in this outage, or is only observed, and none of a service that is left alone.
    """
    left = tuple(each for each in dict.fromkeys(remedies) if _may_be_proposed(repair, each, here))
    advised = replace(repair, advice=Advice(left, here.now + here.settings.proposal_sec))
    ident = make_advice_id(advised)
    remedy = left[0] if ident is not None else ""
    return RepairStep(advised).note(
        EntryKind.DIAGNOSED, here.now, remedy=remedy, text=text, proposal=ident or ""
    )


def retire(repair: Repair, here: Situation) -> RepairStep:
    """Return the end of a repair whose service the truth no longer names."""
    return _resolve(repair, RepairEvent.RETIRE, Resolution.RETIRED, here)


# --- what moves a repair ---


def _move(repair: Repair, event: RepairEvent, here: Situation) -> Repair:
    """Return the repair in the state that follows, with the time of that state."""
    window_sec = find_window_sec(repair, TRANSITIONS[repair.state, event], here.settings)
    return repair.move(event, here.now, None if window_sec is None else here.now + window_sec)


def _step(
    repair: Repair, event: RepairEvent, here: Situation, sec: float | None = None, **said: str
) -> RepairStep:
    """Return the repair after an event, and the entry that says so; `said` are other fields of that."""
    moved = RepairStep(_move(repair, event, here))
    return moved if event.entry is None else moved.note(event.entry, here.now, sec, **said)


def _resolve(repair: Repair, event: RepairEvent, resolution: Resolution, here: Situation) -> RepairStep:
    up_at = here.now if repair.up_at is None else repair.up_at
    return _step(repair, event, here, reason=resolution, sec=up_at - repair.down_since)


def _rise(
    repair: Repair, event: RepairEvent, target: TargetFacts, here: Situation, *, sec: float, remedy: str = ""
) -> RepairStep:
    """Return the repair of a target that is up again, and has to stay so; `sec` is how long that took."""
    risen = replace(repair, boot=target.boot or repair.boot)
    return _step(risen, event, here, remedy=remedy, sec=sec)


def _is_well(repair: Repair, target: TargetFacts, here: Situation) -> bool:
    return here.fleet.blocked is None and target.is_well(repair.symptom)


# --- one state after the other ---


def _note_restarts(repair: Repair, target: TargetFacts, here: Situation) -> RepairStep:
    """Return the repair with a restart counted that was not the medic's, and the process that runs now.

    The first MAX_RESTARTS of an outage are in its timeline, too.
    """
    process = target.process
    if process is None or process.identity == repair.identity or repair.state is RepairState.INTENDED:
        return RepairStep(repair)
    if not repair.identity:
        # the one that was just ended is left out: the next one is the medic's
        is_ended = process.identity == repair.find_replaced_identity()
        return RepairStep(repair if is_ended else replace(repair, identity=process.identity))
    count = min(repair.owner_restarts + 1, MAX_NUMBER)
    found = RepairStep(replace(repair, owner_restarts=count, identity=process.identity))
    # where the medic is the owner, it was `up` that started the next one
    owner = RestartOwner.UP if target.owner is RestartOwner.MEDIC else target.owner
    return found.note(EntryKind.RESTARTED, here.now, reason=owner) if count <= MAX_RESTARTS else found


def _advance(repair: Repair, target: TargetFacts, here: Situation) -> RepairStep:
    """Return what follows in the state of the repair; in most states, a target that is well ends the work."""
    if repair.state not in _WATCHING and _is_well(repair, target, here):
        return _rise(repair, RepairEvent.RECOVER, target, here, sec=here.now - repair.down_since)
    return _STEPS[repair.state](repair, target, here)


def _choose(repair: Repair, target: TargetFacts, here: Situation) -> RepairStep:
    """Return the repair with the next remedy of the ladder begun or proposed, or with why not.

    In place of one that did not help, one is begun that was tried less often. At the end of the ladder, a
    person is called.
    """
    remedy = _find_next(repair, target, here)
    if remedy is None:
        return _escalate(repair, target, EXHAUSTED, here)
    if repair.owner_restarts >= CRASH_LOOP and not REMEDIES[remedy].precedes(target):
        return _escalate(repair, target, CRASH_LOOPING, here)
    if remedy is Remedy.WAIT:
        waiting = repair.add_attempt(RemedyAttempt(remedy, here.now, repair.boot))
        return _step(waiting, RepairEvent.WAIT, here, remedy=remedy)
    if (better := _find_preferred(repair, target, here)) is not None:
        preferred, text = better
        found = RepairStep(replace(repair, preferred=preferred))
        found = found.note(EntryKind.PREFERRED, here.now, remedy=preferred, text=text)
        return found.then(_choose, target, here)
    if repair.has_failed(remedy) and (instead := _find_instead(repair, target, remedy, here)) is not None:
        return _intend(repair, target, instead, here)
    refusal = find_refusal(repair, target, remedy, here)
    if refusal is not None and refusal not in PASSING and remedy is repair.preferred:
        return _choose(replace(repair, preferred=None), target, here)
    if refusal is not None:
        return _refuse(repair, remedy, refusal, here)
    if (useless := _find_useless(repair, target, remedy, here)) is not None:
        left = RepairStep(replace(repair, passed_over=(*repair.passed_over, remedy)))
        reason = Refusal.DOES_NOT_HELP
        left = left.note(EntryKind.REFUSED, here.now, remedy=remedy, reason=reason, text=useless)
        return left.then(_choose, target, here)
    is_asked = here.mode_of(repair.svc, remedy) is Mode.PROPOSE
    return (_propose if is_asked else _intend)(repair, target, remedy, here)


def _wait(repair: Repair, _target: TargetFacts, here: Situation) -> RepairStep:
    return _step(repair, RepairEvent.ELAPSE, here) if repair.is_over(here.now) else RepairStep(repair)


def _follow_proposal(repair: Repair, target: TargetFacts, here: Situation) -> RepairStep:
    """Carry out a proposal that was approved, withdraw one that a reason forbids, or let it expire.

    It is withdrawn, too, if an order would name something else now than what is proposed.
    """
    remedy = _find_next(repair, target, here)
    withdrawn = _move(repair, RepairEvent.WITHDRAW, here)
    if remedy is None or remedy is not repair.proposed:
        return RepairStep(withdrawn)
    bound = REMEDIES[remedy].find_identity(target) if repair.proposed_for else ""
    if bound not in ("", repair.proposed_for) or here.mode_of(repair.svc, remedy) is not Mode.PROPOSE:
        return RepairStep(withdrawn)
    standing = find_standing_refusal(repair, target, here)
    if standing is not None:
        return _refuse(withdrawn, remedy, standing, here)
    if repair.is_over(here.now):
        attempt = RemedyAttempt(remedy, here.now, repair.boot, verdict=AttemptVerdict.EXPIRED)
        return _step(repair.add_attempt(attempt), RepairEvent.EXPIRE, here, remedy=remedy)
    return _begin_approved(repair, target, remedy, make_proposal_id(repair, remedy), here)


def _look_again(repair: Repair, target: TargetFacts, here: Situation) -> RepairStep:
    """Find out about an intent that another medic left; it is never carried out again.

    If the target shows that the remedy was done, it is to be verified. If it shows that it was not, the
    intent is no attempt; but only as many as there may be attempts, since a remedy may be what ends the
    medics. Otherwise nothing is known. What runs apart from the rounds is awaited: here, its end; if the
    medic was killed that began it, until the target is well, or the deadline has passed, or what was begun
    has provably ended.
    """
    is_still_awaited = repair.may_still_run(here.now) and not _is_well(repair, target, here)
    if repair.svc in here.running or is_still_awaited:
        return RepairStep(repair)
    attempt = repair.attempts[-1]
    kind, text = REMEDIES[attempt.remedy], "found after a change of medics"
    if kind.is_done(attempt.identity, target):
        return conclude(repair, OrderResult.DONE, "found done after a change of medics", here)
    if repair.svc in here.ended:
        return conclude(repair, OrderResult.BROKEN_OFF, "it has ended, as has the medic that began it", here)
    if here.now < repair.since + here.settings.settle_sec and not kind.can_tell(target):
        return RepairStep(repair)  # its owner may answer yet, or is about to start the next process
    undone = sum(each.remedy is kind.name and each.is_undone for each in repair.attempts)
    if not kind.is_undone(attempt.identity, target) or undone >= kind.attempts:
        return conclude(repair, OrderResult.UNKNOWN, text, here)
    if here.now < here.resumed_at + LEASE_SEC:
        # a medic that was stopped gave its lease back, and its request may come yet
        return RepairStep(repair)
    return conclude(repair, UNDONE, text, here)


def _verify(repair: Repair, target: TargetFacts, here: Situation) -> RepairStep:
    """Judge a remedy by what was observed after it: the target is well, and provably by the remedy.

    The time for that restarts while nothing can be seen.
    """
    attempt, took_sec = repair.attempts[-1], max(0.0, here.now - repair.since)
    kind, is_well = REMEDIES[attempt.remedy], _is_well(repair, target, here)
    has_helped = kind.has_helped(attempt.boot, attempt.identity, target)
    is_named = attempt.boot is not None and target.boot is not None
    if kind.replaces_process and not is_named:  # its beats don't say of which process they are
        has_helped = target.count_probes(took_sec) >= PROBES or None
    is_fresh = target.silence_sec is not None and target.silence_sec < took_sec
    if repair.symptom is Symptom.ALERT:
        is_fresh = is_fresh and target.alert_age_sec < took_sec
    if is_well and has_helped and is_fresh:
        return _rise(repair, RepairEvent.VERIFY, target, here, sec=took_sec, remedy=attempt.remedy)
    if has_helped is not False and (here.fleet.blocked is not None or target.health is Health.UNKNOWN):
        return RepairStep(_restart_window(repair, here))
    # what takes an hour to be verified must not keep one that went down meanwhile from being restarted
    is_late = took_sec >= here.settings.settle_sec and not kind.replaces_process
    has_failed = has_helped is False or (is_late and target.health is Health.DOWN)
    if not has_failed and not repair.is_over(here.now):
        return RepairStep(repair)
    if is_well:
        return _rise(repair, RepairEvent.RECOVER, target, here, sec=took_sec, remedy=attempt.remedy)
    return _step(repair, RepairEvent.FAIL, here, remedy=attempt.remedy, sec=took_sec)


def _stabilize(repair: Repair, target: TargetFacts, here: Situation) -> RepairStep:
    """End the repair of a target that stayed up; an outage that comes back counts against the remedy."""
    if target.is_unwell(repair.symptom):
        return _step(repair, RepairEvent.RELAPSE, here, sec=here.now - repair.since)
    if not _is_well(repair, target, here):  # nothing is known, so the time to be stable restarts
        return RepairStep(_restart_window(repair, here))
    if not repair.is_over(here.now) or repair.may_still_run(here.now):  # it may still end the target
        return RepairStep(repair)
    resolution = Resolution.RESTARTED if repair.owner_restarts else Resolution.RECOVERED
    if repair.attempts and repair.attempts[-1].verdict is AttemptVerdict.VERIFIED:
        resolution = Resolution.HEALED
    return _resolve(repair, RepairEvent.STABILIZE, resolution, here)


def _restart_window(repair: Repair, here: Situation) -> Repair:
    return replace(repair, until=here.now + (find_window_sec(repair, repair.state, here.settings) or 0.0))


def _follow_advice(repair: Repair, target: TargetFacts, here: Situation) -> RepairStep:
    """Carry out the next remedy of a diagnosis if a person approved it and no guard refuses it."""
    ident, advice = make_advice_id(repair), repair.advice
    if ident is None or advice is None:
        return RepairStep(repair)
    remedy, *others = advice.remedies
    if here.now >= advice.until or not _may_be_advised(repair, remedy, here):
        expired = RepairStep(replace(repair, advice=replace(advice, remedies=())))
        return expired.note(EntryKind.EXPIRED, here.now, remedy=remedy)
    followed = replace(repair, advice=replace(advice, remedies=tuple(others)))
    begun = _begin_approved(followed, target, remedy, ident, here)
    return begun if begun.order is not None else RepairStep(repair)


_STEPS: Final[Mapping[RepairState, Decide]] = {
    RepairState.OPEN: _choose,
    RepairState.WAITING: _wait,
    RepairState.PROPOSED: _follow_proposal,
    RepairState.INTENDED: _look_again,
    RepairState.SETTLING: _verify,
    RepairState.STABILIZING: _stabilize,
    RepairState.ESCALATED: _follow_advice,
}


# --- what is done in more than one state ---


def _propose(repair: Repair, target: TargetFacts, remedy: Remedy, here: Situation) -> RepairStep:
    """Return the repair that waits for an approval of the remedy; its entry names the command."""
    kind, needed_by = REMEDIES[remedy], _count_needed(remedy, repair.svc, here)
    proposed = replace(
        _move(repair, RepairEvent.PROPOSE, here),
        proposed=remedy,
        proposed_for=kind.find_identity(target) if kind.binds_proposal else "",
        proposed_needed=needed_by,
    )
    ident = make_proposal_id(proposed, remedy)
    text = f"marketswarm medic approve {ident}" + _describe_needed(needed_by)
    return RepairStep(proposed).note(EntryKind.PROPOSED, here.now, remedy=remedy, text=text, proposal=ident)


def _begin_approved(
    repair: Repair, target: TargetFacts, remedy: Remedy, ident: str, here: Situation
) -> RepairStep:
    """Begin a remedy if a person approved it by this id, and nothing refuses it.

    Otherwise an approval stays until it can be followed, or the proposal has expired.
    """
    author = here.approvals.get(ident)
    if author is None or find_refusal(repair, target, remedy, here) is not None:
        return RepairStep(repair)
    approved = RepairStep(replace(repair, approved_by=author))
    approved = approved.note(EntryKind.APPROVED, here.now, remedy=remedy, text=f"by {author}"[:200])
    return approved.then(_intend, target, remedy, here)


def _intend(repair: Repair, target: TargetFacts, remedy: Remedy, here: Situation) -> RepairStep:
    """Return the repair with the remedy begun, and the order to carry it out once that is stored."""
    kind = REMEDIES[remedy]
    identity = kind.find_identity(target)
    text = kind.describe(identity) + _describe_needed(_count_needed(remedy, repair.svc, here))
    is_earned = here.settings.mode_of(repair.svc, remedy) is Mode.EARNED
    text += "; by the mode that it earned" * (is_earned and here.mode_of(repair.svc, remedy) is Mode.ACT)
    attempt = RemedyAttempt(remedy, here.now, target.boot or repair.boot, identity)
    seen = identity if kind.replaces_process else repair.identity
    begun = replace(repair.add_attempt(attempt), epoch=here.epoch, identity=seen)
    intended = _step(begun, RepairEvent.INTEND, here, remedy=remedy, text=text)
    return replace(intended, order=RemedyOrder(repair.svc, remedy, identity, target.owner))


def _refuse(repair: Repair, remedy: Remedy, refusal: Refusal, here: Situation) -> RepairStep:
    """Record why a remedy is not applied, once until the reason is another one."""
    is_news = repair.refusal is not refusal and refusal not in PASSING and repair.refusals < MAX_REFUSALS
    refused = RepairStep(replace(repair, refusal=refusal, refusals=repair.refusals + is_news))
    return refused.note(EntryKind.REFUSED, here.now, remedy=remedy, reason=refusal) if is_news else refused


def _escalate(repair: Repair, target: TargetFacts, reason: str, here: Situation) -> RepairStep:
    """Leave an outage to people, who are called once: one that comes back before it was stable is known.

    The diagnosis has its next remedy proposed, unless nothing was tried since the last one was.
    """
    if reason == EXHAUSTED and (here.fleet.blocked is not None or target.is_cut_off):
        return RepairStep(repair)  # nothing can be seen: the last remedy may have helped, or there is another
    before, tried = repair.escalated_after, len(repair.attempts)
    left = replace(repair, escalated_after=tried)
    if before is None:
        found = _step(left, RepairEvent.ESCALATE, here, reason=reason)
    else:
        found = RepairStep(_move(left, RepairEvent.ESCALATE, here))
    advised = () if repair.advice is None else repair.advice.remedies
    if before == tried or not any(_may_be_proposed(found.repair, each, here) for each in advised):
        return found
    return found.then(advise, advised, "the next remedy of the diagnosis", here)


# --- the ladder ---


def _find_next(repair: Repair, target: TargetFacts, here: Situation) -> Remedy | None:
    """Return the next remedy of the ladder; None at its end."""
    offered = list_offered(repair, target, here.settings)
    first = [each for each in offered if REMEDIES[each].precedes(target)]
    if not first and here.settings.learning:
        first = [each for each in offered if each is repair.preferred]
    return (repair.find_next_remedy(first) if first else None) or repair.find_next_remedy(offered)


def _find_preferred(repair: Repair, target: TargetFacts, here: Situation) -> tuple[Remedy, str] | None:
    """Return the remedy that comes before cheaper ones, by the record, and why; None without one.

    It is chosen before the first remedy, if it could be applied at once, and asks no person where a
    cheaper one would not.
    """
    if not here.settings.learning or repair.preferred is not None or repair.count_remedies():
        return None
    offered = list_offered(repair, target, here.settings)
    modes = {each: here.mode_of(repair.svc, each) for each in offered}
    if any(REMEDIES[each].precedes(target) for each in offered):
        return None

    def is_allowed(remedy: Remedy) -> bool:
        would_ask = modes[remedy] is Mode.PROPOSE and Mode.ACT in modes.values()
        return not would_ask and find_refusal(repair, target, remedy, here) is None

    return here.experience.find_preferred(repair.svc, repair.symptom, offered, is_allowed)


def _find_instead(repair: Repair, target: TargetFacts, tried: Remedy, here: Situation) -> Remedy | None:
    """Return a remedy that was tried less often than one that did not help; None without such a one.

    No person is asked about it: what may act without a question has its attempts before.
    """
    offered = build_ladder(list_offered(repair, target, here.settings))
    fewer = [each for each in offered if repair.count_attempts(each) < repair.count_attempts(tried)]
    for remedy in sorted(fewer, key=repair.count_attempts):
        if (
            repair.has_attempts_left(remedy)
            and REMEDIES[remedy].may_precede_cheaper
            and here.mode_of(repair.svc, remedy) is Mode.ACT
            and find_refusal(repair, target, remedy, here) is None
            and _find_useless(repair, target, remedy, here) is None
        ):
            return remedy
    return None


def _find_useless(repair: Repair, target: TargetFacts, remedy: Remedy, here: Situation) -> str | None:
    """Return in words that a remedy does not help, by the record; None if it is to be tried."""
    if not here.settings.learning or REMEDIES[remedy].precedes(target):
        return None
    return here.experience.find_useless(repair.svc, repair.symptom, remedy)


def _may_be_advised(repair: Repair, remedy: Remedy, here: Situation) -> bool:
    if REMEDIES[remedy].binds_proposal:  # what an approval would be for is not known beforehand
        return False
    return remedy in here.settings.ladder_of(repair.svc) and repair.has_attempts_left(remedy)


def _may_be_proposed(repair: Repair, remedy: Remedy, here: Situation) -> bool:
    """Return False for a remedy of a diagnosis that no approval would have carried out."""
    if here.is_dry_run or repair.svc in PROTECTED:
        return False
    is_observed = here.settings.mode_of(repair.svc, remedy) is Mode.OBSERVE
    return not is_observed and _may_be_advised(repair, remedy, here)


def _count_needed(remedy: Remedy, svc: str, here: Situation) -> int:
    """Return how many services that are up a remedy stops besides its target."""
    return len(here.fleet.find_dependants(svc)) if REMEDIES[remedy].replaces_process else 0


def _describe_needed(count: int) -> str:
    return f"; {count} that are up need it" if count else ""
