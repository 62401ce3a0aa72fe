"""How much votes go together: from common votes alone, over a bounded number of them."""

import random

import pytest

from services.signals.consensus.consensus import UNIT, format_number
from services.signals.cycle.correlations import KEPT, LEAST_COMMON, CommonVotes, list_opinions, name_pairs
from services.signals.log.entries import PlaceOutcome, make_place

PAIR = frozenset(("a", "b"))


def test_a_pair_has_a_correlation_from_thirty_common_votes_on():
    votes = CommonVotes(["b", "a", "c"])
    given = [{"a": number * UNIT // 100, "b": number * UNIT // 50} for number in range(LEAST_COMMON - 1)]
    votes.add(given)
    votes.add([{"a": 1}, {"b": 1}, {"c": 1}])
    assert votes.correlate() == {}
    votes.add([{"a": -UNIT, "b": -2 * UNIT}])
    assert votes.correlate() == {PAIR: UNIT}
    assert name_pairs(votes.correlate()) == {"a+b": UNIT}


def test_opposite_and_independent_votes():
    chance, votes = random.Random(1), CommonVotes(["a", "b", "c"])
    for _ in range(KEPT):
        one, other = chance.randint(-UNIT, UNIT), chance.randint(-UNIT, UNIT)
        votes.add([{"a": one, "b": -one, "c": other}])
    found = votes.correlate()
    assert found[PAIR] == -UNIT
    assert abs(found[frozenset(("a", "c"))]) < UNIT // 10


def test_a_voter_without_an_opinion_of_its_own_has_none_and_old_votes_are_forgotten():
    votes = CommonVotes(["a", "b"])
    votes.add([{"a": number, "b": UNIT // 2} for number in range(100)])
    assert votes.correlate() == {}
    votes.add([{"a": number * UNIT // KEPT, "b": -number * UNIT // KEPT} for number in range(2 * KEPT)])
    assert votes.correlate() == {PAIR: -UNIT}


def place(votes, outcome=PlaceOutcome.SIGNAL):
    """Return a stored place with these votes: direction, strength and confidence, or a reason for none."""
    said = {
        name: {"abstained": vote}
        if isinstance(vote, str)
        else {
            "direction": vote[0],
            "strength": format_number(vote[1]),
            "confidence": format_number(vote[2]),
            "expires": 1,
            "reasons": ["so"],
        }
        for name, vote in votes.items()
    }
    return make_place("SPY", outcome, tick=1, votes=said).decode()


def test_stored_places_give_the_opinions_that_they_were_decided_by():
    chance, opinions, places = random.Random(3), [], []
    for _ in range(200):
        votes, given = {}, {}
        for name in ("a", "b", "c"):
            if chance.random() < 0.2:
                votes[name] = "late"
                continue
            vote = votes[name] = (
                *(chance.choice((-1, 0, 1)), chance.randint(0, UNIT)),
                chance.randint(0, UNIT),
            )
            given[name] = vote[0] * (vote[1] * vote[2] // UNIT)
        opinions.append(given)
        places.append(place(votes, chance.choice((PlaceOutcome.SIGNAL, PlaceOutcome.ABSTAINED))))
    assert list_opinions(reversed(places), ("a", "b", "c")) == opinions
    known, restored = CommonVotes("abc"), CommonVotes("abc")
    known.add(opinions)
    restored.add(list_opinions(reversed(places), "abc"))
    assert len(restored.correlate()) == 3
    assert restored.correlate() == known.correlate()


def test_a_change_of_the_voters_begins_anew_also_if_they_are_the_same_again():
    one, other = {"a": (1, UNIT, UNIT), "b": (1, UNIT, UNIT)}, {"a": (1, UNIT, UNIT), "c": "late"}
    places = [place(one), place(one), place(other), place(one)]  # the newest first
    assert list_opinions(places, ("a", "b")) == [{"a": UNIT, "b": UNIT}] * 2
    assert list_opinions(places, ("a", "c")) == []


@pytest.mark.parametrize(
    "content", ["", "[1]", "{", '{"v":1}', "x" * 70_000, place({"a": "late"}, PlaceOutcome.FAILED)]
)
def test_a_place_that_can_not_be_read_or_has_no_votes_is_left_out(content):
    found = list_opinions([content, place({"a": (-1, UNIT // 2, UNIT)}), content], ["a"])
    assert found == [{"a": -UNIT // 2}]
