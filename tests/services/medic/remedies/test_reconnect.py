"""To have connections opened anew: of which process, that it does so once, and what verifies it."""

import time
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.agent.lease import clock
from marketswarm.agent.requests import RequestDesk, RequestOutcome
from marketswarm.keys import ARCHIVE_RECONNECT, ARCHIVE_RECONNECT_REQUEST, last_beat_key
from marketswarm.operator.service_reports import (
    REQUEST_VALID_SEC,
    RequestReport,
    RequestResult,
    ServiceRequest,
)
from marketswarm.testing import MemoryBuses
from marketswarm.truth import parse_truth
from services.medic.facts import FleetFacts, Health, RemedyEvidence, TargetFacts
from services.medic.refusal import Refusal
from services.medic.remedies import REMEDIES, OrderResult, Remedy, RemedyContext, RemedyOrder
from services.medic.settings import MedicSettings
from support.recording_log import RecordingLog
from support.simulation.patient import Patient

NOW = 1_795_400_000.0
RECONNECT = REMEDIES[Remedy.RECONNECT]
TRUTH = parse_truth(orjson.dumps({"services": {"archive": {}, "board": {}, "feed": {}}})).truth


@pytest.fixture
def bus():
    return MemoryBuses()("system-redis")


@pytest.fixture
def context(bus):
    return lambda until=None: RemedyContext(TRUTH, lambda _name: bus, until=until)


async def beat(bus, boot, svc="archive"):
    raw = orjson.dumps({"svc": svc, "i": 1, "ts": time.time(), "boot": boot})
    await bus.client.set(last_beat_key(svc), raw)


async def look(context, boot="b1", svc="archive"):
    facts = FleetFacts({svc: TargetFacts(svc=svc, boot=boot)})
    return (await RECONNECT.read_evidence([svc], facts, context, NOW)).get(svc)


def order(identity, svc="archive"):
    return RemedyOrder(svc, Remedy.RECONNECT, identity)


def report(result, request="r0", boot="b1"):
    return RequestReport(request=request, boot=boot, ts=NOW, result=result)


def test_the_id_of_a_request_is_that_of_one_process_and_its_last_report():
    first = RECONNECT.judge_report("b1", None)
    assert first.identity.startswith("reconnect.")
    assert RECONNECT.judge_report("b1", None) == first
    others = [
        RECONNECT.judge_report("b2", None),
        RECONNECT.judge_report("b1", report(RequestResult.DONE)),
        RECONNECT.judge_report("b1", report(RequestResult.DONE, "r1")),
    ]
    assert len({each.identity for each in (first, *others)}) == 4
    assert RECONNECT.judge_report(None, None) == RemedyEvidence(), (
        "of no process that beats, nothing is asked"
    )


def test_a_request_is_under_way_as_long_as_its_process_lives():
    open_report = report(None)
    assert RECONNECT.judge_report("b1", open_report) == RemedyEvidence(
        is_under_way=True, results={"r0": None}
    )
    after = RECONNECT.judge_report("b2", open_report)
    assert (after.is_under_way, after.results) == (False, {"r0": None})
    assert after.identity
    assert RECONNECT.judge_report("b1", report(RequestResult.FAILED)).results == {"r0": False}


async def test_the_process_follows_the_request_once_and_its_report_verifies_it(bus, context):
    calls = []

    async def reconnect():
        calls.append(await look(context()))
        return RequestOutcome(ended=2)

    me = SimpleNamespace(name="archive", boot="b1", bus=lambda _name: bus, log=RecordingLog())
    desk = RequestDesk("reconnect", me, reconnect)
    await beat(bus, "b1")
    identity = (await look(context())).identity
    for _ in range(2):  # the second one would be that of a medic that does not know of the first
        assert (await RECONNECT.carry_out(order(identity), context(clock() + 5)))[0] is OrderResult.DONE
    assert 0 < await bus.client.ttl(ARCHIVE_RECONNECT_REQUEST) <= REQUEST_VALID_SEC
    await desk.look()
    await desk.look()
    assert calls == [RemedyEvidence(is_under_way=True, results={identity: None})]
    done = await look(context())
    assert done.results == {identity: True}
    assert done.identity not in ("", identity)
    result, _ = await RECONNECT.carry_out(order(identity), context(clock() + 5))
    assert result is OrderResult.CHANGED, "a medic that comes later finds that it was done"
    assert len(calls) == 1


async def test_another_process_and_a_lease_that_ended_prevent_the_request(bus, context, monkeypatch):
    identity = (await look(context())).identity
    assert (await RECONNECT.carry_out(order(identity), context()))[0] is OrderResult.CHANGED, "without a beat"
    await beat(bus, "b1")
    with monkeypatch.context() as patch:  # it stands still after its look at the lease
        patch.setattr("services.medic.remedies.leased_write.clock", lambda: clock() + 60)
        result, said = await RECONNECT.carry_out(order(identity), context(clock() + 50))
    assert (result, said) == (OrderResult.REFUSED, "the request came too late")
    await beat(bus, "b2")
    assert (await RECONNECT.carry_out(order(identity), context()))[0] is OrderResult.CHANGED
    assert (await RECONNECT.carry_out(order(identity, "feed"), context()))[0] is OrderResult.REFUSED
    assert await bus.client.exists(ARCHIVE_RECONNECT_REQUEST) == 0
    await beat(bus, "b1")
    assert (await RECONNECT.carry_out(order(identity), context()))[0] is OrderResult.DONE
    request = ServiceRequest.parse(await bus.client.get(ARCHIVE_RECONNECT_REQUEST))
    assert (request.id, request.boot) == (identity, "b1")


@pytest.mark.parametrize(
    "junk", [b"[]", b"\xff", b'{"request":"r","boot":"b1","ts":1,"result":"sold"}', b'{"request":"a b"}']
)
async def test_a_report_that_can_not_be_used_keeps_nobody_from_asking(bus, context, junk):
    await bus.client.set(ARCHIVE_RECONNECT, junk)
    assert await look(context()) == RECONNECT.judge_report("b1", None)
    assert await look(context(), svc="feed") == RemedyEvidence(), "it has no connections"
    assert (await look(context(), svc="board")).identity


def test_several_processes_and_one_that_does_not_beat_are_not_asked():
    known = {"reconnect": RemedyEvidence(identity="r1")}
    target = TargetFacts(svc="archive", health=Health.UP, boot="b1", evidence=known)
    assert list(RECONNECT.list_refusals(target, 30.0)) == []
    two = TargetFacts(svc="archive", health=Health.UP, boot="b1", beats_in_turn=True, evidence=known)
    assert list(RECONNECT.list_refusals(two, 30.0)) == [Refusal.SEVERAL_PROCESSES]
    assert not RECONNECT.symptoms & {"silent"}


def test_a_ladder_of_a_service_without_connections_is_warned_of():
    for svc, count in (("archive", 0), ("board", 0), ("feed", 1)):
        settings = {"settings": {"targets": {svc: {"ladder": ["reconnect"]}}}}
        found = list(MedicSettings.model_validate(settings).find_truth_warnings(TRUTH))
        assert len(found) == count, found


# --- what the medic decides by it ---


def unwell(**evidence):
    """Return a patient that beats `degraded`, and of which this is known."""
    targets = {"feed": {"ladder": ["reconnect", "restart"]}}
    patient = Patient({"mode": "act", "degraded_sec": 5, "targets": targets}, clear_helps=False)
    tell(patient, **evidence)
    patient.look(2)
    patient.go_stale()
    return patient


def tell(patient, **evidence):
    patient.shown = {"evidence": {"reconnect": RemedyEvidence(**evidence)}}


def ask(patient):
    while not patient.orders:
        patient.look(1, obey=False)


def test_new_connections_are_verified_by_their_report_and_newer_beats_and_by_neither_alone():
    patient = unwell(identity="r1")
    ask(patient)
    patient.obey(patient.orders[0][1], OrderResult.DONE)
    tell(patient, identity="r2", results={"r1": True})
    patient.look(20)
    assert patient.told()[-1] == "acted", "it is still not well"
    tell(patient, identity="r1")
    patient.stale_at = None
    patient.look(20)
    assert patient.told()[-1] == "acted", "it is well, and did not say that it connected anew"
    tell(patient, identity="r2", results={"r1": True})
    patient.look(310)
    assert patient.told()[-2:] == ["verified", "resolved healed"]
    assert len(patient.orders) == 1


def test_connections_that_can_not_be_opened_are_asked_for_three_times_with_a_restart_between():
    patient = unwell(identity="r1")
    patient.try_in_vain("reconnect", tell, 3)
    patient.look(60)
    expected = ["reconnect", "restart", "reconnect", "reconnect", "restart"]  # a restart only once a minute
    assert [each.remedy for _, each in patient.orders] == expected
    times = [at for at, each in patient.orders if each.remedy == "reconnect"]
    assert 15 <= times[2] - times[1] < 20


@pytest.mark.parametrize("is_taken", [True, False])
def test_the_request_of_a_medic_that_died_is_looked_for_in_the_report_and_never_sent_again(is_taken):
    patient = unwell(identity="r1")
    ask(patient)
    patient.shown = {}
    patient.crash_medic()
    patient.look(5, obey=False)
    assert patient.told()[-1] == "intended"
    tell(patient, results={"r1" if is_taken else "r0": None}, is_under_way=True)
    patient.look(5, obey=False)
    assert patient.told()[-1 if is_taken else -2] == ("acted" if is_taken else "abandoned unknown")
    assert len(patient.orders) == 1
