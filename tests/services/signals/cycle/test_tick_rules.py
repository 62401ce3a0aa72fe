"""The rules of a tick are one text, and what is read from it decides as they do."""

from fractions import Fraction

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.signals.consensus.consensus import UNIT, ConsensusRules
from services.signals.cycle.decide import BarVoter, TickRules
from services.signals.cycle.states import ThriftRules
from services.signals.cycle.tick_rules import encode_rules, restore_rules
from services.signals.log.merkle import hash_entry
from services.signals.settings import to_units
from services.tables.signal_rules import parse_stored_rules

VOTERS = (BarVoter("trend", "trend"), BarVoter("mine", "volume", "massive"))
SHARES = st.floats(0, 1, allow_subnormal=False)


def read(text):
    return parse_stored_rules(text.decode(), hash_entry(text).hex())


@given(st.floats(1e-12, 1e6), SHARES, SHARES, st.integers(0, 86_400_000))
def test_what_is_read_is_what_was_in_force(weight, quorum, skip_move, cooldown_ms):
    weights = {"trend": to_units(weight), "mine": UNIT}
    consensus = ConsensusRules(weights, Fraction(repr(quorum)), 1, UNIT // 3, UNIT // 7, cooldown_ms)
    rules = TickRules(consensus, VOTERS, ThriftRules("15m", skip_move))
    text = encode_rules(rules)
    restored = restore_rules(read(text))
    assert sorted(restored.bar_voters, key=lambda each: each.name, reverse=True) == list(VOTERS)
    assert (restored.consensus, restored.thrift) == (consensus, rules.thrift)
    assert encode_rules(restored) == text


def test_other_weights_are_other_bytes_and_another_text_is_not_what_was_named():
    one, two = (
        encode_rules(TickRules(ConsensusRules({"trend": weight}), VOTERS, ThriftRules("1m", 0.005)))
        for weight in (UNIT, UNIT + 1)
    )
    assert one != two
    assert read(one) is not None
    assert parse_stored_rules(two.decode(), hash_entry(one).hex()) is None
    assert parse_stored_rules(None, hash_entry(one).hex()) is None


@pytest.mark.parametrize(
    "change",
    [
        {"weights": {"trend": 0.4}},
        {"weights": {"<b>": "1"}},
        {"weights": {"trend": "1e999"}},
        {"quorum": "nan"},
        {"least_votes": -1},
        {"bar_voters": []},
        {"weights": {f"v{number}": "1" for number in range(101)}},
    ],
)
def test_a_text_that_is_no_rules_is_none(change):
    text = encode_rules(TickRules(ConsensusRules({"trend": 1}), VOTERS, ThriftRules("1m", 0.0)))
    assert read(orjson.dumps(orjson.loads(text) | change)) is None
    assert read(b"[]") is None
    assert read(b"{") is None


@pytest.mark.parametrize("change", [{"timeframe": "2m"}, {"bar_voters": {"trend": {"rule": "of tomorrow"}}}])
def test_rules_that_this_program_does_not_know_are_shown_and_not_used(change):
    text = encode_rules(TickRules(ConsensusRules({"trend": 1}), VOTERS, ThriftRules("1m", 0.0)))
    stored = read(orjson.dumps(orjson.loads(text) | change))
    assert stored.weights == {"trend": "0.000000000001"}
    assert restore_rules(stored) is None
