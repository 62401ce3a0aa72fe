"""Read what the remedies of the ladders leave as their trace, beside what is observed of the targets."""

import asyncio
from dataclasses import replace

from marketswarm.bus import BusError, NoBusError
from services.medic.facts import FleetFacts, RemedyEvidence, Symptom
from services.medic.remedies import REMEDIES, RemedyContext
from services.medic.remedies.traced import TracedRemedy
from services.medic.settings import HealingSettings


async def add_evidence(
    facts: FleetFacts,
    settings: HealingSettings,
    context: RemedyContext,
    wall: float,
) -> FleetFacts:
    """Return the facts with what is known of each remedy that the ladder of a target in trouble names.

    Those are the targets that are not well, and those whose outage is open. What can't be read is not known.
    `wall` is now, in epoch seconds by the clock as it is set.
    """
    wanted = [
        svc
        for svc in settings.targets.keys() & facts.targets.keys()
        if svc in context.outages or any(map(facts.targets[svc].is_unwell, Symptom))
    ]
    named = [(svc, REMEDIES[name]) for svc in wanted for name in settings.ladder_of(svc)]
    traced = [(svc, kind) for svc, kind in named if isinstance(kind, TracedRemedy)]
    if not traced:
        return facts
    found = await asyncio.gather(*(_read(kind, svc, facts, context, wall) for svc, kind in traced))
    targets = dict(facts.targets)
    for (svc, kind), evidence in zip(traced, found, strict=True):
        if evidence is not None:
            known = {**targets[svc].evidence, kind.name: evidence}
            targets[svc] = replace(targets[svc], evidence=known)
    return replace(facts, targets=targets)


async def _read(
    kind: TracedRemedy, svc: str, facts: FleetFacts, context: RemedyContext, wall: float
) -> RemedyEvidence | None:
    try:
        return await kind.read_evidence(svc, facts, context, wall)
    except (BusError, NoBusError):
        return None
