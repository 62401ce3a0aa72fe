"""An hour of cycles in moved time: how many calls leave the house, and how many kept votes answer."""

import math
from collections import Counter

import numpy as np
import orjson
import pytest

from services.signals.ask import asker as module
from services.signals.ask.calls import VoterClient
from services.signals.ask.endpoints import ChatSettings
from services.signals.voters.votes import Vote
from support.scenes.votes import AS_OF_MS, PATIENT_SEC, ManualClock, ask_of, asking, say

CYCLE_SEC = 5
CYCLES = 720
SYMBOLS = 40
SKIP_MOVE = 0.005
VOTERS = ("xai_grok", "sonar")


class Instant(VoterClient):
    """A model that answers at once."""

    def __init__(self, settings, _key):
        super().__init__(settings)

    async def _send(self, _question, _headlines):
        return orjson.dumps(say())

    async def aclose(self):
        pass


class Market:
    """Prices that walk by chance: from minute to minute by 0.1 % in the middle, by more or less each."""

    def __init__(self):
        self._random = np.random.default_rng(59)
        self.volatility = 0.001 * np.exp(self._random.normal(0, 0.5, SYMBOLS))
        self.prices = np.full(SYMBOLS, 100.0)

    def move(self):
        share = self.volatility * math.sqrt(CYCLE_SEC / 60)
        self.prices = self.prices * np.exp(self._random.normal(0, 1, SYMBOLS) * share)

    def ask(self, at, as_of_ms):
        more = {"price": float(self.prices[at]), "volatility": float(self.volatility[at])}
        return [ask_of(f"S{at}", voter, as_of_ms=as_of_ms, **more) for voter in VOTERS]


async def play_hour(bus, *, skips):
    """Ask in each cycle about all symbols, or about those that moved by SKIP_MOVE since they were voted on.

    Returns the metrics, the most calls of a cycle and the questions.
    """
    limits = {"calls_per_cycle": 7, "calls_per_minute": 100_000, "calls_per_hour": 100_000}
    voters = {each: ChatSettings(url="http://127.0.0.1:1/v1", model=each, **limits) for each in VOTERS}
    market, clock, voted, most, asked = Market(), ManualClock(), dict[int, float](), 0, 0
    async with asking(bus, voters, clock=clock) as asker:
        for cycle in range(CYCLES):
            market.move()
            moved = [at for at in range(SYMBOLS) if not skips or has_moved(market, voted, at)]
            questions = [each for at in moved for each in market.ask(at, AS_OF_MS + 1000 * CYCLE_SEC * cycle)]
            needed = SYMBOLS * len(VOTERS)
            asker.metrics.count_needed(needed, needed - len(questions))
            before = asker.metrics.calls_total.total()
            found = await asker.ask(questions, clock() + PATIENT_SEC)
            votes = Counter(symbol for (symbol, _), vote in found.items() if isinstance(vote, Vote))
            voted |= {at: float(market.prices[at]) for at in moved if votes[f"S{at}"] == len(VOTERS)}
            most, asked = max(most, asker.metrics.calls_total.total() - before), asked + len(questions)
            clock.ahead_sec += CYCLE_SEC
        return asker.metrics, most, asked


def has_moved(market, voted, at):
    return at not in voted or abs(market.prices[at] / voted[at] - 1) >= SKIP_MOVE


@pytest.mark.parametrize("skips", [False, True], ids=["each_cycle", "skip"])
async def test_an_hour_takes_few_calls(bus, monkeypatch, record_property, skips):
    monkeypatch.setattr(module, "make_voter_client", Instant)
    metrics, most, asked = await play_hour(bus, skips=skips)
    calls, everything = metrics.calls_total.total(), SYMBOLS * len(VOTERS) * CYCLES
    figures = {"calls": calls, "most": most, "hit_share": metrics.hit_share, "asked": asked}
    figures |= {"had_share": metrics.had_share, "hits": metrics.cache_hits_total.total()}
    for name, value in figures.items():
        record_property(name, value)
    assert most <= 15
    assert calls <= everything / 50
    assert metrics.opinions_needed_total == everything
    assert metrics.had_share >= 0.9
    if not skips:
        assert metrics.hit_share >= 0.8
