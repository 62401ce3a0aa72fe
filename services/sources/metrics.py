"""Report the metrics of sources on METRICS_PORT. docs/metrics.md lists their names and labels."""

from collections import Counter
from collections.abc import Iterator, Mapping

from marketswarm.metrics import Family, Histogram
from marketswarm.metrics.family import gauge
from services.market.records import RecordKind
from services.sources.access.health import SourceHealth
from services.sources.cascade.loader import LoadResult
from services.sources.websocket import Anomaly


class SourcesMetrics:
    """Count loads and what sources answered since the process began; keep gauges of the series."""

    def __init__(self) -> None:
        self.duration = Histogram(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 120)
        self.series_by_status: Counter[str] = Counter()
        self.stale_critical = 0
        self._loads: Counter[str] = Counter()
        self._answers: Counter[tuple[str, str]] = Counter()
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

    def count_load(self, kind: str, result: LoadResult, duration_sec: float) -> None:
        """Count the outcome and what each source answered, and observe the duration."""
        self._loads[result.outcome.value] += 1
        self.duration.observe(duration_sec)
        for finding in result.findings:
            self._answers[finding.source, finding.verdict.value] += 1
        for sent in result.requests:
            if not sent.is_replay:
                self._requests[sent.source, sent.outcome.value] += 1
        if result.new:
            self._records[result.source, kind] += result.new

    def collect(self) -> Iterator[Family]:
        yield from self._collect_loads()
        yield from self._collect_series()
        yield from self._collect_sources()
        yield from self._collect_streams()

    def _collect_sources(self) -> Iterator[Family]:
        health = self.health
        yield Family(
            "marketswarm_sources_source_up",
            "gauge",
            "1 if a source answered last, 0 if it is missed.",
            [((name,), float(each.is_up)) for name, each in health.items() if each.is_up is not None],
            labels=("source",),
        )
        yield Family(
            "marketswarm_sources_breaker_state",
            "gauge",
            "1 for the state of a source's breaker: closed, open, half_open, paused.",
            [((name, each.breaker.value), 1.0) for name, each in health.items()],
            labels=("source", "state"),
        )
        yield Family(
            "marketswarm_sources_requests_left",
            "gauge",
            "Requests that a source still takes with all keys, by the seconds of the limit's window.",
            [
                ((name, str(sec)), float(count))
                for name, each in health.items()
                for sec, count in each.left.items()
            ],
            labels=("source", "window_sec"),
        )

    def _collect_streams(self) -> Iterator[Family]:
        yield Family(
            "marketswarm_sources_streamed_series",
            "gauge",
            "Series of this instance that a stream brings now; 0 while it is not connected.",
            [((source,), float(count)) for source, count in self.streamed_series.copy().items()],
            labels=("source",),
        )
        yield Family(
            "marketswarm_sources_streamed_bars_total",
            "counter",
            "Minutes of a stream, by what became of them: loaded, unused, claimed, lost, timeout, error.",
            [(labels, float(count)) for labels, count in self._streamed.copy().items()],
            labels=("source", "outcome"),
        )
        yield Family(
            "marketswarm_sources_stream_ends_total",
            "counter",
            "Connections of a stream that ended or could not be opened, by the reason.",
            [(labels, float(count)) for labels, count in self.stream_ends.copy().items()],
            labels=("source", "reason"),
        )
        yield Family(
            "marketswarm_sources_stream_anomalies_total",
            "counter",
            "Frames of a stream that made no sense, by what was wrong with them.",
            [
                ((source, anomaly.value), float(count))
                for source, counts in self.stream_anomalies.items()
                for anomaly, count in counts.copy().items()
            ],
            labels=("source", "anomaly"),
        )

    def _collect_loads(self) -> Iterator[Family]:
        yield Family(
            "marketswarm_sources_loads_total",
            "counter",
            "Loads of series by what became of them: loaded, claimed, lost, timeout, error.",
            [((outcome,), float(count)) for outcome, count in self._loads.copy().items()],
            labels=("outcome",),
        )
        yield Family(
            "marketswarm_sources_answers_total",
            "counter",
            "What asking came to: fresh, late, wrong, empty, refused, limited, failed, error or not asked.",
            [(labels, float(count)) for labels, count in self._answers.copy().items()],
            labels=("source", "verdict"),
        )
        yield Family(
            "marketswarm_sources_requests_total",
            "counter",
            "Requests that were sent to a source, by outcome; none for a recording.",
            [(labels, float(count)) for labels, count in self._requests.copy().items()],
            labels=("source", "outcome"),
        )
        yield Family(
            "marketswarm_sources_records_total",
            "counter",
            "New and changed records that this process put on the streams.",
            [(labels, float(count)) for labels, count in self._records.copy().items()],
            labels=("source", "kind"),
        )

    def _collect_series(self) -> Iterator[Family]:
        yield Family(
            "marketswarm_sources_series",
            "gauge",
            "Series of this instance by state: waiting, fresh, closed, late, empty, limited, failed.",
            [((status,), float(count)) for status, count in self.series_by_status.copy().items()],
            labels=("status",),
        )
        yield gauge(
            "marketswarm_sources_stale_critical",
            "Critical series of this instance that are not fresh.",
            self.stale_critical,
        )
        yield Family(
            "marketswarm_sources_load_duration_seconds",
            "histogram",
            "How long a load of a series took, with all requests.",
            histogram=self.duration,
        )
