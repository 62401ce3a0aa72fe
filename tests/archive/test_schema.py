"""The schema on a real PostgreSQL: made from every version, once, and closed to the writes of readers."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from marketswarm.access.passwords import DATABASE_READER
from marketswarm.postgres.migrations import Migration
from services.archive.database import SCHEMA
from services.archive.partitions import (
    find_partition,
    list_ahead,
    make_partitions,
)
from services.tables.row_times import TABLE_NAMES
from support.archive_rows import START
from support.waiting import PATIENT_SEC


async def schema_of(connection):
    """Return every column, constraint and index of a database."""
    columns = await connection.fetch(
        "SELECT table_name::text, column_name::text, data_type::text, is_nullable::text, "
        "column_default::text "
        "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
    )
    constraints = await connection.fetch(
        "SELECT conname::text, pg_get_constraintdef(oid) FROM pg_constraint ORDER BY 1, 2"
    )
    indexes = await connection.fetch("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1")
    return [tuple(row) for row in [*columns, *constraints, *indexes]]


async def test_a_database_of_every_version_is_brought_to_the_same_schema(connect, postgres):
    known, found = SCHEMA.load_migrations(), []
    assert [each.version for each in known] == list(range(1, len(known) + 1))
    for version in range(len(known) + 1):
        url = await asyncio.to_thread(postgres.new_database)
        connection = await connect(url)
        assert await SCHEMA.read_version(connection) == 0
        assert await SCHEMA.apply_migrations(connection, known[:version]) == version
        assert await SCHEMA.apply_migrations(connection) == len(known)
        assert await SCHEMA.read_version(connection) == len(known)
        found.append(await schema_of(connection))
        await connection.close()
    assert len({tuple(each) for each in found}) == 1
    assert len(found[0]) > 100


async def test_every_table_of_the_schema_is_named_for_digests(connect, archive_url):
    connection = await connect(archive_url)
    found = await connection.fetch(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'schema_version'"
    )
    assert sorted(row["relname"] for row in found) == sorted(TABLE_NAMES)


async def test_what_was_computed_from_replayed_bars_before_rows_were_marked_is_marked(connect, postgres):
    """Migration 4 adds the marks of indicators, features and correlations."""
    connection = await connect(await asyncio.to_thread(postgres.new_database))
    await SCHEMA.apply_migrations(connection, SCHEMA.load_migrations()[:3])
    times = {"played": datetime(2018, 10, 5, tzinfo=UTC), "live": START}
    months = [find_partition(table, at) for table in ("bars", "indicators") for at in times.values()]
    await make_partitions(connection, months)
    for word, at in times.items():
        for symbol in ("A", "B"):
            await connection.execute(
                "INSERT INTO bars VALUES ($1, '1d', $2, 1, 1, 1, 1, 0, 1, 0, true, 0, 'x', NULL, NULL, $3)",
                *(symbol, at, word == "played"),
            )
            await connection.execute(
                "INSERT INTO indicators VALUES ($1, '1d', $2, 0, true, '{}')", symbol, at
            )
            await connection.execute("INSERT INTO features VALUES ($1, $2, 0, '{}')", symbol, at)
        await connection.execute("INSERT INTO correlations VALUES ($1, 'A', 'B', 0.5, 60)", at.date())
    await SCHEMA.apply_migrations(connection)
    for table, column in (("indicators", "start"), ("features", "start"), ("correlations", "day")):
        marks = await connection.fetch(f"SELECT DISTINCT {column}::date, replay FROM {table} ORDER BY 1")  # noqa: S608 - our own names
        assert [tuple(row) for row in marks] == [
            (times["played"].date(), True),
            (times["live"].date(), False),
        ]


async def test_requests_and_features_of_a_recording_that_were_written_without_a_mark_are_marked(
    connect, postgres
):
    """Migration 5 adds the marks of requests, and sets those that `bars` left out."""
    connection = await connect(await asyncio.to_thread(postgres.new_database))
    await SCHEMA.apply_migrations(connection, SCHEMA.load_migrations()[:4])
    await make_partitions(connection, [find_partition("bars", START)])
    for ident, url in (("1-0", "replay://weeks/bars/SPY"), ("2-0", "https://x/replay://"), ("3-0", None)):
        await connection.execute(
            "INSERT INTO downloads (id, source, asked_at, url, outcome) VALUES ($1, 'yahoo', $2, $3, 'ok')",
            *(ident, START, url),
        )
    for symbol, timeframe, is_replay in (("A", "1d", True), ("B", "1d", False), ("C", "1m", True)):
        await connection.execute(
            "INSERT INTO bars (symbol, timeframe, start, open, high, low, close, final, rev, source, replay) "
            "VALUES ($1, $2, $3, 1, 1, 1, 1, true, 0, 'yahoo', $4)",
            *(symbol, timeframe, START, is_replay),
        )
        await connection.execute("INSERT INTO features VALUES ($1, $2, 0, '{}')", symbol, START)
    await SCHEMA.apply_migrations(connection)
    found = await connection.fetch("SELECT id, replay FROM downloads ORDER BY id")
    assert [tuple(row) for row in found] == [("1-0", True), ("2-0", False), ("3-0", False)]
    found = await connection.fetch("SELECT symbol::text, replay FROM features ORDER BY symbol")
    assert [tuple(row) for row in found] == [("A", True), ("B", False), ("C", False)]


async def test_weeks_and_months_from_before_get_the_date_that_their_period_has(connect, postgres):
    """Migration 15 names them, and takes none that is not the first date of its period."""
    connection = await connect(await asyncio.to_thread(postgres.new_database))
    await SCHEMA.apply_migrations(connection, SCHEMA.load_migrations()[:14])
    await make_partitions(connection, [find_partition("bars", START)])
    rows = {  # 2026-10-05 is a Monday
        ("SPY", "1w", "2026-10-05T13:30Z"): "2026-10-05",
        ("SPY", "1w", "2026-10-15T13:30Z"): "2026-10-12",
        ("EUR/USD", "1w", "2026-10-04T21:00Z"): "2026-10-05",
        ("SPY", "1mo", "2026-10-01T13:30Z"): "2026-10-01",
        ("SPY", "1d", "2026-10-05T13:30Z"): None,
        ("SPY", "1m", "2026-10-05T13:30Z"): None,
    }
    await connection.execute(
        "INSERT INTO symbols VALUES ('SPY', 'stocks', now(), now(), false), "
        "('EUR/USD', 'forex', now(), now(), false)"
    )
    insert = (
        "INSERT INTO bars "
        "(symbol, timeframe, start, open, high, low, close, final, rev, source, replay, day) "
        "VALUES ($1, $2, $3, 1, 1, 1, 1, true, 0, 'yahoo', false, $4)"
    )
    for symbol, timeframe, start in rows:
        await connection.execute(insert, symbol, timeframe, datetime.fromisoformat(start), None)
    await SCHEMA.apply_migrations(connection)
    found = await connection.fetch("SELECT symbol::text, timeframe::text, start, day, volume_kind FROM bars")
    assert {tuple(row)[:4] for row in found} == {
        (symbol, timeframe, datetime.fromisoformat(start), day and date.fromisoformat(day))
        for (symbol, timeframe, start), day in rows.items()
    }
    assert {row["volume_kind"] for row in found} == {None}
    for timeframe, start, day in (
        ("1w", "2026-10-20T13:30Z", "2026-10-20"),
        ("1w", "2026-10-20T13:30Z", "2026-09-28"),
        ("1mo", "2026-10-20T13:30Z", "2026-10-02"),
        ("1h", "2026-10-20T13:30Z", "2026-10-20"),
        ("1d", "2026-10-20T13:30Z", "2026-10-25"),
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(
                insert, "SPY", timeframe, datetime.fromisoformat(start), date.fromisoformat(day)
            )
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute("UPDATE bars SET volume_kind = 'all' WHERE timeframe = '1m'")


WRITES = [
    "INSERT INTO symbols VALUES ('SPY', 'stocks', now(), now(), false)",
    "INSERT INTO bars (symbol) VALUES ('SPY')",
    "UPDATE bars SET close = 1",
    "DELETE FROM quotes",
    "TRUNCATE alert_log",
    "DROP TABLE downloads",
    "ALTER TABLE bars ADD COLUMN mine text",
    "SELECT 1; LOCK TABLE bars IN ACCESS EXCLUSIVE MODE",
    "CREATE TABLE mine (n integer)",
    "CREATE DATABASE mine",
    "SET ROLE marketswarm",
    "COPY bars TO PROGRAM 'true'",
    "SELECT pg_read_file('PG_VERSION')",
    "CREATE TEMPORARY TABLE mine (n integer)",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT pg_logical_emit_message(false, 'x', 'x')",
]


async def test_the_role_of_readers_reads_every_table_and_writes_none(connect, postgres, archive_url):
    owner = await connect(archive_url)
    await SCHEMA.apply_migrations(owner)  # the rights on a database are not copied with it
    await owner.execute("CREATE TEMPORARY TABLE ours (n integer)")
    reader = await connect(postgres.reader_url_of(archive_url))
    for table in (*TABLE_NAMES, "alerts", "monitor_incidents"):
        assert await reader.fetch(f"SELECT * FROM {table}") == []  # noqa: S608 - our own names
    for sql in WRITES:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(sql)


async def test_the_role_of_readers_may_read_the_tables_of_a_later_release_and_those_from_before_it_was_made(
    connect, postgres, archive_url
):
    owner = await connect(archive_url)
    await owner.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {DATABASE_READER}")
    await owner.execute("CREATE TABLE theirs (n integer)")
    later = Migration(len(SCHEMA.load_migrations()) + 1, "later", "CREATE TABLE later (n integer)")
    await SCHEMA.apply_migrations(owner, [*SCHEMA.load_migrations(), later])
    reader = await connect(postgres.reader_url_of(archive_url))
    assert await reader.fetch("SELECT FROM bars") == await reader.fetch("SELECT FROM later") == []


async def test_no_lock_that_the_role_of_readers_may_take_keeps_archive_from_its_schema(
    connect, postgres, archive_url
):
    owner = await connect(archive_url)
    reader = await connect(postgres.reader_url_of(archive_url))
    await reader.execute("SELECT pg_advisory_lock(7305821905114001)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.execute("BEGIN; LOCK TABLE schema_version IN SHARE UPDATE EXCLUSIVE MODE")
    await reader.execute("ROLLBACK")
    await reader.execute("BEGIN; LOCK TABLE schema_version IN ACCESS SHARE MODE; SELECT FROM schema_version")
    async with asyncio.timeout(PATIENT_SEC):
        assert await SCHEMA.apply_migrations(owner) == len(SCHEMA.load_migrations())
        await make_partitions(owner, list_ahead(START + timedelta(days=300)))
