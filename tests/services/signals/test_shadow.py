"""A revision in the shadow decides the same ticks, changes none of them, and says how it differs."""

import orjson
import pytest

from services.market.entries import encode_entry
from services.market.records import AssetClass, Bar, Provenance
from services.signals.consensus.consensus import UNIT, Abstention, ConsensusRules, SignalSide
from services.signals.cycle.decide import BarVoter, TickRules, decide_tick, vote_by_rules
from services.signals.cycle.market import MarketBars
from services.signals.cycle.states import SignalStates, ThriftRules, TickPlan
from services.signals.settings import SignalsSettings
from services.signals.shadow import ShadowRules, ShadowRun, make_shadow
from services.signals.voters.votes import NoVote, Vote
from services.tables.signal_shadow import MAX_LISTED, ShadowReport, parse_shadow

MINUTE = 60_000
START = 1_767_571_200_000
AT = START + 40 * MINUTE
FOREVER = AT + 10**9
THRIFT = ThriftRules("1m", 0.005)
UP = Vote(1, UNIT, UNIT, FOREVER, ("up",))
DOWN = Vote(-1, UNIT, UNIT, FOREVER, ("down",))


def make_rules(weights, **more):
    return ConsensusRules(weights, **{"least_votes": 1, "cooldown_ms": 0, **more})


class Station:
    """Plays ticks of a market whose voters say what a test has them say, with a shadow beside."""

    def __init__(self, shadow, *symbols, weights=None, own=()):
        self.market = MarketBars("1m", symbols)
        for number in range(40):
            for symbol in symbols:
                bar = Bar(symbol, "1m", START + number * MINUTE, 100.0, 100.1, 99.9, 100.0, volume=1.0)
                fields = {**encode_entry(bar, AssetClass.STOCKS, Provenance("one")), "final": "1"}
                raw = {name.encode(): str(value).encode() for name, value in fields.items()}
                self.market.take(raw, AT)
        self.rules = TickRules(make_rules(weights or {"a": 1, "b": 1}), (), THRIFT)
        self.states, self.tick = SignalStates(self.market.symbols), 0
        self.shadow = ShadowRun(ShadowRules("trial", shadow, own, THRIFT), AT)
        self.play(symbols, {})  # the shadow begins with the sides in force: all are flat
        self.tick = 0

    def play(self, due, votes, closing=()):
        """Play a tick in which `due` are evaluated; return what it decided."""
        self.tick += 1
        plan = TickPlan(dict.fromkeys(due, AT + self.tick), frozenset(closing), {})
        decision = decide_tick(
            self.tick,
            AT + 5000 * self.tick,
            self.market,
            plan,
            self.rules,
            votes=votes,
            states=self.states,
            correlations={},
        )
        self.states.update(decision.states)
        self.shadow.follow(decision, self.market, plan, votes)
        return decision


def test_the_same_rules_decide_the_same():
    station = Station(make_rules({"a": 1, "b": 1}), "AAPL", "SPY")
    for vote in (UP, DOWN, Abstention.LATE, NoVote.TOO_FEW_BARS, "junk"):
        station.play(("AAPL", "SPY"), {("AAPL", "a"): UP, ("AAPL", "b"): vote, ("SPY", "a"): vote})
    shadow = station.shadow
    assert (shadow.ticks, shadow.evaluated, shadow.same) == (5, 10, 10)
    assert (shadow.counts, shadow.now, list(shadow.last)) == ({}, {}, [])


def test_other_weights_differ_where_they_must_and_it_is_said_of_which_symbol_and_by_how_much():
    station = Station(make_rules({"a": 1, "b": 9}), "AAPL", "SPY")
    votes = {("AAPL", "a"): UP, ("AAPL", "b"): DOWN, ("SPY", "a"): UP, ("SPY", "b"): UP}
    decision = station.play(("AAPL", "SPY"), votes)
    assert decision.states["AAPL"].side is SignalSide.FLAT
    (found,) = station.shadow.last
    assert (found.tick, found.at, found.symbol) == (1, AT + 5000, "AAPL")
    assert (found.live, found.shadow) == ("flat", "short")
    assert (found.live_score, found.shadow_score) == ("0.000000000000", "-0.800000000000")
    assert station.shadow.counts == {("flat", "short"): 1}
    assert station.shadow.now == {"AAPL": found}
    assert station.shadow.same == 1
    station.play(("AAPL",), votes)
    assert [each.tick for each in station.shadow.last] == [2, 1], "the newest first"


def test_what_a_shadow_decides_changes_no_tick():
    votes = {("SPY", "a"): UP, ("SPY", "b"): DOWN}
    places = []
    for weights in ({"a": 1, "b": 9}, {"a": 9, "b": 1}):
        station = Station(make_rules(weights), "SPY")
        places.append([station.play(("SPY",), votes).places for _ in range(3)])
        assert votes == {("SPY", "a"): UP, ("SPY", "b"): DOWN}
    assert places[0] == places[1]


def test_a_side_is_kept_by_its_own_thresholds_and_a_quorum_of_its_own():
    station = Station(make_rules({"a": 1, "b": 1}, enter=9 * UNIT // 10, least_votes=2), "SPY")
    half = Vote(1, UNIT // 2, UNIT, FOREVER, ())
    station.play(("SPY",), {("SPY", "a"): UP, ("SPY", "b"): UP})
    station.play(("SPY",), {("SPY", "a"): half, ("SPY", "b"): half})  # between leave and enter: it stays
    assert station.shadow.same == 2
    station.play(("SPY",), {("SPY", "a"): half})
    assert station.shadow.counts == {("long", "abstained"): 1}


def test_it_begins_with_the_sides_in_force():
    station = Station(make_rules({"a": 1, "b": 1}), "SPY")
    station.play(("SPY",), {("SPY", "a"): UP, ("SPY", "b"): UP})
    station.shadow = ShadowRun(station.shadow.rules, AT)
    weak = Vote(1, UNIT // 5, UNIT, FOREVER, ())
    for _ in range(2):
        station.play(("SPY",), {("SPY", "a"): weak, ("SPY", "b"): weak})
    assert station.shadow.evaluated == 1, "the first time it takes over what is in force"
    assert station.shadow.counts == {}, "long is kept above leave; from flat it would be no side"


def test_a_voter_of_its_own_votes_in_the_shadow_alone_and_before_one_of_that_name():
    own = (BarVoter("a", "trend"),)
    station = Station(make_rules({"a": 1}), "SPY", weights={"a": 1}, own=own)
    decision = station.play(("SPY",), {("SPY", "a"): UP})
    assert decision.states["SPY"].side is SignalSide.LONG
    plan = TickPlan({"SPY": AT}, frozenset(), {})
    votes, _ = vote_by_rules(station.market, plan, TickRules(make_rules({"a": 1}), own, THRIFT))
    assert votes["SPY", "a"].opinion == 0, "the market does not move"
    assert station.shadow.counts == {("long", "flat"): 1}


def test_a_difference_ends_with_agreement_with_the_market_and_with_the_symbol():
    station = Station(make_rules({"a": 1, "b": 9}), "AAPL", "IBM", "SPY")
    votes = {
        (symbol, name): vote for symbol in station.market.symbols for name, vote in (("a", UP), ("b", DOWN))
    }
    station.play(station.market.symbols, votes)
    assert set(station.shadow.now) == {"AAPL", "IBM", "SPY"}
    station.play(("AAPL",), {("AAPL", "a"): DOWN, ("AAPL", "b"): DOWN}, closing=("IBM",))
    assert set(station.shadow.now) == {"SPY"}
    station.market = MarketBars("1m", ("AAPL",))
    station.shadow.follow(
        decide_tick(
            3,
            AT,
            station.market,
            TickPlan({}, ("AAPL",), {}),
            station.rules,
            votes={},
            states=SignalStates(("AAPL",)),
            correlations={},
        ),
        station.market,
        TickPlan({}, frozenset(), {}),
        {},
    )
    assert station.shadow.now == {}


def test_a_report_is_bounded_and_read_again_as_it_was_written():
    symbols = tuple(f"S{number:03}" for number in range(120))
    station = Station(make_rules({"a": 1, "b": 9}), *symbols)
    votes = {(symbol, name): vote for symbol in symbols for name, vote in (("a", UP), ("b", DOWN))}
    for _ in range(3):
        station.play(symbols, votes)
    report = station.shadow.report(AT + 9)
    assert parse_shadow(report.encode()) == report
    assert (report.now_count, len(report.now), len(report.last)) == (120, MAX_LISTED, MAX_LISTED)
    assert (report.ticks, report.evaluated, report.same) == (3, 360, 0)
    assert report.counts == {"flat short": 360}
    assert [each.tick for each in report.last] == [3] * MAX_LISTED
    assert len(report.encode()) < 30_000


@pytest.mark.parametrize(
    "change",
    [
        {"ticks": -1},
        {"ticks": "1"},
        {"name": ""},
        {"name": "x" * 41},
        {"counts": {"a": -1}},
        {"last": [{"symbol": "<b>"}]},
        {"now": [{}] * 51},
        {"at": None},
    ],
)
def test_what_is_no_report_is_none(change):
    whole = ShadowReport(
        name="x", began=1, at=2, ticks=0, evaluated=0, same=0, counts={}, now_count=0, now=[], last=[]
    )
    assert parse_shadow(whole.encode()) == whole
    assert parse_shadow(orjson.dumps(whole.model_dump() | change)) is None


@pytest.mark.parametrize("raw", [None, b"", b"[]", b"{", b'"' + b"x" * 70_000 + b'"', b"\xff"])
def test_whatever_is_stored_does_no_harm(raw):
    assert parse_shadow(raw) is None


def read_settings(shadow, **more):
    voters = [
        {"voter": "trend", "rule": "trend", "weight": 0.4},
        {"voter": "model", "kind": "chat", "url": "https://m.example/v1", "model": "m", "weight": 0.6},
    ]
    settings = {"shadow": shadow, "least_votes": 1, **more}
    return SignalsSettings.model_validate({"endpoints": voters, "settings": settings})


def test_the_truth_says_what_is_in_the_shadow_and_the_rest_is_as_in_force():
    voters = [
        {"voter": "model", "weight": 0.5},
        {"voter": "calm", "rule": "reversion", "source": "massive", "weight": 0.5},
    ]
    settings = read_settings({"name": "7.0", "voters": voters, "enter": 0.5}, leave=0.2, quorum=0.6)
    rules = make_shadow(settings)
    assert (rules.name, rules.own) == ("7.0", (BarVoter("calm", "reversion", "massive"),))
    assert dict(rules.consensus.weights) == {"model": UNIT // 2, "calm": UNIT // 2}
    assert (rules.consensus.enter, rules.consensus.leave) == (UNIT // 2, UNIT // 5)
    assert rules.consensus.quorum == settings.rules.quorum
    assert settings.sources == {"massive"}
    assert make_shadow(read_settings(None)) is None


@pytest.mark.parametrize(
    ("shadow", "why"),
    [
        ({"name": "x", "voters": [{"voter": "other", "weight": 1}]}, r"voters\[0\].voter: no voter in force"),
        ({"name": "x", "voters": [{"voter": "trend", "weight": 1}] * 2}, r"voters\[1\].voter: another"),
        ({"name": "x", "voters": [{"voter": "trend", "weight": 0}]}, "weight"),
        ({"name": "x", "voters": []}, "voters"),
        ({"name": "x y", "voters": [{"voter": "trend", "weight": 1}]}, "name"),
        ({"name": "x", "voters": [{"voter": "trend", "weight": 1, "source": "s"}]}, "source"),
        ({"name": "x", "voters": [{"voter": "trend", "weight": 1}], "leave": 0.9}, "shadow.leave"),
        ({"name": "x", "voters": [{"voter": "trend", "weight": 1}], "least_votes": 2}, "least_votes"),
    ],
)
def test_a_shadow_that_can_not_be_is_a_mistake(shadow, why):
    with pytest.raises(ValueError, match=why):
        read_settings(shadow)
