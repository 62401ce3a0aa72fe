"""The line with which `medic status` begins, and the line about each outage."""

import pytest

from services.medic.commands import describe_state, write_summary
from services.medic.facts import Symptom
from services.medic.guards import Fuse
from services.medic.refusal import Refusal
from services.medic.remedies import Remedy
from services.medic.repair import RemedyAttempt, Repair, RepairState
from services.medic.settings import HealingSettings
from support.simulation.patient import down


def make_repair(svc="massive", **values):
    usual = {"incident": f"{svc}.1", "symptom": Symptom.SILENT, "down_since": 1.0, "opened_at": 1.0}
    return Repair(svc=svc, **{**usual, "since": 2.0, **values})


def summarize(*repairs, fuse=None, rules=(), **settings):
    return write_summary(HealingSettings(**settings), repairs, fuse or Fuse(), rules)


def test_without_anything_all_is_well():
    assert summarize() == "all is well: no outage is open, and no rule holds"


def test_what_waits_for_a_person_comes_first():
    asks = make_repair(state=RepairState.PROPOSED, proposed=Remedy.RESTART, until=99.0)
    lost = make_repair("mesh", state=RepairState.ESCALATED)
    works = make_repair("board", state=RepairState.WAITING)
    assert summarize(works, lost, asks, rules=["proposed/massive", "escalated/mesh"]) == (
        "waits for your approval: massive; needs you: mesh; the medic works on board"
    )


def test_what_is_left_alone_has_the_reason_and_rules_their_names():
    left = make_repair(refusal=Refusal.OBSERVED)
    assert summarize(left, rules=["database_errors/massive", "disk/host"]) == (
        "nothing is done about massive (it only observes this service); "
        "rules hold: database_errors/massive, disk/host"
    )


def test_a_blown_fuse_is_said_before_all_else_and_many_names_are_cut():
    fuse = Fuse(blown_at=5.0)
    many = [make_repair(f"s{n}", state=RepairState.WAITING) for n in range(7)]
    said = summarize(*many, fuse=fuse)
    assert said.startswith("the medic has stopped, and waits for you; the medic works on s0, ")
    assert said.endswith("s4 and 2 more")
    assert summarize(paused=True) == "the medic is paused"


@pytest.mark.parametrize("state", [state for state in RepairState if state is not RepairState.RESOLVED])
def test_no_state_is_said_as_a_code(state):
    attempt = RemedyAttempt(Remedy.QUOTES_CACHE, 3.0)
    repair = make_repair(state=state, attempts=(attempt,), proposed=Remedy.QUOTES_CACHE, until=9.0)
    assert "_" not in describe_state(repair)
    assert describe_state(make_repair(refusal=Refusal.NOT_OURS)) == (
        "nothing: it can't restart what runs elsewhere"
    )


def test_a_simulated_outage_is_summed_up_as_it_is():
    patient = down()
    patient.look(5)
    assert summarize(*patient.planner.repairs.values()) == "the medic works on feed"
