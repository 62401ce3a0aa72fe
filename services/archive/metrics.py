"""Count what archive does, for the details of beats and for METRICS_PORT, which another thread serves."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from marketswarm.bus.backlog import Backlog, format_unread, sum_unread
from marketswarm.metrics import Family, Histogram, MetricTable
from marketswarm.operator.service_reports import DatabaseReport

JOBS: Final = ("partitions", "sources", "correlations", "backup", "restore", "database")
_HELP: Final = {
    "entries_total{stream,outcome}": "Entries, by outcome: written, refused, claimed, trimmed.",
    "batch_seconds": "How long a batch took from its rows to its commit.",
    "database_up": "0 while PostgreSQL can't be used.",
    "partitions_dropped_total": "Partitions dropped.",
    "correlations_total": "Correlations computed.",
    "backups_total": "Backups made.",
    "backup_timestamp_seconds": "When the newest backup was begun; only the instance that makes them knows.",
    "database_connections": "Connections of clients to the database's server that are in use.",
    "database_connection_limit": "Connections that it takes, without those that are reserved.",
    "database_idle_transactions": "Sessions that have done nothing in a transaction for a minute.",
    "database_size_bytes": "The size of the database.",
    "table_age_seconds{table}": "The age of the newest row of a table.",
    "restores_verified_total": "Backups that were restored, and found to be what was saved.",
    "restore_verified_timestamp_seconds": "When that was last done; only the instance that does it knows.",
    "source_states_invalid": "Entries of the state of sources that are left out, because they are malformed.",
    "maintenance_failures_total{job}": f"Jobs that failed: {', '.join(JOBS)}.",
    "unread{stream}": "Entries that are not read yet.",
    "pending{stream}": "Entries that are read and not committed.",
    "oldest_unread_seconds{stream}": "How long the oldest unread entry has waited.",
    "hold_seconds{stream}": "How long the stream still holds what is not committed.",
    "lost{stream}": "Entries that were trimmed off before they were committed.",
}
_METRICS: Final = MetricTable("marketswarm_archive_", _HELP)


class ArchiveMetrics:
    """Count entries, batches and what the maintenance does."""

    def __init__(self, *, makes_backups: bool = True) -> None:
        self._makes_backups = makes_backups
        self.backlogs: Mapping[str, Backlog] = {}
        self.entries_total: Counter[tuple[str, str]] = Counter()
        self.batch_seconds = Histogram(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
        self.lag_sec: float | None = None
        """How long the oldest unread entry of all streams has waited; None while that is not known."""
        self.database_up = True
        self.report: DatabaseReport | None = None
        """The last look at the database; None before the first one, and while it can't be used."""
        self.partitions_dropped_total = 0
        self.correlations_total = 0
        self.backups_total = 0
        self.backup_timestamp_seconds: float | None = None
        self.restores_verified_total = 0
        self.restore_verified_timestamp_seconds: float | None = None
        self.source_states_invalid = 0
        self.maintenance_failures_total: Counter[str] = Counter(dict.fromkeys(JOBS, 0))

    def count(self, stream: str, outcome: str, number: int = 1) -> None:
        if number:
            self.entries_total[stream, outcome] += number

    def summary(self) -> str | None:
        """Return the detail of a beat in one line; None for an instance without work, and with backups."""
        backlogs = list(self.backlogs.values())
        unread = sum_unread(backlogs)
        written = sum(number for (_, outcome), number in self.entries_total.items() if outcome == "written")
        words = [f"{written:,} written", f"{format_unread(unread)} unread"] if written or unread != 0 else []
        refused = sum(number for (_, outcome), number in self.entries_total.items() if outcome == "refused")
        words += [f"{refused:,} refused"] if refused else []
        lost = sum(each.lost for each in backlogs)
        words += [f"{lost:,} lost"] if lost else []
        words += [] if self._makes_backups else ["no backups"]
        if (verified_at := self.restore_verified_timestamp_seconds) is not None:
            words += [
                f"backup restored and compared {datetime.fromtimestamp(verified_at, UTC):%Y-%m-%d %H:%MZ}"
            ]
        return ", ".join(words) or None

    def collect(self) -> Iterator[Family]:
        backlogs, report = dict(self.backlogs), self.report or DatabaseReport(ts=0.0)
        yield from _METRICS.read(self)
        yield from _METRICS.collect(
            database_connections=report.connections,
            database_connection_limit=report.connection_limit,
            database_idle_transactions=report.idle_transactions,
            database_size_bytes=report.size_bytes,
            table_age_seconds=report.table_ages,
        )
        yield from _METRICS.collect(
            unread={stream: each.unread for stream, each in backlogs.items()},
            pending={stream: each.pending for stream, each in backlogs.items()},
            oldest_unread_seconds={stream: each.oldest_sec for stream, each in backlogs.items()},
            hold_seconds={stream: each.hold_sec for stream, each in backlogs.items()},
            lost={stream: each.lost for stream, each in backlogs.items()},
        )
