"""What a new leader knows of a symbol from its stored places is what the leader before knew."""

import random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.entries import encode_entry
from services.market.records import AssetClass, Bar, Provenance
from services.signals.consensus.consensus import UNIT, ConsensusRules
from services.signals.cycle.decide import BarVoter, TickRules, decide_tick, vote_by_rules
from services.signals.cycle.market import MarketBars
from services.signals.cycle.states import (
    LIFE_BARS,
    REFRESH_BARS,
    SignalStates,
    ThriftRules,
    TickPlan,
    plan_tick,
    restore_state,
)
from services.signals.log.entries import PlaceOutcome

MINUTE = 60_000
START = 1_767_571_200_000
SYMBOLS = ("AAPL", "SPY")
WEIGHTS = {"trend": 40, "reversion": 20, "volume": 15}
RULES = TickRules(
    ConsensusRules(WEIGHTS, enter=UNIT // 20, leave=UNIT // 50),
    tuple(BarVoter(name, name) for name in WEIGHTS),
    ThriftRules("1m", 0.005),
)


class Play:
    """Plays ticks, and keeps the rows that a store would have."""

    def __init__(self, seed):
        self.market, self.states = MarketBars("1m", SYMBOLS), SignalStates(SYMBOLS)
        self.chance, self.number, self.tick = random.Random(seed), 0, 0
        self.closes = dict.fromkeys(SYMBOLS, 100.0)
        self.last, self.decided = {}, {}

    def take(self, minutes):
        for _ in range(minutes):
            for symbol in SYMBOLS:
                close = self.closes[symbol] = round(self.closes[symbol] * self.chance.uniform(0.99, 1.01), 2)
                start_ms = START + self.number * MINUTE
                bar = Bar(symbol, "1m", start_ms, close, close, close, close, volume=1.0)
                fields = {**encode_entry(bar, AssetClass.STOCKS, Provenance("one")), "final": "1"}
                raw = {name.encode(): str(value).encode() for name, value in fields.items()}
                self.market.take(raw, start_ms + MINUTE)
            self.number += 1

    def play(self, closed=(), late_ms=0):
        self.tick += 1
        at_ms = START + self.number * MINUTE + late_ms
        plan = plan_tick(self.market, self.states, RULES.thrift, closed, at_ms)
        votes, _ = vote_by_rules(self.market, plan, RULES)
        decision = decide_tick(
            self.tick, at_ms, self.market, plan, RULES, votes=votes, states=self.states, correlations={}
        )
        self.states.update(decision.states)
        for row in decision.rows:
            self.last[row.symbol] = row
            if row.outcome not in ("closed", "unchanged"):
                self.decided[row.symbol] = row
        return decision


@given(
    st.integers(0, 1000),
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from([(), SYMBOLS[:1], SYMBOLS])), min_size=1, max_size=5
    ),
)
def test_what_is_read_back_is_what_was_known(seed, steps):
    play = Play(seed)
    for minutes, closed in steps:
        play.take(minutes)
        decision = play.play(closed)
        for row in decision.rows:
            restored = restore_state(play.last[row.symbol], play.decided.get(row.symbol))
            known = play.states[row.symbol]
            names = ("outcome", "since", "following", "why", "side", "side_ms")
            assert [getattr(restored, name) for name in names] == [getattr(known, name) for name in names]
            if row.outcome == "signal":
                assert restored == known
    states = {symbol: restore_state(row, play.decided.get(symbol)) for symbol, row in play.last.items()}
    # the next leader says the same of every symbol in the next tick, or stores it
    play.states = SignalStates(SYMBOLS, states)
    decision = play.play(steps[-1][1])
    stored = {row.symbol for row in decision.rows}
    for symbol, text in zip(SYMBOLS, decision.places.texts, strict=True):
        place = orjson.loads(text)
        assert symbol in stored or place["since"] == play.last[symbol].tick


def test_states_of_other_symbols_than_the_market_are_a_mistake():
    with pytest.raises(ValueError, match="other symbols"):
        plan_tick(MarketBars("1m", SYMBOLS), SignalStates(("SPY",)), RULES.thrift, (), START)


def test_a_vote_that_came_late_has_its_symbol_evaluated_again_unless_its_market_is_closed():
    play = Play(1)
    play.take(40)
    play.play()
    at_ms = START + 40 * MINUTE + 5000
    plan = plan_tick(play.market, play.states, RULES.thrift, ["AAPL"], at_ms, again=["AAPL", "SPY", "ZZZ"])
    assert list(plan.due) == ["SPY"]
    assert set(plan.closing) == {"AAPL"}


def test_not_all_symbols_are_evaluated_in_one_tick_when_their_votes_are_old():
    symbols = tuple(f"S{number:03}" for number in range(300))
    states = SignalStates(symbols)
    waits = states.refresh_bars.tolist()
    assert min(waits) >= REFRESH_BARS
    assert max(waits) < 2 * REFRESH_BARS
    most = max(sum(int(12 * wait) == tick for wait in waits) for tick in range(12 * 2 * REFRESH_BARS))
    assert most < 12, "in a tick of five seconds, of three hundred symbols"


def test_a_symbol_whose_bars_stop_is_evaluated_once_when_its_votes_expire():
    play = Play(3)
    play.take(40)
    assert {row.outcome for row in play.play().rows} == {"signal"}
    assert {row.outcome for row in play.play(late_ms=LIFE_BARS * MINUTE - 1).rows} <= {"signal"}
    assert {row.outcome for row in play.play(late_ms=LIFE_BARS * MINUTE).rows} == {"abstained"}
    assert play.play(late_ms=LIFE_BARS * MINUTE + 5000).rows == ()
    assert play.states["SPY"].outcome is PlaceOutcome.ABSTAINED


def test_a_plan_names_what_it_is_told():
    assert TickPlan({}, (), {}).closed == frozenset()
