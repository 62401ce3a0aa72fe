"""Do what one instance does for all, under a lease: partitions, retention, sources, correlations, backups."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from marketswarm.agent import Agent, LeaseLost
from marketswarm.bus import BusError
from marketswarm.truth.schedule import parse_schedule
from services.archive.backup import make_backup, read_newest_backup, remove_old_backups
from services.archive.correlations import compute_correlations, list_latest_days, read_fingerprint
from services.archive.database import ArchiveAwayError, Database, RefusedRowsError
from services.archive.metrics import ArchiveMetrics
from services.archive.migrations import SchemaError
from services.archive.partitions import TIME_COLUMNS, drop_expired, list_ahead, make_partitions
from services.archive.programs import BackupError
from services.archive.settings import (
    ArchiveEnvironment,
    ArchiveSettings,
    WriteSettings,
    find_sources_point,
    select_retention,
)
from services.archive.source_states import MAX_STATE_BYTES, parse_source_states, write_source_states
from services.archive.writer import Writer

LEASE: Final = "archive"
STEP_SEC: Final = 0.5
SOURCES_EVERY_SEC: Final = 2.0
CORRELATIONS_EVERY_SEC: Final = 30.0
PARTITIONS_EVERY_SEC: Final = 3600.0
BACKUP_EVERY_SEC: Final = 20.0  # to look whether one is due
DELETED_BY: Final = {
    "features": "start",
    "correlations": "day",
    "downloads": "asked_at",
    "source_health": "at",
    "alerts": "at",
}
"""The tables of which retention deletes rows, and the column by which."""
_WITH_REPLAY: Final = ("features", "correlations")  # rows of a recording are old when it is played
_HASH_BYTES: Final = 200 * MAX_STATE_BYTES
_JOB_SEC: Final = 1800.0  # a job may read a whole table


@dataclass(slots=True)
class MaintenanceJob:
    """Hold a job: how often it is done, when it is due next (monotonic clock), and why it failed last."""

    name: str
    every_sec: float
    work: Callable[[WriteSettings], Awaitable[None]]
    due_at: float = float("-inf")
    problem: str | None = None


class Maintenance:
    """Do each job when it is due, one after the other, as long as this instance has the lease.

    None is done beside a backup: pg_dump fails if a partition is dropped under it.
    """

    def __init__(
        self,
        me: Agent[ArchiveEnvironment],
        settings_now: Callable[[], ArchiveSettings],
        database: Database,
        writer: Writer,
        metrics: ArchiveMetrics,
    ) -> None:
        self._me, self._settings_now, self._database = me, settings_now, database
        self._writer, self._metrics = writer, metrics
        self._seen: dict[date, tuple[int, ...]] = {}  # of each day: of what its correlations were made
        self._jobs = (
            MaintenanceJob("partitions", PARTITIONS_EVERY_SEC, self._keep_partitions),
            MaintenanceJob("sources", SOURCES_EVERY_SEC, self._write_sources),
            MaintenanceJob("correlations", CORRELATIONS_EVERY_SEC, self._write_correlations),
            MaintenanceJob("backup", BACKUP_EVERY_SEC, self._back_up),
        )

    async def run(self) -> None:
        """Wait for the lease and do the jobs, again and again, until cancelled."""
        while True:
            try:
                async with self._me.lease(LEASE):
                    self._seen = {}
                    while True:
                        await self._do_due_jobs()
                        await asyncio.sleep(STEP_SEC)
            except LeaseLost:
                continue

    async def _do_due_jobs(self) -> None:
        """Do each job that is due. One that fails is tried again when it is due next."""
        for job in self._jobs:
            if time.monotonic() < job.due_at:
                continue
            before, job.problem = job.problem, None
            try:
                await job.work(self._settings_now().settings)
            except (ArchiveAwayError, RefusedRowsError, SchemaError, BusError, BackupError) as error:
                job.problem = f"{job.name}: {error}"[:150]
                if job.problem != before:  # the same failure is logged once
                    self._me.log.warning("maintenance.failed", job=job.name, why=str(error)[:300])
            # PostgreSQL that is away is the workers' matter, and a bus too: they say so at once
            lasting = job.problem if job.name == "backup" else None
            self._me.set_degraded(lasting, part=f"maintenance {job.name}")
            job.due_at = time.monotonic() + (min(job.every_sec, 60.0) if job.problem else job.every_sec)

    async def _keep_partitions(self, settings: WriteSettings) -> None:
        """Make the partitions of the next months, and drop what is older than its table keeps."""
        now = datetime.now(UTC)
        divided, deleted = (
            {
                table: now - timedelta(days=days)
                for table, days in select_retention(settings.keep_days, of).items()
            }
            for of in (TIME_COLUMNS, DELETED_BY)
        )
        async with self._database.connect(_JOB_SEC) as connection:
            await make_partitions(connection, list_ahead(now))
            dropped = await drop_expired(connection, divided)
            for table, since in deleted.items():
                kept = "AND NOT replay" if table in _WITH_REPLAY else ""
                sql = f"DELETE FROM {table} WHERE {DELETED_BY[table]} < $1::timestamptz {kept}"  # noqa: S608 - our own names
                await connection.execute(sql, since)
        if dropped:
            self._writer.forget_partitions()
            self._metrics.dropped += len(dropped)
            self._me.log.info("partitions.dropped", partitions=dropped)

    async def _write_sources(self, _settings: WriteSettings) -> None:
        """Write the states of the sources that changed."""
        point = find_sources_point(self._me.section)
        bus = self._me.bus(point.bus)
        fields: Any = await bus.ask(bus.client.hgetall(point.key), max_bytes=_HASH_BYTES)
        states = parse_source_states(fields)
        if states:
            async with self._database.connect() as connection:
                await write_source_states(connection, states, time.time())

    async def _write_correlations(self, settings: WriteSettings) -> None:
        """Compute the correlations of the latest days, if a bar of theirs has changed since the last time."""
        wanted = settings.correlations
        if not wanted.symbols:
            return
        async with self._database.connect(_JOB_SEC) as connection:
            latest = await list_latest_days(connection)
            self._seen = {day: seen for day, seen in self._seen.items() if day in latest}
            for day in latest:
                seen = (wanted.days, wanted.symbols, *await read_fingerprint(connection, day, wanted.days))
                if seen != self._seen.get(day):
                    self._metrics.correlations += await compute_correlations(
                        connection, day, days=wanted.days, symbols=wanted.symbols
                    )
                    self._seen[day] = seen

    async def _back_up(self, settings: WriteSettings) -> None:
        """Make the backup that is due by the schedule, and remove those that are too old."""
        folder, url = self._me.settings.archive_backup_folder, self._me.settings.database_url
        if folder is None or url is None:
            return
        now = time.time()
        newest = await asyncio.to_thread(read_newest_backup, folder)
        schedule = parse_schedule(settings.backup.schedule)
        # the first one at once: there is none to wait with
        if newest is not None and next(schedule.runs_after(newest.begun_at), float("inf")) > now:
            return
        try:
            made = await make_backup(url, folder, now, self._me.settings.postgres_bin)
        except BackupError:
            self._metrics.backup_failures += 1
            raise
        self._metrics.backups, self._metrics.backup_at = self._metrics.backups + 1, made.begun_at
        self._me.log.info("backup.made", file=made.file, size=made.size, sha256=made.sha256)
        removed = await asyncio.to_thread(
            remove_old_backups, folder, now - settings.backup.keep_days * 86_400
        )
        if removed:
            self._me.log.info("backup.removed", files=removed)
