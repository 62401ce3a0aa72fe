"""Read what people were told of open outages, and who acknowledged them, for their timelines."""

from collections.abc import Collection
from dataclasses import replace

from marketswarm.bus import Bus, BusError
from marketswarm.status.notifications import read_incidents
from services.medic.facts import FleetFacts


async def add_people(facts: FleetFacts, bus: Bus, services: Collection[str]) -> FleetFacts:
    """Return the facts with what the notifier knows of these services; as they are without an answer."""
    if not services:
        return facts
    try:
        found = await read_incidents(bus, services)
    except BusError:
        return facts
    known = facts.targets.keys() & found.keys()
    told = {svc: replace(facts.targets[svc], notified=found[svc]) for svc in known}
    return replace(facts, targets={**facts.targets, **told})
