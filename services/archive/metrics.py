"""Count what archive does, for the details of beats and for METRICS_PORT, which another thread serves."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from marketswarm.bus.backlog import Backlog, format_unread, sum_unread
from marketswarm.metrics.family import Family, Histogram, counter, counters, gauge, gauges, histogram

JOBS: Final = ("partitions", "sources", "correlations", "backup")


class ArchiveMetrics:
    """Count entries, batches and what the maintenance does."""

    def __init__(self, *, makes_backups: bool = True) -> None:
        self._makes_backups = makes_backups
        self.backlogs: Mapping[str, Backlog] = {}
        self.entries: Counter[tuple[str, str]] = Counter()
        self.batch_sec = Histogram(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
        self.is_away = False
        self.dropped = 0
        self.correlations = 0
        self.backups = 0
        self.backup_at: float | None = None
        self.invalid_states = 0
        self.maintenance_failures: Counter[str] = Counter(dict.fromkeys(JOBS, 0))

    def count(self, stream: str, outcome: str, number: int = 1) -> None:
        if number:
            self.entries[stream, outcome] += number

    def summary(self) -> str | None:
        """Return the detail of a beat in one line; None for an instance without work, and with backups."""
        backlogs = list(self.backlogs.values())
        unread = sum_unread(backlogs)
        written = sum(number for (_, outcome), number in self.entries.items() if outcome == "written")
        words = [f"{written:,} written", f"{format_unread(unread)} unread"] if written or unread != 0 else []
        refused = sum(number for (_, outcome), number in self.entries.items() if outcome == "refused")
        words += [f"{refused:,} refused"] if refused else []
        lost = sum(each.lost for each in backlogs)
        words += [f"{lost:,} lost"] if lost else []
        words += [] if self._makes_backups else ["no backups"]
        return ", ".join(words) or None

    def collect(self) -> Iterator[Family]:
        yield counters(
            "marketswarm_archive_entries_total",
            "Entries by what became of them: written, refused, claimed, trimmed.",
            self.entries,
            ("stream", "outcome"),
        )
        yield from self._collect_backlogs()
        yield histogram(
            "marketswarm_archive_batch_seconds",
            "How long a batch took from its rows to its commit.",
            self.batch_sec,
        )
        yield gauge("marketswarm_archive_database_up", "0 while PostgreSQL can't be used.", not self.is_away)
        yield counter("marketswarm_archive_partitions_dropped_total", "Partitions dropped.", self.dropped)
        yield counter("marketswarm_archive_correlations_total", "Correlations computed.", self.correlations)
        yield counter("marketswarm_archive_backups_total", "Backups made.", self.backups)
        yield gauge(
            "marketswarm_archive_backup_timestamp_seconds",
            "When the newest backup was begun; only the instance that makes them knows.",
            self.backup_at,
        )
        yield gauge(
            "marketswarm_archive_source_states_invalid",
            "Entries of the state of sources that are left out, because they are malformed.",
            self.invalid_states,
        )
        yield counters(
            "marketswarm_archive_maintenance_failures_total",
            f"Jobs that failed: {', '.join(JOBS)}.",
            self.maintenance_failures,
            ("job",),
        )

    def _collect_backlogs(self) -> Iterator[Family]:
        backlogs = dict(self.backlogs)
        shown = (
            ("unread", "Entries that are not read yet.", "unread"),
            ("pending", "Entries that are read and not committed.", "pending"),
            ("oldest_unread_seconds", "How long the oldest unread entry has waited.", "oldest_sec"),
            ("hold_seconds", "How long the stream still holds what is not committed.", "hold_sec"),
            ("lost", "Entries that were trimmed off before they were committed.", "lost"),
        )
        for name, text, field in shown:
            values = {stream: getattr(each, field) for stream, each in backlogs.items()}
            yield gauges(f"marketswarm_archive_{name}", text, values, ("stream",))
