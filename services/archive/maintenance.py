"""Do what one instance does for all, under a lease: partitions, retention, sources, universes, backups.

Correlations are computed here, too.

It also says on the bus how the database and the backups are, and takes requests: to connect to PostgreSQL
again, and to make the backup that is due before its time. Archive pauses after a backup that failed, for up
to an hour. A request ends that pause, and does no more: a backup that is not due is not made, however often
somebody asks.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

from marketswarm.agent import Agent, point_like
from marketswarm.agent.loops import lead
from marketswarm.agent.requests import RequestLimits, RequestOutcome, RequestTaker
from marketswarm.bus import Bus, BusError
from marketswarm.bus.outage import Outage
from marketswarm.keys import ARCHIVE_BACKUP, ARCHIVE_BACKUP_REQUEST, ARCHIVE_DATABASE, MARKET_SOURCES
from marketswarm.net.retry import Backoff
from marketswarm.operator.service_reports import (
    DATABASE_REPORT_VALID_SEC,
    BackupReport,
    BackupRequest,
    BackupResult,
    BackupState,
    DatabaseReport,
    list_ruled_tables,
    read_backup_report,
)
from marketswarm.postgres.errors import PostgresAwayError, RefusedRowsError, ServerFaultError
from marketswarm.postgres.migrations import SchemaError
from marketswarm.postgres.transaction import transaction
from marketswarm.truth import MARKET, SYSTEM, Truth
from marketswarm.truth.schedule import parse_schedule
from services.archive.backup import (
    Backup,
    BackupError,
    hash_file,
    list_backups,
    make_backup,
    read_newest_backup,
    remove_old_backups,
)
from services.archive.correlations import (
    Compared,
    compute_correlations,
    find_kept_days,
    forget_expired_days,
    list_changed_days,
)
from services.archive.database import Database, reconnect
from services.archive.database_observer import DatabaseObserver
from services.archive.metrics import ArchiveMetrics
from services.archive.partitions import TIME_COLUMNS, drop_expired, list_ahead, make_partitions
from services.archive.restore import drop_stale_copies, verify_backup
from services.archive.settings import (
    ArchiveEnvironment,
    ArchiveSettings,
    RestoreCheckSettings,
    WriteSettings,
)
from services.archive.universes import list_universe, write_universe
from services.archive.writer import Writer
from services.market.fields import EntryError
from services.market.universe import list_day_shares
from services.tables.row_times import ROW_TIMES
from services.tables.rows import parse_storable_object

LEASE: Final = "maintenance"
_FORMER_LEASE: Final = "archive"
STEP_SEC: Final = 0.5
LOOK_EVERY_SEC: Final = 2.0  # for requests to make a backup
SOURCES_EVERY_SEC: Final = 2.0
UNIVERSES_EVERY_SEC: Final = 2.0
CORRELATIONS_EVERY_SEC: Final = 30.0
CORRELATIONS_AT_ONCE: Final = 10  # days, the newest first, because other jobs wait meanwhile
PARTITIONS_EVERY_SEC: Final = 3600.0
BACKUP_EVERY_SEC: Final = 20.0  # to look whether one is due
BACKUP_CHECK_SEC: Final = 86_400.0  # to compare the digest of the newest one
RESTORE_PAUSE_SEC: Final = 3600.0
"""The least time between two restores, whatever the schedule says: each writes all tables."""
DATABASE_EVERY_SEC: Final = 5.0
RETRY_SEC: Final = 60.0
BACKUP_BACKOFF: Final = Backoff(first_sec=60.0, longest_sec=3600.0)
"""The pauses after failed backups, because each backup may read all tables."""
BACKUP_LIMITS: Final = RequestLimits(take_every_sec=60.0)
"""How often a request ends such a pause, because each attempt may read the whole database."""
_DELETED_BY: Final = {**ROW_TIMES, "incidents": "changed_at"}
"""By table, the column of the time by which retention deletes rows."""
_TABLES: Final = {"alerts": "alert_log"}
"""The tables that the settings call otherwise."""
_EXPIRES_IF: Final = {
    # rows of a recording are old when it is played
    "source_bars": "NOT replay",
    "features": "NOT replay",
    "correlations": "NOT replay",
    # the newest row of a source is its present state, however old, because only a later one makes it history
    "source_health": (
        "EXISTS (SELECT FROM source_health later WHERE later.source = old.source AND later.at > old.at)"
    ),
}
"""The condition besides its age on which a row is deleted."""
_FAILURES: Final = (PostgresAwayError, RefusedRowsError, SchemaError, BusError, BackupError)
_JOB_SEC: Final = 1800.0  # a job may read a whole table
MAX_SOURCES: Final = 1000
MAX_STATE_BYTES: Final = 64 * 1024
_HASH_BYTES: Final = 200 * MAX_STATE_BYTES
_UNKNOWN: Final = "unknown"

_WRITE_SOURCE: Final = """
INSERT INTO sources AS old (source, state, updated) VALUES ($1, $2, $3)
ON CONFLICT (source) DO UPDATE SET state = excluded.state, updated = excluded.updated
WHERE old.state <> excluded.state
AND (old.updated <= excluded.updated OR old.updated > excluded.updated + interval '1 minute')
"""
# a change is a row, after the last one even if the clock was set back; the same state again adds no row
_WRITE_HEALTH: Final = """
INSERT INTO source_health (source, at, state, reason)
SELECT $1::text, greatest($2::timestamptz, last.at + interval '1 ms'), $3::text, $4::text
FROM (VALUES ($1::text)) given (source) LEFT JOIN LATERAL (
    SELECT at, state, reason FROM source_health old WHERE old.source = given.source ORDER BY at DESC LIMIT 1
) last ON true WHERE (last.state, last.reason) IS DISTINCT FROM ($3::text, $4::text)
ON CONFLICT (source, at) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class SourceState:
    """Hold the state of one source as its service wrote it; `document` is JSON."""

    source: str
    document: str
    state: str
    reason: str


class BackupDesk(RequestTaker[BackupRequest]):
    """Hold the report of the instance that makes the backups, and the request that it carries out.

    `get_bus` returns system-redis.
    """

    def __init__(self, get_bus: Callable[[], Bus]) -> None:
        super().__init__((ARCHIVE_BACKUP, ARCHIVE_BACKUP_REQUEST), BackupRequest, get_bus, BACKUP_LIMITS)
        self.state = BackupReport(state=BackupState.IDLE, ts=0.0)
        self._is_known = False
        self._reporting = asyncio.Lock()

    @property
    def is_known(self) -> bool:
        """Whether the report that the instance before us left was read in this term."""
        return self._is_known

    def begin_term(self) -> None:
        """Read again which request was taken last: another instance has made the backups meanwhile."""
        self._is_known = False

    async def take(self) -> BackupRequest | None:
        """Return a request that was not taken yet; it is being carried out from now on."""
        request = await super().take()
        if request is not None:
            self.state = replace(self.state, request=request.id, result=None)
        return request

    async def prepare(self, bus: Bus) -> None:
        """Read at the start of a term which request was taken last; then write, as a desk does.

        A request without a result gets the result of the next backup.
        """
        if not self._is_known:
            known = await read_backup_report(bus)
            if known is not None:
                self.state = replace(
                    self.state,
                    request=known.request,
                    result=known.result,
                    damaged=self.state.damaged or known.damaged,
                    verified_at=known.verified_at,
                    verified=known.verified,
                    verify_due_at=known.verify_due_at,
                    verify_why=known.verify_why,
                )
            self.last, self._is_known = self.state.request, True
            self.unwritten = self.unwritten and self.state.encode()
        await super().prepare(bus)

    async def note_damaged(self, file: str) -> None:
        """Report the name of a dump that is damaged; empty if there is none any more."""
        await self._note(damaged=file)

    async def note_restore(self, **fields: Any) -> None:
        """Report the fields of `BackupReport` that are about restored backups."""
        if "verify_why" in fields:
            fields["verify_why"] = fields["verify_why"][:200]
        await self._note(**fields)

    async def note(
        self, state: BackupState, result: BackupResult | None = None, *, why: str = "", **times: Any
    ) -> None:
        """Report a state, with the `times` that it changes; `result` is for a request that has none yet."""
        result = self.state.result or result
        await self._note(state=state, result=result, why=why[:200], **times)

    async def _note(self, **changes: Any) -> None:
        async with self._reporting:  # backups and restores report side by side, and the newest report stays
            report = replace(self.state, **changes)
            if not report.request:
                report = replace(report, result=None)
            if replace(report, ts=self.state.ts) != self.state or self.unwritten is not None:
                self.state = replace(report, ts=time.time())
                await self.report(self.state)


@dataclass(slots=True)
class MaintenanceJob:
    """Hold a job, how often it is done, and how it stands. `due_at` is of the monotonic clock.

    `failures` counts the failures in a row, `problem` is why the last one failed. Without a `backoff` the job
    is tried again after `every_sec`, or RETRY_SEC if that is less.
    """

    name: str
    every_sec: float
    work: Callable[[WriteSettings], Awaitable[None]]
    backoff: Backoff | None = None
    due_at: float = float("-inf")
    failures: int = 0
    problem: str | None = None

    @property
    def part(self) -> str:
        return f"maintenance {self.name}"

    def note_success(self, now: float) -> None:
        self.failures, self.problem = 0, None
        self.due_at = now + self.every_sec

    def note_failure(self, problem: str, now: float) -> None:
        self.failures, self.problem = self.failures + 1, problem
        pause_sec = min(self.every_sec, RETRY_SEC)
        self.due_at = now + (self.backoff.pause_sec(self.failures) if self.backoff else pause_sec)


class Maintenance:
    """Do each job when it is due, as long as this instance has the lease.

    The jobs are done one after the other, and backups, which may take hours, beside them. Partitions wait for
    the end of a backup, because pg_dump fails if one is dropped under it.
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
        self._partitions_lock = asyncio.Lock()  # held while they are changed or backed up
        self._partitions = MaintenanceJob("partitions", PARTITIONS_EVERY_SEC, self._keep_partitions)
        self._jobs = (
            self._partitions,
            MaintenanceJob("sources", SOURCES_EVERY_SEC, self._write_sources),
            MaintenanceJob("universes", UNIVERSES_EVERY_SEC, self._write_universe),
            MaintenanceJob("correlations", CORRELATIONS_EVERY_SEC, self._write_correlations),
        )
        self._report = MaintenanceJob("database", DATABASE_EVERY_SEC, self._report_database)
        self._observer = DatabaseObserver(database)
        self._backup = MaintenanceJob("backup", BACKUP_EVERY_SEC, self._back_up, BACKUP_BACKOFF)
        self._restore = MaintenanceJob("restore", BACKUP_EVERY_SEC, self._check_restore, BACKUP_BACKOFF)
        self._has_dropped_copies = False  # in this term
        self._desk = BackupDesk(lambda: me.bus(SYSTEM))
        self._written: Truth | None = None
        """The truth whose universe was written last."""
        self._checked = "", float("-inf")
        """The backup whose digest was compared last, and when."""

    async def run(self) -> None:
        outage = Outage(self._me.log, "maintenance.waiting", "maintenance.resumed")
        await lead(self._me, LEASE, lambda _lease: self._do_jobs(), outage, former=_FORMER_LEASE)

    async def reconnect(self) -> RequestOutcome:
        """Connect to PostgreSQL again; then the instance that observes the database does so at once."""
        done = await reconnect(self._database, self._settings_now().settings.end_idle_sec)
        self._report.due_at = float("-inf")
        return done

    async def _do_jobs(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._do_again_and_again(self._jobs))
                group.create_task(self._do_again_and_again((self._report,)))  # also while a job takes long
                group.create_task(self._back_up_again_and_again())
                group.create_task(self._restore_again_and_again())
        finally:
            # report no more on the jobs, and do all of them at once when the lease is back
            self._checked, self._written = ("", float("-inf")), None
            for job in (*self._jobs, self._report, self._backup, self._restore):
                job.note_success(float("-inf"))
                self._me.set_degraded(None, part=job.part)
            self._metrics.backup_timestamp_seconds = None
            self._metrics.restore_verified_timestamp_seconds = None
            self._has_dropped_copies = False
            self._metrics.source_states_invalid = 0

    async def _do_again_and_again(self, jobs: Sequence[MaintenanceJob]) -> None:
        while True:
            for job in jobs:
                must_wait = job is self._partitions and self._partitions_lock.locked()
                if time.monotonic() >= job.due_at and not must_wait:
                    await self._do(job)
            await asyncio.sleep(STEP_SEC)

    async def _back_up_again_and_again(self) -> None:
        self._desk.begin_term()
        while True:
            if (request := await self._desk.take()) is not None:
                self._me.log.info("backup.requested", request=request.id)
                self._backup.due_at = float("-inf")
            if time.monotonic() >= self._backup.due_at:
                await self._do(self._backup)
            await asyncio.sleep(LOOK_EVERY_SEC)

    async def _restore_again_and_again(self) -> None:
        while True:
            # when a backup was last restored stands in the report that the desk reads
            if self._desk.is_known and time.monotonic() >= self._restore.due_at:
                if why := find_paused_failure(self._desk.state, time.time()):
                    self._me.set_degraded(f"{self._restore.name}: {why}"[:150], part=self._restore.part)
                else:
                    await self._do(self._restore)
            await asyncio.sleep(LOOK_EVERY_SEC)

    async def _do(self, job: MaintenanceJob) -> None:
        before = job.problem
        try:
            await job.work(self._settings_now().settings)
        except Exception as error:  # what others wrote must not end archive
            is_known = isinstance(error, _FAILURES)
            why = str(error) if is_known else f"{type(error).__name__}: {error}"
            job.note_failure(f"{job.name}: {why}"[:150], time.monotonic())
            self._metrics.maintenance_failures_total[job.name] += 1
            if job.problem != before and is_known:  # the same failure is logged once
                self._me.log.warning("maintenance.failed", job=job.name, why=why[:300])
            elif job.problem != before:
                self._me.log.exception("maintenance.defect", job=job.name)
            # the workers report a bus or a PostgreSQL that is away; but they make no backups, and may never
            # read the index that is damaged
            is_fault = isinstance(error, ServerFaultError)
            is_away = isinstance(error, (PostgresAwayError, BusError)) and not is_fault
            is_reported = is_away and job not in (self._backup, self._restore)
        else:
            job.note_success(time.monotonic())
            is_reported = False
        self._me.set_degraded(None if is_reported else job.problem, part=job.part)

    async def _keep_partitions(self, settings: WriteSettings) -> None:
        now = datetime.now(UTC)
        since: dict[str, datetime] = {
            table: now - timedelta(days=days) for table, days in settings.keep_days.items()
        }
        async with self._partitions_lock, self._database.connect(_JOB_SEC) as connection:
            await make_partitions(connection, list_ahead(now))
            found = await drop_expired(connection, since)
            if found.dropped:
                self._writer.forget_partitions()
                self._metrics.partitions_dropped_total += len(found.dropped)
                self._me.log.info("partitions.dropped", partitions=found.dropped)
            for table in sorted(since.keys() - TIME_COLUMNS.keys()):
                await delete_expired(connection, table, since[table])
            await forget_expired_days(connection)
        if found.locked:
            raise PostgresAwayError(f"others read or lock what is to be dropped: {', '.join(found.locked)}")

    async def _write_sources(self, _settings: WriteSettings) -> None:
        point = point_like(self._me.section.access_points.subscribe_to, MARKET, MARKET_SOURCES)
        bus = self._me.bus(point.bus)
        fields: Any = await bus.ask(bus.client.hgetall(point.key), max_bytes=_HASH_BYTES)
        states, invalid = parse_source_states(fields)
        if invalid and not self._metrics.source_states_invalid:
            self._me.log.warning("sources.invalid", states=invalid)
        self._metrics.source_states_invalid = invalid
        if states:
            async with self._database.connect() as connection:
                await write_source_states(connection, states, time.time())

    async def _write_universe(self, _settings: WriteSettings) -> None:
        """Write which symbols the truth in force has, once for each truth."""
        truth = self._me.truth
        if truth is not self._written:
            async with self._database.connect() as connection:
                await write_universe(connection, list_universe(truth), time.time())
            self._written = truth

    async def _write_correlations(self, settings: WriteSettings) -> None:
        wanted = settings.correlations
        if not wanted.symbols:
            return
        shares = list_day_shares(self._me.truth.services.get("bars"))
        compared = Compared(wanted.days, wanted.symbols, shares)
        kept = find_kept_days(settings.keep_days, wanted.days, datetime.now(UTC))
        async with self._database.connect(_JOB_SEC) as connection:
            changed = await list_changed_days(connection, compared, kept)
            for day, made_of in islice(changed.items(), CORRELATIONS_AT_ONCE):
                self._metrics.correlations_total += await compute_correlations(
                    connection, day, compared, made_of
                )

    async def _report_database(self, _settings: WriteSettings) -> None:
        """Say on system-redis how the database is; while it can't be used, how far archive is behind."""
        try:
            report = await self._observer.observe(list_ruled_tables(self._me.truth))
        except (PostgresAwayError, SchemaError):
            self._metrics.report = None
            await self._write_report(DatabaseReport(ts=time.time()))
            raise
        self._metrics.report = report
        await self._write_report(report)

    async def _write_report(self, report: DatabaseReport) -> None:
        bus, encoded = self._me.bus(SYSTEM), replace(report, lag_sec=self._metrics.lag_sec).encode()
        await bus.ask(bus.client.set(ARCHIVE_DATABASE, encoded, ex=DATABASE_REPORT_VALID_SEC))

    async def _back_up(self, settings: WriteSettings) -> None:
        """Make the backup that is due by the schedule, and remove those that are too old; report both."""
        folder, url = self._me.settings.archive_backup_folder, self._me.settings.database_url
        if folder is None or url is None:
            await self._desk.note(BackupState.OFF, made_at=None, due_at=None)
            return
        try:
            await self._make_due_backup(settings, folder, url)
        except Exception as error:
            why = str(error) or type(error).__name__
            await self._desk.note(BackupState.FAILED, BackupResult.FAILED, why=why)
            raise

    async def _make_due_backup(self, settings: WriteSettings, folder: Path, url: str) -> None:
        now = time.time()
        newest = await self._check_newest_backup(folder, now)
        schedule = parse_schedule(settings.backup.schedule)
        # without any, the first one is made at once
        due_at, result = now if newest is None else schedule.next_run(newest.begun_at), BackupResult.NOT_DUE
        if newest is None or (due_at is not None and due_at <= now):
            made_at = None if newest is None else newest.begun_at
            await self._desk.note(BackupState.RUNNING, made_at=made_at, due_at=due_at or now)
            async with self._partitions_lock:
                newest = await make_backup(url, folder, now, self._me.settings.postgres_bin)
            due_at, result = schedule.next_run(newest.begun_at), BackupResult.MADE
            self._checked = newest.file, time.monotonic()
            self._metrics.backups_total += 1
            self._me.log.info("backup.made", file=newest.file, size=newest.size, sha256=newest.sha256)
        self._metrics.backup_timestamp_seconds = newest.begun_at
        before = now - settings.backup.keep_days * 86_400
        removed = await asyncio.to_thread(remove_old_backups, folder, before, now)
        if removed:
            self._me.log.info("backup.removed", files=removed)
        await self._desk.note(BackupState.IDLE, result, made_at=newest.begun_at, due_at=due_at)

    async def _check_restore(self, settings: WriteSettings) -> None:
        """Restore the newest backup into a database of its own, if that is due, and drop that; report it.

        At the begin of a term, where that is on, drop the databases that killed restores of ours left.
        """
        folder, url = self._me.settings.archive_backup_folder, self._me.settings.database_url
        if folder is None or url is None:
            return
        try:
            # where it is off, our role may not even connect to the database that the others are made from
            if settings.restore_check.enabled and not self._has_dropped_copies:
                await drop_stale_copies(url)
                self._has_dropped_copies = True
            await self._verify_due_backup(settings.restore_check, folder, url)
        except Exception as error:
            await self._desk.note_restore(verify_why=str(error) or type(error).__name__)
            raise

    async def _verify_due_backup(self, settings: RestoreCheckSettings, folder: Path, url: str) -> None:
        report = self._desk.state
        self._metrics.restore_verified_timestamp_seconds = report.verified_at
        if not settings.enabled:
            await self._desk.note_restore(verify_due_at=None, verify_why="")
            return
        now = time.time()
        backups = await asyncio.to_thread(list_backups, folder, now)
        if not backups:
            return
        oldest_at = min(each.begun_at for each in backups)
        due_at = find_restore_due(settings.schedule, report.verified_at, oldest_at, now)
        if not report.verify_why and (due_at is None or due_at > now):
            await self._desk.note_restore(verify_due_at=due_at)
            return
        dump = folder / backups[0].file
        try:
            verified = await verify_backup(url, dump, self._me.settings.postgres_bin)
        except Exception:
            await self._desk.note_restore(verify_due_at=time.time() + RESTORE_PAUSE_SEC)
            raise
        now = time.time()
        self._metrics.restores_verified_total += 1
        self._metrics.restore_verified_timestamp_seconds = now
        self._me.log.info("backup.verified", file=verified.file, sha256=verified.sha256)
        await self._desk.note_restore(
            verified_at=now,
            verified=verified.file,
            verify_why="",
            verify_due_at=find_restore_due(settings.schedule, now, now, now),
        )

    async def _check_newest_backup(self, folder: Path, now: float) -> Backup | None:
        """Return the newest backup; None, so that another is due, if there is none or its dump is damaged.

        A damaged one is logged, and reported until its file is gone. The digest is compared at the begin of a
        term and once a day, since that reads all of the dump.
        """
        damaged = self._desk.state.damaged
        if damaged and not await asyncio.to_thread((folder / damaged).exists):
            await self._desk.note_damaged("")
        newest = await asyncio.to_thread(read_newest_backup, folder, now)
        if newest is None:
            return None
        file, checked_at = self._checked
        if newest.file == file and time.monotonic() - checked_at < BACKUP_CHECK_SEC:
            return None if newest.file == damaged else newest
        try:
            is_whole = await asyncio.to_thread(hash_file, folder / newest.file) == newest.sha256
        except OSError:
            is_whole = False
        self._checked = newest.file, time.monotonic()
        if is_whole:
            return newest
        self._me.log.error("backup.damaged", file=newest.file)
        await self._desk.note_damaged(newest.file)
        return None


def find_paused_failure(report: BackupReport, now: float) -> str:
    """Return why the last restore failed, if the next one waits for its hour; otherwise an empty text.

    The report says it, so it holds over a restart of archive. A time that is further ahead counts as none.
    """
    if not report.verify_why or report.verify_due_at is None:
        return ""
    return report.verify_why if now < report.verify_due_at <= now + RESTORE_PAUSE_SEC else ""


def find_restore_due(schedule: str, verified_at: float | None, oldest_at: float, now: float) -> float | None:
    """Return when a backup is to be restored next (epoch seconds); None if the schedule has no such time.

    It is the first time of the schedule after the last one that was verified; without any, after the oldest
    backup was begun, since the newest one changes every day. A time ahead of `now` counts as none.
    """
    if verified_at is None or verified_at > now:
        return parse_schedule(schedule).next_run(min(oldest_at, now))
    due_at = parse_schedule(schedule).next_run(verified_at)
    return None if due_at is None else max(due_at, verified_at + RESTORE_PAUSE_SEC)


async def delete_expired(connection: Any, table: str, since: datetime) -> None:
    """Delete the rows of a table of the settings that are from before `since` and need not be kept."""
    name, condition = _TABLES.get(table, table), _EXPIRES_IF.get(table, "true")
    sql = f"DELETE FROM {name} old WHERE {_DELETED_BY[name]} < $1::timestamptz AND {condition}"  # noqa: S608 - our own names
    await connection.execute(sql, since)


def parse_source_states(fields: Mapping[bytes, bytes]) -> tuple[list[SourceState], int]:
    """Return the states in the hash, and how many are left out: invalid ones, and those after MAX_SOURCES."""
    parsed = (_parse_state(name, raw) for name, raw in sorted(fields.items())[:MAX_SOURCES])
    found = [state for state in parsed if state is not None]
    return found, len(fields) - len(found)


def _parse_state(name: bytes, raw: bytes) -> SourceState | None:
    """Return None if the state is invalid, too long, or has text that PostgreSQL can't hold."""
    source = name[:128].decode("utf-8", "replace").replace("\0", "")
    try:
        document, written = parse_storable_object("state", raw, MAX_STATE_BYTES)
    except EntryError:
        return None
    if not source:
        return None
    state, reason = document.get("state"), document.get("reason")
    return SourceState(
        source,
        written,
        state[:64] if isinstance(state, str) and state else _UNKNOWN,
        reason[:500] if isinstance(reason, str) else "",
    )


async def write_source_states(connection: Any, states: list[SourceState], now: float) -> None:
    at = datetime.fromtimestamp(now, UTC)
    async with transaction(connection):
        for each in states:
            await connection.execute(_WRITE_SOURCE, each.source, each.document, at)
            await connection.execute(_WRITE_HEALTH, each.source, at, each.state, each.reason)
