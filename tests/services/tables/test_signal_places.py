"""Places are read with bounds: their text was written by another service, and the reasons by anyone."""

import orjson
import pytest

from services.signals.cycle.decide import MAX_REASONS as DECIDED_REASONS
from services.signals.log.entries import encode_entry
from services.signals.log.merkle import hash_entry
from services.tables.signal_places import MAX_REASONS, MAX_VOTES, MAX_WORDS, parse_place
from services.tables.signals import MAX_PLACE_BYTES, find_signal_id
from support.signal_rows import SCORE, VOTES, make_content


def encode(**more):
    return encode_entry(make_content("SPY", 1, **more)).decode()


def test_the_id_is_the_hash_of_a_leaf_of_the_log():
    text = encode().encode()
    assert find_signal_id(text) == hash_entry(text).hex()


def test_a_place_has_what_was_decided_of_a_symbol():
    place = parse_place(encode())
    assert (place.symbol, place.side, place.score, place.voted, len(place.votes)) == (
        "SPY",
        "long",
        SCORE,
        3,
        4,
    )
    assert place.reason == "trend: the mean of 10 closes is above that of 30"
    assert (place.bars.count, place.bars.source) == (30, "massive")


def test_the_reason_of_a_short_signal_is_that_of_the_vote_that_leans_most_to_it():
    assert parse_place(encode(side="short", score=f"-{SCORE}")).reason.startswith("reversion: ")
    assert parse_place(encode(votes={}, side="flat")).reason == ""
    assert parse_place(encode(side=None, outcome="abstained", why="quorum")).reason == "quorum"


def test_each_place_has_a_sentence_by_rule():
    trend = "trend: the mean of 10 closes is above that of 30"
    assert parse_place(encode()).sentence == (
        f"SPY is now long: 3 of 4 voters voted, with a score of {SCORE}; what weighs most is {trend}."
    )
    assert parse_place(encode(before="long")).sentence.startswith("SPY stays long: ")
    none = encode(side=None, outcome="abstained", why="quorum")
    assert parse_place(none).sentence == "SPY has no signal: quorum; without a vote: xai_grok (late)."
    for outcome, said in (
        ("closed", "The market of SPY is closed since tick 7."),
        ("unchanged", "SPY is unchanged since tick 7."),
        ("failed", "SPY could not be decided: no reason is named."),
    ):
        text = encode_entry({"symbol": "SPY", "outcome": outcome, "since": 7}).decode()
        assert parse_place(text).sentence == said
    assert parse_place(encode(votes={}, side="flat")).sentence.endswith(f"a score of {SCORE}.")


@pytest.mark.parametrize("reason", ["\u202e\u2066\u200b", "\x1b[2J\x07", "\0", "a\u2028b\nc"])
def test_reasons_have_only_what_can_be_printed(reason):
    vote = {**VOTES["trend"], "reasons": [reason]}
    place = parse_place(orjson.dumps(make_content("SPY", 1, votes={"trend": vote})).decode())
    assert place.votes["trend"].reasons[0].isprintable()
    assert parse_place(encode(outcome="failed", side=None, why=reason)).reason.isprintable()


def test_reasons_are_cut_and_their_number_is_bounded():
    assert DECIDED_REASONS <= MAX_REASONS
    vote = {**VOTES["trend"], "reasons": ["r" * 10_000] * 3 + ["x"] * 50}
    found = parse_place(encode(votes={"trend": vote})).votes["trend"].reasons
    assert (len(found), len(found[0])) == (MAX_REASONS, MAX_WORDS)


@pytest.mark.parametrize("price", ["0", "581.2", "8.12e-06", "1e+16", "123456789012345678"])
def test_a_price_is_the_shortest_text_of_a_number(price):
    assert parse_place(encode(price=price)).price == price


@pytest.mark.parametrize(
    "more",
    [
        {"score": "=1+1"}, {"score": "NaN"}, {"score": 1}, {"score": "1" * 50}, {"price": "-1"},
        {"price": "1e9999"}, {"symbol": "<b>"}, {"symbol": "SPY\n"}, {"side": "up"}, {"outcome": "won"},
        {"replay": 1}, {"votes": []},
        {"votes": {"<b>": {}}}, {"votes": {"a": {"direction": 2}}}, {"votes": {"a": {"direction": True}}},
        {"votes": {"a": {"reasons": "x"}}}, {"votes": {"a": {"reasons": [1]}}}, {"bars": {"digest": "x"}},
        {"votes": {f"v{n}": {} for n in range(MAX_VOTES + 1)}}, {"as_of": 2**60},
    ],
)  # fmt: skip
def test_a_place_with_a_value_that_is_none_of_ours_is_not_read(more):
    assert parse_place(orjson.dumps({**make_content("SPY", 1), **more}).decode()) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "5", "[" * 50_000, '"' + "x" * MAX_PLACE_BYTES + '"']
)
def test_what_is_no_place_is_not_read(text):
    assert parse_place(text) is None
