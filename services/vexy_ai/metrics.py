"""Count what vexy_ai does, and whether it keeps up, for the details of beats and for METRICS_PORT.

Another thread serves METRICS_PORT.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from marketswarm.bus.backlog import Backlog, format_unread, sum_unread
from marketswarm.bus.stream import find_entry_time
from marketswarm.metrics import Family, Histogram, MetricTable
from services.vexy_ai.digest import SummaryResult
from services.vexy_ai.records import Record

RATE_WINDOW_SEC: Final = 60.0
CAUGHT_UP_SHARE: Final = 0.5
"""The work has caught up when the oldest entry waits for less than this share of `behind_sec`."""
_HELP: Final = {
    "entries_total{stream,outcome}": "Entries, by outcome.",
    "behind": "1 while it has fallen behind.",
    "delay_seconds": "From an entry on its stream until its record was written.",
    "digests_total": "Digests written.",
    "digests_plain_total": "Digests without a summary, although a model is configured.",
    "llm_requests_total{outcome}": "Requests to the model, by outcome: ok, or what was wrong.",
    "llm_paused": "1 while no requests are sent to the model, after failures.",
    "unread{stream}": "Entries that are not taken yet; none when the server lost count.",
    "pending{stream}": "Entries that are taken and not settled.",
    "oldest_unread_seconds{stream}": "How long the oldest of these has waited.",
}
_METRICS: Final = MetricTable("marketswarm_vexy_ai_", _HELP)


class Rate:
    """Count processed entries per second over the last minute."""

    def __init__(self) -> None:
        self._done: deque[tuple[float, int]] = deque()
        self._count = 0
        self._since: float | None = None

    def add(self, count: int, now: float) -> None:
        self._since = now if self._since is None else self._since
        if count:
            self._done.append((now, count))
            self._count += count
        self._forget(now)

    def per_sec(self, now: float) -> float:
        """Return entries per second over the last minute, or since the first `add` if that is later."""
        self._forget(now)
        over = RATE_WINDOW_SEC if self._since is None else min(RATE_WINDOW_SEC, now - self._since)
        return self._count / max(1.0, over)

    def _forget(self, now: float) -> None:
        while self._done and self._done[0][0] < now - RATE_WINDOW_SEC:
            self._count -= self._done.popleft()[1]


class LagDetector:
    """Detect when the work falls behind, and when it has caught up; `behind` is the last result."""

    def __init__(self) -> None:
        self.behind = False

    def check(self, backlogs: Mapping[str, Backlog], behind_sec: float) -> str | None:
        """Return a line on the stream whose oldest entry waits longest; None if it waits for less."""
        key, worst = max(backlogs.items(), key=lambda item: item[1].oldest_sec, default=("", Backlog()))
        least_sec = behind_sec * (CAUGHT_UP_SHARE if self.behind else 1.0)
        self.behind = worst.oldest_sec >= least_sec and worst.oldest_sec > 0
        if not self.behind:
            return None
        unread = format_unread(worst.unread)
        return f"behind: {unread} unread in {key}, the oldest for {worst.oldest_sec:.0f} s"


class VexyMetrics:
    """Count entries, digests and requests to the model."""

    def __init__(self) -> None:
        self.backlogs: Mapping[str, Backlog] = {}
        self.lag, self.rate = LagDetector(), Rate()
        self.delay_seconds = Histogram(
            0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0
        )
        self.digests_total = 0
        self.digests_plain_total = 0
        self.plain: str | None = None  # why the last digest lacks summaries, if it does
        self.llm_requests_total: Counter[str] = Counter()
        self.llm_paused = False
        self.entries_total: Counter[tuple[str, str]] = Counter()

    def count_settled(self, stream: str, records: Sequence[Record], new: int, now: float) -> None:
        """Count the settled records of a stream, and the delay of each entry at `now` (epoch seconds)."""
        self.count(stream, "new", new)
        self.count(stream, "known", len(records) - new)
        for each in records:
            self.delay_seconds.observe(max(0.0, now - find_entry_time(each.entry)))
        self.rate.add(len(records), now)

    def count(self, stream: str, outcome: str, number: int = 1) -> None:
        if number:
            self.entries_total[stream, outcome] += number

    def count_digest(self, plain: SummaryResult | None) -> None:
        """`plain` is the result of asking for summaries; None if no model is configured."""
        self.digests_total += 1
        self.plain = plain.why if plain is not None else None
        self.digests_plain_total += plain is not None and not plain.made

    def summary(self, now: float) -> str | None:
        """Return the detail of a beat in one line; None for an instance that never had any work."""
        if not self.entries_total and not any(
            each.unread != 0 or each.pending for each in self.backlogs.values()
        ):
            return None
        words = [summarize_backlogs(self.backlogs, self.rate.per_sec(now))]
        dead = sum(count for (_, outcome), count in self.entries_total.items() if outcome == "dead")
        words += [f"{dead:,} dead"] if dead else []
        words += [f"plain digests ({self.plain})"] if self.plain else []
        return ", ".join(words)

    def collect(self) -> Iterator[Family]:
        backlogs = dict(self.backlogs)
        yield from _METRICS.read(self)
        yield from _METRICS.collect(
            unread={stream: each.unread for stream, each in backlogs.items()},
            pending={stream: each.pending for stream, each in backlogs.items()},
            oldest_unread_seconds={stream: each.oldest_sec for stream, each in backlogs.items()},
            behind=self.lag.behind,
        )


def summarize_backlogs(backlogs: Mapping[str, Backlog], per_sec: float) -> str:
    """Return the rate and all backlogs in a few words: `12.3/s, 40 unread (oldest 2 s), 3 taken`."""
    found = list(backlogs.values())
    unread = sum_unread(found)
    oldest_sec = max((each.oldest_sec for each in found), default=0.0)
    words = [
        f"{per_sec:.1f}/s",
        f"{format_unread(unread)} unread" + (f" (oldest {oldest_sec:.0f} s)" if unread != 0 else ""),
    ]
    pending = sum(each.pending for each in found)
    lost = sum(each.lost for each in found)
    words += [f"{pending:,} taken"] if pending else []
    words += [f"{lost:,} trimmed off unread"] if lost else []
    return ", ".join(words)
