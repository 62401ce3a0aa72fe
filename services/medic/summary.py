"""Say in words what the medic does now: the line that matters most, and a line for each outage. Pure."""

from collections.abc import Sequence
from typing import Final

from marketswarm.operator.healing_text import describe_refusal, describe_remedy
from marketswarm.truth import ESCALATED_RULE, PROPOSED_RULE
from services.medic.guards import Fuse
from services.medic.proposal import find_proposal
from services.medic.repair import Repair, RepairState
from services.medic.settings import HealingSettings

NAMED: Final = 5
"""How many services are named in one place of the summary."""


def write_summary(
    settings: HealingSettings, repairs: Sequence[Repair], fuse: Fuse, rules: Sequence[str]
) -> str:
    """Return the one line that matters: what waits for a person, what the medic does, or that all is well.

    `rules` are those that hold, as `<rule>/<subject>`.
    """
    asks = [each.svc for each in repairs if find_proposal(each) is not None]
    lost = [each.svc for each in repairs if each.state is RepairState.ESCALATED and each.svc not in asks]
    left = [
        f"{each.svc} ({describe_refusal(each.refusal)})"
        for each in repairs
        if each.refusal is not None and each.svc not in (*asks, *lost)
    ]
    named = {*asks, *lost}
    works = [each.svc for each in repairs if each.refusal is None and each.svc not in named]
    others = [name for name in rules if name.partition("/")[0] not in (PROPOSED_RULE, ESCALATED_RULE)]
    parts = [
        "the medic has stopped, and waits for you" if fuse.blown_at is not None else "",
        "the medic is paused" if settings.paused and not repairs else "",
        f"waits for your approval: {_name_some(asks)}" if asks else "",
        f"needs you: {_name_some(lost)}" if lost else "",
        f"nothing is done about {_name_some(left)}" if left else "",
        f"the medic works on {_name_some(works)}" if works else "",
        f"{'rule holds' if len(others) == 1 else 'rules hold'}: {_name_some(others)}" if others else "",
    ]
    return "; ".join(filter(None, parts)) or "all is well: no outage is open, and no rule holds"


def _name_some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def describe_state(repair: Repair) -> str:
    """Return what the medic does about an outage now, or why it does nothing, in words."""
    if repair.refusal is not None:
        return f"nothing: {describe_refusal(repair.refusal)}"
    last = describe_remedy(repair.attempts[-1].remedy) if repair.attempts else ""
    match repair.state:
        case RepairState.PROPOSED:
            proposed = "" if repair.proposed is None else describe_remedy(repair.proposed)
            return f"proposes: {proposed}"
        case RepairState.WAITING:
            return "waits whether it heals by itself"
        case RepairState.INTENDED:
            return f"is about to: {last}"
        case RepairState.SETTLING:
            return f"did: {last}; whether that helps shows soon"
        case RepairState.STABILIZING:
            return "it is up again; watches whether it stays so"
        case RepairState.ESCALATED:
            return "nothing more: a person is needed"
    return "decides what to do"
