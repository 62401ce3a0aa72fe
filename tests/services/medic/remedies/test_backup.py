"""To have a backup made again: when it is asked for, that archive follows it once, and what verifies it."""

import time
from dataclasses import replace

import orjson
import pytest

from marketswarm.agent.lease import clock
from marketswarm.keys import ARCHIVE_BACKUP, ARCHIVE_BACKUP_REQUEST
from marketswarm.operator.service_reports import (
    REQUEST_VALID_SEC,
    BackupReport,
    BackupRequest,
    BackupResult,
    BackupState,
)
from marketswarm.testing import MemoryBuses
from marketswarm.truth import parse_truth
from services.archive.maintenance import BackupDesk
from services.medic.facts import FleetFacts, Health, RemedyEvidence, TargetFacts
from services.medic.remedies import REMEDIES, OrderResult, Remedy, RemedyContext, RemedyOrder
from services.medic.remedies.evidence import add_evidence
from services.medic.remedies.request import LATE_SEC, judge_backup_report
from services.medic.settings import HealingSettings
from support.simulation.patient import Patient

NOW = 1_795_400_000.0
FAILED = BackupReport(state=BackupState.FAILED, ts=NOW, made_at=NOW - 1e5, due_at=NOW - 10, why="disk full")
REPEAT = REMEDIES[Remedy.REPEAT_BACKUP]


@pytest.fixture
def bus():
    return MemoryBuses()("system-redis")


@pytest.fixture
def context(bus):
    truth = parse_truth(orjson.dumps({"services": {"archive": {}, "feed": {}}})).truth
    return lambda until=None: RemedyContext(truth, lambda _name: bus, until=until)


async def look(context, svc="archive"):
    return (await REPEAT.read_evidence([svc], FleetFacts(), context, NOW)).get(svc)


def order(identity):
    return RemedyOrder("archive", Remedy.REPEAT_BACKUP, identity)


@pytest.mark.parametrize(
    ("report", "is_wanted"),
    [
        (FAILED, True),
        (BackupReport(state=BackupState.IDLE, ts=NOW, due_at=NOW - LATE_SEC - 1), True),
        (BackupReport(state=BackupState.IDLE, ts=NOW, due_at=NOW - LATE_SEC + 1), False),
        (BackupReport(state=BackupState.IDLE, ts=NOW, due_at=None), False),
        (BackupReport(state=BackupState.RUNNING, ts=NOW, due_at=NOW - 1e6), False),
        (BackupReport(state=BackupState.OFF, ts=NOW, due_at=NOW - 1e6), False),
    ],
)
def test_a_backup_is_to_be_repeated_that_failed_or_is_overdue(report, is_wanted):
    evidence = judge_backup_report(report, NOW)
    assert bool(evidence.identity) is is_wanted
    assert evidence.is_under_way is (report.state is BackupState.RUNNING)


def test_each_report_has_a_request_of_its_own_and_the_same_report_the_same_one():
    first = judge_backup_report(FAILED, NOW).identity
    assert judge_backup_report(FAILED, NOW + 60).identity == first
    for more in ({"request": first, "result": BackupResult.FAILED}, {"made_at": NOW}):
        other = BackupReport(state=BackupState.FAILED, ts=NOW, **{"made_at": FAILED.made_at, **more})
        assert judge_backup_report(other, NOW).identity != first


async def test_archive_follows_the_request_once_and_its_report_verifies_it(bus, context):
    desk = BackupDesk(lambda: bus)
    assert not await desk.take()
    await desk.note(BackupState.FAILED, BackupResult.FAILED, why="disk full")
    evidence = await look(context())
    assert evidence.results == {}
    for _ in range(2):  # the second one would be that of a medic that does not know of the first
        result, _ = await REPEAT.carry_out(order(evidence.identity), context(clock() + 5))
        assert result is OrderResult.DONE
    assert 0 < await bus.client.ttl(ARCHIVE_BACKUP_REQUEST) <= 60
    desk.begin_term()
    assert await desk.take()
    await desk.note(BackupState.RUNNING, made_at=None, due_at=NOW)
    running = await look(context())
    assert running == RemedyEvidence(is_under_way=True, results={evidence.identity: None})
    await desk.note(BackupState.IDLE, BackupResult.MADE, made_at=time.time(), due_at=None)
    desk.begin_term()
    assert not await desk.take()
    made = await look(context())
    assert made == RemedyEvidence(results={evidence.identity: True})


async def test_a_report_that_changed_meanwhile_and_a_lease_that_ended_prevent_the_request(
    bus, context, monkeypatch
):
    await bus.client.set(ARCHIVE_BACKUP, FAILED.encode())
    identity = judge_backup_report(FAILED, NOW).identity
    with monkeypatch.context() as patch:  # it stands still after its look at the lease
        patch.setattr("services.medic.remedies.leased_write.clock", lambda: clock() + 60)
        result, said = await REPEAT.carry_out(order(identity), context(clock() + 50))
    assert (result, said) == (OrderResult.REFUSED, "the request came too late")
    result, _ = await REPEAT.carry_out(order("backup.another"), context())
    assert result is OrderResult.CHANGED
    assert await bus.client.exists(ARCHIVE_BACKUP_REQUEST) == 0
    assert (await REPEAT.carry_out(order(identity), context()))[0] is OrderResult.DONE
    assert BackupRequest.parse(await bus.client.get(ARCHIVE_BACKUP_REQUEST)).id == identity
    assert 0 < await bus.client.ttl(ARCHIVE_BACKUP_REQUEST) <= REQUEST_VALID_SEC


@pytest.mark.parametrize("junk", [b"", b"[]", b"\xff", b'{"state":"failed","ts":"x"}', b'{"state":"sold"}'])
async def test_a_report_that_can_not_be_used_says_nothing(bus, context, junk):
    await bus.client.set(ARCHIVE_BACKUP, junk)
    assert await look(context()) is None
    assert await look(context(), "feed") == RemedyEvidence()


async def test_the_facts_have_the_evidence_of_what_the_ladders_name(bus, context):
    await bus.client.set(ARCHIVE_BACKUP, FAILED.encode())
    down = {svc: TargetFacts(svc=svc, health=Health.DOWN) for svc in ("archive", "feed")}
    ladder = {"ladder": ["repeat_backup", "restart"]}
    settings = HealingSettings.model_validate({"targets": {"archive": ladder, "gone": ladder, "feed": {}}})
    found = await add_evidence(FleetFacts(down), settings, context(), NOW)
    assert found.targets["archive"].evidence == {"repeat_backup": judge_backup_report(FAILED, NOW)}
    assert found.targets["feed"] == down["feed"]
    up = FleetFacts({"archive": TargetFacts(svc="archive", health=Health.UP, status="ok")})
    assert await add_evidence(up, settings, context(), NOW) == up, "one that is well needs none"
    known = await add_evidence(up, settings, replace(context(), outages={"archive": NOW}), NOW)
    assert known.targets["archive"].evidence, "but for one whose repair goes on"


# --- what the medic decides by it ---


def unwell(**evidence):
    """Return a patient that beats `degraded`, with an archive's ladder and what is known of its backup."""
    ladder = {"ladder": ["repeat_backup", "restart"]}
    patient = Patient({"mode": "act", "degraded_sec": 5, "targets": {"feed": ladder}}, clear_helps=False)
    tell(patient, **evidence)
    patient.look(2)
    patient.go_stale()
    return patient


def tell(patient, **evidence):
    patient.shown = {"evidence": {"repeat_backup": RemedyEvidence(**evidence)} if evidence else {}}


def ask(patient):
    """Let the medic look until it asks for a backup."""
    while not patient.orders:
        patient.look(1, obey=False)
    patient.obey(patient.orders[0][1], OrderResult.DONE)


def test_a_backup_that_was_made_for_the_request_verifies_it_however_long_it_takes():
    patient = unwell(identity="r1")
    ask(patient)
    assert patient.orders[0][1].identity == "r1"
    tell(patient, is_under_way=True, results={"r1": None})
    patient.look(900)
    assert patient.told()[-1] == "acted"
    tell(patient, results={"r1": True})
    patient.stale_at = None
    patient.look(310)
    assert patient.told()[-2:] == ["verified", "resolved healed"]
    assert len(patient.orders) == 1


@pytest.mark.parametrize("answered", ["", "r0"])
def test_a_service_that_is_well_again_without_the_backup_of_this_request_has_recovered(answered):
    patient = unwell(identity="r1")
    ask(patient)
    tell(patient, results={answered: True} if answered else {})
    patient.stale_at = None
    patient.look(3500)
    assert patient.told()[-1] == "acted"
    patient.look(500)
    assert patient.told()[-2:] == ["recovered", "resolved recovered"]


def test_a_backup_that_fails_again_is_asked_for_three_times_with_a_restart_after_each():
    patient = unwell(identity="r1")
    patient.try_in_vain("repeat_backup", tell, 3)
    patient.look(30)
    assert [each.remedy for _, each in patient.orders] == ["repeat_backup", "restart"] * 3
    times = [at for at, each in patient.orders if each.remedy == "repeat_backup"]
    assert times[1] - times[0] >= 300


def test_while_a_backup_is_being_made_nothing_is_done_and_without_one_to_make_the_ladder_goes_on():
    patient = unwell(is_under_way=True)
    patient.look(60)
    assert (patient.orders, patient.told()[-1]) == ([], "refused under_way")
    tell(patient, results={"r0": True})
    patient.look(5)
    assert [each.remedy for _, each in patient.orders] == ["restart"]


def test_without_a_report_nothing_is_asked_for():
    patient = unwell()
    patient.look(60)
    assert (patient.orders, patient.told()[-1]) == ([], "refused unknown")


def test_a_service_that_goes_down_while_its_backup_is_awaited_is_restarted():
    patient = unwell(identity="r1")
    ask(patient)
    tell(patient, identity="r1")
    patient.look(5)
    patient.die()
    patient.look(60)
    assert [each.remedy for _, each in patient.orders] == ["repeat_backup", "restart"]


@pytest.mark.parametrize("is_taken", [True, False])
def test_an_intent_that_a_dead_medic_left_is_looked_for_in_the_report_and_never_sent_again(is_taken):
    patient = unwell(identity="r1")
    while not patient.orders:
        patient.look(1, obey=False)
    tell(patient)
    patient.crash_medic()
    patient.look(5, obey=False)
    assert patient.told()[-1] == "intended"
    tell(patient, results={"r1" if is_taken else "r0": None}, is_under_way=True)
    patient.look(5, obey=False)
    assert patient.told()[-1 if is_taken else -2] == ("acted" if is_taken else "abandoned unknown")
    assert len(patient.orders) == 1
