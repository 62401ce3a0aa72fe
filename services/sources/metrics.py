"""Report the metrics of sources on METRICS_PORT. docs/metrics.md lists their names and labels."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from marketswarm.metrics import Family, ForeignLabel, Histogram, LabelledHistogram, MetricTable
from services.market.records import RecordKind
from services.sources.access.health import SourceHealth
from services.sources.cascade.loader import LoadResult
from services.sources.catalog.answer import AnswerStatus
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
    "request_seconds{source}": "How long the answer to a request to a source took, of a recording as well.",
    "rows_set_aside_total{source}": "Rows of a source's answers that broke a rule, and were left out.",
    "unknown_actions_total{source,kind}": "Actions of a kind that no record can hold, by the source's word.",
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
        self.load_duration_seconds = Histogram(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 120)
        self.series: Counter[str] = Counter()
        self.stale_critical = 0
        self.loads_total: Counter[str] = Counter()
        self.answers_total: Counter[tuple[str, str]] = Counter()
        self.rows_set_aside_total: Counter[str] = Counter()
        self.unknown_actions_total: Counter[tuple[str, str]] = Counter()
        self._unknown_kind = ForeignLabel()  # any word of a source
        self.requests_total: Counter[tuple[str, str]] = Counter()
        self.request_seconds = LabelledHistogram((), 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
        self.records_total: Counter[tuple[str, str]] = Counter()
        self.streamed_series: dict[str, int] = {}
        self.streamed_bars_total: Counter[tuple[str, str]] = Counter()
        self.stream_ends_total: Counter[tuple[str, str]] = Counter()
        self.anomalies: dict[str, Counter[Anomaly]] = {}
        self.health: Mapping[str, SourceHealth] = {}

    def note_health(self, health: Mapping[str, SourceHealth]) -> None:
        """Keep how the sources of the truth are; what is counted of each of them is exported from now on."""
        self.health = health
        for name in health:
            self.request_seconds.add(name)
            self.rows_set_aside_total[name] += 0
            for outcome in AnswerStatus:
                self.requests_total[name, outcome.value] += 0

    def count_streamed(self, source: str, result: LoadResult) -> None:
        self.streamed_bars_total[source, result.outcome.value] += 1
        if result.new:
            self.records_total[source, RecordKind.BARS.value] += result.new

    def count_load(self, kind: str, result: LoadResult) -> None:
        """Count the outcome and what each source answered, and observe the duration."""
        self.loads_total[result.outcome.value] += 1
        self.load_duration_seconds.observe(result.took_sec)
        for finding in result.findings:
            self.answers_total[finding.source, finding.verdict.value] += 1
            if finding.set_aside:
                self.rows_set_aside_total[finding.source] += len(finding.set_aside)
            for name, count in finding.answer.unknown_actions.items():
                self.unknown_actions_total[finding.source, self._unknown_kind.bound(name)] += count
        for sent in result.requests:
            self.request_seconds.observe(sent.source, sent.took_sec)
            if not sent.is_replay:
                self.requests_total[sent.source, sent.outcome.value] += 1
        if result.new:
            self.records_total[result.source, kind] += result.new

    def collect(self) -> Iterator[Family]:
        health = self.health
        yield from _METRICS.read(self)
        yield from _METRICS.collect(
            source_up={name: each.is_up for name, each in health.items()},
            breaker_state={(name, each.breaker.value): 1 for name, each in health.items()},
            requests_left={
                (name, str(sec)): count for name, each in health.items() for sec, count in each.left.items()
            },
            stream_anomalies_total={
                (source, anomaly.value): count
                for source, counts in self.anomalies.items()
                for anomaly, count in counts.copy().items()
            },
        )
