"""Read what the remedies of the ladders leave as their trace, beside what is observed of the targets."""

import asyncio
from collections.abc import Collection, Mapping
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

    Those are the targets that are not well, and those whose outage is open. A remedy reads once for all of
    them, so ten services that are down cost no more than one. What can't be read is not known. `wall` is now,
    in epoch seconds by the clock as it is set.
    """
    wanted = [
        svc
        for svc in settings.targets.keys() & facts.targets.keys()
        if svc in context.outages or any(map(facts.targets[svc].is_unwell, Symptom))
    ]
    traced = [kind for kind in REMEDIES.values() if isinstance(kind, TracedRemedy)]
    named = [(kind, [svc for svc in wanted if kind.name in settings.ladder_of(svc)]) for kind in traced]
    read = [(kind, services) for kind, services in named if services]
    if not read:
        return facts
    found = await asyncio.gather(*(_read(kind, services, facts, context, wall) for kind, services in read))
    targets = dict(facts.targets)
    for (kind, _), by_service in zip(read, found, strict=True):
        for svc, evidence in by_service.items():
            known = {**targets[svc].evidence, kind.name: evidence}
            targets[svc] = replace(targets[svc], evidence=known)
    return replace(facts, targets=targets)


async def _read(
    kind: TracedRemedy, services: Collection[str], facts: FleetFacts, context: RemedyContext, wall: float
) -> Mapping[str, RemedyEvidence]:
    try:
        return await kind.read_evidence(services, facts, context, wall)
    except (BusError, NoBusError):
        return {}
