"""Read what is known of the remedies that may be tried for targets in trouble."""

import asyncio
from collections.abc import Collection
from dataclasses import replace

from marketswarm.bus import BusError, NoBusError
from services.medic.facts import FleetFacts, Symptom
from services.medic.remedies.ladder import REMEDIES
from services.medic.remedies.remedy import RemedyContext, TracedRemedy
from services.medic.settings import HealingSettings


async def add_evidence(
    facts: FleetFacts, settings: HealingSettings, context: RemedyContext, wall: float
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
    targets = dict(facts.targets)

    async def add(kind: TracedRemedy, services: Collection[str]) -> None:
        try:
            found = await kind.read_evidence(services, facts, context, wall)
        except (BusError, NoBusError):
            return
        for svc, evidence in found.items():
            known = {**targets[svc].evidence, kind.name: evidence}
            targets[svc] = replace(targets[svc], evidence=known)

    await asyncio.gather(*(add(kind, services) for kind, services in read))
    return replace(facts, targets=targets)
