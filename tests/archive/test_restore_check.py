"""Archive restores its newest backup by itself, on a real server: what it reports, and what it leaves."""

import asyncio
import hashlib
import json
import time

import asyncpg
import pytest

from marketswarm.operator.service_reports import BackupReport
from services.archive.backup import BackupError, make_backup
from services.archive.database import Database
from services.archive.restore import COPY_COMMENT, NO_RIGHT, NO_ROOM, verify_backup
from support.postgres import query
from support.scenes.agent import Scene, seed
from support.waiting import until

COPIES = "SELECT datname FROM pg_database WHERE datname LIKE 'restored%' ORDER BY 1"


def truth(**restore_check):
    settings = {
        # a day that does not come: the backup of the test is the newest one
        "backup": {"schedule": "0 0 29 2 *", "keep_days": 3650},
        "restore_check": restore_check,
    }
    beats = {"interval_sec": 0.3, "timeout_sec": 10.0}
    return {"services": {"archive": {"heartbeat": beats, "settings": settings}}}


async def save(url, folder, programs):
    """Return a backup of a new schema that was begun five weeks ago."""
    database = Database(url)
    await database.require_schema()
    await database.aclose()
    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO correlations VALUES ('2013-01-04', 'A', 'B', 0.5, 60)")
    await connection.close()
    return await make_backup(url, folder, time.time() - 35 * 86_400, programs)


def spoil(folder, made):
    """Damage a dump, and give its manifest the digest of what it is now."""
    dump = folder / made.file
    raw = bytearray(dump.read_bytes())
    raw[len(raw) // 2 :] = bytes(len(raw) - len(raw) // 2)
    dump.write_bytes(raw)
    manifest = dump.with_suffix(".json")
    document = json.loads(manifest.read_text()) | {"sha256": hashlib.sha256(raw).hexdigest()}
    manifest.write_text(json.dumps(document))


def report_of(scene):
    raw = scene.system.cmd("GET", "archive:backup")
    return BackupReport.parse(raw.encode()) if raw else None


def environ(postgres, url, folder):
    programs = str(postgres.programs)
    return {"DATABASE_URL": url, "POSTGRES_BIN": programs, "ARCHIVE_BACKUP_FOLDER": str(folder)}


def test_the_newest_backup_is_restored_once_and_what_a_kill_left_is_dropped(postgres, archive_url, tmp_path):
    folder = tmp_path / "backups"
    made = asyncio.run(save(archive_url, folder, postgres.programs))
    stale, alike = "restored_0123456789aa", "restored_0123456789bb"
    for name in (stale, alike):
        asyncio.run(postgres.execute(f"CREATE DATABASE {name}"))
    asyncio.run(postgres.execute(f"COMMENT ON DATABASE {stale} IS '{COPY_COMMENT}'"))
    try:
        with Scene(tmp_path) as scene:
            seed(scene.buses, truth(), 1)
            env = environ(postgres, archive_url, folder)
            first = scene.module("services.archive", **env)
            until(lambda: first.logs("backup.verified"), 60, first.text)
            report = until(lambda: (found := report_of(scene)) and found.verified_at and found)
            assert (report.verified, report.verify_why) == (made.file, "")
            assert abs(time.time() - report.verified_at) < 60 < report.verify_due_at - time.time() + 3600
            assert query(archive_url, COPIES) == [(alike,)]
            until(lambda: "backup restored and compared" in scene.beat("archive").get("detail", ""))
            assert first.stop() == 0
            # when it was done outlives a restart
            second = scene.module("services.archive", **env)
            second.wait_log("lease.held")
            until(lambda: (found := report_of(scene)) and found.ts > report.ts and found, 60, second.text)
            scene.wait_beat(svc="archive", boot=second.logs("agent.joined")[0]["boot"], i=20)
            assert second.logs("backup.verified") == []
            assert report_of(scene).verified_at == report.verified_at
            assert second.stop() == 0
    finally:
        asyncio.run(postgres.execute(f"DROP DATABASE IF EXISTS {alike}"))


def test_a_dump_with_the_right_digest_that_can_not_be_restored_is_reported(postgres, archive_url, tmp_path):
    folder = tmp_path / "backups"
    made = asyncio.run(save(archive_url, folder, postgres.programs))
    spoil(folder, made)
    with Scene(tmp_path) as scene:
        seed(scene.buses, truth(), 1)
        archive = scene.module("services.archive", **environ(postgres, archive_url, folder))
        failed = until(lambda: archive.logs("maintenance.failed"), 60, archive.text)[0]
        assert failed["job"] == "restore"
        assert "pg_restore failed" in failed["why"]
        report = until(lambda: (found := report_of(scene)) and found.verify_why and found)
        assert "pg_restore failed" in report.verify_why
        assert (report.verified_at, report.damaged) == (None, "")
        until(lambda: scene.wait_beat(svc="archive", status="degraded"))
        assert query(archive_url, COPIES) == []
        assert archive.stop() == 0


@pytest.fixture
def stale_copy(postgres):
    """A database that a restore left which was killed."""
    name = "restored_0123456789cc"
    asyncio.run(postgres.execute(f"CREATE DATABASE {name}"))
    asyncio.run(postgres.execute(f"COMMENT ON DATABASE {name} IS '{COPY_COMMENT}'"))
    yield name
    asyncio.run(postgres.execute(f"DROP DATABASE IF EXISTS {name}"))


def test_where_it_is_switched_off_nothing_is_restored_and_no_other_database_is_asked_for(
    postgres, archive_url, stale_copy, tmp_path
):
    """A managed server may let our role into its own database alone."""
    folder = tmp_path / "backups"
    spoil(folder, asyncio.run(save(archive_url, folder, postgres.programs)))
    with Scene(tmp_path) as scene:
        seed(scene.buses, truth(enabled=False), 1)
        archive = scene.module("services.archive", **environ(postgres, archive_url, folder))
        until(lambda: (found := report_of(scene)) and found.made_at, 60, archive.text)
        scene.wait_beat(svc="archive", boot=archive.logs("agent.joined")[0]["boot"], i=20)
        assert archive.logs("maintenance.failed") == []
        assert report_of(scene).verify_due_at is None
        assert query(archive_url, COPIES) == [(stale_copy,)]
        assert archive.stop() == 0


def test_a_role_that_may_make_no_database_is_told_what_it_lacks(postgres, archive_url, tmp_path):
    made = asyncio.run(save(archive_url, tmp_path, postgres.programs))
    url = postgres.reader_url_of(archive_url)
    with pytest.raises(BackupError) as caught:
        asyncio.run(verify_backup(url, tmp_path / made.file, postgres.programs))
    assert str(caught.value) == NO_RIGHT


def test_a_full_disk_is_named_with_what_to_do(postgres, archive_url, tmp_path):
    made = asyncio.run(save(archive_url, tmp_path, postgres.programs))
    (programs := tmp_path / "programs").mkdir()
    error = "pg_restore: error: could not extend file: No space left on device"
    (programs / "pg_restore").write_text(f"#!/bin/sh\necho '{error}' >&2; exit 1\n")
    (programs / "pg_restore").chmod(0o755)
    with pytest.raises(BackupError) as caught:
        asyncio.run(verify_backup(archive_url, tmp_path / made.file, programs))
    assert str(caught.value).startswith(NO_ROOM)
    assert query(archive_url, COPIES) == []
