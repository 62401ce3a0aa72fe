"""What a medic makes of the repairs, the windows and the intents that an earlier one left."""

import itertools
from dataclasses import replace

import pytest

from services.medic.remedies import OrderResult, Remedy
from services.medic.repair import RepairState
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
