"""Ladders of several remedies: in which order they are tried, against what, and what verifies them."""

import itertools
from typing import get_args

import orjson
import pytest

from marketswarm.agent.service_config import load_with_sections
from services.medic.facts import RestartOwner
from services.medic.remedies import REMEDIES, OrderResult, Remedy
from services.medic.settings import MedicSettings, RemedyName
from support.simulation.patient import Patient

LADDER = ["restart", "quotes_cache", "charts_cache"]
POLICY = {"mode": "act", "degraded_sec": 5, "targets": {"feed": {"ladder": LADDER}}}


def stale(**more):
    patient = Patient(dict(POLICY), **more)
    patient.look(2)
    patient.go_stale()
    return patient


def remedies(patient):
    return [order.remedy for _, order in patient.orders]


def test_the_cheapest_remedy_is_tried_first_and_verified_by_the_process_that_was_not_well():
    patient = stale()
    patient.look(400)
    assert remedies(patient) == ["quotes_cache"]
    assert patient.orders[0][1].identity == patient.boot
    told = ["opened degraded", "waiting", "intended", "acted", "verified", "resolved healed"]
    assert patient.told() == told
    assert patient.starts == 1


def test_what_did_not_help_lets_the_next_ones_go_first_and_each_has_all_its_attempts():
    patient = stale(clear_helps=False)
    patient.look(1000)
    assert remedies(patient) == ["quotes_cache", "charts_cache", "restart"] * 3
    for remedy in ("quotes_cache", "charts_cache", "restart"):
        times = [at for at, order in patient.orders if order.remedy == remedy]
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert all(pause >= REMEDIES[remedy].cooldown_sec for pause in pauses)
    assert patient.told()[-1] == "escalated exhausted"


def test_what_would_ask_a_person_waits_until_what_may_act_has_had_all_its_attempts():
    asked = {"ladder": LADDER, "remedies": {"charts_cache": "observe", "restart": "propose"}}
    patient = stale(clear_helps=False)
    patient.settings = {**POLICY, "targets": {"feed": {**asked, "ladder": ["quotes_cache", "restart"]}}}
    patient.look(200)
    assert remedies(patient) == ["quotes_cache"] * 3
    assert patient.told()[-1] == "proposed"
    patient = stale(clear_helps=False)
    patient.settings = {**POLICY, "targets": {"feed": asked}}
    patient.look(200)
    assert remedies(patient) == ["quotes_cache"] * 3
    assert patient.told()[-1] == "proposed", "what is only observed keeps nothing dearer from its turn"


def test_what_is_cheaper_goes_first_again_after_each_round():
    patient = stale(clear_helps=False)
    patient.settings = {**POLICY, "targets": {"feed": {"ladder": ["quotes_cache", "restart", "command"]}}}
    patient.look(2000)
    assert remedies(patient) == ["quotes_cache", "restart"] * 3 + ["command"] * 3, "that is the last resort"


def test_a_cache_is_not_cleared_for_a_target_that_is_down():
    patient = Patient(dict(POLICY))
    patient.look(2)
    patient.die()
    patient.look(20)
    assert remedies(patient) == ["restart"]


def test_a_target_that_goes_down_meanwhile_is_restarted_and_its_caches_keep_their_attempts():
    patient = stale(clear_helps=False)
    patient.look(15)
    patient.die()
    patient.look(45)
    assert remedies(patient) == ["quotes_cache", "restart"]
    patient.look(100)
    assert remedies(patient)[2:4] == ["charts_cache", "quotes_cache"], "they were tried less often"


def test_a_target_that_is_down_without_a_remedy_for_that_is_left_alone_until_it_is_up_again():
    patient = stale()
    patient.settings = {**POLICY, "targets": {"feed": {"ladder": ["quotes_cache"]}}}
    patient.look(8)
    patient.die()
    patient.look(30)
    assert patient.told()[-1] == "refused target_down"
    patient.rise()
    patient.look(3)
    assert remedies(patient) == ["quotes_cache"]


def test_a_restart_by_others_after_a_cache_was_cleared_is_not_taken_for_the_remedy():
    patient = stale(clear_helps=False)
    patient.look(15)
    assert patient.told()[-1] == "acted"
    patient.restart()
    patient.stale_at = None
    patient.look(400)
    assert patient.told()[-3:] == ["restarted up", "recovered", "resolved restarted"]


def test_a_cache_is_cleared_wherever_the_target_runs_and_a_restart_is_not_tried_there():
    patient = stale(clear_helps=False)
    patient.shown = {"owner": RestartOwner.ELSEWHERE, "processes": ()}
    patient.look(1000)
    assert remedies(patient) == ["quotes_cache", "charts_cache"] * 3
    assert patient.told()[-1] == "refused not_ours"


def test_a_command_is_run_for_a_target_that_runs_elsewhere_and_verified_by_a_newer_process():
    patient = Patient({**POLICY, "targets": {"feed": {"ladder": ["restart", "command"]}}})
    patient.shown = {"owner": RestartOwner.ELSEWHERE, "processes": ()}
    patient.look(2)
    boot = patient.boot
    patient.die()
    patient.look(400)
    assert [(order.remedy, order.identity) for _, order in patient.orders] == [("command", boot)]
    assert patient.told()[-4:] == ["intended", "acted", "verified", "resolved healed"]


def test_a_command_that_does_not_help_is_run_three_times_five_minutes_apart():
    patient = Patient({**POLICY, "targets": {"feed": {"ladder": ["command"]}}}, restart_helps=False)
    patient.shown = {"owner": RestartOwner.ELSEWHERE, "processes": ()}
    patient.look(2)
    patient.die()
    patient.look(2000)
    times = [at for at, _ in patient.orders]
    assert len(times) == 3
    assert all(later - earlier >= 300 for earlier, later in itertools.pairwise(times))
    assert patient.told()[-1] == "escalated exhausted"


def test_an_owner_that_starts_a_process_again_is_not_disturbed_by_a_command():
    patient = Patient({**POLICY, "targets": {"feed": {"ladder": ["command"]}}})
    patient.look(40)
    patient.restart(helps=False)
    patient.look(20)
    assert (remedies(patient), patient.told()[-1]) == ([], "refused start_grace")


@pytest.mark.parametrize("shown", [{"beats_in_turn": True}, {"replicas": 2}])
def test_a_cache_is_not_cleared_for_one_of_several_processes(shown):
    patient = stale()
    patient.shown = shown
    patient.look(60)
    assert (remedies(patient), patient.told()[-1]) == ([], "refused several_processes")


def test_what_the_boot_of_a_beat_verifies_is_passed_over_where_beats_have_none():
    patient = stale()
    patient.shown = {"boot": None}
    patient.look(20)
    assert remedies(patient) == ["restart"]
    patient = stale()
    patient.settings = {**POLICY, "targets": {"feed": {"ladder": ["quotes_cache", "command"]}}}
    patient.shown = {"boot": None}
    patient.look(20)
    assert patient.told() == ["opened degraded", "waiting", "escalated exhausted"], "a person is called"


def test_an_intent_to_clear_that_a_dead_medic_left_is_never_carried_out_again():
    patient = stale()
    while not patient.orders:
        patient.look(1, obey=False)
    patient.crash_medic()
    patient.look(2, obey=False)
    assert patient.told()[-1] == "abandoned unknown"
    patient.look(60)
    assert remedies(patient) == ["quotes_cache"] * 2
    assert patient.orders[1][0] - patient.orders[0][0] >= 30


def test_a_proposal_ends_when_the_ladder_no_longer_begins_with_it():
    patient = stale()
    patient.settings = {**POLICY, "mode": "propose"}
    patient.look(15)
    (repair,) = patient.planner.repairs.values()
    assert (repair.state, repair.proposed) == ("proposed", Remedy.QUOTES_CACHE)
    patient.settings["targets"] = {"feed": {"ladder": ["charts_cache"]}}
    patient.look(3)
    (repair,) = patient.planner.repairs.values()
    assert (repair.state, repair.proposed) == ("proposed", Remedy.CHARTS_CACHE)
    assert patient.orders == []


def test_a_remedy_has_a_mode_of_its_own():
    patient = stale()
    patient.settings["targets"] = {"feed": {"ladder": LADDER, "remedies": {"quotes_cache": "observe"}}}
    patient.look(60)
    assert remedies(patient) == ["charts_cache"]
    patient = stale()
    observed = dict.fromkeys(LADDER, "observe")
    patient.settings["targets"] = {"feed": {"ladder": LADDER, "remedies": observed}}
    patient.look(60)
    assert (remedies(patient), patient.told()[-1]) == ([], "refused observed")


def test_an_order_whose_process_is_another_one_counts_as_an_attempt():
    patient = stale()
    while not patient.orders:
        patient.look(1, obey=False)
    patient.obey(patient.orders[0][1], OrderResult.CHANGED)
    assert patient.told()[-1] == "abandoned changed"
    (repair,) = patient.planner.repairs.values()
    assert repair.count_attempts(Remedy.QUOTES_CACHE) == 1


def test_the_truth_names_remedies_and_an_unknown_name_is_an_error():
    assert set(get_args(RemedyName)) == set(Remedy) - {Remedy.WAIT}
    with pytest.raises(ValueError, match=r"settings\.targets\.feed\.ladder\.0"):
        MedicSettings.model_validate({"settings": {"targets": {"feed": {"ladder": ["flush"]}}}})


def test_a_cache_that_the_service_does_not_name_is_a_warning():
    board = {"access_points": {"publish_to": [{"bus": "market-redis", "key": "quotes"}]}}
    ladder = {"ladder": ["quotes_cache", "charts_cache", "resume_sources", "restart"]}
    medic = {"settings": {"targets": {"board": ladder}}}
    document = {"services": {"board": board, "medic": medic, "healer": {}}}
    loaded = load_with_sections(orjson.dumps(document))
    warnings = [str(each) for each in loaded.warnings]
    assert len(warnings) == 2, warnings
    assert "charts_cache does nothing" in warnings[0]
    assert "resume_sources does nothing" in warnings[1]
