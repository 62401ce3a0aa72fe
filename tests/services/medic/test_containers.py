"""Services in containers and units: their owner restarts what ends, the medic what runs and does not beat."""

from dataclasses import replace

import pytest

from marketswarm.fleet_control import RestartAnswer
from services.medic.facts import ProcessFacts, RestartOwner
from services.medic.owners.owner import NoOwnerError
from services.medic.remedies import REMEDIES, OrderResult, Remedy, RemedyContext, RemedyOrder
from support.simulation.patient import Patient

RUNNING = ProcessFacts("start 1", age_sec=1000.0)
ORDER = RemedyOrder("feed", Remedy.RESTART, "c1@t1", RestartOwner.ENGINE)


def in_container(*processes, owner=RestartOwner.ENGINE):
    """Return a patient in a container, or unit; with processes, its owner goes on to show these."""
    patient = Patient()
    patient.shown = {"owner": owner, **({"processes": processes} if processes else {})}
    patient.look(2)
    patient.die()
    return patient


def test_a_container_that_hangs_is_restarted_and_verified_by_a_beat_of_its_next_process():
    patient = in_container()
    patient.look(400)
    assert patient.told()[-4:] == ["intended", "acted", "verified", "resolved healed"]
    assert [(order.identity, order.owner) for _, order in patient.orders] == [
        ("start 1", RestartOwner.ENGINE)
    ]


@pytest.mark.parametrize(
    ("process", "refusal"),
    [
        (replace(RUNNING, is_waiting=True), "owner_restarts"),
        (replace(RUNNING, is_stopped=True), "stopped"),
        (replace(RUNNING, age_sec=5.0), "start_grace"),
    ],
)
def test_what_the_engine_restarts_or_a_person_stopped_or_is_young_is_left_alone(process, refusal):
    patient = in_container(process)
    patient.look(200)
    assert (patient.orders, patient.told()[-1]) == ([], f"refused {refusal}")


def test_two_containers_of_one_service_are_left_alone():
    patient = in_container(RUNNING, replace(RUNNING, identity="start 2"))
    patient.look(200)
    assert (patient.orders, patient.told()[-1]) == ([], "refused several_processes")


@pytest.mark.parametrize("owner", [RestartOwner.ENGINE, RestartOwner.SYSTEMD])
def test_restarts_by_the_engine_and_by_systemd_are_counted_as_its_own(owner):
    patient = in_container(owner=owner)
    patient.look(3)
    patient.restart()
    patient.look(400)
    assert patient.told() == [
        "opened silent", "waiting", f"restarted {owner}", "recovered", "resolved restarted",
    ]  # fmt: skip


def test_an_outage_says_how_the_container_ended():
    patient = in_container(replace(RUNNING, is_waiting=True, exit_code=137, is_oom_killed=True))
    patient.look(1)
    opened = next(entry for plan in patient.plans for entry in plan.entries)
    assert opened.text == "warning; engine restarts it; it ended with 137, ran out of memory"


def test_an_outage_says_how_the_unit_ended():
    ended = replace(RUNNING, is_waiting=True, exit_code=134, end_reason="watchdog")
    patient = in_container(ended, owner=RestartOwner.SYSTEMD)
    patient.look(1)
    opened = next(entry for plan in patient.plans for entry in plan.entries)
    assert opened.text == "warning; systemd restarts it; it ended with 134 (watchdog)"


def test_the_next_medic_waits_for_a_restart_of_which_the_engine_does_not_say_whether_it_goes_on():
    patient = in_container()
    patient.look(6, obey=False)
    assert patient.told()[-1] == "intended"
    patient.crash_medic()
    patient.shown["processes"] = (RUNNING,)
    patient.look(20)
    assert patient.told()[-1] == "intended"
    del patient.shown["processes"]
    patient.restart()
    patient.look(3)
    assert patient.told()[3] == "acted"
    assert len(patient.orders) == 1


class Owner:
    restarts_for = frozenset({RestartOwner.ENGINE})

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    async def restart(self, *order):
        self.asked.append(order)
        if self.answer is None:
            raise NoOwnerError("the engine does not answer: timeout")
        return self.answer, "said"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (RestartAnswer.DONE, (OrderResult.DONE, "said")),
        (RestartAnswer.CHANGED, (OrderResult.CHANGED, "said")),
        (RestartAnswer.REFUSED, (OrderResult.REFUSED, "said")),
        (None, (OrderResult.UNKNOWN, "the engine does not answer: timeout")),
    ],
)
async def test_a_restart_is_asked_of_what_runs_the_target_and_of_no_other(answer, expected):
    other, engine = Owner(RestartAnswer.DONE), Owner(answer)
    other.restarts_for = frozenset({RestartOwner.UP, RestartOwner.MEDIC})
    context = RemedyContext(None, None, owners=(other, engine))
    assert await REMEDIES[Remedy.RESTART].carry_out(ORDER, context) == expected
    assert (other.asked, engine.asked) == ([], [("feed", "c1@t1", None)])


async def test_a_restart_of_what_no_owner_here_runs_is_refused():
    context = RemedyContext(None, None)
    result, said = await REMEDIES[Remedy.RESTART].carry_out(ORDER, context)
    assert (result, said) == (OrderResult.REFUSED, "what runs it is not known here")


def test_an_intent_shows_a_container_by_its_short_id():
    identity = f"{'ab' * 32}@2026-01-02T03:04:05Z"
    assert REMEDIES[Remedy.RESTART].describe(identity) == "container abababababab"
    assert REMEDIES[Remedy.RESTART].describe("17.5") == "process 17.5"
