"""Note in the timeline of an outage what people were told of it and its rules, and who acknowledged it."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import islice
from typing import Final

from marketswarm.agent.outage_state import MONITOR
from marketswarm.bus import Bus, BusError
from marketswarm.operator.healing import EntryKind
from marketswarm.status.notifications import OpenIncident, read_incidents
from services.medic.facts import FleetFacts, TargetFacts
from services.medic.repair import MAX_NOTED, NotedMessages, Repair, RepairStep

MAX_TOLD: Final = 50
"""The most entries about people in the timeline of one outage."""
MAX_RULES: Final = 10
"""The most rules about one outage whose messages are looked for."""
SAME_SEC: Final = 1.0
"""How much earlier than an outage of ours that of the notifier may begin, if it is the same."""


async def add_people(facts: FleetFacts, bus: Bus, alerts: Mapping[str, Collection[str]]) -> FleetFacts:
    """Return the facts with what the notifier knows of some services; as they are without an answer.

    `alerts` has these services, each with the rules that hold for it (`<rule>/<subject>`).
    """
    if not alerts:
        return facts
    keys = {
        svc: (svc, *(MONITOR.prefix + rule for rule in islice(rules, MAX_RULES)))
        for svc, rules in alerts.items()
    }
    try:
        found = await read_incidents(bus, {key for named in keys.values() for key in named})
    except BusError:
        return facts
    told = {
        svc: replace(facts.targets[svc], notified=tuple(found[key] for key in named if key in found))
        for svc, named in keys.items()
        if svc in facts.targets
    }
    return replace(facts, targets={**facts.targets, **told})


def note_people(repair: Repair, target: TargetFacts, now: float) -> RepairStep:
    """Return the repair that notes what people were told and who acknowledged it, and the new entries.

    The notifier's outage of a rule counts while it is open, since the rule holds. Pure.
    """
    found = RepairStep(repair)
    for known in target.notified:
        is_own = known.key == repair.svc
        is_of_this = known.since >= repair.down_since - SAME_SEC if is_own else known.down
        if is_of_this and found.repair.told < MAX_TOLD:
            rule = "" if is_own else f"{known.key.removeprefix(MONITOR.prefix)}, "
            found = found.then(_note_outage, known, rule, now)
    return found


def _note_outage(repair: Repair, known: OpenIncident, rule: str, now: float) -> RepairStep:
    """Return the repair that notes an outage of the notifier's, and an entry for each thing that is new.

    `rule` begins each text: empty, or a rule's name and a comma.
    """
    before = next((each for each in repair.noted if each.key == known.key), NotedMessages(known.key))
    after, news = replace(before, acked_by=known.acked_by[:200]), list[tuple[EntryKind, str]]()
    again = known.reminded + known.escalated
    if known.told_at is not None and (known.told_at, again) != (before.told_at, before.again):
        after = replace(after, told_at=known.told_at, again=again)
        news.append((EntryKind.TOLD, f"{'again, ' if again else ''}{rule}to {', '.join(known.channels)}"))
    if known.is_in_digest and not before.is_in_digest:
        after = replace(after, is_in_digest=True)
        news.append((EntryKind.TOLD, f"{rule}in the digest of what was healed"))
    if after.acked_by and after.acked_by != before.acked_by:
        news.append((EntryKind.ACKED, f"{rule}by {after.acked_by}"))
    if after == before:
        return RepairStep(repair)
    others = (each for each in repair.noted if each.key != known.key)
    noted = (*others, after)[-MAX_NOTED:]
    found = RepairStep(replace(repair, noted=noted, told=repair.told + len(news)))
    for what, text in news:
        found = found.note(what, now, text=text[:200])
    return found
