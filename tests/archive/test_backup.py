"""Backups of a real database: what is restored is what was saved, and what is damaged is refused."""

import asyncio
import fcntl
import json
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import orjson
import polars as pl
import pytest

from marketswarm.postgres.errors import PostgresAwayError
from services.archive.backup import (
    Backup,
    BackupError,
    list_backups,
    make_backup,
    read_newest_backup,
    remove_old_backups,
)
from services.archive.database import SCHEMA, Database
from services.archive.export import ExportError, export_table, make_frame
from services.archive.partitions import find_partition, make_partitions
from services.archive.restore import COPY_COMMENT, restore_backup, verify_backup
from services.archive.writer import TypedEntry, Writer
from services.tables.rows import BarRow, ObservationRow
from services.tables.tables import BAR_TABLE, OBSERVATION_TABLE, STREAMS
from support import archive_play as played
from support.archive_rows import START, entry
from support.pages import ROOT
from support.postgres import plain, query
from support.waiting import auntil, until

NOW = 1_793_100_000.0
SLOW_TO_VACUUM = """
CREATE TABLE slow (n int) WITH (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);
INSERT INTO slow SELECT generate_series(1, 200000);
DELETE FROM slow
"""


async def fill(url, seed=1):
    """Write a play into a database as the service does."""
    database = Database(url)
    entries = []
    for place, (stream, fields) in enumerate(played.make_play(seed, 400)):
        table, make = STREAMS[stream]
        raw = {name.encode(): value.encode() for name, value in fields.items()}
        if "open" not in fields or "start" in fields:
            ident = b"%d-0" % (1_793_000_000_000 + place)
            entries.append(TypedEntry(stream, ident, table, *make(ident, raw)))
    assert await Writer(database).write(entries) == []
    await database.aclose()


async def add_month(url):
    """Write a bar of a month that has no row yet."""
    start = datetime(2027, 1, 4, 15, tzinfo=UTC)
    made = None, None, None, True, 0, 0, "x", None, None, False
    bar = plain(BarRow("QQQ", "1m", start, 1.0, 2.0, 0.5, 1.5, *made))
    database = Database(url)
    assert await Writer(database).write([TypedEntry("bars:bars", b"1-0", BAR_TABLE, bar)]) == []
    await database.aclose()


def rows_of(url):
    tables = ("bars", "quotes", "observations", "indicators", "features", "symbols", "downloads")
    return {table: query(url, f"SELECT row::text FROM {table} row ORDER BY 1") for table in tables}  # noqa: S608 - our own names


def test_a_backup_and_its_manifest_are_its_owners_alone_in_any_folder(postgres, archive_url, tmp_path):
    (folder := tmp_path / "backups").mkdir(mode=0o755)
    asyncio.run(make_backup(archive_url, folder, NOW, postgres.programs))
    assert {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        ".dump": 0o600,
        ".json": 0o600,
    }


def test_a_restored_backup_is_row_by_row_what_was_saved(postgres, archive_url, tmp_path):
    asyncio.run(fill(archive_url))
    saved = rows_of(archive_url)
    made = asyncio.run(make_backup(archive_url, tmp_path / "backups", NOW, postgres.programs))
    dump = tmp_path / "backups" / made.file
    assert made.file == "archive-20261027T112000Z.dump"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (dump, dump.parent)} == {0o600, 0o700}
    assert made.tables["bars"].rows == len(saved["bars"]) > 100
    assert list_backups(dump.parent, NOW) == [made] == [read_newest_backup(dump.parent, NOW)]
    # into an empty database
    other = postgres.new_database()
    asyncio.run(restore_backup(other, dump, postgres.programs))
    assert rows_of(other) == saved
    # and over one that went on, with months that the backup does not have
    query(archive_url, "DELETE FROM bars WHERE symbol = 'SPY'")
    query(archive_url, "UPDATE quotes SET price = 1")
    asyncio.run(add_month(archive_url))
    with pytest.raises(BackupError, match="--replace"):
        asyncio.run(restore_backup(archive_url, dump, postgres.programs))
    asyncio.run(restore_backup(archive_url, dump, postgres.programs, replace=True))
    assert rows_of(archive_url) == saved
    assert query(postgres.reader_url_of(archive_url), "SELECT count(*) FROM bars") == [(len(saved["bars"]),)]
    asyncio.run(fill(archive_url, 2))  # the schema is whole: the service goes on
    assert len(query(archive_url, "SELECT FROM bars")) > len(saved["bars"])


def test_a_backup_is_verified_in_a_database_of_its_own(postgres, archive_url, tmp_path):
    asyncio.run(fill(archive_url))
    made = asyncio.run(make_backup(archive_url, tmp_path, NOW, postgres.programs))
    dump, manifest = tmp_path / made.file, (tmp_path / made.file).with_suffix(".json")
    query(archive_url, "DELETE FROM quotes")  # what is there now does not matter
    databases = query(archive_url, "SELECT datname FROM pg_database")
    assert asyncio.run(verify_backup(archive_url, dump, postgres.programs)) == made
    assert query(archive_url, "SELECT datname FROM pg_database") == databases
    document = json.loads(manifest.read_text())
    document["tables"]["bars"]["rows"] += 1
    manifest.write_text(json.dumps(document))
    with pytest.raises(BackupError, match="bars has"):
        asyncio.run(verify_backup(archive_url, dump, postgres.programs))
    raw = bytearray(dump.read_bytes())
    raw[len(raw) // 2] ^= 1
    dump.write_bytes(raw)
    with pytest.raises(BackupError, match="damaged"):
        asyncio.run(verify_backup(archive_url, dump, postgres.programs))
    manifest.unlink()
    with pytest.raises(BackupError, match="not complete"):
        asyncio.run(verify_backup(archive_url, dump, postgres.programs))
    assert query(archive_url, "SELECT datname FROM pg_database") == databases


OLD_ROWS = {
    1: [
        "INSERT INTO bars VALUES ('A', '1d', '2026-10-26Z', 1,1,1,1,0,1,0, 't', 0, 'x', NULL, NULL, 't')",
        "INSERT INTO features VALUES ('A', '2026-10-26Z', 0, '{}')",
    ],
    2: ["INSERT INTO downloads (id, source, asked_at, outcome) VALUES ('1-0', 'yahoo', now(), 'fresh')"],
    3: ["INSERT INTO correlations VALUES ('2026-10-26', 'QQQ', 'SPY', 0.5, 60)"],
    6: ["INSERT INTO correlated_days VALUES ('2026-10-27', '60 200 1')"],
}
"""A row or two of the tables that each version of the schema brought."""


@pytest.mark.parametrize(
    "version",
    [
        1,
        *(
            pytest.param(version, marks=pytest.mark.nightly("the same test with the oldest schema"))
            for version in range(2, len(SCHEMA.load_migrations()) + 1)
        ),
    ],
)
async def test_a_backup_of_every_older_schema_is_verified_restored_and_brought_up_to_date(
    postgres, connect, tmp_path, version
):
    """Of the tables that it has, with the columns of then."""
    url, other = [await asyncio.to_thread(postgres.new_database) for _ in range(2)]
    connection = await connect(url)
    await SCHEMA.apply_migrations(connection, SCHEMA.load_migrations()[:version])
    await make_partitions(connection, [find_partition("bars", datetime(2026, 10, 26, tzinfo=UTC))])
    for sql in [sql for since, lines in OLD_ROWS.items() if since <= version for sql in lines]:
        await connection.execute(sql)
    made = await make_backup(url, tmp_path, NOW, postgres.programs)
    assert (made.schema, made.tables["bars"].rows) == (version, 1)
    assert ("correlations" in made.tables) == (version >= 3)
    assert await verify_backup(url, tmp_path / made.file, postgres.programs) == made
    await restore_backup(other, tmp_path / made.file, postgres.programs)
    database = Database(other)
    async with database.connect() as restored:
        assert await SCHEMA.read_version(restored) == len(SCHEMA.load_migrations())
        assert await restored.fetchval("SELECT replay FROM features") == (version < 5)  # which marks them
    await database.aclose()


async def test_a_table_that_the_manifest_names_and_the_dump_lacks_is_a_difference(
    postgres, archive_url, tmp_path
):
    made = await make_backup(archive_url, tmp_path, NOW, postgres.programs)
    manifest = (tmp_path / made.file).with_suffix(".json")
    document = json.loads(manifest.read_text())
    document["tables"]["pets"] = document["tables"]["bars"]
    manifest.write_text(json.dumps(document))
    with pytest.raises(BackupError, match="pets is missing"):
        await verify_backup(archive_url, tmp_path / made.file, postgres.programs)
    digest = document["tables"].pop("pets")
    for wrong in (
        {"tables": {"bars row; DROP TABLE bars; --": digest}},
        {"tables": {"bars\n": digest}},
        {"timescaledb": "2.1.0\n"},
    ):
        manifest.write_text(json.dumps(document | wrong))
        with pytest.raises(BackupError, match="no manifest"):
            await verify_backup(archive_url, tmp_path / made.file, postgres.programs)
    for elsewhere in ("", ".", "..", "/etc/passwd", f"../{tmp_path.name}/{made.file}"):
        manifest.write_text(json.dumps(document | {"file": elsewhere}))
        with pytest.raises(BackupError, match="names a file elsewhere"):
            await verify_backup(archive_url, tmp_path / made.file, postgres.programs)


async def test_a_database_without_the_schema_is_no_backup(postgres, tmp_path):
    url = await asyncio.to_thread(postgres.new_database)
    with pytest.raises(BackupError, match="no tables of archive"):
        await make_backup(url, tmp_path / "backups", NOW, postgres.programs)
    assert list((tmp_path / "backups").iterdir()) == []


async def test_a_backup_takes_longer_than_the_server_lets_sessions_idle(postgres, archive_url, tmp_path):
    name = archive_url.rpartition("/")[2]
    connection = await asyncpg.connect(archive_url)
    for limit in ("idle_in_transaction_session_timeout", "idle_session_timeout"):
        await connection.execute(f"ALTER DATABASE {name} SET {limit} = '100ms'")
    await connection.close()
    programs = fake_pg_dump(tmp_path, f'sleep 1; exec "{postgres.programs}/pg_dump" "$@"')
    made = await make_backup(archive_url, tmp_path / "backups", NOW, programs)
    assert await verify_backup(archive_url, tmp_path / "backups" / made.file, postgres.programs) == made


def test_a_restore_that_was_killed_is_mended_by_the_next_one(postgres, archive_url, tmp_path):
    """It may leave a copy of the database, and a database that takes no connections."""
    asyncio.run(fill(archive_url))
    saved = rows_of(archive_url)
    made = asyncio.run(make_backup(archive_url, tmp_path, NOW, postgres.programs))
    name = archive_url.rpartition("/")[2]
    copy, foreign = "restored_0123456789ab", "restored_by_hand"
    for sql in (f"CREATE DATABASE {copy}", f"CREATE DATABASE {foreign}"):
        asyncio.run(postgres.execute(sql))
    asyncio.run(postgres.execute(f"COMMENT ON DATABASE {copy} IS '{COPY_COMMENT}'"))
    query(archive_url, "DELETE FROM bars")
    asyncio.run(postgres.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
    asyncio.run(restore_backup(archive_url, tmp_path / made.file, postgres.programs, replace=True))
    assert rows_of(archive_url) == saved
    names = {row[0] for row in query(archive_url, "SELECT datname FROM pg_database")}
    assert (copy in names, foreign in names) == (False, True)
    asyncio.run(postgres.execute(f"DROP DATABASE {foreign}"))


async def test_a_database_is_not_replaced_while_roles_are_connected_whose_sessions_ours_may_not_end(
    postgres, archive_url, connect, tmp_path
):
    """Board and signals, which keep theirs open. Each is named before the restore, which may take hours."""
    await fill(archive_url)
    made = await make_backup(archive_url, tmp_path, NOW, postgres.programs)
    dump = tmp_path / made.file
    never = fake_program(tmp_path / "never", "pg_restore", f"touch '{tmp_path}/begun'")
    await connect(archive_url)  # its session is of our role, and is ended
    signals = await connect(postgres.url_as("marketswarm_signals", archive_url))
    reader = await connect(postgres.reader_url_of(archive_url))
    await reader.execute("SET application_name = 'psql'")
    words = r"marketswarm_reader \(psql\), marketswarm_signals \(\): stop board, signals"
    with pytest.raises(BackupError, match=words):
        await restore_backup(archive_url, dump, never, replace=True)
    assert not (tmp_path / "begun").exists()
    await signals.close()
    await reader.close()
    script = (
        f"touch '{tmp_path}/begun'; until [ -e '{tmp_path}/go' ]; do sleep 0.05; done; "
        f'exec "{postgres.programs}/pg_restore" "$@"'
    )
    slow = fake_program(tmp_path / "slow", "pg_restore", script)
    async with asyncio.TaskGroup() as group:
        restoring = group.create_task(
            catch(BackupError, restore_backup(archive_url, dump, slow, replace=True))
        )
        await auntil((tmp_path / "begun").exists)
        late = await connect(postgres.reader_url_of(archive_url))
        (tmp_path / "go").touch()
    assert "marketswarm_reader" in str(restoring.result())
    assert await late.fetchval("SELECT count(*) FROM bars") == made.tables["bars"].rows
    await late.close()
    connection = await connect(archive_url)  # the old one takes connections again
    assert await connection.fetch("SELECT FROM pg_database WHERE datname LIKE 'restored%'") == []
    await connection.execute("DELETE FROM bars")
    await restore_backup(archive_url, dump, postgres.programs, replace=True)
    assert (
        await (await connect(archive_url)).fetchval("SELECT count(*) FROM bars") == made.tables["bars"].rows
    )


async def catch(kind, work):
    with pytest.raises(kind) as caught:
        await work
    return caught.value


@pytest.fixture
def frequent_autovacuum(postgres):
    """Has the server look every second for tables to vacuum."""
    settings = postgres.server.cluster / "postgresql.auto.conf"
    settings.write_text("autovacuum_naptime = 1s\n")
    postgres.signal(signal.SIGHUP)
    yield
    settings.write_text("")
    postgres.signal(signal.SIGHUP)


@pytest.mark.usefixtures("frequent_autovacuum")
def test_an_autovacuum_keeps_no_database_from_being_dropped_or_replaced(postgres, archive_url, tmp_path):
    """Its process belongs to no role, so ours may not end it. Here each of two takes a minute at least."""
    asyncio.run(fill(archive_url))
    saved = rows_of(archive_url)
    made = asyncio.run(make_backup(archive_url, tmp_path, NOW, postgres.programs))
    copy, name = "restored_fedcba987654", archive_url.rpartition("/")[2]
    asyncio.run(postgres.execute(f"CREATE DATABASE {copy}"))
    asyncio.run(postgres.execute(f"COMMENT ON DATABASE {copy} IS '{COPY_COMMENT}'"))
    for database in (copy, name):
        asyncio.run(postgres.execute(SLOW_TO_VACUUM, database))
    vacuumed = "SELECT datname FROM pg_stat_activity WHERE datname IS NOT NULL AND usesysid IS NULL"
    until(lambda: {(copy,), (name,)} <= set(query(postgres.url, vacuumed)), what="two workers")
    asyncio.run(verify_backup(archive_url, tmp_path / made.file, postgres.programs))
    assert (copy,) not in query(postgres.url, "SELECT datname FROM pg_database")
    until(lambda: (name,) in query(postgres.url, vacuumed), what="a worker in the archive's database")
    asyncio.run(restore_backup(archive_url, tmp_path / made.file, postgres.programs, replace=True))
    assert rows_of(archive_url) == saved


async def test_a_copy_that_another_restore_is_making_is_left_alone(
    postgres, archive_url, connection, tmp_path
):
    await fill(archive_url)
    made = await make_backup(archive_url, tmp_path, NOW, postgres.programs)
    slow = fake_program(tmp_path / "slow", "pg_restore", SLEEP.replace("{}", str(tmp_path)))
    first = asyncio.create_task(verify_backup(archive_url, tmp_path / made.file, slow))
    await auntil((tmp_path / "pid").exists)
    copies = "SELECT count(*) FROM pg_database WHERE datname LIKE 'restored%'"
    assert await connection.fetchval(copies) == 1
    assert await verify_backup(archive_url, tmp_path / made.file, postgres.programs) == made
    assert await connection.fetchval(copies) == 1
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await connection.fetchval(copies) == 0


def test_a_backup_that_fails_leaves_no_file_and_names_no_password(postgres, archive_url, tmp_path):
    with pytest.raises(BackupError, match="no pg_dump in"):
        asyncio.run(make_backup(archive_url, tmp_path / "new", NOW, tmp_path))
    with pytest.raises(PostgresAwayError) as caught:
        asyncio.run(make_backup(postgres.url_of("nowhere"), tmp_path / "new", NOW, postgres.programs))
    assert postgres.url.split(":")[2].partition("@")[0] not in str(caught.value)
    (tmp_path / "new").rmdir()  # it is empty
    programs = fake_pg_dump(tmp_path, "echo 'server version mismatch' >&2; exit 1")
    with pytest.raises(BackupError, match="server version mismatch"):
        asyncio.run(make_backup(archive_url, tmp_path / "new", NOW, programs))
    (tmp_path / "new").rmdir()


def fake_pg_dump(folder, script):
    """Write a program in the place of pg_dump that runs a shell script; return its folder."""
    return fake_program(folder / "programs", "pg_dump", script)


def fake_program(folder, name, script):
    """Make a folder with a program that runs a shell script; return the folder."""
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return folder


SLEEP = 'echo $$ >"{}/pid.part" && mv "{}/pid.part" "{}/pid"; exec sleep 300'


def has_ended(pid):
    """Return True if there is no process of this id, or one that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_a_pg_dump_that_fails_ends_the_reading_of_the_tables_at_once(archive_url, connection, tmp_path):
    programs = fake_pg_dump(tmp_path, "echo 'pg_dump: error: server version mismatch' >&2; exit 1")
    await connection.execute("BEGIN; LOCK TABLE bars IN ACCESS EXCLUSIVE MODE")  # who reads it waits
    with pytest.raises(BackupError, match="server version mismatch"):
        async with asyncio.timeout(20):
            await make_backup(archive_url, tmp_path / "backups", NOW, programs)


async def test_a_table_that_can_not_be_read_ends_pg_dump_at_once(archive_url, tmp_path):
    programs = fake_pg_dump(tmp_path, SLEEP.replace("{}", str(tmp_path)))
    connection = await asyncpg.connect(archive_url)
    await connection.execute(
        "DROP TABLE symbols; CREATE FUNCTION fail() RETURNS text LANGUAGE plpgsql "
        "AS $$BEGIN RETURN (SELECT 1 FROM nowhere); END$$; CREATE VIEW symbols AS SELECT fail()"
    )
    await connection.close()
    with pytest.raises(PostgresAwayError, match="UndefinedTable"):
        async with asyncio.timeout(20):
            await make_backup(archive_url, tmp_path / "backups", NOW, programs)
    pid = tmp_path / "pid"
    assert not pid.exists() or has_ended(pid.read_text().strip())
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_pg_dump_does_not_outlive_a_service_that_is_killed(tmp_path):
    programs = fake_pg_dump(tmp_path, SLEEP.replace("{}", str(tmp_path)))
    program = (
        "import asyncio, pathlib\nfrom services.archive.backup import run_program\n"
        f"asyncio.run(run_program('pg_dump', [], 'postgresql://u@h/d', pathlib.Path({str(programs)!r})))"
    )
    pid = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as service:
        try:
            until(pid.exists)
        finally:
            service.kill()
    until(lambda: has_ended(pid.read_text().strip()), what="the end of pg_dump")


def test_what_killed_backups_left_is_removed_and_nothing_else(postgres, archive_url, tmp_path):
    complete = asyncio.run(make_backup(archive_url, tmp_path, NOW, postgres.programs))
    remains = [
        "archive-20261101T033000Z.part",
        "archive-20261102T033000Z.dump",
        "archive-20261102T033000Z.json.part",
    ]
    foreign = ["archive-20261101.part", "archive-20261103T033000Z.dump.gz", "notes.json.part"]
    busy = "archive-20261104T033000Z.part"  # another process writes it
    for name in (*remains, *foreign, busy):
        (tmp_path / name).write_text("half")
    with (tmp_path / busy).open("r+") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        made = asyncio.run(make_backup(archive_url, tmp_path, NOW + 60, postgres.programs))
    files = [Path(each.file) for each in (complete, made)]
    kept = {name for file in files for name in (file.name, file.with_suffix(".json").name)}
    assert {path.name for path in tmp_path.iterdir()} == {*kept, *foreign, busy}


async def test_two_backups_of_one_moment_do_not_write_one_file(postgres, archive_url, tmp_path):
    programs = fake_pg_dump(tmp_path, SLEEP.replace("{}", str(tmp_path)))
    first = asyncio.create_task(make_backup(archive_url, tmp_path / "backups", NOW, programs))
    await auntil((tmp_path / "pid").exists)
    with pytest.raises(BackupError, match="is being written"):
        await make_backup(archive_url, tmp_path / "backups", NOW, postgres.programs)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


def test_an_old_backup_that_can_not_be_removed_is_named(postgres, archive_url, tmp_path):
    made = [
        asyncio.run(make_backup(archive_url, tmp_path, NOW + 60 * n, postgres.programs)) for n in range(2)
    ]
    (tmp_path / made[0].file).unlink()
    (tmp_path / made[0].file).mkdir()
    with pytest.raises(BackupError, match=made[0].file):
        remove_old_backups(tmp_path, NOW + 86_400, NOW + 86_400)


def leave_backup(folder, begun_at):
    """Write the files of a backup that was begun then; return its manifest."""
    stem = f"archive-{datetime.fromtimestamp(begun_at, UTC):%Y%m%dT%H%M%SZ}"
    (folder / f"{stem}.dump").write_bytes(b"x")
    made = Backup(f"{stem}.dump", begun_at, 1, "0" * 64, 1, "16", {})
    (folder / f"{stem}.json").write_bytes(orjson.dumps(made))
    return made


def test_a_backup_that_was_begun_by_a_clock_that_was_ahead_is_not_the_newest_one(tmp_path):
    day, year = 86_400, 365 * 86_400
    ahead = leave_backup(tmp_path, NOW + year)
    assert read_newest_backup(tmp_path, NOW) is None, "another one is due at once"
    assert list_backups(tmp_path, NOW) == [ahead]
    old, older = leave_backup(tmp_path, NOW), leave_backup(tmp_path, NOW - day)
    assert read_newest_backup(tmp_path, NOW + 60) == old
    assert read_newest_backup(tmp_path, NOW - 60) == old, "clocks differ by a minute"
    assert list_backups(tmp_path, NOW + 60) == [old, older, ahead]
    assert remove_old_backups(tmp_path, NOW + 2 * day, NOW + 3 * day) == [older.file]
    assert read_newest_backup(tmp_path, NOW + year) == ahead


def test_old_backups_are_removed_and_the_newest_stays(postgres, archive_url, tmp_path):
    made = [
        asyncio.run(make_backup(archive_url, tmp_path, NOW + 86_400 * day, postgres.programs))
        for day in range(3)
    ]
    assert remove_old_backups(tmp_path, NOW + 86_400, NOW + 86_400 * 3) == [made[0].file]
    assert remove_old_backups(tmp_path, NOW + 86_400 * 90, NOW + 86_400 * 91) == [made[1].file]
    assert {path.name for path in tmp_path.iterdir()} == {
        made[2].file,
        Path(made[2].file).with_suffix(".json").name,
    }


async def test_a_month_is_one_file_of_many_pages_and_its_memory_does_not_grow_with_it(
    archive_url, tmp_path, monkeypatch
):
    monkeypatch.setattr("services.archive.export.ROWS_AT_ONCE", 50)
    folder = tmp_path / "files [1]"  # no pattern
    folder.mkdir()
    stale = folder / "bars-2026-10.00007.part"
    other = folder / "bars-2026-11.00007.part"
    for path in (stale, other):
        path.write_text("half")  # an export that was killed left them
    await fill(archive_url)
    connection = await asyncpg.connect(archive_url, server_settings={"timezone": "UTC"})
    span = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    (made,) = [each async for each in export_table(connection, "bars", folder, span)]
    assert {path.name for path in folder.iterdir()} == {"bars-2026-10.parquet", other.name}
    order = 'ORDER BY start, symbol COLLATE "C", timeframe'
    stored = await connection.fetch(f"SELECT start, symbol FROM bars {order}")  # noqa: S608 - our own names
    assert made.rows == len(stored) > 100
    assert pl.read_parquet(made.path, glob=False)["start"].to_list() == [row["start"] for row in stored]
    await connection.close()


async def test_an_export_that_fails_leaves_the_file_that_is_there(archive_url, tmp_path, monkeypatch):
    monkeypatch.setattr("services.archive.export.ROWS_AT_ONCE", 50)
    await fill(archive_url)
    connection = await asyncpg.connect(archive_url, server_settings={"timezone": "UTC"})
    span = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    (made,) = [each async for each in export_table(connection, "bars", tmp_path, span)]
    before = made.path.read_bytes()
    pages = 0

    def fail_later(table, rows):
        nonlocal pages
        pages += 1
        if pages == 2:
            raise OSError(28, "No space left on device")
        return make_frame(table, rows)

    monkeypatch.setattr("services.archive.export.make_frame", fail_later)
    with pytest.raises(ExportError, match=r"bars-2026-10\.parquet can't be written: No space left"):
        [each async for each in export_table(connection, "bars", tmp_path, span)]
    assert [path.name for path in tmp_path.iterdir()] == [made.path.name]
    assert made.path.read_bytes() == before
    await connection.close()


def key_of(row):
    return row["symbol"], row.get("timeframe"), row["start"]


async def test_an_export_as_of_an_instant_has_what_was_known_then(database, connection, tmp_path):
    printed, revised = START + timedelta(days=1), START + timedelta(days=36)
    value = plain(ObservationRow("US.UNRATE", START, 3.8, printed, "fred", printed, None, False, 5))
    later = plain(ObservationRow("US.UNRATE", START, 3.7, revised, "fred", revised, None, False, 6))
    minute = timedelta(minutes=1)
    entries = [
        *(TypedEntry("market:observations", b"1-0", OBSERVATION_TABLE, row) for row in (value, later)),
        entry(known_at=START + minute),
        entry(start=START + minute, known_at=revised),  # it was corrected
        entry(start=START + 2 * minute),  # a row of an older release
    ]
    assert await Writer(database).write(entries) == []

    async def export(table, as_of=None, column="start"):
        span = START, START + timedelta(days=1)
        files = export_table(connection, table, tmp_path, span, as_of=as_of)
        return [pl.read_parquet(each.path)[column].to_list() async for each in files]

    assert await export("observations", printed - minute) == []
    assert await export("observations", printed, "value") == [[3.8]]
    assert (
        await export("observations", revised, "value")
        == await export("observations", None, "value")
        == [[3.7]]
    )
    assert await export("observation_vintages", None, "value") == [[3.8, 3.7]]
    assert await export("observation_vintages", printed, "value") == [[3.8]]
    assert await export("bars", START) == []
    assert await export("bars", START + minute) == [[START]]
    assert await export("bars", START + 3 * minute) == [[START, START + 2 * minute]]
    assert len((await export("bars", revised))[0]) == len((await export("bars"))[0]) == 3
    assert await export("quotes", revised) == []


async def test_a_table_is_exported_as_parquet_by_the_month(archive_url, tmp_path):
    await fill(archive_url)
    connection = await asyncpg.connect(archive_url, server_settings={"timezone": "UTC"})
    span = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    bars = [each async for each in export_table(connection, "bars", tmp_path, span)]
    assert [each.path.name for each in bars] == ["bars-2026-10.parquet"]
    stored = await connection.fetch('SELECT * FROM bars ORDER BY start, symbol COLLATE "C", timeframe')
    read = pl.read_parquet(bars[0].path)
    assert set(read.iter_rows()) == {tuple(row) for row in stored}
    assert read.columns == list(stored[0].keys())
    end = datetime(2030, 1, 1, tzinfo=UTC)  # each month of a span is looked at, so a long one takes long
    since_2005, since_1800 = ((datetime(year, 1, 1, tzinfo=UTC), end) for year in (2005, 1800))
    files = [each async for each in export_table(connection, "features", tmp_path, span, ["QQQ"])]
    assert set(pl.read_parquet([each.path for each in files])["symbol"]) == {"QQQ"}
    for table in ("features", "indicators"):
        stored = await connection.fetch(f"SELECT * FROM {table} WHERE symbol = 'SPY'")  # noqa: S608 - our own names
        files = [each.path async for each in export_table(connection, table, tmp_path, since_2005, ["SPY"])]
        read = {key_of(row): row for row in pl.read_parquet(files).iter_rows(named=True)}
        assert len(read) == len(stored) > 0
        for row in map(dict, stored):
            values = json.loads(row.pop("values"))
            found = read[key_of(row)]
            found |= json.loads(found.pop("other_values") or "{}")
            assert row.items() | values.items() <= found.items()
    rows = [each.rows async for each in export_table(connection, "observations", tmp_path, since_1800)]
    assert sum(rows) > 10
    await connection.close()
