"""What people were told of an outage, and who acknowledged it, in its timeline."""

import orjson
import pytest

from marketswarm.keys import NOTIFIER_STATE
from marketswarm.operator.healing import EntryKind, HealingIncident, TimelineEntry
from marketswarm.operator.healing_stats import measure_remedies
from marketswarm.status.notifications import OpenIncident
from marketswarm.testing import MemoryBus
from notifier.router.incident import Incident
from services.medic.facts import FleetFacts, TargetFacts
from services.medic.people import add_people
from services.medic.planner import MAX_TOLD
from support.simulation.patient import down


def tell(patient, **more):
    (repair,) = patient.planner.repairs.values()
    said = {"since": repair.down_since, "told_at": patient.now, "channels": ("ops", "mail"), **more}
    patient.shown = {"notified": OpenIncident("feed", down=True, **said)}
    patient.look(3)


def people(patient):
    entries = [entry for plan in patient.plans for entry in plan.entries]
    return [(each.what, each.text) for each in entries if each.what in ("told", "acked")]


def test_each_message_and_each_acknowledgement_is_noted_once_whatever_medic_leads():
    patient = down(restart_helps=False)
    patient.look(3)
    tell(patient, told_at=None, channels=())
    assert people(patient) == []
    at = patient.now
    tell(patient, told_at=at)
    patient.crash_medic()
    tell(patient, told_at=at, acked_by="ann")
    patient.look(10)
    assert people(patient) == [("told", "to ops, mail"), ("acked", "by ann")]
    tell(patient, told_at=at, acked_by="bob", escalated=1, channels=("ops", "mail", "phone"))
    assert people(patient)[2:] == [("told", "again, to ops, mail, phone"), ("acked", "by bob")]
    tell(patient, told_at=patient.now, acked_by="")
    assert people(patient)[4:] == [("told", "to ops, mail")], "it came back, and people were told anew"
    tell(patient, told_at=patient.now, acked_by="bob")
    assert people(patient)[-1] == ("acked", "by bob")


def test_what_people_were_told_of_an_earlier_outage_is_not_of_this_one():
    patient = down()
    patient.look(3)
    (repair,) = patient.planner.repairs.values()
    tell(patient, since=repair.down_since - 60, acked_by="ann")
    assert people(patient) == []


def test_a_state_that_changes_with_each_look_does_not_fill_the_record():
    patient = down(restart_helps=False)
    patient.look(3)
    for number in range(MAX_TOLD):
        tell(patient, acked_by=f"eve {number}")
    assert MAX_TOLD <= len(people(patient)) <= MAX_TOLD + 1


def test_people_change_nothing_about_what_the_medic_did():
    def entry(what, **more):
        return TimelineEntry(incident="feed.1", ts=1.0, svc="feed", what=what, **more)

    waited = (entry(EntryKind.OPENED, reason="silent"), entry(EntryKind.WAITING, remedy="wait"))
    beside = (entry(EntryKind.TOLD, text="to ops"), entry(EntryKind.ACKED, text="by ann"))
    proposed = entry(EntryKind.PROPOSED, remedy="restart", proposal="feed-1")
    (stats,) = measure_remedies([HealingIncident((*waited, *beside, entry(EntryKind.RECOVERED)))])
    assert (stats.remedy, stats.verified) == ("wait", 1)
    found = HealingIncident((*waited, proposed, *beside))
    assert (found.proposal, found.details) == (proposed, "proposed restart")


async def test_what_the_notifier_stores_is_read_and_what_is_none_of_it_is_skipped():
    bus, facts = MemoryBus(), FleetFacts({svc: TargetFacts(svc=svc) for svc in ("a", "b", "c")})
    stored = Incident(
        "a", "a", down=True, since=5.0, told_at=7.0, channels=("ops",), acked_by="kim", reminded=2
    )
    fields = {"r:i:a": stored.encode(), "r:i:b": b"junk", "r:i:c": stored.encode(), "r:i:d": stored.encode()}
    await bus.client.hset(NOTIFIER_STATE, mapping=fields)
    found = await add_people(facts, bus, ["a", "b", "c"])
    known = OpenIncident(
        "a", down=True, acked_by="kim", since=5.0, told_at=7.0, channels=("ops",), reminded=2
    )
    assert [each.notified for each in found.targets.values()] == [known, None, None]
    bus.server.connected = False
    assert await add_people(facts, bus, ["a"]) is facts
    assert await add_people(facts, bus, []) is facts
    await bus.aclose()


@pytest.mark.parametrize("wrong", [{"told_at": "now"}, {"reminded": -1}, {"channels": 7}, {"since": 1e300}])
async def test_an_incident_with_one_wrong_part_is_skipped(wrong):
    bus = MemoryBus()
    await bus.client.hset(NOTIFIER_STATE, "r:i:a", orjson.dumps({"key": "a", "down": True, **wrong}))
    found = await add_people(FleetFacts({"a": TargetFacts(svc="a")}), bus, ["a"])
    assert found.targets["a"].notified is None
    await bus.aclose()
