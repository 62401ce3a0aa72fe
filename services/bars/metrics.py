"""Count what bars does, for the details of beats and for METRICS_PORT, which another thread serves."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from marketswarm.metrics import Family, ForeignLabel, Histogram, MetricTable
from services.bars.outputs import Outputs

_HELP: Final = {
    "symbols": "Symbols that are this instance's.",
    "records_total{source,outcome}": (
        "Records by source and outcome: taken, skipped, or the check that they failed."
    ),
    "findings_total{source,finding}": (
        "Records that were taken, and before which minutes are missing (gap) or that were old (stale)."
    ),
    "published_total{stream}": "Entries published, by stream.",
    "features_total": "Features published.",
    "oversized_total": "Entries skipped because they are too large.",
    "refused_total": "Commits that another instance had made.",
    "trimmed_total": (
        "Times that the last entry read was trimmed off, and maybe later ones that were not read."
    ),
    "behind_seconds": "The age of the entry read last.",
    "delay_seconds": "From an entry on its stream until its results were on theirs.",
}
_METRICS: Final = MetricTable("marketswarm_bars_", _HELP)

Counts = Mapping[tuple[str, str], int]
"""How many there are, by a source and what they are."""


class BarsMetrics:
    """Count records by their outcome, the entries that were published, and how long that took."""

    def __init__(self) -> None:
        self.symbols = 0
        self.oversized_total = 0
        self.refused_total = 0
        self.trimmed_total = 0
        self.behind_seconds = 0.0
        self.features_total = 0
        self.delay_seconds = Histogram(
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0
        )
        self.records_total: Counter[tuple[str, str]] = Counter()
        self.findings_total: Counter[tuple[str, str]] = Counter()
        self.published_total: Counter[str] = Counter(bars=0, indicators=0, quarantine=0)
        self._source = ForeignLabel()  # any text that the writer of an entry chose
        self._taken = 0
        self.arrived: list[int] = []
        """When each entry of this batch was written, in epoch milliseconds."""

    def count_committed(self, outputs: Outputs, records: Counts, findings: Counts) -> None:
        """Count what was committed of one symbol: records by source and outcome, findings by source.

        After the first 200 different sources, `other` stands for each further one.
        """
        for (source, outcome), count in records.items():
            self.records_total[self._source.bound(source), outcome] += count
            self._taken += count if outcome == "taken" else 0
        for (source, finding), count in findings.items():
            self.findings_total[self._source.bound(source), finding] += count
        self.published_total["bars"] += len(outputs.bars)
        self.published_total["indicators"] += len(outputs.indicators)
        self.published_total["quarantine"] += len(outputs.quarantine)

    def finish_batch(self, now_ms: float) -> None:
        """Observe how long each entry of the batch took from its stream to its results."""
        for written_ms in self.arrived:
            self.delay_seconds.observe(max(0.0, now_ms - written_ms) / 1000)
        self.behind_seconds = max(0.0, now_ms - self.arrived[-1]) / 1000 if self.arrived else 0.0
        self.arrived.clear()

    def summary(self) -> str:
        words = [f"{self.symbols:,} symbols", f"{self._taken:,} records"]
        quarantined = self.published_total["quarantine"]
        words += [f"{quarantined:,} quarantined"] if quarantined else []
        words += [f"entries lost {self.trimmed_total:,} times"] if self.trimmed_total else []
        return ", ".join(words)

    def collect(self) -> Iterator[Family]:
        return _METRICS.read(self)
