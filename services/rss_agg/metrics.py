"""Report the metrics of rss_agg on METRICS_PORT. docs/metrics.md lists their names and labels."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from marketswarm.metrics import Family, Histogram, MetricTable

OUTCOMES = ("fresh", "unchanged", "failed")
STATUSES = ("well", "failing", "gone", "unread")
_HELP: Final = {
    "items_total{kind}": "Items put on the stream: new ones, and edited ones again.",
    "item_lag_seconds": (
        "From the date of a new item until it was on the stream; a feed's first items do not count."
    ),
    "readings_total{outcome}": "Readings of feeds by what came of them.",
    "reading_seconds": "How long a reading took, from the look-up until its items were on the stream.",
    "feeds{state}": "Feeds that are this instance's, by how they are.",
    "overdue_seconds": (
        "How long the feed has been due that has waited longest for its turn; 0 when none waits."
    ),
}
_METRICS: Final = MetricTable("marketswarm_rss_agg_", _HELP)


class RssMetrics:
    """Count readings and items since the process began; keep gauges of the feeds as they are now."""

    def __init__(self) -> None:
        self.item_lag_seconds = Histogram(1, 5, 15, 60, 120, 300, 600, 1800, 3600, 21_600, 86_400)
        self.reading_seconds = Histogram(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
        self.overdue_seconds = 0.0
        self.feeds = dict.fromkeys(STATUSES, 0)
        self.readings_total = Counter(dict.fromkeys(OUTCOMES, 0))
        self.items_total = Counter({"new": 0, "edited": 0})

    def count_feeds(self, by_status: Mapping[str, int]) -> None:
        self.feeds = {status: by_status.get(status, 0) for status in STATUSES}

    def count_reading(self, outcome: str, duration_sec: float) -> None:
        self.readings_total[outcome] += 1
        self.reading_seconds.observe(duration_sec)

    def count_items(self, new: int, edited: int, published: Iterable[str], now: float) -> None:
        """Count published items, and the lag of new ones; their dates are ISO 8601, or empty."""
        self.items_total["new"] += new
        self.items_total["edited"] += edited
        for date in published:
            if date:
                self.item_lag_seconds.observe(max(0.0, now - datetime.fromisoformat(date).timestamp()))

    def collect(self) -> Iterator[Family]:
        return _METRICS.read(self)
