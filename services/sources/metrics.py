"""Report the metrics of sources on METRICS_PORT. docs/metrics.md lists their names and labels."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from marketswarm.metrics import Family, Histogram, MetricTable
from services.market.records import RecordKind
from services.sources.access.health import SourceHealth
from services.sources.cascade.loader import LoadResult
from services.sources.websocket import Anomaly

_HELP: Final = {
    "source_up{source}": "1 if a source answered last, 0 if it is missed.",
    "breaker_state{source,state}": "1 for the state of a source's breaker: closed, open, half_open, paused.",
    "requests_left{source,window_sec}": (
        "Requests that a source still takes with all keys, by the seconds of the limit's window."
    ),
    "streamed_series{source}": (
        "Series of this instance that a stream brings now; 0 while it is not connected."
    ),
    "streamed_bars_total{source,outcome}": (
        "Minutes of a stream, by outcome: loaded, unused, claimed, lost, timeout, error."
    ),
    "stream_ends_total{source,reason}": (
        "Connections of a stream that ended or could not be opened, by the reason."
    ),
    "stream_anomalies_total{source,anomaly}": (
        "Frames of a stream that made no sense, by what was wrong with them."
    ),
    "loads_total{outcome}": "Loads of series, by outcome: loaded, claimed, lost, timeout, error.",
    "answers_total{source,verdict}": (
        "What asking came to: fresh, late, wrong, empty, refused, limited, failed, error or not asked."
    ),
    "requests_total{source,outcome}": (
        "Requests that were sent to a source, by outcome; none for a recording."
    ),
    "rows_set_aside_total{source}": "Rows of a source's answers that broke a rule, and were left out.",
    "records_total{source,kind}": "New and changed records that this process put on the streams.",
    "series{status}": (
        "Series of this instance by state: waiting, fresh, closed, late, empty, limited, failed."
    ),
    "stale_critical": "Critical series of this instance that are not fresh.",
    "load_duration_seconds": "How long a load of a series took, with all requests.",
}
_METRICS: Final = MetricTable("marketswarm_sources_", _HELP)


class SourcesMetrics:
    """Count loads and what sources answered since the process began; keep gauges of the series."""

    def __init__(self) -> None:
        self.duration = Histogram(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 120)
        self.series_by_status: Counter[str] = Counter()
        self.stale_critical = 0
        self._loads: Counter[str] = Counter()
        self._answers: Counter[tuple[str, str]] = Counter()
        self._set_aside: Counter[str] = Counter()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._records: Counter[tuple[str, str]] = Counter()
        self.streamed_series: dict[str, int] = {}
        self.stream_ends: Counter[tuple[str, str]] = Counter()
        self.stream_anomalies: dict[str, Counter[Anomaly]] = {}
        self._streamed: Counter[tuple[str, str]] = Counter()
        self.health: Mapping[str, SourceHealth] = {}

    def count_streamed(self, source: str, result: LoadResult) -> None:
        self._streamed[source, result.outcome.value] += 1
        if result.new:
            self._records[source, RecordKind.BARS.value] += result.new

    def count_load(self, kind: str, result: LoadResult) -> None:
        """Count the outcome and what each source answered, and observe the duration."""
        self._loads[result.outcome.value] += 1
        self.duration.observe(result.took_sec)
        for finding in result.findings:
            self._answers[finding.source, finding.verdict.value] += 1
            if finding.set_aside:
                self._set_aside[finding.source] += len(finding.set_aside)
        for sent in result.requests:
            if not sent.is_replay:
                self._requests[sent.source, sent.outcome.value] += 1
        if result.new:
            self._records[result.source, kind] += result.new

    def collect(self) -> Iterator[Family]:
        health = self.health
        return _METRICS.collect(
            loads_total=self._loads,
            answers_total=self._answers,
            rows_set_aside_total=self._set_aside,
            requests_total=self._requests,
            records_total=self._records,
            series=self.series_by_status,
            stale_critical=self.stale_critical,
            load_duration_seconds=self.duration,
            source_up={name: each.is_up for name, each in health.items()},
            breaker_state={(name, each.breaker.value): 1 for name, each in health.items()},
            requests_left={
                (name, str(sec)): count for name, each in health.items() for sec, count in each.left.items()
            },
            streamed_series=self.streamed_series,
            streamed_bars_total=self._streamed,
            stream_ends_total=self.stream_ends,
            stream_anomalies_total={
                (source, anomaly.value): count
                for source, counts in self.stream_anomalies.items()
                for anomaly, count in counts.copy().items()
            },
        )
