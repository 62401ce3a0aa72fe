"""A place is decided once more to the same bytes, or the input is named that is gone or was corrected."""

import random
from dataclasses import replace

import orjson
import pytest

from services.market.entries import encode_entry
from services.market.records import AssetClass, Bar, Provenance
from services.signals.consensus.consensus import UNIT, Abstention, ConsensusRules, SignalSide
from services.signals.cycle.decide import BarVoter, TickRules, decide_tick, vote_by_rules
from services.signals.cycle.market import WINDOW, MarketBars
from services.signals.cycle.states import SignalState, SignalStates, ThriftRules, TickPlan
from services.signals.log.entries import PlaceOutcome, make_place
from services.signals.proofs.recompute import RecomputeResult, StoredBar, list_named_bars, recompute_place
from services.signals.voters.votes import NoVote, Vote

MINUTE = 60_000
START = 1_767_571_200_000
SYMBOL = "BTC/USD"
WEIGHTS = {"trend": 40, "breakout": 25, "reversion": 20, "volume": 15, "held": 10, "model": 30, "away": 5}
VOTERS = (
    *(BarVoter(name, name) for name in ("trend", "breakout", "reversion", "volume")),
    BarVoter("held", "trend", "two"),
)
RULES = TickRules(
    ConsensusRules(WEIGHTS, enter=UNIT // 10, leave=UNIT // 20), VOTERS, ThriftRules("1m", 0.005)
)
CORRELATIONS = {frozenset(("trend", "breakout")): UNIT // 3}


def play(seed: int, count: int = 80, *, replay=False, timeframe="1m", length=1):
    """Return a place that the cycle decided by chance, its wall time, and the bars that were archived."""
    chance = random.Random(seed)
    rules = replace(RULES, thrift=ThriftRules(timeframe, 0.005))
    market = MarketBars(timeframe, (SYMBOL,), frozenset({"two"}))
    close, bars = 100.0, []
    for number in range(count):
        close = round(close * (1 + chance.gauss(0, 0.004)), 4)
        start_ms = START + number * MINUTE * length
        source = "two" if chance.random() < 0.3 else "one"
        volume = None if chance.random() < 0.1 else round(chance.random() * 1e5, 3)
        bar = Bar(SYMBOL, timeframe, start_ms, close, close + 0.5, close - 0.5, close, volume=volume)
        origin = Provenance(source, is_replay=replay)
        fields = {**encode_entry(bar, AssetClass.CRYPTO, origin), "final": "1"}
        market.take({k.encode(): str(v).encode() for k, v in fields.items()}, start_ms + 3 * MINUTE * length)
        bars.append(StoredBar(start_ms, bar.open, bar.high, bar.low, bar.close, volume, source, replay))
    as_of_ms = START + count * MINUTE * length + chance.randrange(MINUTE)
    plan = TickPlan({SYMBOL: as_of_ms}, frozenset(), {})
    votes, _ = vote_by_rules(market, plan, rules)
    model = Vote(chance.choice((-1, 0, 1)), UNIT // 2, UNIT // 3, as_of_ms + MINUTE, ("because", "so"))
    votes |= {(SYMBOL, "model"): model, (SYMBOL, "away"): chance.choice((Abstention.LATE, NoVote.NO_VOLUME))}
    side = chance.choice(list(SignalSide))
    state = SignalState(side=side, side_ms=chance.choice((None, as_of_ms - MINUTE)))
    at_ms = as_of_ms + 1000
    decision = decide_tick(
        *(17, at_ms, market, plan, rules),
        votes=votes,
        states=SignalStates((SYMBOL,), {SYMBOL: state}),
        correlations=CORRELATIONS,
    )
    (row,) = decision.rows
    return row.content.encode(), at_ms, bars, rules


def gather(content, bars):
    """Return what the archive has of the bars that a place names."""
    found = {}
    for name, named in list_named_bars(orjson.loads(content)).items():
        of_source = [each for each in bars if name is None or each.source == named.source]
        found[name] = [each for each in of_source if named.first_ms <= each.start_ms <= named.last_ms]
    return found


@pytest.mark.parametrize("seed", range(40))
def test_a_place_is_decided_once_more_to_the_same_bytes(seed):
    content, at_ms, bars, rules = play(seed, count=random.Random(seed).choice([0, 1, 5, 30, 64, 80]))
    found = recompute_place(content, at_ms, gather(content, bars), rules)
    assert (found.result, found.differences) == (RecomputeResult.SAME, ())


@pytest.mark.parametrize(("timeframe", "length"), [("1h", 60), ("1d", 1440)])
def test_so_is_a_place_of_longer_bars_and_of_a_recording(timeframe, length):
    content, at_ms, bars, rules = play(3, replay=True, timeframe=timeframe, length=length)
    assert orjson.loads(content)["replay"] is True
    assert recompute_place(content, at_ms, gather(content, bars), rules).result is RecomputeResult.SAME


def test_bars_that_are_gone_or_were_corrected_are_named():
    content, at_ms, bars, rules = play(5)
    last = bars[-1]

    def explain(changed):
        found = recompute_place(content, at_ms, gather(content, changed), rules)
        return found.result, found.words

    source = last.source
    assert explain(bars[len(bars) - WINDOW + 10 :]) == (
        RecomputeResult.BARS_GONE,
        f"10 of its 64 1m bars of {source} are gone",
    )
    assert explain([]) == (RecomputeResult.BARS_GONE, f"64 of its 64 1m bars of {source} are gone")
    corrected = [*bars[:-1], last._replace(close=last.close + 0.01)]
    assert explain(corrected) == (
        RecomputeResult.BARS_CHANGED,
        f"its 64 1m bars of {source} were corrected since",
    )
    later = [*bars[:-1], last._replace(start_ms=last.start_ms - 1, source="three"), last]
    assert explain(later) == (
        RecomputeResult.BARS_CHANGED,
        f"1 1m bars of {source} came later than it was decided",
    )
    held = {**gather(content, bars), "held": []}
    found = recompute_place(content, at_ms, held, rules)
    assert (found.result, "of two are gone" in found.words) == (RecomputeResult.BARS_GONE, True)


def test_a_truth_that_is_gone_or_is_another_is_named():
    content, at_ms, bars, rules = play(5)
    found = recompute_place(content, at_ms, gather(content, bars), None)
    assert found.result is RecomputeResult.TRUTH_GONE
    other = replace(rules, consensus=replace(rules.consensus, weights={"trend": 1}))
    found = recompute_place(content, at_ms, gather(content, bars), other)
    assert (found.result, "names the voters away, breakout" in found.words) == (
        RecomputeResult.TRUTH_OTHER,
        True,
    )


def test_other_weights_and_a_false_place_come_out_otherwise_and_name_the_fields():
    content, at_ms, bars, rules = play(5)
    heavier = replace(rules, consensus=replace(rules.consensus, weights={**WEIGHTS, "trend": 400}))
    found = recompute_place(content, at_ms, gather(content, bars), heavier)
    assert found.result is RecomputeResult.DIFFERENT
    assert {"score", "confidence", "participation"} <= set(found.differences)
    place = orjson.loads(content)
    false = {**place, "votes": {**place["votes"], "trend": {"abstained": "late"}}}
    text = make_place(SYMBOL, PlaceOutcome(place["outcome"]), **{
        name: value for name, value in false.items() if name not in ("v", "symbol", "outcome")
    })  # fmt: skip
    found = recompute_place(text, at_ms, gather(content, bars), rules)
    assert any(each.startswith("votes.trend") for each in found.differences)


def test_a_place_that_no_vote_made_is_explained_without_them():
    closed = make_place(SYMBOL, PlaceOutcome.CLOSED, since=9)
    assert recompute_place(closed, START, {}, None).result is RecomputeResult.SAME
    failed = make_place(SYMBOL, PlaceOutcome.FAILED, tick=9, as_of=START, before="flat", why="KeyError")
    found = recompute_place(failed, START, {}, RULES)
    assert (found.result, found.words) == (RecomputeResult.NOT_DECIDED, "it failed: KeyError")
