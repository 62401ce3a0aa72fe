"""What rss_agg counts for METRICS_PORT. Names and labels stand in docs/metrics.md, too."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime

from marketswarm.metrics import Family, Spread
from marketswarm.metrics.family import gauge

KINDS = ("fresh", "unchanged", "failed")
STATES = ("well", "failing", "gone", "unread")


class Tally:
    """Counts since the process began, and how things stand now."""

    def __init__(self) -> None:
        self.lag = Spread(1, 5, 15, 60, 120, 300, 600, 1800, 3600, 21_600, 86_400)
        self.took = Spread(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
        self.overdue_sec = 0.0
        self.states: Counter[str] = Counter()
        self._readings: Counter[str] = Counter()
        self._items: Counter[str] = Counter()

    def read(self, kind: str, took_sec: float) -> None:
        """A feed was read."""
        self._readings[kind] += 1
        self.took.observe(took_sec)

    def published(self, new: int, edited: int, dates: Iterable[str], now: float) -> None:
        """So many items were put on the stream; `dates` are what the new ones say of when they appeared."""
        self._items["new"] += new
        self._items["edited"] += edited
        for date in dates:
            if date:
                self.lag.observe(max(0.0, now - datetime.fromisoformat(date).timestamp()))

    def collect(self) -> Iterator[Family]:
        """What is to be told now."""
        yield Family(
            "marketswarm_rss_agg_items_total",
            "counter",
            "Items put on the stream: new ones, and edited ones again.",
            [((kind,), float(self._items[kind])) for kind in ("new", "edited")],
            labels=("kind",),
        )
        yield Family(
            "marketswarm_rss_agg_item_lag_seconds",
            "histogram",
            "From the date of a new item until it was on the stream; a feed's first items do not count.",
            spread=self.lag,
        )
        yield Family(
            "marketswarm_rss_agg_readings_total",
            "counter",
            "Readings of feeds by what came of them.",
            [((kind,), float(self._readings[kind])) for kind in KINDS],
            labels=("outcome",),
        )
        yield Family(
            "marketswarm_rss_agg_reading_seconds",
            "histogram",
            "How long a reading took, from the look-up until its items were on the stream.",
            spread=self.took,
        )
        yield Family(
            "marketswarm_rss_agg_feeds",
            "gauge",
            "Feeds that are this instance's, by how they are.",
            [((state,), float(self.states[state])) for state in STATES],
            labels=("state",),
        )
        yield gauge(
            "marketswarm_rss_agg_overdue_seconds",
            "How long the feed has been due that has waited longest for its turn; 0 when none waits.",
            self.overdue_sec,
        )
