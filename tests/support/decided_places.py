"""A place that the cycle decided by chance, and the bars of the archive that it was decided on."""

import random
from dataclasses import replace

from services.market.entries import encode_entry
from services.market.records import AssetClass, Bar, Provenance
from services.market.separate import join_source
from services.signals.consensus.consensus import UNIT, Abstention, ConsensusRules, SignalSide
from services.signals.cycle.decide import BarVoter, TickRules, decide_tick, vote_by_rules
from services.signals.cycle.market import MarketBars
from services.signals.cycle.states import SignalState, SignalStates, ThriftRules, TickPlan
from services.signals.proofs.recompute import StoredBar
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


def play(seed: int, count: int = 80, *, replay=False, timeframe="1m", length=1, separate=None):
    """Return a place that the cycle decided by chance, its wall time, and the bars that were archived.

    With `separate` the voter that is held to `two` has bars of its own, up to so many before the end: they
    are said to be of `own`.
    """
    chance = random.Random(seed)
    rules = replace(RULES, thrift=ThriftRules(timeframe, 0.005))
    apart = () if separate is None else {(SYMBOL, "two")}
    market = MarketBars(timeframe, (SYMBOL,), frozenset({"two"}), apart)
    close, bars = 100.0, []
    for number in range(0 if separate is None else count):
        start_ms, price = START + (number - separate) * MINUTE * length, round(90 + chance.random(), 4)
        bar = Bar(SYMBOL, timeframe, start_ms, price, price + 0.5, price - 0.5, price, volume=3.0)
        fields = {**encode_entry(bar, AssetClass.CRYPTO, Provenance("two")), "final": "1"}
        fields["sym"] = join_source(SYMBOL, "two")
        now_ms = start_ms + 3 * MINUTE * length
        market.take_separate({k.encode(): str(v).encode() for k, v in fields.items()}, now_ms)
        bars.append(StoredBar(start_ms, price, bar.high, bar.low, price, 3.0, "own", is_replay=False))
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
