"""Find what a person may approve of an outage: a remedy of its ladder, or of a diagnosis. Pure."""

import hashlib

from marketswarm.operator.approval_request import ApprovalRequest
from services.medic.remedies import REMEDIES, Remedy
from services.medic.repair import Repair, RepairState


def make_proposal_id(repair: Repair, remedy: Remedy) -> str:
    """Return the id by which a person approves a remedy that is proposed now, and no later one."""
    text = f"{repair.incident} {remedy} {repair.count_attempts(remedy)} {repair.until} {repair.proposed_for}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def make_advice_id(repair: Repair) -> str | None:
    """Return the id by which a person approves the next remedy of a diagnosis; None without one."""
    advice = repair.advice
    if advice is None or not advice.remedies or repair.state is not RepairState.ESCALATED:
        return None
    text = f"{repair.incident} advice {' '.join(advice.remedies)} {advice.until}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def find_proposal(repair: Repair) -> ApprovalRequest | None:
    """Return what is proposed for an outage; None without a proposal.

    It is in words: `restart, while 4 that are up need it`, `pause_source (source kraken)`, or `restart, as
    the diagnosis advises`. A person may approve it until a time by the clock of the medic that leads.
    """
    if repair.state is RepairState.PROPOSED and repair.proposed is not None:
        ident = make_proposal_id(repair, repair.proposed)
        about = repair.proposed_for and f" ({REMEDIES[repair.proposed].describe(repair.proposed_for)})"
        needed = repair.proposed_needed and f", while {repair.proposed_needed} that are up need it"
        until = repair.since if repair.until is None else repair.until
        return ApprovalRequest(f"{repair.proposed}{about}{needed or ''}"[:100], ident, until)
    advised, advice = make_advice_id(repair), repair.advice
    if advised is None or advice is None:
        return None
    return ApprovalRequest(f"{advice.remedies[0]}, as the diagnosis advises", advised, advice.until)


def list_ended(before: Repair, after: Repair) -> list[str]:
    """Return the ids of what was proposed and no longer is, in whatever way it was left."""
    ended: list[str] = []
    is_same = (after.state, after.until) == (before.state, before.until)
    if before.state is RepairState.PROPOSED and before.proposed is not None and not is_same:
        ended.append(make_proposal_id(before, before.proposed))
    advised = make_advice_id(before)
    if advised is not None and advised != make_advice_id(after):
        ended.append(advised)
    return ended
