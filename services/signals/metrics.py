"""Count what signals decides, for the details of beats and for METRICS_PORT, which another thread serves."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from marketswarm.metrics import Family, Histogram, MetricTable

_HELP: Final = {
    "symbols": "Symbols that each tick has a place for.",
    "leading": "1 if this process decides the ticks, 0 if it stands by.",
    "cycle_seconds": "The time that a tick took, from its plan to its commit.",
    "decided_seconds": "The part of it in which votes were asked for and weighed.",
    "skipped_total": "Evaluations that were left out, because a symbol was unchanged or its market closed.",
    "evaluated_total": "Evaluations of symbols.",
    "places_total{outcome}": "Places of ticks, by what they say.",
    "leaves_total": "Ticks and gaps that were added to the log.",
    "gaps_total{reason}": "Gaps in the ticks, by their reason.",
    "published_total": "Places that were published.",
    "bars_total{outcome}": "Entries of checked bars, by what became of them.",
    "voter_errors_total{voter}": "Errors that a voter of bars raised.",
    "quorum_missing_seconds": "For how long no symbol has had a quorum.",
    "cosignature_missing_seconds": "How long ago all that was signed was cosigned.",
    "tick_timestamp_seconds": "When this process decided a tick last; 0 before the first.",
    "cycle_interval_seconds": "How often a tick is due, by the truth.",
    "checkpoint_interval_seconds": "How often a checkpoint is due, by the truth.",
}
_METRICS: Final = MetricTable("marketswarm_signals_", _HELP)


class SignalsMetrics:
    """Count ticks by what they say, and how long they took."""

    def __init__(self) -> None:
        self.symbols = 0
        self.leading = 0
        self.cycle_seconds = Histogram(0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
        self.decided_seconds = Histogram(0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
        self.skipped_total = 0
        self.evaluated_total = 0
        self.places_total: Counter[str] = Counter()
        self.leaves_total = 0
        self.gaps_total: Counter[str] = Counter()
        self.published_total = 0
        self.bars_total: Counter[str] = Counter()
        self.voter_errors_total: Counter[str] = Counter()
        self.quorum_missing_seconds = 0.0
        self.cosignature_missing_seconds: float | None = None
        self.tick_timestamp_seconds = 0.0
        self.cycle_interval_seconds: float | None = None
        self.checkpoint_interval_seconds: float | None = None
        self._tick = 0
        self._cycle_sec = 0.0

    def count_tick(self, tick: int, counts: Mapping[str, int], evaluated: int, cycle_sec: float) -> None:
        """Count a tick that was stored: places by outcome, and how many symbols were evaluated for it."""
        self._tick, self._cycle_sec = tick, cycle_sec
        self.symbols = sum(counts.values())
        self.places_total.update(counts)
        self.evaluated_total += evaluated
        self.skipped_total += self.symbols - evaluated
        self.leaves_total += 1
        self.cycle_seconds.observe(cycle_sec)

    def summary(self) -> str:
        """Return the detail of a beat, for people."""
        if not self.leading:
            return f"stands by, {self.symbols:,} symbols"
        asked = self.evaluated_total + self.skipped_total
        share = f", {self.skipped_total / asked:.1%} skipped" if asked else ""
        return f"tick {self._tick:,}, {self.symbols:,} symbols, {1000 * self._cycle_sec:.0f} ms{share}"

    def collect(self) -> Iterator[Family]:
        return _METRICS.read(self)
