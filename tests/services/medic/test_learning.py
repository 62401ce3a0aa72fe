"""What the record teaches: counted from the timelines alone, with what heals by itself as the baseline."""

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from marketswarm.operator.healing import EntryKind, TimelineEntry, fold_incidents
from services.medic.learning import ENOUGH, PRIOR_WEIGHT, Posterior, Treatment, find_probability, learn
from support.examples import examples
from support.simulation.patient import Patient

WAITS = [("waiting", "wait"), ("intended", "restart")]
STORIES = {
    "heals": [*WAITS, ("acted", "restart"), ("verified", "restart"), ("resolved", "")],
    "fails": [*WAITS, ("acted", "restart"), ("failed", "restart"), ("escalated", "")],
    "relapses": [*WAITS, ("acted", "restart"), ("verified", "restart"), ("relapsed", ""), ("escalated", "")],
    "by itself": [("waiting", "wait"), ("recovered", ""), ("resolved", "")],
    "by its owner": [("waiting", "wait"), ("restarted", ""), ("recovered", ""), ("resolved", "")],
    "up, unproven": [*WAITS, ("acted", "restart"), ("recovered", "restart"), ("resolved", "")],
    "abandoned": [*WAITS, ("abandoned", "restart"), ("refused", "restart")],
    "open": [*WAITS, ("acted", "restart"), ("verified", "restart")],
}
"""By story, its entries after `opened`."""
TEACHES = {
    "heals": {"restart": (1, 0), "wait": (0, 1)},
    "fails": {"restart": (0, 1), "wait": (0, 1)},
    "relapses": {"restart": (0, 1), "wait": (0, 1)},
    "by itself": {"wait": (1, 0)},
    "by its owner": {},
    "up, unproven": {"wait": (0, 1)},
    "abandoned": {"wait": (0, 1)},
    "open": {"wait": (0, 1)},
}


def incident(story, svc="feed", number=0, symptom="silent"):
    steps = [("opened", ""), *STORIES[story]]
    entries = [
        TimelineEntry(
            incident=f"{svc}.{number}", ts=1000.0 * number + at, svc=svc, what=EntryKind(what), remedy=remedy,
            reason=symptom if what == "opened" else "",
        )
        for at, (what, remedy) in enumerate(steps)
    ]  # fmt: skip
    (found,) = fold_incidents(entries)
    return found


def lessons(stories):
    made = [incident(story, svc, number) for number, (story, svc) in enumerate(stories)]
    return {lesson.treatment: lesson for lesson in learn(made)}


@pytest.mark.parametrize("story", STORIES)
def test_each_story_teaches_what_it_proves_and_no_more(story):
    found = {
        each.remedy: (lesson.posterior.helped, lesson.posterior.failed)
        for each, lesson in lessons([(story, "feed")]).items()
        if each.svc
    }
    assert found == TEACHES[story]


SOME = st.lists(st.tuples(st.sampled_from(sorted(STORIES)), st.sampled_from(["feed", "mesh"])), max_size=30)


@given(SOME, st.randoms(use_true_random=False))
@settings(max_examples=examples(100))
def test_the_order_of_incidents_changes_nothing(stories, chance):
    made = [incident(story, svc, number) for number, (story, svc) in enumerate(stories)]
    mixed = list(made)
    chance.shuffle(mixed)
    assert learn(made) == learn(mixed)


@given(SOME)
@settings(max_examples=examples(100))
def test_the_slow_layer_has_what_all_services_taught_and_is_the_prior_of_the_fast_one(stories):
    found = lessons(stories)
    for treatment, lesson in found.items():
        assert 0 < lesson.posterior.mean < 1
        if treatment.svc:
            slow = found[Treatment(treatment.symptom, treatment.remedy)].posterior
            own = lesson.posterior
            assert own.alpha + own.beta == pytest.approx(PRIOR_WEIGHT + own.attempts)
            assert own.alpha == pytest.approx(PRIOR_WEIGHT * slow.mean + own.helped)
        else:
            parts = [each for each in found if each.svc and each.remedy == treatment.remedy]
            assert lesson.posterior.attempts == sum(found[each].posterior.attempts for each in parts)
            assert lesson.posterior.alpha == 1 + lesson.posterior.helped


@given(SOME)
@settings(max_examples=examples(50))
def test_one_more_success_never_lowers_and_one_more_failure_never_raises_an_estimate(stories):
    restart = Treatment("silent", "restart", "feed")
    before = lessons([*stories, ("heals", "feed")])[restart].posterior.mean
    assert lessons([*stories, ("heals", "feed"), ("heals", "feed")])[restart].posterior.mean >= before
    assert lessons([*stories, ("heals", "feed"), ("fails", "feed")])[restart].posterior.mean <= before


def test_an_incident_whose_beginning_is_lost_teaches_nothing():
    whole = incident("heals")
    (cut,) = fold_incidents(whole.timeline[1:])
    assert learn([cut]) == []


betas = st.builds(Posterior, st.floats(0.05, 2000), st.floats(0.05, 2000))


@given(betas, betas)
@settings(max_examples=examples(50))
def test_one_of_two_is_the_better_one(one, other):
    assert find_probability(one, other) + find_probability(other, one) == pytest.approx(1, abs=0.01)


@pytest.mark.slow
def test_the_comparison_is_that_of_many_draws():
    chance = random.Random(5)
    few = ((0.05, 4.95), (2, 60)), ((0.2, 23.8), (0.3, 9.7)), ((3.9, 0.1), (9, 1))
    for one, other in [((3, 9), (2, 2)), ((20, 2), (1, 21)), ((1, 1), (1, 1)), ((4.5, 1.5), (30, 11)), *few]:
        pairs = [(chance.betavariate(*one), chance.betavariate(*other)) for _ in range(20_000)]
        drawn = sum(first > second for first, second in pairs) / len(pairs)
        assert find_probability(Posterior(*one), Posterior(*other)) == pytest.approx(drawn, abs=0.02)


def test_a_remedy_is_held_against_what_heals_by_itself():
    helps = lessons([("heals", "feed")] * ENOUGH)[Treatment("silent", "restart", "feed")]
    assert helps.posterior.is_enough
    assert helps.better > 0.99
    useless = lessons([*[("fails", "feed")] * 10, *[("by itself", "feed")] * 30])
    assert useless[Treatment("silent", "restart", "feed")].better < 0.05
    assert not useless[Treatment("silent", "restart", "feed")].posterior.is_enough
    assert useless[Treatment("silent", "wait", "feed")].better is None


def test_the_medic_itself_writes_what_teaches():
    patient = Patient()
    for _ in range(5):
        patient.look(2)
        patient.die()
        patient.look(400)
    entries = [entry for plan in patient.plans for entry in plan.entries]
    found = {each.treatment: each.posterior for each in learn(fold_incidents(entries))}
    restart, wait = (found[Treatment("silent", remedy, "feed")] for remedy in ("restart", "wait"))
    assert (restart.helped, restart.failed, wait.helped, wait.failed) == (5, 0, 0, 5)
