"""Report the metrics of sources on METRICS_PORT. docs/metrics.md lists their names and labels."""

from collections import Counter
from collections.abc import Iterator, Mapping

from marketswarm.metrics.family import Family, Histogram, counters, gauge, gauges, histogram
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
        yield gauges(
            "marketswarm_sources_source_up",
            "1 if a source answered last, 0 if it is missed.",
            {name: each.is_up for name, each in health.items()},
            ("source",),
        )
        yield gauges(
            "marketswarm_sources_breaker_state",
            "1 for the state of a source's breaker: closed, open, half_open, paused.",
            {(name, each.breaker.value): 1 for name, each in health.items()},
            ("source", "state"),
        )
        yield gauges(
            "marketswarm_sources_requests_left",
            "Requests that a source still takes with all keys, by the seconds of the limit's window.",
            {(name, str(sec)): count for name, each in health.items() for sec, count in each.left.items()},
            ("source", "window_sec"),
        )

    def _collect_streams(self) -> Iterator[Family]:
        yield gauges(
            "marketswarm_sources_streamed_series",
            "Series of this instance that a stream brings now; 0 while it is not connected.",
            self.streamed_series,
            ("source",),
        )
        yield counters(
            "marketswarm_sources_streamed_bars_total",
            "Minutes of a stream, by what became of them: loaded, unused, claimed, lost, timeout, error.",
            self._streamed,
            ("source", "outcome"),
        )
        yield counters(
            "marketswarm_sources_stream_ends_total",
            "Connections of a stream that ended or could not be opened, by the reason.",
            self.stream_ends,
            ("source", "reason"),
        )
        yield counters(
            "marketswarm_sources_stream_anomalies_total",
            "Frames of a stream that made no sense, by what was wrong with them.",
            {
                (source, anomaly.value): count
                for source, counts in self.stream_anomalies.items()
                for anomaly, count in counts.copy().items()
            },
            ("source", "anomaly"),
        )

    def _collect_loads(self) -> Iterator[Family]:
        yield counters(
            "marketswarm_sources_loads_total",
            "Loads of series by what became of them: loaded, claimed, lost, timeout, error.",
            self._loads,
            ("outcome",),
        )
        yield counters(
            "marketswarm_sources_answers_total",
            "What asking came to: fresh, late, wrong, empty, refused, limited, failed, error or not asked.",
            self._answers,
            ("source", "verdict"),
        )
        yield counters(
            "marketswarm_sources_requests_total",
            "Requests that were sent to a source, by outcome; none for a recording.",
            self._requests,
            ("source", "outcome"),
        )
        yield counters(
            "marketswarm_sources_records_total",
            "New and changed records that this process put on the streams.",
            self._records,
            ("source", "kind"),
        )

    def _collect_series(self) -> Iterator[Family]:
        yield gauges(
            "marketswarm_sources_series",
            "Series of this instance by state: waiting, fresh, closed, late, empty, limited, failed.",
            self.series_by_status,
            ("status",),
        )
        yield gauge(
            "marketswarm_sources_stale_critical",
            "Critical series of this instance that are not fresh.",
            self.stale_critical,
        )
        yield histogram(
            "marketswarm_sources_load_duration_seconds",
            "How long a load of a series took, with all requests.",
            self.duration,
        )
