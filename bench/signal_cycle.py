"""Measure how long a tick takes to be decided, of 5,000 symbols with seven votes each, without a store.

The market is a random walk of minutes, as volatile as stocks are: half of them by more than 35 % a year, one
in twenty by more than 80 %. A tick comes every five seconds of it, and all bars of a minute come before the
same tick. What is timed is from the plan of a tick to its entry of the log: the votes of four rules on the
symbols that are evaluated, three more that are at hand, the consensus, the places of all symbols and the root
of their tree. `all` is a tick in which every symbol is evaluated.

The bare loop weighs seven opinions of each of the 5,000 symbols, which are at hand, by the same formulas in
floats: score, participation, conflict, effective votes and side. It writes nothing down.

`mean` and `memory` are beside the same run without thrift, in a process of its own: each tick of it evaluates
every symbol. The memory is the most that a process had, with the market, which both hold.
"""

import gc
import random
import sys
import time
from itertools import combinations
from math import exp
from resource import RUSAGE_SELF, getrusage
from statistics import fmean
from typing import Any, Final

from bench.figures import Pair, Sample, percentile
from bench.programs import answer, read_result
from services.market.entries import encode_entry
from services.market.records import MINUTE_MS, AssetClass, Bar, Provenance
from services.signals.consensus.consensus import UNIT, ConsensusRules
from services.signals.cycle.correlations import CommonVotes
from services.signals.cycle.decide import (
    VOTER_RULES,
    BarVoter,
    GivenVote,
    TickRules,
    decide_tick,
    vote_by_rules,
)
from services.signals.cycle.market import MarketBars
from services.signals.cycle.states import SignalStates, ThriftRules, plan_tick
from services.signals.log.entries import make_tick
from services.signals.voters.votes import Vote

SYMBOLS: Final = 5000
HISTORY: Final = 40
"""The minutes of each symbol before the first tick."""
MINUTES: Final = 25
ALL_TICKS: Final = 5
"""The ticks of the run without thrift."""
TICKS_A_MINUTE: Final = 12
TICK_MS: Final = 5000
START_MS: Final = 1_767_571_200_000
VOLATILITY: Final = 0.35 / (252 * 390) ** 0.5
"""The median of how far a minute moves, as a share of the price."""
SPREAD: Final = 0.5
OTHERS: Final = ("massive", "grok", "sonar")
"""The voters outside, whose votes are at hand."""
WEIGHTS: Final = {
    "trend": 20,
    "breakout": 15,
    "reversion": 10,
    "volume": 10,
    "massive": 20,
    "grok": 15,
    "sonar": 10,
}


class CycleRun:
    """Play ticks over a market that is made by chance, and time each."""

    def __init__(self, count: int) -> None:
        self.symbols = [f"S{number:04}" for number in range(count)]
        self.market = MarketBars("1m", self.symbols)
        voters = tuple(BarVoter(name, name) for name in VOTER_RULES)
        self.rules = TickRules(ConsensusRules(WEIGHTS), voters, ThriftRules("1m", 0.005))
        self.common = CommonVotes(WEIGHTS)
        self.states = SignalStates(self.market.symbols)
        self.chance = random.Random(59)
        self.closes = dict.fromkeys(self.symbols, 100.0)
        self.volatility = [VOLATILITY * exp(self.chance.gauss(0, SPREAD)) for _ in self.symbols]
        self.next_ms, self.tick, self.evaluated = START_MS, 0, 0
        self.others = {(symbol, voter): self._make_vote() for symbol in self.symbols for voter in OTHERS}

    def _make_vote(self) -> GivenVote:
        strength = self.chance.randrange(UNIT)
        return Vote(self.chance.choice((-1, 0, 1)), strength, UNIT // 2, START_MS * 2, ("at hand",))

    def take_minute(self) -> None:
        for number, symbol in enumerate(self.symbols):
            before = self.closes[symbol]
            move = self.chance.gauss(0, self.volatility[number])
            close = self.closes[symbol] = round(before * (1 + move), 2)
            high, low = max(before, close) + 0.01, min(before, close) - 0.01
            bar = Bar(symbol, "1m", self.next_ms, before, high, low, close, volume=float(number + 1))
            fields = {**encode_entry(bar, AssetClass.STOCKS, Provenance("one")), "final": "1"}
            raw = {name.encode(): value.encode() for name, value in fields.items()}
            self.market.take(raw, self.next_ms + MINUTE_MS)
        self.next_ms += MINUTE_MS

    def play_tick(self, at_ms: int) -> float:
        """Decide one tick, and return how many seconds of the processor that took."""
        self.tick += 1
        begun = time.process_time()
        self.market.advance(at_ms)
        plan = plan_tick(self.market, self.states, self.rules.thrift, (), at_ms)
        votes, _ = vote_by_rules(self.market, plan, self.rules)
        for symbol in plan.due:
            for voter in OTHERS:
                votes[symbol, voter] = self.others[symbol, voter]
        decision = decide_tick(
            self.tick,
            at_ms,
            self.market,
            plan,
            self.rules,
            votes=votes,
            states=self.states,
            correlations=self.common.correlate(),
        )
        make_tick(0, self.tick, at_ms, decision.places, code="1", truth="1", consensus="6.0")
        took = time.process_time() - begun
        self.states.update(decision.states)
        self.common.add(decision.opinions)
        self.evaluated += len(plan.due)
        return took


def weigh_bare(opinions: list[list[float]], correlations: list[tuple[int, int, float]]) -> int:
    """Return how many symbols have a side by their opinions, and compute all that a consensus says."""
    weights = list(WEIGHTS.values())
    total = sum(weights)
    found = 0
    for each in opinions:
        voted = lean = strength = spread = 0.0
        for weight, opinion in zip(weights, each, strict=True):
            voted += weight
            lean += weight * opinion
            strength += weight * abs(opinion)
            spread += weight * weight
        for first, second, correlation in correlations:
            spread += 2 * weights[first] * weights[second] * correlation
        score, participation = lean / voted, voted / total
        conflict = 1 - abs(lean) / strength if strength else 0.0
        effective = min(len(weights), voted * voted / spread)
        if participation >= 0.5 and abs(score) >= 0.3 and conflict < 1 and effective >= 1:
            found += 1
    return found


def time_cycles(count: int, minutes: int) -> dict[str, Any]:
    """Return the seconds of each tick, of the bare loop beside each minute, and what was skipped."""
    run = CycleRun(count)
    for _ in range(HISTORY):
        run.take_minute()
    gc.collect()
    gc.freeze()
    first = run.play_tick(run.next_ms)
    chance = random.Random(1)
    opinions = [[chance.uniform(-1, 1) for _ in WEIGHTS] for _ in range(count)]
    correlations = [(first, second, 0.1) for first, second in combinations(range(len(WEIGHTS)), 2)]
    ticks: list[float] = []
    bare: list[float] = []
    run.evaluated = 0
    for _ in range(minutes):
        run.take_minute()
        ticks += [run.play_tick(run.next_ms + TICK_MS * number) for number in range(TICKS_A_MINUTE)]
        begun = time.process_time()
        weigh_bare(opinions, correlations)
        bare.append(time.process_time() - begun)
    skipped = 1 - run.evaluated / (len(ticks) * count)
    return {"first": first, "ticks": ticks, "bare": bare, "skipped": skipped, "memory": read_peak_kb()}


def time_all(count: int) -> dict[str, Any]:
    """Return the mean seconds of ticks that evaluate every symbol, and the most memory in kB."""
    run = CycleRun(count)
    for _ in range(HISTORY):
        run.take_minute()
    gc.collect()
    gc.freeze()
    took: list[float] = []
    for number in range(ALL_TICKS):
        run.states = SignalStates(run.market.symbols)  # nothing is known of before, so all are due
        took.append(run.play_tick(run.next_ms + TICK_MS * number))
    assert run.evaluated == count * ALL_TICKS
    return {"mean": fmean(took), "memory": read_peak_kb()}


def read_peak_kb() -> int:
    """Return the most memory that this process had, in kB."""
    return getrusage(RUSAGE_SELF).ru_maxrss


def measure(scale: float) -> Sample:
    """Play ticks in a process of its own; return milliseconds of the processor, and MB."""
    count = str(max(100, round(SYMBOLS * scale)))
    found = read_result("bench.signal_cycle", count, str(MINUTES))
    without = read_result("bench.signal_cycle", count)
    ticks, bare = sorted(found["ticks"]), sorted(found["bare"])
    middle = 1000 * percentile(bare, 0.5)
    return {
        "p99": Pair(1000 * percentile(ticks, 0.99), middle),
        "median": Pair(1000 * percentile(ticks, 0.5), middle),
        "all": Pair(1000 * found["first"], middle),
        "mean": Pair(1000 * fmean(ticks), 1000 * without["mean"]),
        "memory": Pair(found["memory"] / 1024, without["memory"] / 1024),
    }


if __name__ == "__main__":
    count, *minutes = map(int, sys.argv[1:])
    answer(time_cycles(count, *minutes) if minutes else time_all(count))
