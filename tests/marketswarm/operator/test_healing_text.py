"""The words for what the medic does: none of its codes lacks them, and what is foreign stands for itself."""

from dataclasses import replace

import pytest

from marketswarm.operator.healing import EntryKind, HealingIncident, fold_incidents
from marketswarm.operator.healing_text import (
    METRICS,
    REFUSALS,
    RESOLUTIONS,
    describe_measurement,
    describe_proposal,
    describe_refusal,
    describe_remedy,
    describe_stand,
    describe_step,
)
from marketswarm.operator.remedies import Remedy
from services.medic.decision import CRASH_LOOPING, EXHAUSTED
from services.medic.facts import RestartOwner, Symptom
from services.medic.metric import Metric
from services.medic.refusal import Refusal
from services.medic.remedies import OrderResult
from services.medic.repair import Resolution
from services.medic.rule import SHIPPED
from services.medic.rules.evaluation import RuleFinding
from services.medic.rules.monitor import describe
from support.healing_record import Step, make_outage


def make_incident(*steps: Step, symptom: str = "silent") -> HealingIncident:
    (found,) = fold_incidents(make_outage("massive", 1000.0, *steps, symptom=symptom))
    return found


def say_last(*steps: Step) -> str:
    return describe_step(make_incident(*steps).timeline[-1])


def test_each_reason_has_words_and_no_words_are_left_over():
    assert set(REFUSALS) == set(Refusal)
    assert set(RESOLUTIONS) == {*Resolution, "open", "escalated"}
    assert set(METRICS) == set(Metric)


@pytest.mark.parametrize("name", SHIPPED)
def test_no_shipped_rule_says_its_metric_as_a_code(name):
    rule = SHIPPED[name]
    for value in (1.0, 1234567.0, None):
        said = describe_measurement(describe(RuleFinding("x", rule, value=value)))
        assert rule.metric not in said.split(",")[0].split(":")[0].split()[:1]
        assert said.startswith(METRICS[rule.metric][0])


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("process_memory 92.5, above 90 for 60 s", "the memory that it uses: 92.5 %, above 90 for 60 s"),
        ("process_memory, above 90", "the memory that it uses, above 90"),
        ("conflict 1, above 0 for 60 s", "too many processes of it run for 60 s"),
        ("gate_closed 1, above 0", "the gate of the market is closed"),
        (
            "log_new 1, above 0 within 60 s: a b",
            "the lines of its log of a new kind: 1, above 0 within 60 s: a b",
        ),
        ("of_others 1, above 0", "of_others 1, above 0"),
        ("restart; to approve it …", "restart; to approve it …"),
        ("", ""),
    ],
)
def test_a_measurement_is_said_in_words_and_what_is_not_known_as_it_came(why, said):
    assert describe_measurement(why) == said


@pytest.mark.parametrize("remedy", Remedy)
def test_no_remedy_is_said_as_a_code(remedy):
    assert "_" not in describe_remedy(remedy)
    assert "_" not in describe_proposal(remedy, "feed")
    assert "feed" in describe_proposal(remedy, "feed")
    assert describe_remedy(remedy) not in ("wait", "restart", "command", "reconnect")


@pytest.mark.parametrize("kind", EntryKind)
def test_each_entry_is_a_sentence_without_a_code(kind):
    reasons = {
        EntryKind.REFUSED: Refusal.NOT_OURS,
        EntryKind.OPENED: Symptom.DEGRADED,
        EntryKind.ESCALATED: CRASH_LOOPING,
        EntryKind.RESOLVED: Resolution.RETIRED,
        EntryKind.RESTARTED: RestartOwner.ENGINE,
        EntryKind.ABANDONED: OrderResult.CHANGED,
    }
    said = say_last((kind, "quotes_cache", reasons.get(kind, "")))
    assert said[0].isupper()
    assert "_" not in said
    assert said == said.strip(" :")


def test_a_refusal_says_what_is_not_done_and_why():
    assert say_last(("refused", "restart", "start_grace")) == (
        "The medic does not restart it: its process has only just started"
    )
    assert say_last(("escalated", "", EXHAUSTED)) == (
        "A person is needed: nothing that may be done has helped"
    )
    assert say_last(("restarted", "", "elsewhere")) == "It was restarted by others"


def test_a_word_of_another_release_stands_for_itself():
    assert describe_refusal("too_tired") == "too_tired"
    assert say_last(("refused", "dance", "too_tired")) == "The medic does not dance: too_tired"
    assert describe_stand(make_incident(("refused", "dance", "too_tired"))).next


def test_a_proposal_is_what_stands_until_it_ends():
    asked = make_incident(("waiting", "wait"), ("proposed", "restart", "1234abcd"), ("told", ""))
    stand = describe_stand(asked)
    assert (stand.text, stand.needs_person) == ("The medic proposes: restart it", True)
    assert stand.at == asked.timeline[2].ts
    stand = describe_stand(make_incident(("proposed", "restart", "1234abcd"), ("expired", "restart")))
    assert stand.text.startswith("No person approved in time: restart it.")
    assert not stand.needs_person


def test_the_command_of_a_proposal_is_left_out_and_who_needs_the_service_is_not():
    found = make_incident(("proposed", "restart", "1234abcd"))
    text = "marketswarm medic approve 1234abcd; 4 that are up need it"
    asked = HealingIncident((*found.timeline[:-1], replace(found.timeline[-1], text=text)))
    assert describe_stand(asked).text == "The medic proposes: restart it; 4 that are up need it"


def test_what_passes_by_itself_needs_no_person_and_what_does_not_says_what_to_do():
    assert not describe_stand(make_incident(("refused", "restart", "start_grace"))).needs_person
    observed = describe_stand(make_incident(("refused", "restart", "observed")))
    assert observed.needs_person
    assert "restart it yourself" in observed.next
    quiet = describe_stand(make_incident(("refused", "restart", "silenced")))
    assert quiet.next.startswith("end its silence")
    given_up = make_incident(("escalated", "", EXHAUSTED))
    assert f"marketswarm incident {given_up.id}" in describe_stand(given_up).next


def test_a_restart_by_others_and_a_remedy_that_is_preferred_are_beside_what_stands():
    found = make_incident(
        ("refused", "restart", "not_ours"), ("restarted", "", "up"), ("preferred", "restart")
    )
    assert describe_stand(found).text == "The medic does not restart it: it can't restart what runs elsewhere"
