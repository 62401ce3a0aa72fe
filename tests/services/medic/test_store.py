"""What a medic stores for the next one: in one step, fenced by its lease, and parsed like foreign data."""

import dataclasses
import json
import time

import orjson
import pytest

from marketswarm.agent import LeaseLost
from marketswarm.bus import stream_length
from marketswarm.keys import ARCHIVE_POSITIONS, MEDIC_APPROVALS, MEDIC_EVIDENCE, MEDIC_INCIDENTS, MEDIC_STATE
from marketswarm.operator.healing import (
    EVIDENCE_KEPT,
    FUSE,
    DiagnosisRecord,
    EntryKind,
    HealingApproval,
    OutageEvidence,
    TimelineEntry,
    find_diagnosis,
    fold_incidents,
    read_diagnosis,
    read_evidence,
    read_forgotten_at,
    read_timeline,
    write_approval,
)
from marketswarm.packed_log import pack_log, unpack_log
from marketswarm.testing import MemoryBus
from services.medic import store as store_module
from services.medic.facts import FleetFacts, Symptom
from services.medic.guards import Fuse
from services.medic.planner import Planner, RepairPlan
from services.medic.refusal import Refusal
from services.medic.remedies import Remedy
from services.medic.repair import (
    Advice,
    AttemptVerdict,
    RemedyAttempt,
    Repair,
    RepairState,
    make_advice_id,
    make_proposal_id,
)
from services.medic.rules.observed_time import ObservedSpans
from services.medic.settings import HealingSettings
from services.medic.store import (
    MedicStore,
    parse_fuse,
    parse_repair,
)

NOW = time.time()
REPAIR = Repair(
    incident="feed.17000",
    svc="feed",
    symptom=Symptom.SILENT,
    down_since=NOW - 50,
    opened_at=NOW - 40,
    since=NOW - 5,
    state=RepairState.SETTLING,
    until=NOW + 25,
    attempts=(
        RemedyAttempt(Remedy.WAIT, NOW - 40, "b1", verdict=AttemptVerdict.FAILED),
        RemedyAttempt(Remedy.RESTART, NOW - 5, "b1", "17.5"),
    ),
    boot="b1",
    identity="17.5",
    owner_restarts=1,
    epoch=7,
    refusal=Refusal.COOLDOWN,
)


def entry(what=EntryKind.OPENED, **more):
    return TimelineEntry(incident="feed.17000", ts=NOW, svc="feed", what=what, **more)


@pytest.fixture
def store():
    return MedicStore(MemoryBus())


def test_a_repair_is_read_as_it_was_written():
    assert parse_repair(orjson.dumps(REPAIR), "feed") == REPAIR
    document = {**orjson.loads(orjson.dumps(REPAIR)), "runs_until": 1000.0}
    assert parse_repair(orjson.dumps(document | {"runs_sec": 903.0}), "feed").runs_sec == 903
    for wrong in (7, None, "x" * 201):
        assert parse_repair(orjson.dumps(document | {"runs_sec": 903.0, "runs_as": wrong}), "feed") is None
    del document["runs_sec"], document["runs_as"]
    assert parse_repair(orjson.dumps(document), "feed").runs_until == 1000, "as an older release stored it"
    assert parse_fuse(orjson.dumps(Fuse((1.0, 2.0), 3.0))) == Fuse((1.0, 2.0), 3.0)


HOSTILE = {
    "proposed": "rm -rf",
    "svc": "other",
    "state": "resolved",
    "symptom": 7,
    "down_since": 1e300,
    "opened_at": "1",
    "since": -1,
    "until": None,
    "attempts": [],
    "boot": "b" * 500,
    "identity": 5,
    "owner_restarts": 1.5,
    "epoch": "7",
    "refusal": "none",
    "incident": "i" * 500,
    "up_at": 1e15,
    "noted": [{"key": "feed", "told_at": "now"}],
    "told": -1,
}
NOT_WRITABLE = [
    ("incident", ""),
    ("incident", "feed 17"),
    ("owner_restarts", 10**7),
    ("owner_restarts", -1),
    ("refusals", 10**7),
    ("epoch", -1),
    ("epoch", 2**64),
    ("approved_by", "a" * 500),
    ("proposed_for", "p" * 500),
    ("asked_at", -1),
    ("advice", {"remedies": ["restart"], "until": 1e15}),
    ("advice", {"remedies": ["restart"] * 11, "until": 1}),
    ("attempts", [{"remedy": "restart", "at": 1e15}]),
    ("attempts", [{"remedy": "restart", "at": 1, "boot": "b" * 150}]),
    ("attempts", [{"remedy": "restart", "at": 1, "identity": "i" * 150}]),
    ("attempts", [{"remedy": "restart", "at": 1}] * 51),
    ("noted", [{"key": "feed", "told_at": 1e15}]),
    ("noted", [{"key": "feed", "acked_by": "a" * 500}]),
    ("noted", [{"key": f"medic/degraded/{number}"} for number in range(21)]),
]


@pytest.mark.parametrize(("name", "value"), [*HOSTILE.items(), *NOT_WRITABLE])
def test_a_repair_with_one_wrong_part_is_none(name, value):
    document = {**orjson.loads(orjson.dumps(REPAIR)), name: value}
    assert parse_repair(json.dumps(document).encode(), "feed") is None


@pytest.mark.parametrize("raw", [b"", b"[]", b"7", b"{}", b'{"svc":"feed"}', b"\xff", b"[" * 10_000])
def test_what_is_no_object_is_none(raw):
    assert parse_repair(raw, "feed") is None
    assert parse_fuse(raw) in (None, Fuse())


@pytest.mark.parametrize(
    "fuse", [{"acted": ["x"]}, {"acted": [-1]}, {"acted": [1] * 2000}, {"blown_at": 1e99}]
)
def test_a_fuse_out_of_bounds_is_none(fuse):
    assert parse_fuse(orjson.dumps(fuse)) is None


async def test_what_a_medic_reads_when_it_takes_over_is_not_changed_any_more_by_the_one_before_it(store):
    late = RepairPlan((entry(EntryKind.INTENDED),), {"feed": REPAIR})
    assert await store.load(["feed"], 8) == ([], Fuse())
    assert not await store.save(late, 7)
    assert await store.load(["feed"], 8) == ([], Fuse())


async def test_a_plan_is_stored_in_one_step_and_loaded_by_the_next_medic(store):
    plan = RepairPlan(
        (entry(), entry(EntryKind.ACTED, remedy="restart")), {"feed": REPAIR}, fuse=Fuse((NOW,))
    )
    assert await store.save(plan, 7)
    assert await store.load(["feed", "other"], 7) == ([REPAIR], Fuse((NOW,)))
    entries, unusable = await read_timeline(store.bus)
    assert ([each.what for each in entries], unusable) == (["opened", "acted"], 0)
    assert await store.save(RepairPlan((), {"feed": None}, fuse=Fuse()), 8)
    assert await store.load(["feed"], 8) == ([], Fuse())


async def test_what_the_bus_has_as_this_medic_wrote_it_is_left(store):
    await store.load(["feed"], 7)
    assert await store.find_changed(7) is None
    await store.save(RepairPlan((), {"feed": REPAIR}, fuse=Fuse((NOW,))), 7)
    assert await store.find_changed(7) is None
    await store.save(RepairPlan((), {"feed": None}), 7)
    assert await store.find_changed(7) is None
    later = MedicStore(store.bus)
    await store.save(RepairPlan((), {"feed": REPAIR}), 7)
    await later.load(["feed"], 8)
    assert await later.find_changed(8) is None


@pytest.mark.parametrize(
    ("change", "services", "fuse"),
    [
        (("DEL", MEDIC_STATE), ["feed"], Fuse((NOW,))),
        (("HDEL", MEDIC_STATE, "repair:feed"), ["feed"], None),
        (("HSET", MEDIC_STATE, "repair:feed", b"{}"), ["feed"], None),
        (("HSET", MEDIC_STATE, FUSE, orjson.dumps(Fuse())), [], Fuse((NOW,))),
        (("HDEL", MEDIC_STATE, "epoch"), [], None),
        (("HSET", MEDIC_STATE, "epoch", "6"), [], None),
    ],
    ids=["all", "a repair", "another repair", "the fuse", "the lease", "an older lease"],
)
async def test_what_others_change_is_written_again(store, change, services, fuse):
    await store.load(["feed"], 7)
    await store.save(RepairPlan((), {"feed": REPAIR}, fuse=Fuse((NOW,))), 7)
    await store.bus.client.execute_command(*change)
    plan = await store.find_changed(7)
    assert (sorted(plan.repairs), plan.fuse) == (services, fuse)
    assert await store.save(plan, 7)
    assert await store.find_changed(7) is None
    assert await MedicStore(store.bus).load(["feed"], 7) == ([REPAIR], Fuse((NOW,)))
    assert not await store.save(RepairPlan(), 6), "the number of the lease is there again"


async def test_what_a_newer_medic_wrote_is_not_written_again(store):
    await store.load(["feed"], 7)
    await store.save(RepairPlan((), {"feed": REPAIR}), 7)
    assert await MedicStore(store.bus).save(RepairPlan((), {"feed": None}), 8)
    plan = await store.find_changed(7)
    assert plan is not None
    assert not await store.save(plan, 7)


async def test_an_outage_of_a_service_that_left_the_truth_while_no_medic_led_is_retired(store):
    assert await store.save(RepairPlan((entry(),), {"feed": REPAIR}), 7)
    repairs, fuse = await store.load(["other"], 8)
    assert repairs == [REPAIR]
    planner = Planner(HealingSettings)
    planner.resume(repairs, fuse, NOW)
    assert await store.save(planner.tick(FleetFacts(), {}, 8, NOW), 8)
    (incident,) = fold_incidents((await read_timeline(store.bus))[0])
    assert incident.resolution == "retired"
    assert await store.load(["other"], 9) == ([], Fuse())


async def test_a_stale_medic_writes_nothing(store):
    assert await store.save(RepairPlan((entry(),), {"feed": REPAIR}), 8)
    later = dataclasses.replace(REPAIR, owner_restarts=5)
    assert not await store.save(RepairPlan((entry(EntryKind.ACTED),), {"feed": later}), 7)
    with pytest.raises(LeaseLost):
        await store.load(["feed"], 7)
    assert await store.load(["feed"], 8) == ([REPAIR], Fuse())
    assert len((await read_timeline(store.bus))[0]) == 1


@pytest.mark.parametrize("is_set_back", [False, True])
async def test_an_epoch_ahead_of_the_clock_stops_medics_for_minutes_at_most(store, is_set_back):
    """A lease has an epoch far ahead of the clock after that was set back: then all have."""
    now = round(1000 * time.time())
    ours = now + 3_600_000 if is_set_back else now
    for ahead_ms, is_taken in ((1, False), (290_000, False), (310_000, True), (43_200_000, True)):
        await store.bus.client.hset(MEDIC_STATE, "epoch", ours + ahead_ms)
        assert await store.save(RepairPlan((), {"feed": REPAIR}), ours) is is_taken
        if is_taken:
            assert await store.bus.client.hget(MEDIC_STATE, "epoch") == b"%d" % ours


async def test_a_dry_run_has_a_store_of_its_own_and_leaves_that_of_the_real_medic_alone(store):
    dry = MedicStore(store.bus, is_dry_run=True)
    approval = HealingApproval(id=FUSE, by="ann", ts=NOW).encode()
    await store.bus.client.hset(MEDIC_APPROVALS, FUSE, approval)
    await store.save(RepairPlan((entry(),), {"feed": REPAIR}), 7)
    await dry.repair_keys()
    assert await dry.load(["feed"], 99) == ([], Fuse())
    assert await dry.read_approvals([], NOW + 1e9, 60) == {}, "an old one is deleted by the real medic alone"
    later = dataclasses.replace(REPAIR, owner_restarts=5)
    await dry.save(RepairPlan((entry(), entry()), {"feed": later}, used=(FUSE,)), 99)
    assert await dry.load(["feed"], 99) == ([later], Fuse())
    assert await store.load(["feed"], 7) == ([REPAIR], Fuse())
    assert len(await dry.load_record()) == 1, "what it learns from is the record of the real one"
    assert await store.bus.client.hgetall(MEDIC_APPROVALS) == {FUSE.encode(): approval}
    names = {name.decode() for name in await store.bus.client.keys("*")}
    assert {name for name in names if not name.startswith("medic:dry:")} == {
        MEDIC_STATE,
        MEDIC_INCIDENTS,
        MEDIC_APPROVALS,
    }


async def test_an_epoch_that_no_medic_can_have_written_stops_none(store):
    await store.bus.client.hset(MEDIC_STATE, "epoch", "9007199254740992")
    assert await store.save(RepairPlan((), {"feed": REPAIR}), round(1000 * time.time()))
    await store.bus.client.hset(MEDIC_STATE, "epoch", "junk")
    assert await store.save(RepairPlan((), {"feed": None}), round(1000 * time.time()))


async def test_hostile_values_are_skipped_and_counted(store):
    client = store.bus.client
    await client.hset(MEDIC_STATE, mapping={"repair:feed": "junk", "fuse": "7", "x": "y" * 100_000})
    assert await store.load(["feed"], 7) == ([], Fuse())
    await client.xadd(MEDIC_INCIDENTS, {"entry": "junk"})
    await client.xadd(MEDIC_INCIDENTS, {"other": b"\xff"})
    await store.save(RepairPlan((entry(),)), 7)
    entries, unusable = await read_timeline(store.bus)
    assert ([each.what for each in entries], unusable) == (["opened"], 2)


async def test_a_repair_that_can_not_be_used_is_deleted_by_the_medic_that_leads(store):
    client = store.bus.client
    await client.hset(MEDIC_STATE, mapping={"repair:feed": "junk", "repair:mesh": orjson.dumps(REPAIR)})
    await store.load(["feed", "mesh"], 7)
    assert await client.hkeys(MEDIC_STATE) == [b"epoch"]
    await client.hset(MEDIC_STATE, "repair:feed", "junk")
    with pytest.raises(LeaseLost):
        await store.load(["feed"], 6)
    assert await client.hexists(MEDIC_STATE, "repair:feed"), "a newer medic has written"


async def test_a_stream_that_was_ended_begins_anew(store):
    await store.bus.client.xadd(MEDIC_INCIDENTS, {"a": "b"}, id="18446744073709551615-18446744073709551615")
    assert await store.save(RepairPlan((entry(),)), 7)
    assert len((await read_timeline(store.bus))[0]) == 1


async def test_keys_of_another_type_are_deleted(store):
    await store.bus.client.set(MEDIC_STATE, "x")
    await store.bus.client.set(MEDIC_INCIDENTS, "x")
    await store.repair_keys()
    assert await store.save(RepairPlan((entry(),), {"feed": REPAIR}), 7)


async def test_an_approval_counts_for_its_proposal_while_it_is_young_and_is_used_once(store):
    proposed = dataclasses.replace(
        REPAIR, state=RepairState.PROPOSED, proposed=Remedy.RESTART, until=NOW + 600
    )
    ident = make_proposal_id(proposed, Remedy.RESTART)
    for name, by, ts in ((ident, "ann", NOW), ("fuse", "bob", NOW - 999), ("other", "eve", NOW)):
        await write_approval(store.bus, HealingApproval(id=name, by=by, ts=ts))
    await store.bus.client.hset(MEDIC_APPROVALS, "fuse2", HealingApproval(id="x", by="eve", ts=NOW).encode())
    assert await store.read_approvals([proposed], NOW, 600) == {ident: "ann"}
    assert await store.read_approvals([REPAIR], NOW, 1200) == {}, "too old before, and deleted then"
    await write_approval(store.bus, HealingApproval(id="fuse", by="bob", ts=NOW - 999))
    assert await store.read_approvals([REPAIR], NOW, 1200) == {"fuse": "bob"}
    await store.save(RepairPlan(used=(ident,)), 7)
    assert await store.read_approvals([proposed], NOW, 600) == {}
    assert await store.bus.client.hexists(MEDIC_APPROVALS, "other")


async def test_a_diagnosis_and_the_questions_are_stored_under_the_fence_and_parsed_like_foreign_data(store):
    record = DiagnosisRecord(
        svc="feed", incident="feed.17000", ts=round(NOW, 3), reason="escalated", text="Full."
    )
    advised = dataclasses.replace(
        REPAIR, state=RepairState.ESCALATED, advice=Advice((Remedy.RESTART,), NOW + 60)
    )
    plan = RepairPlan((), {"feed": advised}, diagnosis=record, questions=Fuse((NOW,)))
    assert await store.save(plan, 7)
    assert await read_diagnosis(store.bus, "feed", "feed.17000") == record
    assert await read_diagnosis(store.bus, "feed", "feed.16000") is None, "a later outage has replaced it"
    assert await store.load_questions() == Fuse((NOW,))
    ident = make_advice_id(advised)
    await write_approval(store.bus, HealingApproval(id=ident, by="ann", ts=NOW))
    assert await store.read_approvals([advised], NOW, 600) == {ident: "ann"}
    assert not await store.save(RepairPlan(diagnosis=dataclasses.replace(record, text="Old.")), 6)
    assert (await read_diagnosis(store.bus, "feed", "feed.17000")).text == "Full."
    for raw in ("junk", dataclasses.replace(record, svc="other").encode(), b'{"svc": "feed", "text": 7}'):
        await store.bus.client.hset(MEDIC_STATE, "diagnosis:feed", raw)
        assert await read_diagnosis(store.bus, "feed", "feed.17000") is None
    await store.bus.client.hset(MEDIC_STATE, "questions", "junk")
    assert await store.load_questions() == Fuse()


async def test_evidence_is_stored_under_the_fence_and_parsed_like_foreign_data(store):
    evidence = OutageEvidence(
        svc="feed",
        incident="feed.17000",
        ts=round(NOW, 3),
        step="intended restart",
        facts={"health": "down", "down_sec": 1.5, "process_age_sec": None},
        readings={"process_cpu": 99.0},
        packed_log=pack_log("one\ntwo"),
    )
    assert await store.save(RepairPlan(evidence=(evidence,)), 7)
    found = await read_evidence(store.bus, "feed.17000")
    assert found == evidence
    assert unpack_log(found.packed_log) == ["one", "two"]
    assert not await store.save(RepairPlan(evidence=(dataclasses.replace(evidence, step="old"),)), 6)
    assert (await read_evidence(store.bus, "feed.17000")).step == "intended restart"
    for raw in ("junk", b'{"incident": "feed.17000", "svc": "feed", "facts": 7}'):
        await store.bus.client.xadd(MEDIC_EVIDENCE, {"entry": raw})
    later = [dataclasses.replace(evidence, incident=f"feed.{at}") for at in range(50)]
    assert await store.save(RepairPlan(evidence=tuple(later)), 7)
    assert await read_evidence(store.bus, "feed.17000") == evidence, "more than a page back"
    assert await read_evidence(store.bus, "feed.99") is None


async def test_the_oldest_evidence_goes_and_the_last_possible_id_ends_neither_stream(store):
    evidence = OutageEvidence(svc="feed", incident="feed.1", ts=NOW, step="", facts={}, readings={})
    for _ in range(5):
        assert await store.save(RepairPlan(evidence=(evidence,) * 100), 7)
    assert EVIDENCE_KEPT <= await store.bus.client.xlen(MEDIC_EVIDENCE) < EVIDENCE_KEPT + 100
    last = "18446744073709551615-18446744073709551615"
    for stream in (MEDIC_EVIDENCE, MEDIC_INCIDENTS):
        await store.bus.client.xadd(stream, {"a": "b"}, id=last)
    entry = TimelineEntry(incident="feed.2", ts=NOW, svc="feed", what=EntryKind.OPENED)
    again = dataclasses.replace(evidence, incident="feed.2")
    assert await store.save(RepairPlan((entry,), evidence=(again,)), 7)
    assert (await read_evidence(store.bus, "feed.2")).incident == "feed.2"
    assert [each.incident for each in await store.load_record()] == ["feed.2"]


def test_incidents_are_folded_from_their_entries_the_latest_first():
    def made(incident, what, ts, **more):
        return TimelineEntry(incident=incident, ts=ts, svc=incident, what=what, **more)

    first, second, third = fold_incidents(
        [
            made("a", EntryKind.OPENED, 1, reason="silent"),
            made("b", EntryKind.ACTED, 2, remedy="restart"),
            made("c", EntryKind.ESCALATED, 3, reason="exhausted"),
            made("a", EntryKind.RESOLVED, 4, reason="healed", sec=3.0),
        ]
    )
    assert (first.id, first.symptom, first.resolution, first.end.sec) == ("a", "silent", "healed", 3.0)
    assert (second.id, second.resolution, second.symptom) == ("c", "escalated", "")
    assert (third.resolution, third.remedies()) == ("open", ("restart",))


async def test_what_was_learned_is_forgotten_until_the_time_that_a_person_said(store):
    assert await read_forgotten_at(store.bus) == 0.0
    await write_approval(store.bus, HealingApproval(id="learning", by="ann", ts=round(NOW, 3)))
    assert await read_forgotten_at(store.bus) == round(NOW, 3)
    assert await store.read_approvals([REPAIR], NOW + 99_999, 600) == {}
    assert await read_forgotten_at(store.bus) == round(NOW, 3), "it is no proposal, so it does not end"
    for raw in ("junk", HealingApproval(id="fuse", by="eve", ts=NOW).encode()):
        await store.bus.client.hset(MEDIC_APPROVALS, "learning", raw)
        assert await read_forgotten_at(store.bus) == 0.0


async def test_the_times_that_medics_observed_are_stored_by_the_clock_of_the_bus(store):
    now = time.time() - 7200  # by the clock of a medic whose machine was set
    spans = ((now - 500, now - 400), (now - 300, now))
    assert await store.save(RepairPlan(observed=ObservedSpans(now, spans)), 7)
    stored = orjson.loads(await store.bus.client.hget(MEDIC_STATE, "observed"))
    assert stored[-1][1] == pytest.approx(time.time(), abs=30)
    found = await store.load_observed(lambda: 5_000.0)
    assert [round(each - 5_000, -1) for span in found for each in span] == [-500, -400, -300, 0]


@pytest.mark.parametrize(
    "raw",
    [
        b"junk",
        b"[[1,2,3]]",
        b"[[2,1]]",
        b"[[1,2],[1.5,3]]",
        b'[["1",2]]',
        b"[[-1,2]]",
        b"[[1,2]]" * 9,
        b"[[1,1e300]]",
    ],
)
async def test_observed_times_that_can_not_be_used_are_none(store, raw):
    assert await store.load_observed(time.time) == ()
    await store.bus.client.hset(MEDIC_STATE, "observed", raw)
    assert await store.load_observed(time.time) == ()
    await store.bus.client.hset(MEDIC_STATE, "observed", orjson.dumps([[at, at] for at in range(21)]))
    assert await store.load_observed(time.time) == ()
    ahead = [[10.0, 20.0], [time.time(), time.time() + 900]]
    await store.bus.client.hset(MEDIC_STATE, "observed", orjson.dumps(ahead))
    assert len(await store.load_observed(time.time)) == 1, "the clock of the bus was set back"


@pytest.mark.parametrize(
    ("stream", "constant"), [(MEDIC_INCIDENTS, "ENTRIES_KEPT"), (MEDIC_EVIDENCE, "EVIDENCE_KEPT")]
)
async def test_what_archive_has_not_stored_of_the_record_is_kept_up_to_twice_as_long(
    store, monkeypatch, stream, constant
):
    monkeypatch.setattr(store_module, constant, 100)
    monkeypatch.setattr(stream_length, "READ_EVERY_SEC", 0.0)
    bus = store.bus

    async def save(count):
        for _ in range(count):
            known = OutageEvidence(
                svc="feed", incident="feed.17000", ts=NOW, step="opened", facts={}, readings={}
            )
            is_entry = stream == MEDIC_INCIDENTS
            plan = RepairPlan((entry(),)) if is_entry else RepairPlan(evidence=(known,))
            assert await store.save(plan, 7)
        return await bus.client.xlen(stream)

    async def set_position():
        (newest, _), *_ = await bus.client.xrevrange(stream, count=1)
        await bus.client.hset(ARCHIVE_POSITIONS, f"archive {stream}", newest)

    await save(1)
    await set_position()
    assert await save(150) == 151
    assert 200 <= await save(260) < 301, "an archive that is gone must not fill the bus"
    await set_position()
    assert await save(1) <= 200


async def test_each_diagnosis_stays_with_its_outage_though_a_later_one_replaces_it(store):
    told = {"svc": "feed", "ts": round(NOW, 3)}
    for ident in ("feed.16000", "feed.17000"):
        record = DiagnosisRecord(incident=ident, reason="escalated", text=f"Full {ident}.", **told)
        entry = TimelineEntry(incident=ident, what=EntryKind.DIAGNOSED, **told)
        assert await store.save(RepairPlan((entry,), diagnosis=record), 7)
        later = TimelineEntry(incident=ident, what=EntryKind.DIAGNOSED, text="the next remedy", **told)
        assert await store.save(RepairPlan((later,)), 7)
    for ident in ("feed.16000", "feed.17000"):
        assert (await find_diagnosis(store.bus, ident)).text == f"Full {ident}."
    assert await find_diagnosis(store.bus, "feed.1") is None
    fields = {"entry": entry.encode(), "diagnosis": b'{"svc": 7}'}
    await store.bus.client.xadd(MEDIC_INCIDENTS, fields)
    assert (await find_diagnosis(store.bus, "feed.17000")).text == "Full feed.17000.", "one that can be used"
