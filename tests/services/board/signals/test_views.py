"""What is said of a signal, and the sum of its votes."""

from fractions import Fraction

import pytest

from services.board.fleet.words import NONE
from services.board.signals.views import (
    LISTED_COLUMNS,
    SIGNAL_COLUMNS,
    WitnessState,
    describe_published,
    list_cells,
    list_weights,
    make_view,
    weigh_place,
)
from services.board.signals.words import format_percent_of, name_file, trim_number
from services.signals.consensus.consensus import format_number
from services.signals.voters.votes import Vote
from services.tables.signal_places import parse_place
from services.tables.signals import (
    FoundSignal,
    PublishedSignal,
    Witnessed,
    make_signal_fields,
    parse_signal_fields,
)
from support.signal_rows import CONFLICT, SCORE, VOTES, make_content, make_rows, make_tick

WEIGHTS = {name: Fraction(one["weight"]) for name, one in VOTES.items()}
UNWEIGHTED = {
    name: {key: each for key, each in one.items() if key != "weight"} for name, one in VOTES.items()
}


def make_found(**more) -> FoundSignal:
    content = make_content("SPY", 1, **more)
    (row,) = make_rows(make_tick(1, content))
    return FoundSignal(row.ident, 0, 1, "SPY", 0, row.at, *row[4:11], row.content)


def weigh(weights, **more):
    return weigh_place(parse_place(make_found(**more).content), weights)


@pytest.mark.parametrize(("votes", "weights_of"), [(VOTES, "place"), (UNWEIGHTED, "truth")])
def test_the_sum_is_that_of_the_service(votes, weights_of):
    found = weigh(WEIGHTS, votes=votes)
    assert (found.score, found.conflict, found.adds_up, found.weights_of) == (
        SCORE,
        CONFLICT,
        True,
        weights_of,
    )
    assert [one.voter for one in found.votes] == ["trend", "breakout", "reversion", "xai_grok"]
    adds = [Fraction(one.adds) for one in found.votes if one.adds]
    assert abs(sum(adds) - Fraction(SCORE)) < Fraction(1, 10**11)


def test_a_sum_that_is_another_one_is_said():
    assert weigh(WEIGHTS, score="0.415294117648").adds_up is False
    assert weigh({**WEIGHTS, "trend": Fraction(9)}, votes=UNWEIGHTED).adds_up is False


@pytest.mark.parametrize("weights", [{}, {"trend": Fraction(1)}])
def test_without_the_weight_of_each_who_voted_nothing_is_added_up(weights):
    found = weigh(weights, votes=UNWEIGHTED)
    assert (found.score, found.adds_up) == (None, None)
    assert {one.voter: one.opinion for one in found.votes}["reversion"] == "-0.300000000000"


def test_who_did_not_vote_needs_no_weight():
    assert weigh(
        {name: each for name, each in WEIGHTS.items() if name != "xai_grok"}, votes=UNWEIGHTED
    ).adds_up
    assert weigh({}, votes={}).adds_up is None


def test_an_opinion_is_rounded_as_the_voter_does():
    vote = Vote(-1, 333_333_333_333, 777_777_777_777, 5, ())
    said = {
        "direction": -1,
        "strength": format_number(vote.strength),
        "confidence": format_number(vote.confidence),
    }
    (one,) = weigh({"a": Fraction(1)}, votes={"a": said}).votes
    assert one.opinion == format_number(vote.opinion)


def test_weights_of_a_truth_that_are_none_are_left_out():
    entries = [
        {"voter": "a", "weight": 0.4}, {"voter": "b", "weight": "1"}, {"voter": "c", "weight": -1},
        {"voter": 5, "weight": 1}, {"voter": "d", "weight": float("nan")}, {"voter": "e", "weight": True},
        {"voter": "f", "weight": 1e300}, "g", None,
    ]  # fmt: skip
    assert list_weights(entries) == {"a": Fraction(2, 5)}


def test_only_a_cosignature_proves_and_nothing_proves_what_was_changed():
    found, witnessed = make_found(), Witnessed(0, 5, "witness.example/one", 7)
    assert make_view(found, None).state is WitnessState.WAITING
    assert make_view(found, None).since == found.at
    assert make_view(found, witnessed).state is WitnessState.PROVEN
    assert make_view(found, witnessed).since == 7
    changed = found._replace(content=found.content.replace("581.2", "581.3"))
    assert make_view(changed, witnessed).state is WitnessState.CHANGED


def test_list_and_topic_say_the_same_of_a_signal():
    (row,) = make_rows(make_tick(1, make_content("SPY", 1)))
    entry = parse_signal_fields(
        {name.encode(): each.encode() for name, each in make_signal_fields(row, "stocks").items()}
    )
    listed = dict(zip(LISTED_COLUMNS, list_cells(make_view(make_found(), None)), strict=True))
    assert describe_published(entry) == {name: listed[name] for name in SIGNAL_COLUMNS}


def test_a_signal_that_can_not_be_read_has_what_its_row_says():
    found = make_found()._replace(content="{}")
    cells = dict(zip(LISTED_COLUMNS, list_cells(make_view(found, None)), strict=True))
    assert (cells["side"], cells["voters"], cells["why"]) == ("long", 0, "its content can't be read")
    one = PublishedSignal("a", 1, 5, "SPY", "signal", "long", *(None,) * 4, False, "stocks", "[]")
    assert describe_published(one)["why"] == "its content can't be read"


def test_numbers_are_short_on_pages():
    shares = ("0.415294117647", "0.000000000000", None)
    assert [format_percent_of(each) for each in shares] == ["42 %", "0 %", NONE]
    numbers = ("0.900000000000", "1.000000000000", "-0.300000000000", "10", None)
    assert [trim_number(each) for each in numbers] == ["0.9", "1", "-0.3", "10", NONE]
    assert name_file("EUR/USD") == "EUR-USD"
