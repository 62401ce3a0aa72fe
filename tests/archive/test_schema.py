"""The schema on a real PostgreSQL: made from every version, partitioned, and closed to wrong rows."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from marketswarm.access.passwords import DATABASE_READER
from services.archive.backup import make_backup
from services.archive.database import Database
from services.archive.migrations import (
    LOCK_SCHEMA,
    Migration,
    SchemaError,
    apply_migrations,
    load_migrations,
    read_version,
)
from services.archive.partitions import (
    TIME_COLUMNS,
    DroppedPartitions,
    drop_expired,
    find_partition,
    list_ahead,
    make_partitions,
    read_partitions,
)
from services.archive.reader import TABLE_NAMES
from services.archive.restore import restore_backup
from services.archive.writer import TypedEntry, Writer
from services.market.database import PostgresAwayError, ServerFaultError
from services.market.rows import BarRow, IndicatorRow, ObservationRow, QuoteRow, SymbolRow, make_download_row
from services.market.tables import BAR_TABLE, DOWNLOAD_TABLE, INDICATOR_TABLE, OBSERVATION_TABLE, QUOTE_TABLE
from support.postgres import partitions_only, plain, query
from support.waiting import PATIENT_SEC, auntil

START = datetime(2026, 10, 26, 12, tzinfo=UTC)
NIGHTLY = pytest.mark.nightly("the same test with another value")
NOTHING = DroppedPartitions((), ())
BAR = BarRow("SPY", "1m", START, 10.0, 12.0, 9.0, 11.0, 5.0, 10.5, 3, True, 1, 0, "yahoo", START, "ab", False)


def entry(**changes):
    return TypedEntry("bars:bars", b"1-0", BAR_TABLE, plain(BAR._replace(**changes)))


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


async def test_a_database_of_every_version_is_brought_to_the_same_schema(postgres):
    known, found = load_migrations(), []
    assert [each.version for each in known] == list(range(1, len(known) + 1))
    for version in range(len(known) + 1):
        url = await asyncio.to_thread(postgres.new_database)
        connection = await asyncpg.connect(url)
        assert await read_version(connection) == 0
        assert await apply_migrations(connection, known[:version]) == version
        assert await apply_migrations(connection) == len(known)
        assert await read_version(connection) == len(known)
        found.append(await schema_of(connection))
        await connection.close()
    assert len({tuple(each) for each in found}) == 1
    assert len(found[0]) > 100


async def test_every_table_of_the_schema_is_named_for_digests(archive_url):
    connection = await asyncpg.connect(archive_url)
    found = await connection.fetch(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'schema_version'"
    )
    assert sorted(row["relname"] for row in found) == sorted(TABLE_NAMES)
    await connection.close()


async def test_what_was_computed_from_replayed_bars_before_rows_were_marked_is_marked(postgres):
    """Migration 4 adds the marks of indicators, features and correlations."""
    connection = await asyncpg.connect(await asyncio.to_thread(postgres.new_database))
    await apply_migrations(connection, load_migrations()[:3])
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
    await apply_migrations(connection)
    for table, column in (("indicators", "start"), ("features", "start"), ("correlations", "day")):
        marks = await connection.fetch(f"SELECT DISTINCT {column}::date, replay FROM {table} ORDER BY 1")  # noqa: S608 - our own names
        assert [tuple(row) for row in marks] == [
            (times["played"].date(), True),
            (times["live"].date(), False),
        ]
    await connection.close()


async def test_requests_and_features_of_a_recording_that_were_written_without_a_mark_are_marked(postgres):
    """Migration 5 adds the marks of requests, and sets those that `bars` left out."""
    connection = await asyncpg.connect(await asyncio.to_thread(postgres.new_database))
    await apply_migrations(connection, load_migrations()[:4])
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
    await apply_migrations(connection)
    found = await connection.fetch("SELECT id, replay FROM downloads ORDER BY id")
    assert [tuple(row) for row in found] == [("1-0", True), ("2-0", False), ("3-0", False)]
    found = await connection.fetch("SELECT symbol::text, replay FROM features ORDER BY symbol")
    assert [tuple(row) for row in found] == [("A", True), ("B", False), ("C", False)]
    await connection.close()


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


async def test_the_role_of_readers_reads_every_table_and_writes_none(postgres, archive_url):
    owner = await asyncpg.connect(archive_url)
    await apply_migrations(owner)  # the rights on a database are not copied with it
    await owner.execute("CREATE TEMPORARY TABLE ours (n integer)")
    await owner.close()
    reader = await asyncpg.connect(postgres.reader_url_of(archive_url))
    for table in (*TABLE_NAMES, "alerts", "monitor_incidents"):
        assert await reader.fetch(f"SELECT * FROM {table}") == []  # noqa: S608 - our own names
    for sql in WRITES:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(sql)
    await reader.close()


async def test_the_role_of_readers_may_read_the_tables_of_a_later_release_and_those_from_before_it_was_made(
    postgres, archive_url
):
    owner = await asyncpg.connect(archive_url)
    await owner.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {DATABASE_READER}")
    await owner.execute("CREATE TABLE theirs (n integer)")
    later = Migration(len(load_migrations()) + 1, "later", "CREATE TABLE later (n integer)")
    await apply_migrations(owner, [*load_migrations(), later])
    reader = await asyncpg.connect(postgres.reader_url_of(archive_url))
    assert await reader.fetch("SELECT FROM bars") == await reader.fetch("SELECT FROM later") == []
    await reader.close()
    await owner.close()


async def test_no_lock_that_the_role_of_readers_may_take_keeps_archive_from_its_schema(postgres, archive_url):
    owner = await asyncpg.connect(archive_url)
    reader = await asyncpg.connect(postgres.reader_url_of(archive_url))
    await reader.execute("SELECT pg_advisory_lock(7305821905114001)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.execute("BEGIN; LOCK TABLE schema_version IN SHARE UPDATE EXCLUSIVE MODE")
    await reader.execute("ROLLBACK")
    await reader.execute("BEGIN; LOCK TABLE schema_version IN ACCESS SHARE MODE; SELECT FROM schema_version")
    async with asyncio.timeout(PATIENT_SEC):
        assert await apply_migrations(owner) == len(load_migrations())
        await make_partitions(owner, list_ahead(START + timedelta(days=300)))
    for each in (reader, owner):
        await each.close()


async def test_a_server_without_a_role_for_readers_serves_too(postgres, monkeypatch):
    monkeypatch.setattr("services.archive.migrations.DATABASE_READER", "nobody_of_this_name")
    connection = await asyncpg.connect(await asyncio.to_thread(postgres.new_database))
    assert await apply_migrations(connection) == len(load_migrations())
    await connection.close()


async def test_many_instances_that_start_at_once_make_the_schema_once(postgres):
    url = await asyncio.to_thread(postgres.new_database)
    connections = [await asyncpg.connect(url) for _ in range(6)]
    versions = await asyncio.gather(*map(apply_migrations, connections))
    assert set(versions) == {len(load_migrations())}
    rows = await connections[0].fetch("SELECT version FROM schema_version ORDER BY version")
    assert [row["version"] for row in rows] == [each.version for each in load_migrations()]
    for each in connections:
        await each.close()


@partitions_only
async def test_many_instances_that_need_the_same_partitions_make_them_once(postgres):
    url, ahead = await asyncio.to_thread(postgres.new_database), list_ahead(START)
    connections = [await asyncpg.connect(url) for _ in range(6)]
    await apply_migrations(connections[0])
    made = await asyncio.gather(*(make_partitions(each, ahead) for each in connections))
    assert sorted(made) == [0, 0, 0, 0, 0, len(ahead)]
    for each in connections:
        await each.close()


async def test_a_migration_that_fails_leaves_nothing_of_itself_and_all_before_it(postgres):
    connection = await asyncpg.connect(await asyncio.to_thread(postgres.new_database))
    wrong = Migration(2, "wrong", "CREATE TABLE half (n integer); SELECT 1 / 0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await apply_migrations(connection, [*load_migrations()[:1], wrong])
    assert await read_version(connection) == 1
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    assert await apply_migrations(connection) == len(load_migrations())  # nobody holds the lock
    await connection.close()


async def test_what_a_migration_has_locked_may_be_read_while_the_next_one_runs(postgres, archive_url):
    held, migrating = [await asyncpg.connect(archive_url) for _ in range(2)]
    await held.execute("SELECT pg_advisory_lock(1)")
    known = load_migrations()
    first = Migration(len(known) + 1, "first", "LOCK TABLE bars IN ACCESS EXCLUSIVE MODE")
    second = Migration(len(known) + 2, "second", "SELECT pg_advisory_xact_lock(1)")
    task = asyncio.create_task(apply_migrations(migrating, [*known, first, second]))
    waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'advisory' AND objid = 1)"
    await auntil(lambda: held.fetchval(waits))
    assert await held.fetchval("SELECT count(*) FROM bars", timeout=20) == 0
    assert await read_version(held) == len(known) + 1
    await held.execute("SELECT pg_advisory_unlock(1)")
    assert await task == len(known) + 2
    for each in (held, migrating):
        await each.close()


async def test_a_schema_of_a_later_release_or_an_edited_one_is_refused(archive_url):
    connection = await asyncpg.connect(archive_url)
    known = load_migrations()
    edited = [*known[:-1], Migration(known[-1].version, known[-1].name, known[-1].sql + "-- edited")]
    with pytest.raises(SchemaError, match="not the one that was applied"):
        await apply_migrations(connection, edited)
    with pytest.raises(SchemaError, match="run the release that made it"):
        await apply_migrations(connection, known[:-1])
    await connection.close()


WRONG_BARS = [
    {"symbol": "no symbol"},
    {"symbol": ""},
    {"timeframe": "7m"},
    {"start": datetime(1700, 1, 1, tzinfo=UTC)},
    {"low": 10.5},
    {"high": 10.5},
    {"low": -2e18},
    {"close": float("nan")},
    {"high": float("inf")},
    {"volume": -1.0},
    {"volume": float("nan")},
    {"vwap": float("nan")},
    {"trades": -1},
    {"rev": -1},
    {"source": ""},
    {"day": START.date()},  # a minute has none
    {"timeframe": "1d", "day": START.date() + timedelta(days=5)},
    {"stream_position": 2**63},  # no message to PostgreSQL can hold it
    {"source": "\ud800"},
    {"replay": None},
    {"final": None},
    {"open": None},
]


async def test_a_wrong_bar_is_refused_and_those_beside_it_are_written(archive_url):
    database = Database(archive_url)
    entries = [entry(start=START + timedelta(minutes=n)) for n in range(8)]
    for wrong in WRONG_BARS:
        batch = [*entries[:3], entry(**{"start": START + timedelta(days=1), **wrong}), *entries[3:]]
        refused = await Writer(database).write(batch)
        assert [each.entry for each in refused] == [batch[3]], wrong
        assert "SPY" not in refused[0].reason
    assert [row["count"] for row in await fetch(database, "SELECT count(*) FROM bars")] == [8]
    await database.aclose()


async def fetch(database, sql):
    async with database.connect() as connection:
        return await connection.fetch(sql)


async def test_of_two_answers_of_one_time_the_later_entry_stays_in_whatever_order_they_are_written(
    archive_url,
):
    quote = plain(QuoteRow("SPY", START, 9.0, 8.5, None, None, None, None, "yahoo", START, None, False, 5))
    later = quote._replace(price=9.0, bid=8.75, stream_position=6)
    value = plain(ObservationRow("US.CPI", START, 9.0, "fred", START, None, False, 5))
    corrected = value._replace(value=3.0, stream_position=6)
    database = Database(archive_url)
    for rows in ((quote, value), (later, corrected), (quote, value)):  # the first ones come again
        entries = [
            TypedEntry("market:quotes", b"1-0", QUOTE_TABLE, rows[0]),
            TypedEntry("market:observations", b"1-0", OBSERVATION_TABLE, rows[1]),
        ]
        assert await Writer(database).write(entries) == []
    assert [row[0] for row in await fetch(database, "SELECT bid FROM quotes")] == [8.75]
    assert [row[0] for row in await fetch(database, "SELECT value FROM observations")] == [3.0]
    await database.aclose()


@partitions_only
async def test_rows_of_any_year_find_a_partition(archive_url):
    database = Database(archive_url)
    years = [1800, 1969, 1970, 1999, 2009, 2010, 2019, 2020, 2026, 2099]
    times = [datetime(year, 12, 31, 23, 59, tzinfo=UTC) for year in years[1:]] + [
        datetime(1800, 1, 1, tzinfo=UTC)
    ]
    assert await Writer(database).write([entry(start=at) for at in times]) == []
    found = await fetch(database, "SELECT start, tableoid::regclass::text AS place FROM bars")
    assert {row["start"]: row["place"] for row in found} == {
        at: find_partition("bars", at).name for at in times
    }
    await database.aclose()


@partitions_only
async def test_old_partitions_are_dropped_and_made_again_for_a_late_row(archive_url):
    database = Database(archive_url)
    writer = Writer(database)
    await writer.write([entry(), entry(start=datetime(2025, 3, 1, tzinfo=UTC))])
    async with database.connect() as connection:
        before = await read_partitions(connection)
        dropped = (await drop_expired(connection, {"bars": datetime(2025, 4, 1, tzinfo=UTC)})).dropped
        assert sorted(dropped) == ["bars_2025_01", "bars_2025_02", "bars_2025_03"]
        assert await read_partitions(connection) == before - set(dropped)
        assert await connection.fetchval("SELECT count(*) FROM bars") == 1
    assert await writer.write([entry(start=datetime(2025, 2, 1, tzinfo=UTC))]) == []  # it did not know
    await database.aclose()


@partitions_only
async def test_partitions_may_be_dropped_while_a_batch_makes_others(archive_url):
    database = Database(archive_url)
    writer = Writer(database)
    async with database.connect() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute(LOCK_SCHEMA)
        writing = asyncio.create_task(writer.write([entry(start=datetime(2013, 3, 1, tzinfo=UTC))]))
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
        await auntil(lambda: other.fetchval(waits))
        writer.forget_partitions()
        await transaction.rollback()
        assert await writing == []
        await other.execute("DROP TABLE bars_2013")
    # the batch after it knows nothing of the drop: the partition is made again, and nothing is refused
    assert await writer.write([entry(start=datetime(2013, 5, 1, tzinfo=UTC)), entry()]) == []
    assert [row[0] for row in await fetch(database, "SELECT count(*) FROM bars")] == [2]
    await database.aclose()


@partitions_only
async def test_retention_leaves_partitions_with_replayed_rows_as_old_as_they_are(archive_url):
    database = Database(archive_url)
    at = datetime(2012, 6, 1, tzinfo=UTC)
    quote = QuoteRow("SPY", at, 1.0, None, None, None, None, None, "yahoo", None, None, False)
    rows = [quote, quote._replace(at=at.replace(year=2013), replay=True)]
    quotes = [TypedEntry("market:quotes", b"1-0", QUOTE_TABLE, plain(row)) for row in rows]
    bars = [entry(start=row.at, replay=row.replay) for row in rows]
    values = [IndicatorRow("SPY", "1m", row.at, 0, 0, True, row.replay, "{}") for row in rows]
    indicators = [TypedEntry("bars:indicators", b"1-0", INDICATOR_TABLE, plain(row)) for row in values]
    assert await Writer(database).write([*quotes, *bars, *indicators]) == []
    async with database.connect() as connection:
        since = dict.fromkeys(TIME_COLUMNS, datetime(2020, 1, 1, tzinfo=UTC))
        found = await drop_expired(connection, since)
        assert sorted(found.dropped) == ["bars_2012", "indicators_2012", "quotes_2012"]
        assert await drop_expired(connection, since) == NOTHING
        assert await connection.fetchval("SELECT bool_and(replay) FROM quotes")
    await database.aclose()


@partitions_only
async def test_a_long_reading_puts_retention_of_its_table_off_and_stops_no_writer(archive_url):
    database = Database(archive_url)
    since = dict.fromkeys(("bars", "quotes"), datetime(2025, 4, 1, tzinfo=UTC))
    async with database.connect() as reader, database.connect() as connection:
        transaction = reader.transaction()
        await transaction.start()
        await reader.fetch("SELECT count(*) FROM bars")
        statements = []
        with connection.query_logger(lambda record: statements.append(record.query)):
            found = await drop_expired(connection, since)
        assert sum("'1ms'" in sql for sql in statements) == 2, "it waits once, not for each partition"
        assert sorted(found.locked) == ["bars_2025_01", "bars_2025_02", "bars_2025_03"]
        assert sorted(found.dropped) == ["quotes_2025_01", "quotes_2025_02", "quotes_2025_03"]
        assert await Writer(database).write([entry()]) == []
        await transaction.rollback()
        assert sorted((await drop_expired(connection, since)).dropped) == sorted(found.locked)
    await database.aclose()


@partitions_only
async def test_a_partition_that_is_locked_by_itself_stays_and_the_others_of_its_table_go(archive_url):
    database = Database(archive_url)
    async with database.connect() as reader, database.connect() as connection:
        transaction = reader.transaction()
        await transaction.start()
        await reader.fetch("SELECT count(*) FROM bars_2025_02")
        found = await drop_expired(connection, {"bars": datetime(2025, 4, 1, tzinfo=UTC)})
        assert (sorted(found.dropped), found.locked) == (["bars_2025_01", "bars_2025_03"], ("bars_2025_02",))
        await transaction.rollback()
    await database.aclose()


@partitions_only
async def test_a_partition_is_made_beside_a_long_reading_and_stops_neither_readers_nor_writers(archive_url):
    """Each statement that waits for a lock has all later ones wait behind it."""
    database = Database(archive_url, timeout_sec=lambda: 5.0)
    async with database.connect(60) as reader:
        transaction = reader.transaction()
        await transaction.start()
        await reader.fetch("SELECT count(*) FROM bars")
        late = entry(start=datetime(2019, 3, 1, tzinfo=UTC))
        assert await Writer(database).write([late]) == []
        assert await Writer(database).write([entry()]) == []
        assert [row[0] for row in await fetch(database, "SELECT count(*) FROM bars")] == [2]
        await transaction.rollback()
    await database.aclose()


@partitions_only
async def test_a_table_that_is_locked_gets_its_partition_later(archive_url):
    database = Database(archive_url)
    async with database.connect() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("LOCK TABLE bars IN SHARE UPDATE EXCLUSIVE MODE")
        late = [entry(start=datetime(2019, 3, 1, tzinfo=UTC))]
        with pytest.raises(PostgresAwayError, match="LockNotAvailable"):
            await Writer(database).write(late)
        await transaction.rollback()
    assert await Writer(database).write(late) == []
    await database.aclose()


@partitions_only
async def test_a_partition_that_is_made_has_all_that_its_table_has(archive_url):
    connection = await asyncpg.connect(archive_url)
    await make_partitions(connection, [find_partition("bars", datetime(2019, 3, 1, tzinfo=UTC))])
    await connection.execute(
        "CREATE TABLE bars_2018 PARTITION OF bars FOR VALUES FROM ('2018-01-01Z') TO ('2019-01-01Z')"
    )
    made, model = [await parts_of(connection, name) for name in ("bars_2019", "bars_2018")]
    assert made == model
    assert len(made) > 20
    await connection.close()


async def parts_of(connection, name):
    """Return the columns, constraints and indexes of a partition, which is called `it` in them."""
    found = await connection.fetch(
        "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull::text, "
        "pg_get_expr(adbin, adrelid) "
        "FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum "
        "WHERE attrelid = $1::text::regclass AND attnum > 0 ORDER BY 1",
        name,
    )
    found += await connection.fetch(
        "SELECT contype::text, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = $1::text::regclass ORDER BY 1, 2",
        name,
    )
    found += await connection.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = $1 ORDER BY 1", name)
    return [tuple(str(part).replace(name, "it") for part in row) for row in found]


@partitions_only
async def test_retention_takes_no_lock_where_replayed_rows_stay(archive_url):
    database = Database(archive_url)
    old = datetime(2012, 6, 1, tzinfo=UTC)
    assert await Writer(database).write([entry(start=old, replay=True)]) == []
    async with database.connect() as writer:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute("DELETE FROM bars WHERE symbol = 'QQQ'")  # a batch that is being written
        async with database.connect() as connection:
            assert await drop_expired(connection, {"bars": datetime(2020, 1, 1, tzinfo=UTC)}) == NOTHING
        await transaction.rollback()
    await database.aclose()


@partitions_only
async def test_the_range_of_a_query_reads_one_partition_by_an_index(archive_url):
    database = Database(archive_url)
    plan = await fetch(
        database,
        "EXPLAIN SELECT * FROM bars WHERE symbol = 'SPY' AND timeframe = '1m' "
        "AND start >= '2026-10-02Z' AND start < '2026-10-09Z'",
    )
    text = "\n".join(row[0] for row in plan)
    assert "bars_2026_10_pkey" in text
    assert "bars_2026_09" not in text
    kinds = await fetch(
        database,
        "SELECT amname FROM pg_class JOIN pg_am ON pg_am.oid = relam "
        "WHERE relname = 'bars_2026_10_start_idx'",
    )
    assert [row["amname"] for row in kinds] == ["brin"]
    assert TIME_COLUMNS.keys() == {"bars", "quotes", "indicators"}
    await database.aclose()


def test_a_database_that_was_made_anew_under_the_service_gets_its_schema(postgres, archive_url):
    async def scenario():
        database = Database(archive_url)
        assert await Writer(database).write([entry()]) == []
        async with database.connect() as connection:
            await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        with pytest.raises(PostgresAwayError):
            await Writer(database).write([entry()])
        assert await Writer(database).write([entry()]) == []
        await database.aclose()

    asyncio.run(scenario())
    assert query(archive_url, "SELECT count(*) FROM bars") == [(1,)]


@pytest.mark.parametrize("version", [1, pytest.param(3, marks=NIGHTLY)])
async def test_a_backup_of_an_older_schema_that_is_restored_under_the_service_is_brought_up_to_date(
    postgres, archive_url, tmp_path, version
):
    """Its sessions are ended, and the next ones find a database without columns that they write."""
    older = await asyncpg.connect(await asyncio.to_thread(postgres.new_database))
    await apply_migrations(older, load_migrations()[:version])
    url = postgres.url_of(await older.fetchval("SELECT current_database()"))
    made = await make_backup(url, tmp_path, 1_793_100_000.0, postgres.programs)
    await older.close()
    database = Database(archive_url)
    writer = Writer(database)
    assert await writer.write([entry()]) == []
    await restore_backup(archive_url, tmp_path / made.file, postgres.programs, replace=True)
    for _ in range(2):  # a session that is ended, then a new one
        with contextlib.suppress(PostgresAwayError):
            assert await writer.write([entry()]) == []
    assert await writer.write([entry()]) == []
    async with database.connect() as connection:
        assert await read_version(connection) == len(load_migrations())
        assert await connection.fetchval("SELECT count(*) FROM bars") == 1
    await database.aclose()


async def test_an_instance_of_an_older_release_refuses_no_entry_by_the_checks_of_a_later_schema(archive_url):
    database = Database(archive_url)
    assert await Writer(database).write([entry()]) == []
    owner, known = await asyncpg.connect(archive_url), load_migrations()
    later = Migration(len(known) + 1, "later", "ALTER TABLE downloads ADD COLUMN bus text NOT NULL")
    await apply_migrations(owner, [*known, later])
    fields = {b"source": b"yahoo", b"asked_at": b"1793000000", b"outcome": b"fresh"}
    row, _ = make_download_row(b"1-0", fields)
    batch = [TypedEntry("market:downloads", b"1-0", DOWNLOAD_TABLE, row)]
    with pytest.raises(PostgresAwayError, match=f"schema {later.version}"):
        await Writer(database).write(batch)
    with pytest.raises(SchemaError, match="run the release that made it"):
        await Writer(database).write(batch)
    await database.aclose()
    await owner.close()


async def test_a_column_that_is_missing_is_waited_for(archive_url):
    database = Database(archive_url)
    owner = await asyncpg.connect(archive_url)
    await owner.execute("ALTER TABLE bars RENAME COLUMN epoch TO era")
    for _ in range(2):
        with pytest.raises(PostgresAwayError, match=r"UndefinedColumn.*epoch"):
            await Writer(database).write([entry()])
    await owner.execute("ALTER TABLE bars RENAME COLUMN era TO epoch")
    assert await Writer(database).write([entry()]) == []
    await database.aclose()
    await owner.close()


@pytest.mark.parametrize(
    "code", ["58030", "XX001", *(pytest.param(code, marks=NIGHTLY) for code in ("58000", "XX000", "XX002"))]
)
async def test_a_fault_of_the_server_itself_is_waited_for_and_refuses_no_entry(archive_url, code):
    database = Database(archive_url)
    owner = await asyncpg.connect(archive_url)
    await owner.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql "
        f"AS $$BEGIN RAISE EXCEPTION 'could not read block 7' USING ERRCODE = '{code}'; END$$;"
        "CREATE TRIGGER fail BEFORE INSERT ON symbols FOR EACH STATEMENT EXECUTE FUNCTION fail()"
    )
    batch = [entry()._replace(symbol=plain(SymbolRow("SPY", "stocks", START, START, False)))]
    with pytest.raises(ServerFaultError, match="could not read block 7"):
        await Writer(database).write(batch)
    await owner.execute("DROP TRIGGER fail ON symbols")
    assert await Writer(database).write(batch) == []
    await database.aclose()
    await owner.close()
