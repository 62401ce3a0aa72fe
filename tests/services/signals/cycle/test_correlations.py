"""How much votes go together: from common votes alone, over a bounded number of them."""

import random

from services.signals.consensus.consensus import UNIT
from services.signals.cycle.correlations import KEPT, LEAST_COMMON, CommonVotes, name_pairs

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
