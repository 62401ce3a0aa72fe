"""What a diagnosis proposes is done only by the planner, once, after an approval, and with every guard."""

from dataclasses import replace

import orjson
import pytest

from marketswarm.operator.healing import fold_incidents
from services.medic.decision import CRASH_LOOP
from services.medic.diagnosis.second_tier import find_reason
from services.medic.facts import RestartOwner
from services.medic.guards import Fuse
from services.medic.refusal import Refusal
from services.medic.remedies import REMEDIES, Remedy
from services.medic.repair import AttemptVerdict, RemedyAttempt, RepairState, make_advice_id
from services.medic.store import parse_repair
from support.simulation.patient import Patient

PROPOSING = {"mode": "propose", "proposal_sec": 600}


def crash_looping(settings=None):
    """A target that its owner restarted too often: no remedy was tried, and a person is needed."""
    patient = Patient({**PROPOSING, **(settings or {})}, restart_helps=True)
    patient.look(2)
    patient.die()
    for _ in range(CRASH_LOOP + 1):
        patient.restart(helps=False)
        patient.look(2)
    patient.look(60)
    assert repair_of(patient).state is RepairState.ESCALATED
    return patient


def repair_of(patient):
    return patient.planner.repairs["feed"]


def advise(patient, *remedies):
    repair = repair_of(patient)
    plan = patient.planner.record_diagnosis("feed", repair.incident, remedies, "It hangs.", patient.now)
    patient.plans.append(plan)
    return make_advice_id(repair_of(patient))


def test_an_approved_remedy_of_a_diagnosis_is_carried_out_once_and_verified():
    patient = crash_looping()
    ident = advise(patient, Remedy.WAIT, Remedy.RESTART)
    patient.look(5)
    assert patient.orders == [], "nothing without an approval"
    (incident,) = fold_incidents(entry for plan in patient.plans for entry in plan.entries)
    assert (incident.proposal.proposal, incident.proposal.remedy) == (ident, "restart")
    patient.approvals = {ident: "ann"}
    patient.look(400)
    assert [(order.svc, order.remedy) for _, order in patient.orders] == [("feed", Remedy.RESTART)]
    assert patient.told()[-6:] == [
        "diagnosed",
        "approved",
        "intended",
        "acted",
        "verified",
        "resolved healed",
    ]
    assert patient.approvals == {}, "it was used"


def test_a_remedy_that_did_not_help_gives_way_to_the_next_proposal_and_not_to_a_second_act():
    patient = crash_looping()
    patient.restart_helps = False
    ident = advise(patient, Remedy.RESTART)
    patient.approvals = {ident: "ann"}
    patient.look(400)
    assert len(patient.orders) == 1
    assert repair_of(patient).state is RepairState.ESCALATED
    assert make_advice_id(repair_of(patient)) is None


def test_a_proposal_of_a_diagnosis_is_not_renewed_because_the_outage_comes_back():
    patient = crash_looping()
    ident = advise(patient, Remedy.RESTART)
    patient.rise()
    patient.look(60)
    assert make_advice_id(repair_of(patient)) is None, "it is up"
    patient.die()
    patient.look(60)
    assert make_advice_id(repair_of(patient)) == ident
    assert patient.told().count("diagnosed") == 1
    patient.look(600)
    assert make_advice_id(repair_of(patient)) is None, "it expired"


@pytest.mark.parametrize("wrong", ["other id", "observe", "expired", "another incident"])
def test_nothing_is_done_without_a_valid_approval_and_a_mode_that_allows_it(wrong):
    patient = crash_looping()
    if wrong == "another incident":
        patient.planner.record_diagnosis("feed", "feed.1", [Remedy.RESTART], "x", patient.now)
        ident = make_advice_id(repair_of(patient)) or "none"
    else:
        ident = advise(patient, Remedy.RESTART)
    if wrong == "observe":
        patient.settings["mode"] = "observe"
    if wrong == "expired":
        patient.look(601)
        assert patient.told()[-1] == "expired"
    patient.approvals = {"12345678" if wrong == "other id" else ident: "eve"}
    patient.look(300)
    assert patient.orders == []


@pytest.mark.parametrize("left_alone", ["observe", "dry run", "protected"])
def test_nothing_is_proposed_that_no_approval_would_have_carried_out(left_alone):
    patient = crash_looping()
    if left_alone == "observe":
        patient.settings["mode"] = "observe"
    elif left_alone == "dry run":
        patient.is_dry_run = True
        patient.crash_medic()
    else:
        repairs = patient.planner.repairs
        repairs["healer"] = replace(repairs.pop("feed"), svc="healer")
        repair = repairs["healer"]
        patient.planner.record_diagnosis("healer", repair.incident, [Remedy.RESTART], "x", patient.now)
        assert make_advice_id(repairs["healer"]) is None
        return
    assert advise(patient, Remedy.RESTART) is None
    assert patient.told()[-1] == "diagnosed", "people read what it says"


GUARDS = {
    "paused": {"settings": {"paused": True}},
    "fuse": {"settings": {"fuse": {"remedies": 1, "within_sec": 3600}}},
    "cut off": {"blocked": Refusal.CUT_OFF},
    "silenced": {"shown": {"blocked": Refusal.SILENCED}},
    "not ours": {"shown": {"owner": RestartOwner.ELSEWHERE}},
}


@pytest.mark.parametrize("guard", GUARDS)
def test_every_guard_of_the_planner_holds_for_an_approved_diagnosis(guard):
    patient = crash_looping()
    ident = advise(patient, Remedy.RESTART)
    patient.approvals = {ident: "ann"}
    patient.settings |= GUARDS[guard].get("settings", {})
    patient.blocked, patient.shown = GUARDS[guard].get("blocked"), GUARDS[guard].get("shown", {})
    if guard == "fuse":
        patient.planner.fuse = Fuse((patient.now,))
    patient.look(100)
    assert patient.orders == []


def test_the_ladder_allows_no_fourth_attempt_whatever_a_diagnosis_says():
    patient = Patient(restart_helps=False)
    patient.look(2)
    patient.die()
    patient.look(400)
    assert len(patient.orders) == REMEDIES[Remedy.RESTART].attempts
    assert advise(patient, Remedy.RESTART) is None
    patient.look(300)
    assert len(patient.orders) == REMEDIES[Remedy.RESTART].attempts


def test_a_remedy_that_the_ladder_of_the_service_does_not_name_is_not_proposed():
    patient = crash_looping()
    assert advise(patient, Remedy.RESUME_SOURCES, Remedy.QUOTES_CACHE, Remedy.WAIT) is None


def test_a_diagnosis_is_asked_for_once_an_outage():
    patient = crash_looping()
    repair = repair_of(patient)
    assert find_reason(repair, {}) == "escalated"
    patient.planner.record_question("feed", patient.now)
    assert find_reason(repair_of(patient), {}) is None
    opened = replace(repair, state=RepairState.OPEN)
    assert find_reason(opened, {}) is None
    assert find_reason(replace(opened, refusal=Refusal.EMERGENCY), {}) == "emergency"
    failed = RemedyAttempt(Remedy.RESTART, 1.0, verdict=AttemptVerdict.FAILED)
    assert find_reason(replace(opened, attempts=(failed,) * 5), {}) == "failures"
    helped = replace(failed, verdict=AttemptVerdict.VERIFIED)
    assert find_reason(replace(opened, attempts=(*(failed,) * 4, helped)), {}) is None


def test_a_diagnosis_is_asked_for_when_errors_are_unknown_or_data_is_damaged():
    suspect = {"feed": "unknown_errors"}
    opened = replace(repair_of(crash_looping()), state=RepairState.OPEN, attempts=())
    assert find_reason(opened, suspect) is None, "it may heal by itself"
    waited = replace(opened, attempts=(RemedyAttempt(Remedy.WAIT, 1.0, verdict=AttemptVerdict.FAILED),))
    assert find_reason(waited, suspect) == "unknown_errors"
    assert find_reason(waited, {"other": "corruption"}) is None
    assert find_reason(replace(waited, state=RepairState.STABILIZING), suspect) is None
    assert find_reason(replace(waited, asked_at=2.0), suspect) is None


def test_a_question_whose_medic_died_is_asked_again_and_one_that_was_answered_is_not():
    patient = crash_looping()
    patient.plans.append(patient.planner.record_question("feed", patient.now))
    patient.look(2)
    assert find_reason(repair_of(patient), {}) is None
    patient.crash_medic()
    patient.look(2)
    assert find_reason(repair_of(patient), {}) == "escalated"
    patient.plans.append(patient.planner.record_question("feed", patient.now))
    advise(patient, Remedy.RESTART)
    patient.look(700)
    assert make_advice_id(repair_of(patient)) is None, "it expired"
    patient.crash_medic()
    patient.look(2)
    assert find_reason(repair_of(patient), {}) is None


def test_advice_is_stored_with_its_repair_and_followed_by_the_next_medic():
    patient = crash_looping()
    ident = advise(patient, Remedy.RESTART)
    stored = parse_repair(orjson.dumps(repair_of(patient)), "feed")
    assert stored == repair_of(patient)
    many = replace(stored, advice=replace(stored.advice, remedies=(Remedy.RESTART,) * 11))
    assert parse_repair(orjson.dumps(many), "feed") is None
    patient.crash_medic()
    patient.approvals = {ident: "ann"}
    patient.look(100)
    assert len(patient.orders) == 1
