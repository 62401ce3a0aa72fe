"""What the medic decides about an outage, by the states of docs/services/medic-decisions.md."""

import itertools
from dataclasses import replace

import pytest

from marketswarm.operator.healing import fold_incidents
from services.medic.facts import FleetFacts, Health, ProcessFacts, RestartOwner, Symptom
from services.medic.refusal import Refusal
from services.medic.remedies import REMEDIES, OrderResult, Remedy, build_ladder
from services.medic.repair import TRANSITIONS, Repair, RepairEvent, RepairState, make_proposal_id
from support.simulation.patient import DOWN, Patient, down


def test_a_target_that_is_up_is_left_alone():
    patient = Patient()
    patient.look(1000, 10)
    assert (patient.told(), patient.orders) == ([], [])


def test_a_hung_process_is_restarted_and_verified_by_a_beat_of_the_next_one():
    patient = down()
    patient.look(400)
    assert patient.told() == [
        "opened silent", "waiting", "intended", "acted", "verified", "resolved healed",
    ]  # fmt: skip
    assert [order.identity for _, order in patient.orders] == ["start 1"]
    (incident,) = fold_incidents(entry for plan in patient.plans for entry in plan.entries)
    assert (incident.resolution, incident.remedies(), incident.symptom) == ("healed", ("restart",), "silent")
    assert incident.end.sec == pytest.approx(8, abs=2), "down until the verifying beat, not until stable"


def test_what_heals_by_itself_is_left_to_wait():
    patient = down()
    patient.look(4)
    patient.rise()
    patient.look(400)
    assert patient.told() == ["opened silent", "waiting", "recovered", "resolved recovered"]
    assert patient.orders == []


def test_a_beat_of_the_old_process_verifies_nothing():
    patient = down(restart_helps=False)
    patient.look(10)
    assert "acted" in patient.told()
    patient.rise()
    patient.shown = {"boot": "boot 1"}
    patient.look(25)
    assert "verified" not in patient.told()
    patient.look(10)
    assert patient.told()[-1] == "recovered", "up, and not by the remedy as far as is known"
    patient.look(400)
    assert patient.told()[-1] == "resolved recovered"


@pytest.mark.parametrize(
    ("boots", "ages", "resolution"),
    [
        ((None, None), (1.0, 3.0), "healed"),
        (("old", None), (1.0, 3.0), "healed"),
        ((None, None), (1.0,), "recovered"),
        ((None, None), (1.0, 3000.0), "recovered"),
        ((None, None), (1.0, -50.0), "recovered"),
        (("old", "old"), (1.0, 3.0), "recovered"),
    ],
)
def test_two_answered_probes_verify_a_restart_of_what_names_no_process(boots, ages, resolution):
    patient = down(shown={"boot": boots[0]})
    patient.look(10)
    assert patient.told()[-1] == "acted"
    patient.shown = {"boot": boots[1], "probe_ages": ages}
    patient.look(400)
    assert patient.told()[-1] == f"resolved {resolution}"


def test_missing_data_verifies_nothing():
    for shown in ({"boot": None}, {"silence_sec": None}, {"health": Health.UNKNOWN}, {"silence_sec": 99.0}):
        patient = down()
        patient.look(6)
        assert patient.told()[-1] == "acted"
        patient.shown = shown
        patient.look(29)
        assert patient.told()[-1] == "acted", shown


def test_the_ladder_ends_after_three_attempts_a_cooldown_apart_and_a_person_is_needed():
    patient = down(restart_helps=False)
    patient.look(1000)
    times = [at for at, _ in patient.orders]
    assert len(times) == 3
    assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(times))
    assert patient.told()[-1] == "escalated exhausted"
    patient.rise()
    patient.look(400)
    assert patient.told()[-2:] == ["recovered", "resolved recovered"]


def comes_back(patient, up_sec, down_sec=100):
    patient.rise()
    patient.look(up_sec)
    patient.die()
    patient.look(down_sec)


def test_an_outage_that_was_left_to_people_calls_them_once_until_it_was_stable():
    patient = down(restart_helps=False)
    patient.look(300)
    assert patient.told()[-1] == "escalated exhausted"
    for count in (1, 2, 3):
        comes_back(patient, 250)
        assert patient.told()[-2:] == ["recovered", "relapsed"]
        (repair,) = patient.planner.repairs.values()
        assert (repair.state, patient.told().count("relapsed")) == (RepairState.ESCALATED, count)
        patient.crash_medic()
    assert patient.told().count("escalated exhausted") == 1
    assert len(patient.orders) == 3
    comes_back(patient, 350)
    patient.look(300)
    assert patient.told().count("resolved recovered") == 1
    assert patient.told().count("escalated exhausted") == 2, "another outage"


def test_a_crash_loop_calls_people_once_while_its_process_comes_up_again_and_again():
    patient = down()
    for _ in range(12):
        patient.restart(helps=False)
        patient.look(5)
        comes_back(patient, 10, 5)
    assert patient.told().count("escalated crash_loop") == 1


def test_an_outage_that_comes_back_counts_against_the_remedy_and_the_ladder_goes_on():
    patient = down()
    for _ in range(3):
        patient.look(100)
        patient.die()
    patient.look(400)
    assert len(patient.orders) == 3
    assert patient.told().count("relapsed") == 3
    assert patient.told().count("opened silent") == 1, "it is one outage"
    assert patient.told()[-1] == "escalated exhausted"


def test_counts_and_cooldowns_end_with_the_outage_when_the_target_was_stable():
    patient = down()
    patient.look(400)
    patient.die()
    patient.look(10)
    assert len(patient.orders) == 2, "no cooldown of the outage before"
    assert [repair.count_attempts(Remedy.RESTART) for repair in patient.planner.repairs.values()] == [1]


def test_time_in_which_nothing_is_known_is_no_time_of_stability():
    patient = down()
    patient.look(20)
    assert patient.told()[-1] == "verified"
    patient.shown = {"health": Health.UNKNOWN}
    patient.look(1000, 10)
    patient.shown = {}
    patient.look(290, 10)
    assert patient.told()[-1] == "verified"
    patient.look(20, 10)
    assert patient.told()[-1] == "resolved healed"


def test_with_the_medic_as_owner_a_process_that_ended_is_started_at_once():
    patient = down()
    patient.shown = {
        "processes": (ProcessFacts("start 1", is_waiting=True, age_sec=5.0),),
        "owner": RestartOwner.MEDIC,
    }
    patient.look(7)
    assert len(patient.orders) == 1


def test_restarts_by_the_owner_are_counted_and_a_crash_loop_needs_a_person():
    patient = down()
    patient.look(2)
    for _ in range(6):
        patient.restart(helps=False)
        patient.look(10)
    assert patient.orders == [], "each process was younger than its grace"
    assert patient.told().count("restarted up") == 6
    assert patient.told().count("escalated crash_loop") == 1


def test_an_owner_that_restarted_it_gets_the_credit():
    patient = down()
    patient.look(3)
    patient.restart()
    patient.look(400)
    assert patient.told() == ["opened silent", "waiting", "restarted up", "recovered", "resolved restarted"]


def test_a_proposal_is_carried_out_once_when_a_person_approves():
    patient = down(settings={"mode": "propose"}, restart_helps=False)
    patient.look(20)
    assert patient.told() == ["opened silent", "waiting", "proposed"]
    (repair,) = patient.planner.repairs.values()
    patient.approvals = {make_proposal_id(repair, Remedy.RESTART): "ann", "other": "eve"}
    patient.look(200)
    assert len(patient.orders) == 1
    assert patient.approvals == {"other": "eve"}
    assert patient.told()[3:] == ["approved", "intended", "acted", "failed", "proposed"]


@pytest.mark.parametrize("mode", ["propose", "earned"])
def test_in_a_dry_run_nothing_is_done_or_asked_and_the_timeline_says_so(mode):
    patient = down(settings={"mode": mode}, is_dry_run=True)
    patient.look(200)
    assert patient.orders == []
    assert patient.told() == ["opened silent", "waiting", "refused dry_run"]


def test_a_dry_run_does_not_follow_what_was_approved_before_it():
    patient = down(settings={"mode": "propose"})
    patient.look(20)
    (repair,) = patient.planner.repairs.values()
    patient.approvals = {make_proposal_id(repair, Remedy.RESTART): "ann"}
    patient.is_dry_run = True
    patient.crash_medic()
    patient.look(200)
    assert patient.orders == []


def test_a_proposal_expires_and_is_withdrawn():
    patient = down(settings={"mode": "propose", "proposal_sec": 60})
    patient.look(130)
    assert patient.told()[3:] == ["expired", "proposed"]
    (repair,) = patient.planner.repairs.values()
    patient.shown = {"blocked": Refusal.SILENCED, "health": Health.DOWN}
    patient.approvals = {make_proposal_id(repair, Remedy.RESTART): "ann"}
    patient.look(2)
    assert patient.told()[-1] == "refused silenced"
    patient.settings = {"mode": "observe"}
    patient.shown = DOWN
    patient.look(100)
    assert patient.orders == []
    assert patient.told()[-1] == "refused observed"


def proposed(**settings):
    patient = down(settings={"mode": "propose", **settings}, restart_helps=False)
    patient.look(10)
    (repair,) = patient.planner.repairs.values()
    return patient, make_proposal_id(repair, Remedy.RESTART)


@pytest.mark.parametrize("left_by", ["recovery", "withdrawal", "expiry", "retirement"])
def test_an_approval_ends_with_its_proposal(left_by):
    patient, ident = proposed(proposal_sec=60)
    (text,) = [entry.text for plan in patient.plans for entry in plan.entries if entry.what == "proposed"]
    assert text == f"marketswarm medic approve {ident}"
    match left_by:
        case "recovery":
            patient.rise()
        case "withdrawal":
            patient.shown = {"blocked": Refusal.SILENCED}
        case "expiry":
            patient.now += 60
    fleet = FleetFacts({} if left_by == "retirement" else {"feed": patient.facts()})
    assert patient.planner.tick(fleet, {}, 7, patient.now + 1).used == (ident,)


def test_an_approval_of_one_proposal_is_none_of_the_next_one():
    patient, ident = proposed()
    patient.shown = {"blocked": Refusal.SILENCED}
    patient.look(1)
    patient.shown = {}
    patient.approvals = {ident: "ann"}
    patient.look(100)
    assert patient.orders == []
    assert patient.told()[-1] == "proposed"


def test_an_outage_is_not_old_because_the_clock_was_set_back_while_the_medic_leads():
    patient = Patient()
    patient.die()
    patient.shown = {"health": Health.DOWN, "down_since": patient.now - 7200, "down_sec": 1.0}
    patient.look(10, obey=False)
    assert len(patient.orders) == 1


def test_a_target_may_have_a_mode_of_its_own_and_a_remedy_too():
    for settings, acts in (
        ({"mode": "observe", "targets": {"feed": {"mode": "act"}}}, True),
        ({"mode": "act", "targets": {"feed": {"mode": "observe"}}}, False),
        ({"mode": "act", "targets": {"feed": {"mode": "act", "remedies": {"restart": "propose"}}}}, False),
        ({"targets": {"feed": {"remedies": {"restart": "act"}}}}, True),
    ):
        patient = down(settings=settings)
        patient.look(20)
        assert bool(patient.orders) is acts, settings


def test_beats_that_say_degraded_for_long_are_a_symptom_and_the_next_process_verifies():
    patient = Patient({"mode": "act", "degraded_sec": 100})
    patient.shown = {"status": "degraded", "degraded_sec": 99.0}
    patient.look(1)
    assert patient.told() == []
    patient.shown = {"status": "degraded", "degraded_sec": 101.0}
    patient.look(8)
    assert patient.told() == [f"opened {Symptom.DEGRADED}", "waiting", "intended", "acted"]
    patient.look(5)
    assert patient.told()[-1] == "acted", "still degraded"
    patient.shown = {}
    patient.look(400)
    assert patient.told()[4:] == ["verified", "resolved healed"]


def alerted():
    patient = Patient({"mode": "act"})
    patient.shown = {"is_alerted": True, "alert_age_sec": 0.0}
    patient.look(8)
    assert patient.told() == [f"opened {Symptom.ALERT}", "waiting", "intended", "acted"]
    return patient


def test_a_critical_rule_is_a_symptom_and_what_was_measured_after_the_restart_verifies():
    patient = alerted()
    patient.shown = {"is_alerted": False, "alert_age_sec": 60.0}
    patient.look(5)
    assert patient.told()[-1] == "acted", "measured before the restart"
    patient.shown = {"is_alerted": None, "alert_age_sec": 0.0}
    patient.look(5)
    assert patient.told()[-1] == "acted", "missing data verifies nothing"
    patient.shown = {}
    patient.look(400)
    assert patient.told()[4:] == ["verified", "resolved healed"]


def test_a_restart_after_which_the_critical_rule_still_holds_has_failed():
    patient = alerted()
    patient.look(31)
    assert patient.told()[4:] == ["failed"]
    patient.look(400)
    assert patient.told()[-1] == "escalated exhausted"


def test_an_order_whose_process_was_replaced_meanwhile_does_nothing():
    patient = down()
    patient.look(6, obey=False)
    patient.restart()
    patient.obey(patient.orders[0][1])
    assert patient.starts == 2
    patient.look(400)
    assert patient.told()[-4:] == ["abandoned changed", "restarted up", "recovered", "resolved restarted"]


def test_an_outage_that_began_in_1970_by_what_is_stored_is_recorded_with_the_longest_duration():
    patient = Patient(now=1_800_000_000.0)
    patient.shown = {"health": Health.DOWN, "down_since": 0.0, "down_sec": patient.now}
    patient.look(3)
    patient.shown = {}
    patient.look(400)
    assert patient.told()[-1] == "resolved recovered"
    assert [entry.sec for plan in patient.plans for entry in plan.entries][-2:] == [1e9, 1e9]


def test_a_service_that_left_the_truth_has_no_open_incident():
    patient = down()
    patient.look(3)
    plan = patient.planner.tick(FleetFacts(), {}, 7, patient.now)
    assert plan.repairs == {"feed": None}
    assert plan.entries[-1].reason == "retired"


def test_the_ladder_is_in_the_order_of_costs_and_begins_with_wait():
    assert build_ladder(list(reversed(Remedy))) == tuple(Remedy)
    assert build_ladder([]) == (Remedy.WAIT,)
    cooldowns = {remedy: kind.cooldown_sec for remedy, kind in REMEDIES.items()}
    assert cooldowns == {
        "wait": 0,
        "resume_sources": 60,
        "reload_series": 60,
        "pause_source": 60,
        "quotes_cache": 30,
        "charts_cache": 30,
        "reconnect": 15,
        "repeat_backup": 300,
        "restart": 60,
        "roll_back_truth": 60,
        "command": 300,
    }
    once = (Remedy.WAIT, Remedy.ROLL_BACK_TRUTH)
    assert {remedy: kind.attempts for remedy, kind in REMEDIES.items()} == {
        remedy: 1 if remedy in once else 3 for remedy in Remedy
    }


def test_the_table_of_states_leads_everywhere_and_nowhere_from_the_end():
    assert {state for state, _ in TRANSITIONS} == set(RepairState) - {RepairState.RESOLVED}
    assert set(TRANSITIONS.values()) == set(RepairState)
    assert {event for _, event in TRANSITIONS} == set(RepairEvent)
    repair = Repair(incident="a", svc="a", symptom=Symptom.SILENT, down_since=1.0, opened_at=1.0, since=1.0)
    with pytest.raises(KeyError):
        repair.move(RepairEvent.VERIFY, 2.0)


def test_a_restart_of_which_the_medic_got_no_answer_is_not_taken_for_one_by_the_owner():
    patient = down()
    patient.look(6, obey=False)
    ((_, order),) = patient.orders
    patient.restart()  # it was done, and its answer was lost
    patient.obey(order, OrderResult.UNKNOWN)
    patient.look(400)
    told = patient.told()
    assert "restarted up" not in told
    assert told[-1] == "resolved recovered", "by what is not known"


def test_the_record_of_an_outage_begins_with_what_was_reported():
    patient = down(shown={"failure": "disk full " + "x" * 190})
    patient.look(1)
    first = patient.plans[-1].entries[0] if patient.plans[-1].entries else patient.plans[0].entries[0]
    assert "; reported: disk full x" in first.text
    assert len(first.text) <= 300


def test_the_result_of_an_order_that_is_not_the_attempt_on_record_is_dropped():
    patient = down()
    patient.look(6, obey=False)
    ((_, order),) = patient.orders
    other = replace(order, identity="start 9")
    plan = patient.planner.record_result(other, OrderResult.DONE, "said", patient.now)
    assert (plan.entries, plan.repairs) == ((), {})
    assert plan.contradictions == {"feed": "intended, and restart is ordered for start 9"}
    assert patient.planner.repairs["feed"].state is RepairState.INTENDED
    assert not patient.planner.record_result(order, OrderResult.DONE, "said", patient.now).contradictions
