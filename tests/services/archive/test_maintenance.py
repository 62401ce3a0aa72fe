"""What one instance does for all, without a database: when each job is done, and who reports a failure."""

import asyncio
import contextlib
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from marketswarm.agent import LeaseLost
from marketswarm.agent.requests import RequestLimits
from marketswarm.bus import BusError
from marketswarm.keys import ARCHIVE_BACKUP, ARCHIVE_BACKUP_REQUEST, ARCHIVE_DATABASE
from marketswarm.operator.service_reports import (
    DATABASE_REPORT_VALID_SEC,
    BackupReport,
    BackupRequest,
    DatabaseReport,
)
from marketswarm.postgres.errors import PostgresAwayError, RefusedRowsError, ServerFaultError
from marketswarm.testing import MemoryBuses
from marketswarm.truth import SYSTEM, parse_truth
from services.archive import maintenance
from services.archive.backup import Backup, BackupError
from services.archive.maintenance import BACKUP_BACKOFF, Maintenance, MaintenanceJob
from services.archive.metrics import ArchiveMetrics
from services.archive.settings import ArchiveSettings
from support.waiting import auntil

TAKE_EVERY_SEC = 1.0
"""The least time between two requests here."""
RULES = b"""{"services": {"medic": {"settings": {"rules": {
    "old": {"metric": "table_age", "table": "quotes", "above": 60}, "odd": {"table": "pg_authid"}, "off": null
}}}}}"""
MADE = Backup("archive-20261123T033000Z.dump", 1_793_100_000.0, 10, "ab", 4, "17", {})


class Me:
    """An agent whose lease is lost when a test says so."""

    def __init__(self, folder):
        self.settings = SimpleNamespace(
            archive_backup_folder=folder, database_url="postgresql://u@h/d", postgres_bin=None
        )
        self.section = SimpleNamespace(access_points=SimpleNamespace(subscribe_to=()))
        self.truth = parse_truth(RULES).truth
        self.log = SimpleNamespace(
            info=self._note, warning=self._note, error=self._note, exception=self._note
        )
        self.logged, self.degraded, self.asked, self.leases = [], {}, 0, 0
        self.bus_error: Exception | None = None
        self.system_error: Exception | None = None
        self.states: dict[bytes, bytes] = {}
        self.system = MemoryBuses()(SYSTEM)
        self.lose = asyncio.Event()

    def _note(self, event, **fields):
        self.logged.append((event, fields))

    def set_degraded(self, detail, *, part):
        self.degraded[part] = detail
        if detail is None:
            del self.degraded[part]

    def bus(self, name):
        if name == SYSTEM and self.system_error is not None:
            raise self.system_error
        if name == SYSTEM:
            return self.system
        return SimpleNamespace(client=SimpleNamespace(hgetall=lambda _key: None), ask=self._ask)

    async def _ask(self, _request, **_limits):
        self.asked += 1
        if self.bus_error is not None:
            raise self.bus_error
        return self.states

    @contextlib.asynccontextmanager
    async def lease(self, _name, **_options):
        self.leases += 1
        if self.leases > 1:  # another instance has it now
            await asyncio.Event().wait()
        block = asyncio.current_task()
        losing = asyncio.create_task(self.lose.wait())
        losing.add_done_callback(lambda done: None if done.cancelled() else block.cancel())
        try:
            yield
        except asyncio.CancelledError:
            if not self.lose.is_set():
                raise
            block.uncancel()
            raise LeaseLost("it was not renewed in time") from None
        finally:
            losing.cancel()


class Database:
    """A database that can't be used, for the reason that a test names."""

    def __init__(self):
        self.error, self.connected = PostgresAwayError("refused"), 0

    @contextlib.asynccontextmanager
    async def connect(self, _within_sec=None):
        self.connected += 1
        raise self.error
        yield


class Observer:
    """What is known of that database, or why nothing is."""

    def __init__(self):
        self.error, self.report, self.tables = PostgresAwayError("refused"), None, []

    async def observe(self, tables):
        self.tables = tables
        if self.report is None:
            raise self.error
        return self.report


class Scene:
    """Maintenance that runs until the end of the test, and what it reports."""

    def __init__(self, folder, monkeypatch):
        self.me, self.database, self.metrics = Me(folder), Database(), ArchiveMetrics()
        self.observer = Observer()
        monkeypatch.setattr(maintenance, "DatabaseObserver", lambda _database: self.observer)
        # it would look up the host of the address, and the moved clock runs as usual meanwhile
        self.stale_dropped = 0
        monkeypatch.setattr(maintenance, "drop_stale_copies", self.drop_stale_copies)
        monkeypatch.setattr(maintenance, "STEP_SEC", 0.01)
        monkeypatch.setattr(maintenance, "LOOK_EVERY_SEC", 0.05)
        monkeypatch.setattr(maintenance, "BACKUP_LIMITS", RequestLimits(take_every_sec=TAKE_EVERY_SEC))
        for name in ("SOURCES_EVERY_SEC", "PARTITIONS_EVERY_SEC", "BACKUP_EVERY_SEC", "DATABASE_EVERY_SEC"):
            monkeypatch.setattr(maintenance, name, 0.02)
        settings = ArchiveSettings.model_validate({"settings": {"correlations": {"symbols": 0}}})
        self.maintenance = Maintenance(
            self.me, lambda: settings, self.database, SimpleNamespace(), self.metrics
        )

    async def drop_stale_copies(self, _url):
        self.stale_dropped += 1

    def failures(self, job):
        return self.metrics.maintenance_failures_total[job]

    @contextlib.asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.maintenance.run())
        yield
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.fixture
def scene(tmp_path, monkeypatch, moved_time):
    return Scene(tmp_path, monkeypatch)


def test_a_job_that_fails_again_and_again_is_tried_less_and_less_often():
    job = MaintenanceJob("backup", 20.0, lambda _settings: None, BACKUP_BACKOFF)
    now, pauses = 1000.0, []
    for _ in range(10):
        job.note_failure("pg_dump failed", now)
        pauses.append(job.due_at - now)
        now = job.due_at
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]
    job.note_success(now)
    assert (job.due_at - now, job.problem) == (20, None)
    job.note_failure("pg_dump failed", now)
    assert job.due_at - now == 60


async def test_a_backup_that_fails_is_reported_once_and_no_more_after_the_lease_was_lost(scene, monkeypatch):
    async def fail(*_arguments):
        raise BackupError("pg_dump failed: server version mismatch")

    monkeypatch.setattr(maintenance, "make_backup", fail)
    async with scene.running():
        await auntil(lambda: "server version mismatch" in scene.me.degraded.get("maintenance backup", ""))
        assert scene.failures("backup") == 1
        scene.me.lose.set()
        await auntil(lambda: scene.me.leases == 2)
        assert scene.me.degraded == {}
        assert [fields["job"] for event, fields in scene.me.logged if event == "maintenance.failed"].count(
            "backup"
        ) == 1


async def test_a_long_backup_keeps_partitions_waiting_and_nothing_else(scene, monkeypatch):
    begun, end = asyncio.Event(), asyncio.Event()

    async def save(*_arguments):
        begun.set()
        await end.wait()
        return MADE

    monkeypatch.setattr(maintenance, "make_backup", save)
    async with scene.running():
        await begun.wait()
        asked, connected = scene.me.asked, scene.database.connected
        await auntil(lambda: scene.me.asked > asked + 3)  # for the states of the sources
        assert scene.database.connected == connected  # by the partitions
        end.set()
        await auntil(lambda: scene.database.connected > connected)
        assert scene.metrics.backups_total >= 1


async def test_a_lease_that_is_lost_ends_a_backup_that_is_being_made(scene, monkeypatch):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def save(*_arguments):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(maintenance, "make_backup", save)
    async with scene.running():
        await begun.wait()
        scene.me.lose.set()
        await auntil(lambda: scene.me.leases == 2)
        assert ended.is_set()
        assert scene.metrics.backup_timestamp_seconds is None


async def test_the_beats_report_what_fails_but_for_a_bus_or_a_database_that_is_away(scene):
    scene.me.settings.archive_backup_folder = None
    scene.me.bus_error = BusError("market-redis", "timeout")
    async with scene.running():
        await auntil(lambda: scene.failures("sources") and scene.failures("partitions"))
        assert scene.me.degraded == {}  # the workers report these
        for error in (
            RefusedRowsError("CheckViolationError: market_name_check"),
            ServerFaultError("IndexCorruptedError: could not read block 7"),
        ):
            scene.database.error = error
            await auntil(
                lambda error=error: str(error) in scene.me.degraded.get("maintenance partitions", "")
            )


async def test_an_error_of_ours_is_a_failure_of_its_job_and_ends_nobody(scene):
    scene.me.settings.archive_backup_folder = None
    scene.me.bus_error = TypeError("Recursion limit reached")
    async with scene.running():
        await auntil(lambda: scene.failures("sources") >= 3 and scene.failures("partitions"))
        assert scene.me.degraded == {"maintenance sources": "sources: TypeError: Recursion limit reached"}
        defects = [fields for event, fields in scene.me.logged if event == "maintenance.defect"]
        assert [fields["job"] for fields in defects] == ["sources"], "the same one is logged once"
        scene.me.bus_error = None
        await auntil(lambda: not scene.me.degraded)


async def test_states_that_are_none_are_counted_and_logged_once(scene):
    scene.me.settings.archive_backup_folder = None
    scene.me.states = {b"evil": b'{"x": ' + b"[" * 300 + b"]" * 300 + b"}", b"list": b"[]"}
    async with scene.running():
        asked = scene.me.asked
        await auntil(lambda: scene.me.asked > asked + 3)
        assert [fields for event, fields in scene.me.logged if event == "sources.invalid"] == [{"states": 2}]
        assert scene.metrics.source_states_invalid == 2
        scene.me.states = {}
        await auntil(lambda: scene.metrics.source_states_invalid == 0)
        assert not scene.failures("sources")


async def test_old_backups_that_can_not_be_removed_are_a_failure_and_end_nobody(scene, monkeypatch):
    def refuse(_folder, _before, _now):
        raise BackupError("/backups: Read-only file system")

    monkeypatch.setattr(maintenance, "read_newest_backup", lambda _folder, _now: MADE)
    monkeypatch.setattr(maintenance, "remove_old_backups", refuse)
    monkeypatch.setattr(maintenance, "hash_file", lambda _file: MADE.sha256)
    clock = SimpleNamespace(time=lambda: MADE.begun_at + 60, monotonic=time.monotonic)
    monkeypatch.setattr(maintenance, "time", clock)
    async with scene.running():
        await auntil(lambda: "Read-only file system" in scene.me.degraded.get("maintenance backup", ""))
        assert scene.metrics.backup_timestamp_seconds == MADE.begun_at


async def test_a_restore_that_failed_is_tried_again_after_an_hour_even_by_another_instance(
    scene, monkeypatch, tmp_path, moved_time
):
    tried = []

    async def fail(*_arguments):
        tried.append(time.time())
        raise BackupError("what was restored is not what was saved: bars")

    dumps = Dumps(monkeypatch)
    dumps.made = replace(MADE, begun_at=time.time())
    monkeypatch.setattr(maintenance, "hash_file", lambda _file: MADE.sha256)
    monkeypatch.setattr(maintenance, "list_backups", lambda _folder, _now: [replace(MADE, begun_at=1.0)])
    monkeypatch.setattr(maintenance, "verify_backup", fail)
    async with scene.running():
        await auntil(lambda: len(tried) == 1)
        await wait_for_report(scene, verify_why="what was restored is not what was saved: bars")
    other = Scene(tmp_path, monkeypatch)
    other.me.system = scene.me.system
    async with other.running():
        await auntil(lambda: "not what was saved" in other.me.degraded.get("maintenance restore", ""))
        await asyncio.sleep(BACKUP_BACKOFF.first_sec + 1)
        assert len(tried) == 1
        moved_time.advance(maintenance.RESTORE_PAUSE_SEC)
        await auntil(lambda: len(tried) == 2)
        assert tried[1] - tried[0] >= maintenance.RESTORE_PAUSE_SEC


async def report_of(scene):
    raw = await scene.me.system.client.get(ARCHIVE_BACKUP)
    return None if raw is None else BackupReport.parse(raw)


async def ask(scene, ident):
    request = BackupRequest(id=ident, by="medic", ts=1.0)
    await scene.me.system.client.set(ARCHIVE_BACKUP_REQUEST, request.encode())


async def wait_for_report(scene, **wanted):
    """Wait until the report has these values."""

    async def is_there():
        report = await report_of(scene)
        return report is not None and all(getattr(report, name) == each for name, each in wanted.items())

    await auntil(is_there, what=lambda: scene.me.logged)


class Dumps:
    """Stands for pg_dump and the folder: it fails until it is mended."""

    def __init__(self, monkeypatch):
        self.is_broken, self.calls, self.made = True, 0, None
        monkeypatch.setattr(maintenance, "make_backup", self.make)
        monkeypatch.setattr(maintenance, "read_newest_backup", lambda _folder, _now: self.made)

    async def make(self, _url, _folder, now, _programs):
        self.calls += 1
        if self.is_broken:
            raise BackupError("pg_dump failed: disk full")
        self.made = replace(MADE, file=f"archive-{self.calls}.dump", begun_at=now)
        return self.made


async def test_a_request_ends_the_pause_after_a_failed_backup_and_the_report_answers_it(scene, monkeypatch):
    dumps = Dumps(monkeypatch)
    async with scene.running():
        await wait_for_report(scene, state="failed", why="pg_dump failed: disk full", result=None)
        assert (dumps.calls, (await report_of(scene)).made_at) == (1, None)
        await ask(scene, "first")
        await wait_for_report(scene, request="first", result="failed")
        assert dumps.calls == 2
        dumps.is_broken = False
        await asyncio.sleep(TAKE_EVERY_SEC)
        await ask(scene, "second")
        await wait_for_report(scene, state="idle", request="second", result="made", why="")
        report = await report_of(scene)
        assert (dumps.calls, report.made_at) == (3, round(dumps.made.begun_at, 3))
        assert report.due_at > report.made_at
        assert "maintenance backup" not in scene.me.degraded


async def test_a_backup_that_is_not_due_is_not_made_however_often_it_is_asked_for(scene, monkeypatch):
    dumps = Dumps(monkeypatch)
    dumps.is_broken = False
    async with scene.running():
        await wait_for_report(scene, state="idle", result=None)
        for ident in ("first", "second"):
            await asyncio.sleep(TAKE_EVERY_SEC)
            await ask(scene, ident)
            await wait_for_report(scene, state="idle", request=ident, result="not_due")
        assert dumps.calls == 1


@pytest.mark.parametrize("content", [b"cut", None])
async def test_in_place_of_a_damaged_backup_another_is_made_and_it_is_said_until_its_file_is_gone(
    scene, monkeypatch, tmp_path, content
):
    dumps, dump = Dumps(monkeypatch), tmp_path / MADE.file
    dumps.is_broken, dumps.made = False, replace(MADE, begun_at=time.time())
    if content is None:
        dump.mkdir()  # it can't be read
    else:
        dump.write_bytes(content)
    async with scene.running():
        await wait_for_report(scene, state="idle", damaged=MADE.file)
        await asyncio.sleep(0.5)
        assert dumps.calls == 1
        assert [fields["file"] for event, fields in scene.me.logged if event == "backup.damaged"] == [
            MADE.file
        ]
        dump.rename(tmp_path / "elsewhere")
        await wait_for_report(scene, state="idle", damaged="")


async def test_the_digest_of_the_newest_backup_is_compared_once_a_day(scene, monkeypatch):
    dumps, hashed = Dumps(monkeypatch), []
    dumps.made = replace(MADE, begun_at=time.time())
    monkeypatch.setattr(maintenance, "hash_file", lambda file: hashed.append(file) or MADE.sha256)
    monkeypatch.setattr(maintenance, "BACKUP_CHECK_SEC", 1.0)
    async with scene.running():
        await auntil(lambda: len(hashed) == 1)
        await asyncio.sleep(0.5)
        assert len(hashed) == 1
        await auntil(lambda: len(hashed) == 2)
        assert dumps.calls == 0


async def test_a_request_is_followed_once_and_not_again_by_the_next_instance(scene, monkeypatch, tmp_path):
    dumps = Dumps(monkeypatch)
    async with scene.running():
        await wait_for_report(scene, state="failed")
        await ask(scene, "first")
        await wait_for_report(scene, request="first", result="failed")
    other = Scene(tmp_path, monkeypatch)
    other.me.system = scene.me.system
    calls = dumps.calls
    async with other.running():
        await auntil(lambda: dumps.calls == calls + 1)  # that of its own
        await asyncio.sleep(2 * TAKE_EVERY_SEC)
        assert dumps.calls == calls + 1
        assert (await report_of(other)).result == "failed"


async def test_requests_that_come_too_fast_are_not_followed(scene, monkeypatch):
    Dumps(monkeypatch)
    async with scene.running():
        await wait_for_report(scene, state="failed")
        begun = time.monotonic()
        for number in range(8):
            await ask(scene, f"request-{number}")
            await asyncio.sleep(TAKE_EVERY_SEC / 10)
        most = 1 + int((time.monotonic() - begun) / TAKE_EVERY_SEC)  # more than 1 on a machine that is slow
        assert 1 <= [event for event, _ in scene.me.logged].count("backup.requested") <= most


@pytest.mark.parametrize(
    "junk", [b"\xff", b"[]", b'{"id": "a b", "by": "x", "ts": 1}', b"x" * 5000, b'{"id": 7}']
)
async def test_a_request_and_a_report_that_can_not_be_used_are_skipped(scene, monkeypatch, junk):
    dumps = Dumps(monkeypatch)
    dumps.is_broken = False
    await scene.me.system.client.set(ARCHIVE_BACKUP_REQUEST, junk)
    await scene.me.system.client.set(ARCHIVE_BACKUP, junk)
    async with scene.running():
        await wait_for_report(scene, state="idle", request="", result=None)
        await asyncio.sleep(0.5)
        assert "backup.requested" not in [event for event, _ in scene.me.logged]


async def test_a_bus_that_is_away_keeps_no_backup_from_being_made_and_gets_the_report_later(
    scene, monkeypatch
):
    dumps = Dumps(monkeypatch)
    dumps.is_broken = False
    scene.me.system_error = BusError(SYSTEM, "timeout")
    async with scene.running():
        await auntil(lambda: dumps.calls == 1)
        await asyncio.sleep(0.5)
        scene.me.system_error = None
        await wait_for_report(scene, state="idle")
        assert scene.me.degraded.get("maintenance backup") is None


async def test_without_a_folder_the_report_says_so(scene):
    scene.me.settings.archive_backup_folder = None
    async with scene.running():
        await wait_for_report(scene, state="off", due_at=None)


async def test_how_the_database_is_is_on_the_bus_for_a_while_and_only_tables_of_rules_are_looked_at(scene):
    async def find_report():
        return DatabaseReport.parse(await scene.me.system.client.get(ARCHIVE_DATABASE) or b"")

    scene.me.settings.archive_backup_folder = None
    scene.metrics.lag_sec = 700.0
    async with scene.running():
        report = await auntil(find_report)
        assert (report.lag_sec, report.connections) == (700.0, None), "PostgreSQL can't be used"
        assert scene.failures("database")
        assert scene.me.degraded == {}, "the workers report that"
        assert 0 < await scene.me.system.client.ttl(ARCHIVE_DATABASE) <= DATABASE_REPORT_VALID_SEC
        assert scene.observer.tables == ["quotes"]
        scene.observer.report = DatabaseReport(ts=5.0, connections=7, lag_sec=1.0)
        scene.metrics.lag_sec = None
        await auntil(lambda: find_seven(find_report))
        assert (await find_report()).lag_sec is None


async def find_seven(find_report):
    report = await find_report()
    return report is not None and report.connections == 7


def test_without_a_folder_the_beats_and_the_metrics_say_that_there_are_no_backups():
    metrics = ArchiveMetrics(makes_backups=False)
    assert metrics.summary() == "no backups"
    metrics.count("bars:bars", "written", 7)
    assert metrics.summary() == "7 written, 0 unread, no backups"
    assert ArchiveMetrics().summary() is None
