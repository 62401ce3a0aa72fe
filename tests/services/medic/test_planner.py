"""What the medic decides about an outage, by the states of docs/services/medic.md."""

import itertools
from dataclasses import replace

import pytest

from marketswarm.operator.healing import fold_incidents
from services.medic.facts import FleetFacts, Health, ProcessFacts, RestartOwner, Symptom, TargetFacts
from services.medic.proposal import make_proposal_id
from services.medic.refusal import FUSE, Refusal
from services.medic.remedies import REMEDIES, OrderResult, Remedy, build_ladder
from services.medic.repair import TRANSITIONS, Repair, RepairEvent, RepairState
from support.simulation.patient import Patient

DOWN = {"health": Health.DOWN}
OLD = ProcessFacts("start 1", age_sec=1000.0)


def down(**more):
    patient = Patient(**more)
    patient.look(2)
    patient.die()
    return patient


def others(*health):
    return {f"other{i}": TargetFacts(svc=f"other{i}", health=each) for i, each in enumerate(health)}


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


REFUSALS = {
    Refusal.PAUSED: {"settings": {"mode": "act", "paused": True}},
    Refusal.CUT_OFF: {"blocked": Refusal.CUT_OFF},
    Refusal.BUS_LOST: {"blocked": Refusal.BUS_LOST},
    Refusal.HEALER_ABSENT: {"blocked": Refusal.HEALER_ABSENT},
    Refusal.HEALER_DEAF: {"blocked": Refusal.HEALER_DEAF},
    Refusal.FLEET_DOWN: {"others": others(Health.DOWN, Health.UP, Health.UP)},
    Refusal.SILENCED: {"shown": {"blocked": Refusal.SILENCED}},
    Refusal.MAINTENANCE: {"shown": {"blocked": Refusal.MAINTENANCE}},
    Refusal.STOPPED: {"shown": {"processes": (ProcessFacts("start 1", is_stopped=True),)}},
    Refusal.EMERGENCY: {"shown": {"blocked": Refusal.EMERGENCY}},
    Refusal.TOO_OLD: {"shown": {"down_sec": 4000.0}},
    Refusal.DEPENDENCY_DOWN: {
        "shown": {"depends_on": ("other1",)},
        "others": {
            **others(Health.DOWN, Health.UP, Health.UP, Health.UP),
            "other1": TargetFacts(svc="other1", health=Health.UP, depends_on=("other0",)),
        },
    },
    Refusal.NOT_OURS: {"shown": {"owner": RestartOwner.ELSEWHERE}},
    Refusal.SEVERAL_PROCESSES: {"shown": {"processes": (OLD, ProcessFacts("start 2", age_sec=1000.0))}},
    Refusal.OWNER_RESTARTS: {"shown": {"processes": (ProcessFacts("start 1", is_waiting=True),)}},
    Refusal.START_GRACE: {"shown": {"processes": (ProcessFacts("start 1", age_sec=29.0),)}},
    Refusal.OBSERVED: {"settings": {}},
}


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_nothing_is_done_and_the_reason_is_said(refusal):
    patient = Patient(**REFUSALS[refusal])
    patient.die()
    patient.shown = {"health": Health.DOWN, **patient.shown}
    patient.look(100)
    assert patient.orders == []
    assert patient.told() == ["opened silent", "waiting", f"refused {refusal}"], "once"
    assert (refusal in FUSE) is (refusal in list(REFUSALS)[1:6])


def test_every_other_reason_has_a_test_of_its_own():
    own = {
        Refusal.PROTECTED,
        Refusal.TOO_MANY_REMEDIES,
        Refusal.BLAST_RADIUS,
        Refusal.ONE_AT_A_TIME,
        Refusal.COOLDOWN,
        Refusal.TARGET_DOWN,
        Refusal.UNKNOWN,
        Refusal.UNDER_WAY,
        Refusal.DOES_NOT_HELP,
    }
    assert set(Refusal) == set(REFUSALS) | own


@pytest.mark.parametrize("svc", ["healer", "sentinel", "notifier", "medic"])
def test_what_watches_the_fleet_is_never_touched(svc):
    patient = Patient({"mode": "act", "targets": {svc: {"mode": "act"}}})
    patient.others = {svc: TargetFacts(svc=svc, health=Health.DOWN, owner=RestartOwner.UP, processes=(OLD,))}
    patient.look(100)
    assert patient.orders == []
    assert patient.told(svc)[-1] == "refused protected"


def test_one_target_is_acted_on_at_a_time():
    patient = down(others=others(Health.UP, Health.UP, Health.UP, Health.UP))
    other = TargetFacts(svc="aaa", owner=RestartOwner.UP, processes=(OLD,), **DOWN)
    patient.others = {**patient.others, "aaa": other}
    patient.look(5)
    assert [order.svc for _, order in patient.orders] == []
    patient.look(1, obey=False)
    assert [order.svc for _, order in patient.orders] == ["aaa"]
    patient.look(1, obey=False)
    assert [order.svc for _, order in patient.orders] == ["aaa", "feed"]


@pytest.mark.parametrize("settings", [{"mode": "act"}, {"mode": "propose"}], ids=lambda each: each["mode"])
def test_a_target_that_was_down_and_of_which_nothing_is_known_since_is_left_alone(settings):
    patient = down(settings=settings)
    patient.look(2)
    patient.shown = {"health": Health.UNKNOWN}
    patient.look(100)
    assert patient.orders == []
    assert patient.told() == ["opened silent", "waiting", "refused unknown"]
    patient.shown = {}
    patient.look(2)
    assert patient.told()[3] == {"act": "intended", "propose": "proposed"}[settings["mode"]]


def test_a_target_that_was_degraded_and_has_no_known_status_since_is_left_alone():
    patient = Patient({"mode": "act", "degraded_sec": 100})
    patient.shown = {"status": "degraded", "degraded_sec": 101.0}
    patient.look(2)
    patient.shown = {"status": None}
    patient.look(100)
    assert patient.orders == []
    assert patient.told()[-1] == "refused unknown"


def test_a_target_of_which_several_instances_beat_somewhere_is_left_alone():
    patient = Patient({"mode": "act", "degraded_sec": 100})
    patient.shown = {"status": "degraded", "degraded_sec": 101.0, "instances": 2}
    patient.look(100)
    assert patient.orders == []
    assert patient.told()[-1] == "refused several_processes"
    patient.shown = {**patient.shown, "instances": 1}
    patient.look(1)
    assert len(patient.orders) == 1


@pytest.mark.slow
def test_too_many_remedies_blow_the_fuse_until_a_person_approves():
    patient = down(settings={"mode": "act", "fuse": {"remedies": 2, "within_sec": 600}}, restart_helps=False)
    patient.approvals = {"fuse": "eve"}  # nothing is approved beforehand
    patient.look(3000)
    assert len(patient.orders) == 2
    assert patient.told()[-1] == "refused too_many_remedies", "also when the time has passed"
    patient.approvals = {"fuse": "ann"}
    patient.look(10)
    assert len(patient.orders) == 3
    assert [plan.used for plan in patient.plans if plan.used] == [("fuse",), ("fuse",)]


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


@pytest.mark.parametrize("step_sec", [0.0, -3600.0, 3600.0])
def test_a_medic_that_takes_over_after_the_clock_was_set_acts_again_after_a_cooldown(step_sec):
    patient = down(restart_helps=False)
    patient.look(10)
    assert len(patient.orders) == 1
    patient.set_clock(step_sec)
    patient.crash_medic()
    assert max(patient.planner.fuse.acted) <= patient.now
    assert all(each.at <= patient.now for each in patient.planner.repairs["feed"].attempts)
    patient.look(59)
    assert len(patient.orders) == 1, "an hour by the clock is no cooldown"
    patient.look(41)
    assert len(patient.orders) == 2


@pytest.mark.parametrize(("until", "state", "sec"), [
    (4, RepairState.WAITING, 5), (10, RepairState.SETTLING, 30), (100, RepairState.STABILIZING, 300),
])  # fmt: skip
@pytest.mark.parametrize("step_sec", [0.0, -3600.0, 3600.0])
def test_a_medic_that_takes_over_begins_each_window_anew(until, state, sec, step_sec):
    patient = down(restart_helps=state is RepairState.STABILIZING)
    patient.look(until)
    patient.set_clock(step_sec)
    patient.crash_medic()
    patient.look(sec - 1)
    assert patient.planner.repairs["feed"].state is state
    patient.look(2)
    assert "feed" not in patient.planner.repairs or patient.planner.repairs["feed"].state is not state


def needed(*health, symptom="degraded"):
    """A target of ten services, which some of them need; its beats say `degraded`, or are missing."""
    users = [TargetFacts(svc=f"user{i}", health=each, depends_on=("feed",)) for i, each in enumerate(health)]
    idle = others(*[Health.UP] * (9 - len(users)))
    patient = Patient({"mode": "act", "degraded_sec": 100}, others={**idle, **{u.svc: u for u in users}})
    patient.shown = {"status": "degraded", "degraded_sec": 101.0} if symptom == "degraded" else DOWN
    patient.look(10)
    return patient


def test_a_target_that_still_works_is_not_restarted_if_too_many_need_it():
    assert needed(*[Health.UP] * 5).told()[-1] == "refused blast_radius"
    assert needed(*[Health.UP] * 4).told()[-1] == "acted"
    assert needed(*[Health.UP] * 5, symptom="silent").told()[-1] == "acted", "they have lost it already"


def test_the_intent_says_how_many_need_the_target_themselves_or_through_others():
    (text,) = [
        e.text for p in needed(Health.UP, Health.DOWN).plans for e in p.entries if e.what == "intended"
    ]
    assert text == "process start 1; 1 that are up need it"
    chain = {
        "a": TargetFacts(svc="a", health=Health.UP, depends_on=("b", "c")),
        "b": TargetFacts(svc="b", health=Health.DOWN, depends_on=("a", "c")),
        "c": TargetFacts(svc="c", health=Health.UP),
    }
    assert [FleetFacts(chain).find_dependants(svc) for svc in "abc"] == [(), ("a",), ("a",)]


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


def intent(result=None, **more):
    """A medic that ended between its intent and the result; `result` is what became of the order."""
    patient = down(**more)
    patient.look(6, obey=False)
    assert patient.told()[-1] == "intended"
    if result is not None:
        patient.restart()
    patient.crash_medic()
    return patient


def test_the_next_medic_finds_a_remedy_that_was_done_and_verifies_it():
    patient = intent(OrderResult.DONE)
    patient.look(400)
    assert patient.told()[2:] == ["intended", "acted", "verified", "resolved healed"]
    assert len(patient.orders) == 1


def count_restarts(patient):
    return patient.planner.repairs["feed"].count_attempts(Remedy.RESTART)


def test_an_intent_that_was_provably_not_carried_out_is_no_attempt():
    patient = intent()
    patient.look(9)
    assert patient.told()[2:] == ["intended"], "the request of a medic that was stopped may come yet"
    patient.look(41)
    assert patient.told()[2:] == ["intended", "abandoned undone"]
    assert count_restarts(patient) == 0
    patient.restart_helps = False
    patient.look(600)
    assert len(patient.orders) == 4, "three that were carried out"
    times = [at for at, _ in patient.orders]
    assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(times))
    assert patient.told()[-1] == "escalated exhausted"


def test_a_remedy_that_ends_each_medic_is_not_begun_for_ever():
    patient = down()
    for _ in range(12):
        patient.look(100, obey=False)
        patient.crash_medic()
    assert patient.told().count("abandoned undone") == 3
    assert (len(patient.orders), patient.told()[-1]) == (6, "escalated exhausted")


STILL_OPEN = {"is_restarting": True}
NOT_KNOWN = {"is_restarting": None}
ENDED = {"is_waiting": True}


@pytest.mark.parametrize("shown", [STILL_OPEN, NOT_KNOWN, ENDED], ids=str)
def test_the_next_medic_repeats_nothing_of_which_it_does_not_know_whether_it_was_done(shown):
    patient = intent()
    patient.shown = {"processes": (replace(OLD, **{"is_restarting": False, **shown}),)}
    patient.look(50)
    assert patient.told()[2:4] == ["intended", "abandoned unknown"]
    assert count_restarts(patient) == 1
    assert len(patient.orders) == 1
    patient.shown = {}
    patient.look(60)
    assert len(patient.orders) == 2, "a second attempt, by the rules of the ladder"
    assert patient.orders[1][0] - patient.orders[0][0] >= 60


def test_the_next_medic_waits_for_a_restart_that_goes_on():
    patient = intent()
    patient.shown = {"processes": (replace(OLD, is_restarting=True),)}
    patient.look(5)
    assert patient.told()[-1] == "intended"
    patient.shown = {}
    patient.restart()
    patient.look(3)
    assert patient.told()[3] == "acted"


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


def test_nothing_is_done_while_others_are_late_since_services_that_stop_together_are_missed_apart():
    patient = down()
    patient.others = {each.svc: replace(each, is_late=True) for each in others(*[Health.UP] * 4).values()}
    patient.look(60)
    assert (patient.orders, patient.told()[-1]) == ([], "refused fleet_down")


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
        "pause_source": 60,
        "quotes_cache": 30,
        "charts_cache": 30,
        "repeat_backup": 300,
        "restart": 60,
        "roll_back_truth": 600,
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
