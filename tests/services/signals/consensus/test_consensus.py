"""Votes add up exactly, what is not a vote does not count, and a side has hysteresis."""

from decimal import Decimal, getcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.signals.consensus.consensus import (
    UNIT,
    Abstention,
    ConsensusRules,
    SignalSide,
    divide,
    find_side,
    format_number,
    weigh_votes,
)

RULES = ConsensusRules({"massive": 40, "alpha": 25, "grok": 20, "sonar": 15})


def units(text: str) -> int:
    return int(Decimal(text) * UNIT)


def test_a_sum_is_what_a_person_adds_up_by_hand():
    votes = {"massive": units("0.8"), "alpha": units("0.5"), "grok": units("-0.3")}
    found = weigh_votes(RULES, votes)
    # (0.40 * 0.8 + 0.25 * 0.5 - 0.20 * 0.3) / 0.85 = 0.385 / 0.85
    assert format_number(found.score) == "0.452941176471"
    # 1 - 0.385 / 0.505
    assert format_number(found.conflict) == "0.237623762376"
    assert format_number(found.participation) == "0.850000000000"
    # the square of 0.85 by the sum of the squares of 0.40, 0.25 and 0.20
    assert format_number(found.effective_votes) == "2.752380952381"
    assert format_number(found.weights_used["massive"]) == "0.470588235294"
    assert found.has_quorum
    assert found.abstained == {"sonar": Abstention.NO_VOTE}


def test_flat_is_a_vote_and_abstaining_is_none():
    with_flat = weigh_votes(RULES, {"massive": UNIT, "alpha": 0})
    without = weigh_votes(RULES, {"massive": UNIT, "alpha": Abstention.LATE})
    assert with_flat.score == divide(40 * UNIT, 65)
    assert without.score == UNIT
    assert without.abstained["alpha"] is Abstention.LATE
    assert not without.has_quorum  # 0.40 of the weight, and one vote


@pytest.mark.parametrize(
    ("votes", "has_quorum"),
    [
        ({"massive": 1, "alpha": 1}, True),
        ({"alpha": 1, "grok": 1}, False),  # 0.45 of the weight
        ({"massive": 1}, False),
        ({}, False),
    ],
)
def test_a_quorum_is_by_weight_and_by_count(votes, has_quorum):
    assert weigh_votes(RULES, votes).has_quorum is has_quorum


def test_a_quorum_of_just_the_half_is_one_and_a_hair_less_is_none():
    half = ConsensusRules({"a": 1, "b": 1, "c": 2}, quorum=Fraction(1, 2))
    assert weigh_votes(half, {"a": 0, "b": 0}).has_quorum
    hair = ConsensusRules({"a": 10**15, "b": 10**15, "c": 2 * 10**15 + 1}, quorum=Fraction(1, 2))
    assert not weigh_votes(hair, {"a": 0, "b": 0}).has_quorum


def test_an_opinion_out_of_range_abstains_and_its_neighbours_count():
    found = weigh_votes(RULES, {"massive": UNIT + 1, "alpha": UNIT, "grok": UNIT})
    assert found.abstained["massive"] is Abstention.OUT_OF_RANGE
    assert found.score == UNIT


def test_a_voter_without_a_weight_is_refused():
    with pytest.raises(KeyError, match="stranger"):
        weigh_votes(RULES, {"stranger": 0})


def test_no_opinion_that_leans_is_no_conflict():
    assert weigh_votes(RULES, {"massive": 0, "alpha": 0}).conflict == 0


def test_voters_that_say_the_same_are_one_vote_and_opposites_never_more_than_there_are():
    rules = ConsensusRules({"a": 1, "b": 1})
    votes = {"a": UNIT, "b": UNIT}
    pair = frozenset("ab")
    assert weigh_votes(rules, votes, {pair: UNIT}).effective_votes == UNIT
    assert weigh_votes(rules, votes, {pair: UNIT // 2}).effective_votes == divide(4 * UNIT, 3)
    assert weigh_votes(rules, votes, {pair: -UNIT}).effective_votes == 2 * UNIT


numbers = st.integers(-UNIT, UNIT)
weights = st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 10**6), min_size=1)


@given(weights, st.dictionaries(st.sampled_from("abcdefg"), numbers), st.data())
def test_a_consensus_equals_the_formulas_in_another_arithmetic(weights, votes, data):
    votes = {name: each for name, each in votes.items() if name in weights}
    pairs = [frozenset((a, b)) for a in weights for b in weights if a < b]
    correlations = {pair: data.draw(numbers) for pair in pairs}
    found = weigh_votes(ConsensusRules(weights), votes, correlations)
    if not votes:
        assert found.score is None
        return
    getcontext().prec = 60
    total = sum(Decimal(weights[name]) for name in votes)
    opinion = {name: Decimal(each) / UNIT for name, each in votes.items()}
    used = {name: Decimal(weights[name]) / total for name in votes}
    score = sum(used[name] * opinion[name] for name in votes)
    strength = sum(used[name] * abs(opinion[name]) for name in votes)
    assert abs(Decimal(found.score) / UNIT - score) <= Decimal("1e-12")
    assert abs(Decimal(found.conflict) / UNIT - (1 - abs(score) / strength if strength else 0)) <= Decimal(
        "1e-12"
    )
    spread = sum(
        used[a] * used[b] * (1 if a == b else Decimal(correlations[frozenset((a, b))]) / UNIT)
        for a in votes
        for b in votes
    )
    expected = min(1 / spread, Decimal(len(votes))) if spread > 0 else Decimal(len(votes))
    assert abs(Decimal(found.effective_votes) / UNIT - max(expected, Decimal(1))) <= Decimal("1e-12")
    assert abs(sum(found.weights_used.values()) - UNIT) <= len(votes)


@pytest.mark.parametrize(
    ("score", "before", "after"),
    [
        ("0.3", SignalSide.FLAT, SignalSide.LONG),
        ("0.299999999999", SignalSide.FLAT, SignalSide.FLAT),
        ("-0.3", SignalSide.FLAT, SignalSide.SHORT),
        ("0.1", SignalSide.LONG, SignalSide.LONG),
        ("0.099999999999", SignalSide.LONG, SignalSide.FLAT),
        ("-0.1", SignalSide.SHORT, SignalSide.SHORT),
        ("0", SignalSide.SHORT, SignalSide.FLAT),
        ("-0.2", SignalSide.LONG, SignalSide.FLAT),
        ("-0.3", SignalSide.LONG, SignalSide.SHORT),
    ],
)
def test_a_side_begins_far_from_zero_and_ends_near_it(score, before, after):
    assert find_side(RULES, units(score), before, 10**9) is after


def test_within_the_cool_down_a_side_may_end_and_none_may_begin():
    assert find_side(RULES, UNIT, SignalSide.FLAT, 59_999) is SignalSide.FLAT
    assert find_side(RULES, UNIT, SignalSide.FLAT, 60_000) is SignalSide.LONG
    assert find_side(RULES, 0, SignalSide.LONG, 0) is SignalSide.FLAT
    assert find_side(RULES, -UNIT, SignalSide.LONG, 0) is SignalSide.FLAT
    assert find_side(RULES, UNIT, SignalSide.LONG, 0) is SignalSide.LONG


@given(st.integers(-(10**40), 10**40), st.integers(-(10**20), 10**20).filter(bool))
def test_a_quotient_is_rounded_to_the_nearest(dividend, divisor):
    assert divide(dividend, divisor) == round(Fraction(dividend, divisor))


def test_a_number_has_twelve_places():
    assert format_number(-1) == "-0.000000000001"
    assert format_number(UNIT) == "1.000000000000"
    assert format_number(None) is None
