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
from services.medic.people import MAX_RULES, MAX_TOLD, add_people
from services.medic.repair import MAX_NOTED
from services.medic.store import parse_repair
from support.simulation.patient import down


def tell(patient, **more):
    (repair,) = patient.planner.repairs.values()
    said = {"key": "feed", "down": True, "since": repair.down_since, "told_at": patient.now}
    said |= {"channels": ("ops", "mail"), **more}
    patient.shown = {"notified": (OpenIncident(**said),)}
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


def test_messages_about_a_rule_that_holds_are_noted_beside_those_about_the_outage():
    patient = down(restart_helps=False)
    patient.look(3)
    rule = {"key": "medic/escalated/feed", "since": 7.0}
    tell(patient, **rule, down=False)
    assert people(patient) == [], "the rule does not hold any more"
    at = patient.now
    tell(patient, told_at=at)
    tell(patient, **rule, told_at=at)
    tell(patient, told_at=at)
    tell(patient, **rule, told_at=at, reminded=1, acked_by="ann")
    assert people(patient) == [
        ("told", "to ops, mail"),
        ("told", "escalated/feed, to ops, mail"),
        ("told", "again, escalated/feed, to ops, mail"),
        ("acked", "escalated/feed, by ann"),
    ]


HELD = {"held": "healing", "told_at": None, "channels": (), "down": False}


def test_an_outage_that_ended_before_its_message_is_noted_as_a_line_of_the_digest_once():
    patient = down()
    patient.look(3)
    for other in ({"down": True}, {"held": "silenced"}, {"flapping": True}):
        tell(patient, **{**HELD, **other})
    assert people(patient) == []
    tell(patient, **HELD)
    tell(patient, **HELD)
    assert people(patient) == [("told", "in the digest of what was healed")]


def test_more_rules_than_are_kept_are_forgotten_the_oldest_first():
    patient = down(restart_helps=False)
    patient.look(3)
    for number in range(MAX_NOTED + 5):
        tell(patient, key=f"medic/degraded/{number}", told_at=1.0)
    (repair,) = patient.planner.repairs.values()
    assert len(people(patient)) == MAX_NOTED + 5
    assert [each.key for each in repair.noted][-1] == f"medic/degraded/{MAX_NOTED + 4}"
    assert len(repair.noted) == MAX_NOTED
    assert parse_repair(orjson.dumps(repair), "feed") == repair


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
    found = await add_people(facts, bus, {"a": [], "b": [], "c": []})
    known = OpenIncident(
        "a", down=True, acked_by="kim", since=5.0, told_at=7.0, channels=("ops",), reminded=2
    )
    assert [each.notified for each in found.targets.values()] == [(known,), (), ()]
    bus.server.connected = False
    assert await add_people(facts, bus, {"a": []}) is facts
    assert await add_people(facts, bus, {}) is facts
    await bus.aclose()


async def test_messages_about_the_rules_of_a_service_are_read_with_those_about_itself_but_not_without_end():
    bus, rules = MemoryBus(), [f"degraded/{number:02}" for number in range(MAX_RULES + 1)]
    names = ["a", *(f"medic/{rule}" for rule in rules)]
    fields = {f"r:i:{name}": Incident(name, name, down=True, since=5.0).encode() for name in names}
    await bus.client.hset(NOTIFIER_STATE, mapping=fields)
    facts = FleetFacts({svc: TargetFacts(svc=svc) for svc in ("a", "b")})
    found = await add_people(facts, bus, {"a": rules, "b": [], "gone": []})
    assert [each.key for each in found.targets["a"].notified] == names[: MAX_RULES + 1]
    assert found.targets["b"].notified == ()
    await bus.aclose()


@pytest.mark.parametrize("wrong", [{"told_at": "now"}, {"reminded": -1}, {"channels": 7}, {"since": 1e300}])
async def test_an_incident_with_one_wrong_part_is_skipped(wrong):
    bus = MemoryBus()
    await bus.client.hset(NOTIFIER_STATE, "r:i:a", orjson.dumps({"key": "a", "down": True, **wrong}))
    found = await add_people(FleetFacts({"a": TargetFacts(svc="a")}), bus, {"a": []})
    assert found.targets["a"].notified == ()
    await bus.aclose()
