"""Count what voters outside are asked, and what that comes to, for METRICS_PORT."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from marketswarm.bus.circuit_breaker import BreakerState
from marketswarm.metrics import Family, MetricTable
from services.signals.ask.endpoints import WORDING

_HELP: Final = {
    "opinions_needed_total": "Opinions of voters that are asked outside, one of each about each open symbol.",
    "opinions_unchanged_total": "Those that were left out, because their symbol was unchanged.",
    "cache_hits_total{layer}": "Questions that a vote in memory, or in Redis, answered.",
    "calls_total{voter}": "Questions that were sent to a voter.",
    "call_seconds_total{voter}": "How long the answers of a voter took, together.",
    "call_errors_total{voter,reason}": "Questions to a voter without a vote in the answer, by the reason.",
    "answers_total{voter,outcome}": "Questions about a voter, by outcome: vote, or why it abstains.",
    "breaker_state{voter,state}": "1 for the state of a voter's breaker: closed, open, half_open, paused.",
}
_METRICS: Final = MetricTable("marketswarm_signals_", _HELP)


class AskMetrics:
    """Count calls, hits and outcomes since the process began; keep the states of breakers."""

    def __init__(self) -> None:
        self.opinions_needed_total = 0
        self.opinions_unchanged_total = 0
        self.cache_hits_total: Counter[str] = Counter(memory=0, redis=0)
        self.calls_total: Counter[str] = Counter()
        self.call_seconds_total: dict[str, float] = {}
        self.call_errors_total: Counter[tuple[str, str]] = Counter()
        self.answers_total: Counter[tuple[str, str]] = Counter()
        self.breakers: dict[str, BreakerState] = {}

    @property
    def hit_share(self) -> float | None:
        """The share of hits among hits and calls, of evaluated symbols alone; None before the first one.

        Calls to the model that words signals are no questions about votes.
        """
        hits, calls = self.cache_hits_total.total(), self.calls_total.total() - self.calls_total[WORDING]
        return hits / (hits + calls) if hits + calls else None

    @property
    def had_share(self) -> float | None:
        """The share of the opinions needed that were had without a call; None before the first one.

        They are those about unchanged symbols, and those that memory and Redis had.
        """
        had = self.opinions_unchanged_total + self.cache_hits_total.total()
        return had / self.opinions_needed_total if self.opinions_needed_total else None

    def count_needed(self, needed: int, unchanged: int) -> None:
        """Count the opinions that a tick needs of voters outside, and those about unchanged symbols."""
        self.opinions_needed_total += needed
        self.opinions_unchanged_total += unchanged

    def count_call(self, voter: str, took_sec: float, failure: str = "") -> None:
        """Count a question that was answered, or failed with a reason."""
        self.call_seconds_total[voter] = self.call_seconds_total.get(voter, 0.0) + took_sec
        if failure:
            self.call_errors_total[voter, failure] += 1

    def collect(self) -> Iterator[Family]:
        yield from _METRICS.read(self)
        breakers = dict(self.breakers)
        yield from _METRICS.collect(
            breaker_state={(voter, state.value): 1 for voter, state in breakers.items()}
        )
