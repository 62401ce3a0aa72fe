"""What a medic makes of the repairs, the windows and the intents that an earlier one left."""

import itertools
from dataclasses import replace

import pytest

from marketswarm.channels.exec import HOST_LATE_SEC
from services.medic.decision import LEASE_SEC
from services.medic.facts import FleetFacts
from services.medic.guards import MAX_RUNNING
from services.medic.remedies import OrderResult, Remedy
from services.medic.repair import RepairState
from services.medic.settings import MAX_COMMAND_SEC
from support.simulation.patient import OLD, down


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
    patient.look(700, obey=False)  # what was begun counts, until a time without another medic has passed
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


COMMAND_SEC = 900


def begin_command():
    """A medic that was killed while a command ran, which may take COMMAND_SEC."""
    patient = down(settings={"mode": "act", "targets": {"feed": {"ladder": ["command"]}}})
    patient.look(6, obey=False)
    (_, order), = patient.orders  # fmt: skip
    patient.plans.append(patient.planner.record_begin(order, COMMAND_SEC, patient.now))
    assert patient.told()[2:] == ["intended", "running"]
    patient.crash_medic()
    return patient


def test_the_next_medic_awaits_a_command_until_its_deadline_and_counts_it_once():
    patient = begin_command()
    patient.look(COMMAND_SEC, obey=False)
    assert patient.told()[-1] == "running"
    patient.look(HOST_LATE_SEC + LEASE_SEC + 2, obey=False)
    assert patient.told()[4] == "abandoned unknown"
    assert patient.planner.repairs["feed"].count_attempts(Remedy.COMMAND) == 2
    assert len(patient.orders) == 2, "the second attempt, of three"
    assert patient.orders[1][0] - patient.orders[0][0] >= COMMAND_SEC


def test_a_command_that_ended_with_its_medic_is_one_attempt_that_was_broken_off_at_once():
    patient = begin_command()
    patient.ended = {"feed"}
    patient.look(1)
    assert patient.told()[4:] == ["abandoned broken_off"]
    repair = patient.planner.repairs["feed"]
    assert (repair.count_attempts(Remedy.COMMAND), repair.runs_until, repair.runs_as) == (1, None, "")
    patient.crash_medic()
    patient.look(200, obey=False)
    assert (len(patient.orders), patient.told().count("abandoned broken_off")) == (1, 1)
    patient.look(200, obey=False)
    assert len(patient.orders) == 2, "the second attempt, after the cooldown"


def test_a_command_that_ended_with_its_medic_may_have_helped():
    patient = begin_command()
    patient.restart()
    patient.ended = {"feed"}
    patient.look(3)
    assert patient.told()[4:] == ["acted", "verified"]
    patient.look(400)
    assert patient.told()[-1] == "resolved healed", "nothing may end the service any more"


def test_an_outage_whose_command_ended_with_its_medic_is_over_once_the_truth_no_longer_names_the_service():
    patient = begin_command()
    patient.plans.append(patient.planner.tick(FleetFacts({}), {}, 7, patient.now + 1))
    assert patient.told()[-1] == "running"
    patient.plans.append(patient.planner.tick(FleetFacts({}), {}, 7, patient.now + 2, ended={"feed"}))
    assert patient.told()[-1] == "resolved retired"


def test_a_command_that_has_helped_is_verified_and_none_is_begun_before_the_deadline_of_the_first():
    patient = begin_command()
    patient.look(50)
    patient.restart()
    patient.look(COMMAND_SEC - 400)
    assert patient.told()[4:] == ["acted", "verified"], "the first one may end the service yet"
    patient.die()
    patient.look(300, obey=False)
    assert patient.told()[6:] == ["relapsed"]
    assert len(patient.orders) == 1
    patient.look(100, obey=False)
    assert len(patient.orders) == 2


def test_an_outage_that_ended_by_itself_stays_open_until_the_deadline_of_its_command():
    patient = begin_command()
    patient.look(50)
    patient.rise()
    patient.look(COMMAND_SEC - 60)
    assert "feed" in patient.planner.repairs
    patient.look(LEASE_SEC + 20)
    assert patient.told()[-1] == "resolved recovered"


@pytest.mark.parametrize("step_sec", [-86_400.0, 86_400.0])
def test_a_command_is_awaited_for_all_its_time_though_the_clock_was_set(step_sec):
    patient = begin_command()
    patient.set_clock(step_sec)
    patient.crash_medic()
    patient.look(COMMAND_SEC + HOST_LATE_SEC, obey=False)
    assert patient.told()[-1] == "running"
    patient.look(LEASE_SEC + 3, obey=False)
    assert patient.told()[4] == "abandoned unknown"


def test_a_command_whose_deadline_a_medic_saw_pass_is_not_awaited_by_the_next_one():
    patient = begin_command()
    patient.settings["mode"] = "observe"
    patient.look(COMMAND_SEC + LEASE_SEC + HOST_LATE_SEC + 2, obey=False)
    assert patient.told()[4] == "abandoned unknown"
    patient.settings["mode"] = "act"
    patient.crash_medic()
    patient.look(320, obey=False)
    assert len(patient.orders) == 2, "after a cooldown"


def test_a_deadline_without_its_length_is_kept():
    patient = begin_command()
    repair = patient.planner.repairs["feed"]
    patient.planner.repairs["feed"] = replace(repair, runs_sec=None)
    patient.look(COMMAND_SEC - 100, obey=False)
    patient.crash_medic()
    patient.look(100, obey=False)
    assert patient.told()[-1] == "running"
    patient.look(LEASE_SEC + HOST_LATE_SEC + 2, obey=False)
    assert patient.told()[4] == "abandoned unknown"


def look_away(patient, sec):
    """Let time pass in which the truth does not name the service."""
    for _ in range(sec):
        patient.now += 1
        patient.plans.append(patient.planner.tick(FleetFacts({}), {}, 7, patient.now))


def test_a_service_that_leaves_the_truth_for_a_while_is_not_healed_before_the_deadline_of_its_command():
    patient = begin_command()
    look_away(patient, 30)
    patient.look(COMMAND_SEC - 60, obey=False)
    assert patient.told()[-1] == "running"
    assert len(patient.orders) == 1
    look_away(patient, 100)
    assert patient.told()[-1] == "resolved retired"


def test_a_clock_that_was_set_back_makes_no_deadline_later_than_any_command():
    patient = begin_command()
    patient.set_clock(-86_400.0)
    patient.crash_medic()
    patient.look(MAX_COMMAND_SEC + LEASE_SEC + 1, obey=False)
    assert patient.told()[4] == "abandoned unknown"


def test_no_more_commands_run_at_once_than_allowed():
    patient = down(settings={"mode": "act", "targets": {"feed": {"ladder": ["command"]}}})
    facts = FleetFacts({"feed": patient.facts()})
    names = [f"other{at}" for at in range(MAX_RUNNING)]
    for _ in range(9):
        patient.now += 1
        assert patient.planner.tick(facts, {}, 7, patient.now, running=names).order is None
    assert patient.planner.tick(facts, {}, 7, patient.now + 1, running=names[1:]).order is not None
