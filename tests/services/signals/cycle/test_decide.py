"""A tick: each symbol has a place, nothing later counts, no order matters, a voter fails for itself."""

import random
from dataclasses import replace
from fractions import Fraction

import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from services.market.entries import encode_entry
from services.market.records import AssetClass, Bar, Provenance
from services.signals.consensus.consensus import (
    UNIT,
    Abstention,
    ConsensusRules,
    SignalSide,
    find_outcome,
    weigh_votes,
)
from services.signals.cycle import decide
from services.signals.cycle.decide import (
    VOTER_RULES,
    BarVoter,
    TickRules,
    check_vote,
    decide_tick,
    vote_by_rules,
)
from services.signals.cycle.market import MarketBars
from services.signals.cycle.states import (
    LIFE_BARS,
    REFRESH_BARS,
    RETRY_MS,
    SignalStates,
    ThriftRules,
    plan_tick,
)
from services.signals.log.entries import make_tick
from services.signals.log.merkle import hash_entry
from services.signals.voters.votes import NoVote, Vote

MINUTE = 60_000
START = 1_767_571_200_000
WEIGHTS = {"trend": 40, "breakout": 25, "reversion": 20, "volume": 15}
VOTERS = tuple(BarVoter(name, name) for name in WEIGHTS)


def make_rules(skip_move=0.005, voters=VOTERS, weights=WEIGHTS, **more):
    consensus = ConsensusRules(weights, enter=UNIT // 10, leave=UNIT // 20, **more)
    return TickRules(consensus, voters, ThriftRules("1m", skip_move))


RULES = make_rules()


class Play:
    """Plays ticks over a market: what a leader does, without a store."""

    def __init__(self, symbols, rules=RULES):
        self.market = MarketBars("1m", symbols)
        self.states = SignalStates(self.market.symbols)
        self.rules, self.tick, self.closed = rules, 0, frozenset()
        self.asked = {}

    def take(self, symbol, number, close, now_ms=None, **more):
        start_ms = START + number * MINUTE
        bar = Bar(symbol, "1m", start_ms, close, close + 0.1, close - 0.1, close, volume=100.0)
        fields = {**encode_entry(bar, AssetClass.STOCKS, Provenance("one")), "final": "1", **more}
        raw = {name.encode(): str(value).encode() for name, value in fields.items()}
        self.market.take(raw, now_ms or start_ms + MINUTE)

    def play(self, at_ms):
        self.tick += 1
        self.market.advance(at_ms)
        closed = self.closed & set(self.market.symbols)
        plan = plan_tick(self.market, self.states, self.rules.thrift, closed, at_ms)
        votes, errors = vote_by_rules(self.market, plan, self.rules)
        decision = decide_tick(
            self.tick,
            at_ms,
            self.market,
            plan,
            self.rules,
            votes={**votes, **self.asked},
            states=self.states,
            correlations={},
        )
        self.states.update(decision.states)
        return decision, errors


def walk(play, symbols, count, seed=1, first=0):
    chance = random.Random(seed)
    for number in range(first, first + count):
        for symbol in symbols:
            last = play.market.find_last(symbol)[2] if play.market.find_last(symbol)[1] else 100.0
            play.take(symbol, number, round(last * (1 + chance.gauss(0, 0.004)), 2))


def end_of(number):
    return START + (number + 1) * MINUTE


def read(decision):
    return {
        symbol: orjson.loads(text)
        for symbol, text in zip(decision.places.symbols, decision.places.texts, strict=True)
    }


SYMBOLS = ("AAPL", "BTC/USD", "SPY")


def played(symbols=SYMBOLS, rules=RULES, count=40):
    play = Play(symbols, rules)
    walk(play, symbols, count)
    return play, *play.play(end_of(count - 1))


def test_a_signal_says_all_that_it_was_computed_from():
    play, decision, errors = played()
    assert errors == {}
    place = read(decision)["SPY"]
    assert place["outcome"] == "signal"
    assert list(place["votes"]) == sorted(WEIGHTS)
    assert place["bars"]["count"] == 40
    assert place["bars"]["last"] == START + 39 * MINUTE
    assert (place["tick"], place["before"], place["as_of"]) == (1, "flat", end_of(39))
    opinions = {
        name: vote["direction"]
        * (int(float(vote["strength"]) * UNIT + 0.5) * int(float(vote["confidence"]) * UNIT + 0.5) // UNIT)
        for name, vote in place["votes"].items()
    }
    found = weigh_votes(RULES.consensus, opinions)
    assert float(place["score"]) == pytest.approx(found.score / UNIT, abs=1e-9)
    assert place["side"] == find_outcome(RULES.consensus, found)
    (row,) = (row for row in decision.rows if row.symbol == "SPY")
    assert row.content.encode() == decision.places.texts[row.place]
    assert row.hash == hash_entry(row.content.encode()) == decision.places.hashes[row.place]
    assert (row.score, row.side, row.outcome) == (place["score"], place["side"], "signal")
    assert row.content.encode() == rfc8785.dumps(place)
    assert make_tick(0, 1, 5, decision.places, code="1", truth="1", consensus="6.0")
    assert play.states["SPY"].side == place["side"]


@given(
    symbols=st.sets(st.sampled_from(["A", "B", "C/D", "E.F", "G", "^H", "I-J"]), min_size=1),
    count=st.integers(0, 45),
    closed=st.sets(st.sampled_from(["A", "B", "G"])),
    seed=st.integers(0, 1000),
    steps=st.lists(st.integers(0, 12), max_size=4),
)
def test_each_tick_has_a_place_for_every_symbol_and_stores_what_does_not_follow(
    symbols, count, closed, seed, steps
):
    play = Play(symbols)
    walk(play, sorted(symbols), count, seed)
    number = count
    last = {}
    for step in [0, *steps]:
        walk(play, sorted(symbols), step, seed + 1, number)
        number += step
        play.closed = frozenset(closed) if step % 2 else frozenset()
        decision, _ = play.play(end_of(number - 1) + 5000 * play.tick)
        places = read(decision)
        assert list(places) == sorted(symbols)
        assert decision.places.hashes == [hash_entry(text) for text in decision.places.texts]
        stored = {row.symbol: orjson.loads(row.content) for row in decision.rows}
        for symbol, place in places.items():
            if symbol in stored:
                assert place == stored[symbol]
                last[symbol] = decision.tick, place["outcome"]
            else:
                tick, outcome = last[symbol]
                wanted = "closed" if outcome == "closed" else "unchanged"
                assert place == {"v": 1, "symbol": symbol, "outcome": wanted, "since": tick}
            if symbol in play.closed:
                assert place["outcome"] == "closed"
        assert sum(decision.counts.values()) == len(symbols)


@given(st.integers(0, 1000), st.integers(1, 5), st.floats(1, 1e6))
def test_nothing_that_is_known_later_changes_a_decision(seed, later, close):
    plain, more = Play(SYMBOLS), Play(SYMBOLS)
    for play in (plain, more):
        walk(play, SYMBOLS, 40, seed)
    for number in range(later):
        more.take("SPY", 40 + number, close, end_of(39))
    more.take("SPY", 20, close, end_of(39), known_at=end_of(39) + 1)
    first, _ = plain.play(end_of(39))
    second, _ = more.play(end_of(39))
    assert first.places == second.places


@given(st.permutations(SYMBOLS), st.permutations(tuple(WEIGHTS)), st.integers(0, 100))
def test_no_order_of_symbols_bars_or_voters_changes_a_tick(symbols, voters, seed):
    rules = make_rules(voters=tuple(BarVoter(name, name) for name in voters))
    first, second = Play(SYMBOLS), Play(symbols, rules)
    walk(first, SYMBOLS, 40, seed)
    for symbol in symbols:
        window = first.market.see(symbol)
        order = list(range(40))
        random.Random(seed).shuffle(order)
        for number in order:
            second.take(symbol, number, window.close[number].item())
    assert first.play(end_of(39))[0].places == second.play(end_of(39))[0].places


def test_what_did_not_move_is_unchanged_until_its_votes_are_old():
    play, _, _ = played()
    close = play.market.find_last("SPY")[2]
    for number in range(40, 40 + REFRESH_BARS - 1):
        for symbol in SYMBOLS:
            play.take(symbol, number, play.market.find_last(symbol)[2])
        decision, _ = play.play(end_of(number))
        assert decision.rows == ()
        assert {place["outcome"] for place in read(decision).values()} == {"unchanged"}
    play.take("SPY", 49, close * 1.006)
    decision, _ = play.play(end_of(49))
    assert [row.symbol for row in decision.rows if row.symbol == "SPY"] == ["SPY"]
    refreshed = set()
    for number in range(50, 41 + 2 * REFRESH_BARS):
        for symbol in SYMBOLS:
            play.take(symbol, number, play.market.find_last(symbol)[2])
        refreshed |= {row.symbol for row in play.play(end_of(number))[0].rows}
    assert refreshed >= {"AAPL", "BTC/USD"}


def test_with_a_skip_move_of_0_each_new_bar_is_evaluated_and_nothing_else():
    play, _, _ = played(rules=make_rules(skip_move=0.0))
    play.take("SPY", 40, play.market.find_last("SPY")[2])
    assert [row.symbol for row in play.play(end_of(40))[0].rows] == ["SPY"]
    assert play.play(end_of(40) + 5000)[0].rows == ()


def test_the_most_volatile_symbols_come_first():
    play = Play(SYMBOLS)
    for number in range(40):
        play.take("AAPL", number, 100.0)
        play.take("BTC/USD", number, 100.0 + 5 * (number % 2))
        play.take("SPY", number, 100.0 + number % 2)
    plan = plan_tick(play.market, play.states, RULES.thrift, (), end_of(39))
    assert list(plan.due) == ["BTC/USD", "SPY", "AAPL"]


def test_a_closed_market_is_said_once_and_its_side_outlasts_the_night():
    play, decision, _ = played()
    side = read(decision)["SPY"]["side"]
    play.closed = frozenset(["SPY"])
    decision, _ = play.play(end_of(39) + 5000)
    assert [(row.symbol, row.outcome, row.side) for row in decision.rows] == [("SPY", "closed", None)]
    assert play.play(end_of(39) + 10_000)[0].rows == ()
    play.closed = frozenset()
    play.take("SPY", 60, play.market.find_last("SPY")[2])
    for symbol in ("AAPL", "BTC/USD"):
        play.take(symbol, 60, play.market.find_last(symbol)[2])
    place = read(play.play(end_of(60))[0])["SPY"]
    assert (place["outcome"], place["before"]) == ("signal", side)


def test_without_bars_there_is_no_quorum_which_is_stored_once():
    play = Play(["SPY"])
    decision, _ = play.play(START)
    (row,) = decision.rows
    place = orjson.loads(row.content)
    assert (row.outcome, place["why"], row.side, row.score) == ("abstained", "quorum", None, None)
    assert place["votes"]["trend"] == {"abstained": "too_few_bars"}
    assert "bars" not in place
    assert "price" not in place
    assert (decision.with_quorum, decision.without_quorum) == (0, 1)
    for later in (5000, RETRY_MS, 2 * RETRY_MS):
        assert play.play(START + later)[0].rows == ()
    walk(play, ["SPY"], 40)
    assert [row.outcome for row in play.play(end_of(39))[0].rows] == ["signal"]


def test_votes_on_old_bars_expire():
    play, _, _ = played()
    decision, _ = play.play(end_of(39) + LIFE_BARS * MINUTE)
    assert {row.outcome for row in decision.rows} == {"abstained"}
    votes = read(decision)["SPY"]["votes"]
    assert votes["trend"] == {"abstained": "expired"}
    assert play.play(end_of(39) + LIFE_BARS * MINUTE + 5000)[0].rows == ()


def test_a_source_that_is_away_costs_its_voter_alone():
    """Its votes expire by its own last bar, while the bars of others come on."""
    voters = (*VOTERS[:2], BarVoter("held", "trend", "two"))
    play = Play(("SPY",), make_rules(voters=voters, weights={"trend": 40, "breakout": 25, "held": 20}))
    play.market = MarketBars("1m", ("SPY",), {"two"}, {("SPY", "two")})
    walk(play, ("SPY",), 40)
    for number in range(40):
        bar = Bar("SPY", "1m", START + number * MINUTE, 50.0, 51.0, 49.0, 50.0 + number / 9, volume=1.0)
        fields = {**encode_entry(bar, AssetClass.STOCKS, Provenance("two")), "sym": "SPY@two", "final": "1"}
        play.market.take_separate({k.encode(): v.encode() for k, v in fields.items()}, end_of(number))
    votes = read(play.play(end_of(39))[0])["SPY"]["votes"]
    assert votes["held"]["direction"] == 1
    assert votes["held"]["bars"]["separate"] is True
    walk(play, ("SPY",), LIFE_BARS, seed=2, first=40)
    play.states = SignalStates(play.market.symbols)  # all are evaluated
    votes = read(play.play(end_of(39 + LIFE_BARS))[0])["SPY"]["votes"]
    assert votes["held"]["abstained"] == "expired"
    assert {"abstained" in votes[name] for name in ("trend", "breakout")} == {False}


def test_a_symbol_is_evaluated_when_the_votes_on_one_source_expire_though_others_go_on():
    voters = (*VOTERS[:2], BarVoter("held", "trend", "two"))
    play = Play(("SPY",), make_rules(voters=voters, weights={"trend": 40, "breakout": 25, "held": 20}))
    play.market = MarketBars("1m", ("SPY",), {"two"})
    for number in range(30):
        play.take("SPY", number, 100.0 + number, source="two")
    for number in range(30, 30 + LIFE_BARS):
        play.take("SPY", number, 130.0)
        if number == 40:
            assert read(play.play(end_of(40))[0])["SPY"]["votes"]["held"]["direction"] == 1
    last = end_of(29 + LIFE_BARS)
    assert play.play(last - 1)[0].rows == (), "it has not moved"
    votes = read(play.play(last)[0])["SPY"]["votes"]
    assert votes["held"] == {"abstained": "expired", "bars": votes["held"]["bars"]}
    assert "direction" in votes["trend"]
    assert play.play(last + 5000)[0].rows == ()


def test_a_voter_that_fails_abstains_alone(monkeypatch):
    def fail(_window, _expires_ms):
        raise ZeroDivisionError

    monkeypatch.setitem(VOTER_RULES, "trend", fail)
    _, decision, errors = played()
    assert errors == {"trend": "ZeroDivisionError"}
    place = read(decision)["SPY"]
    assert place["votes"]["trend"] == {"abstained": "failed"}
    assert place["participation"] == "0.600000000000"
    assert place["outcome"] == "signal"


def test_a_symbol_that_can_not_be_decided_has_a_place_that_says_so(monkeypatch):
    def fail(_rules, _votes, _correlations):
        raise OverflowError

    monkeypatch.setattr(decide, "weigh_votes", fail)
    play, decision, _ = played()
    assert {row.outcome for row in decision.rows} == {"failed"}
    assert read(decision)["SPY"]["why"] == "OverflowError"
    assert decision.errors == {"": "OverflowError"}
    assert play.play(end_of(39) + 5000)[0].rows == ()
    monkeypatch.undo()
    assert {row.outcome for row in play.play(end_of(39) + RETRY_MS)[0].rows} == {"signal"}


VOTE = Vote(1, UNIT, UNIT, 10, ("why",))


@pytest.mark.parametrize(
    ("vote", "found"),
    [
        (VOTE, VOTE),
        (Abstention.LATE, Abstention.LATE),
        (NoVote.NO_VOLUME, NoVote.NO_VOLUME),
        (None, Abstention.FAILED),
        ("up", Abstention.FAILED),
        (replace(VOTE, direction=2), Abstention.OUT_OF_RANGE),
        (replace(VOTE, strength=UNIT + 1), Abstention.OUT_OF_RANGE),
        (replace(VOTE, confidence=-1), Abstention.OUT_OF_RANGE),
        (replace(VOTE, strength=float("nan")), Abstention.NOT_A_NUMBER),
        (replace(VOTE, direction=True), Abstention.NOT_A_NUMBER),
        (replace(VOTE, expires_ms=5), Abstention.EXPIRED),
        (replace(VOTE, reasons="why"), Abstention.FAILED),
        (replace(VOTE, reasons=(1,)), Abstention.FAILED),
        (replace(VOTE, reasons=("a\nb\ud800",)), replace(VOTE, reasons=("a b ",))),
        (replace(VOTE, reasons=("x" * 900,) * 9), replace(VOTE, reasons=("x" * 200,) * 5)),
    ],
)
def test_a_vote_that_does_not_count_says_why(vote, found):
    assert check_vote(vote, 5) == found


def test_votes_from_outside_are_weighed_with_the_others():
    rules = make_rules(weights={**WEIGHTS, "grok": 400}, quorum=Fraction(1, 2))
    play = Play(SYMBOLS, rules)
    play.asked = {
        ("SPY", "grok"): Vote(-1, UNIT, UNIT, end_of(99), ("down",)),
        ("AAPL", "grok"): Abstention.LATE,
    }
    walk(play, SYMBOLS, 40)
    decision, _ = play.play(end_of(39))
    places = read(decision)
    assert places["SPY"]["side"] == SignalSide.SHORT
    assert places["SPY"]["votes"]["grok"]["reasons"] == ["down"]
    assert places["AAPL"]["outcome"] == "abstained"
    assert places["AAPL"]["votes"]["grok"] == {"abstained": "late"}
    assert places["BTC/USD"]["votes"]["grok"] == {"abstained": "no_vote"}
