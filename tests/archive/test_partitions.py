"""The partitions of the long tables: made for any row, and dropped after their time."""

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest

from marketswarm.postgres.errors import PostgresAwayError
from services.archive.database import SCHEMA, Database
from services.archive.partitions import (
    TIME_COLUMNS,
    DroppedPartitions,
    drop_expired,
    find_partition,
    list_ahead,
    make_partitions,
    read_partitions,
)
from services.archive.writer import TypedEntry, Writer
from services.tables.rows import IndicatorRow, QuoteRow
from services.tables.tables import INDICATOR_TABLE, QUOTE_TABLE
from support.archive_rows import START, column, entry
from support.postgres import partitions_only, plain
from support.waiting import auntil

pytestmark = partitions_only
NOTHING = DroppedPartitions((), ())
COUNT = "SELECT count(*) FROM bars"


@contextlib.asynccontextmanager
async def hold_open(database, sql):
    """Hold what `sql` locks, until the transaction is rolled back."""
    async with database.connect(60) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(sql)
        yield connection
        await transaction.rollback()


async def test_many_instances_that_need_the_same_partitions_make_them_once(connect, postgres):
    url, ahead = await asyncio.to_thread(postgres.new_database), list_ahead(START)
    connections = [await connect(url) for _ in range(6)]
    await SCHEMA.apply_migrations(connections[0])
    made = await asyncio.gather(*(make_partitions(each, ahead) for each in connections))
    assert sorted(made) == [0, 0, 0, 0, 0, len(ahead)]


async def test_rows_of_any_year_find_a_partition(database):
    years = [1800, 1969, 1970, 1999, 2009, 2010, 2019, 2020, 2026, 2099]
    times = [datetime(1800, 1, 1, tzinfo=UTC)]
    times += [datetime(year, 12, 31, 23, 59, tzinfo=UTC) for year in years[1:]]
    assert await Writer(database).write([entry(start=at) for at in times]) == []
    async with database.connect() as connection:
        found = await connection.fetch("SELECT start, tableoid::regclass::text FROM bars")
    assert dict(found) == {at: find_partition("bars", at).name for at in times}


async def test_old_partitions_are_dropped_and_made_again_for_a_late_row(database):
    writer = Writer(database)
    await writer.write([entry(), entry(start=datetime(2025, 3, 1, tzinfo=UTC))])
    async with database.connect() as connection:
        before = await read_partitions(connection)
        dropped = (await drop_expired(connection, {"bars": datetime(2025, 4, 1, tzinfo=UTC)})).dropped
        assert sorted(dropped) == ["bars_2025_01", "bars_2025_02", "bars_2025_03"]
        assert await read_partitions(connection) == before - set(dropped)
        assert await connection.fetchval(COUNT) == 1
    assert await writer.write([entry(start=datetime(2025, 2, 1, tzinfo=UTC))]) == []  # it did not know


async def test_partitions_may_be_dropped_while_a_batch_makes_others(database):
    writer = Writer(database)
    async with hold_open(database, SCHEMA.lock_sql) as other:
        writing = asyncio.create_task(writer.write([entry(start=datetime(2013, 3, 1, tzinfo=UTC))]))
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
        await auntil(lambda: other.fetchval(waits))
        writer.forget_partitions()
    assert await writing == []
    async with database.connect() as other:
        await other.execute("DROP TABLE bars_2013")
    # the batch after it knows nothing of the drop: the partition is made again, and nothing is refused
    assert await writer.write([entry(start=datetime(2013, 5, 1, tzinfo=UTC)), entry()]) == []
    assert await column(database, COUNT) == [2]


async def test_retention_leaves_partitions_with_replayed_rows_as_old_as_they_are(database):
    at = datetime(2012, 6, 1, tzinfo=UTC)
    quote = QuoteRow("SPY", at, 1.0, None, None, None, None, None, "yahoo", None, None, False)
    rows = [quote, quote._replace(at=at.replace(year=2013), replay=True)]
    quotes = [TypedEntry("market:quotes", b"1-0", QUOTE_TABLE, plain(row)) for row in rows]
    bars = [entry(start=row.at, replay=row.replay) for row in rows]
    values = [IndicatorRow("SPY", "1m", row.at, 0, 0, True, row.replay, None, "{}") for row in rows]
    indicators = [TypedEntry("bars:indicators", b"1-0", INDICATOR_TABLE, plain(row)) for row in values]
    assert await Writer(database).write([*quotes, *bars, *indicators]) == []
    async with database.connect() as connection:
        since = dict.fromkeys(TIME_COLUMNS, datetime(2020, 1, 1, tzinfo=UTC))
        found = await drop_expired(connection, since)
        assert sorted(found.dropped) == ["bars_2012", "indicators_2012", "quotes_2012"]
        assert await drop_expired(connection, since) == NOTHING
        assert await connection.fetchval("SELECT bool_and(replay) FROM quotes")


async def test_a_long_reading_puts_retention_of_its_table_off_and_stops_no_writer(database):
    since = dict.fromkeys(("bars", "quotes"), datetime(2025, 4, 1, tzinfo=UTC))
    statements = []
    async with database.connect() as connection:
        with connection.query_logger(lambda record: statements.append(record.query)):
            async with hold_open(database, COUNT):
                found = await drop_expired(connection, since)
                assert await Writer(database).write([entry()]) == []
        assert sum("'1ms'" in sql for sql in statements) == 2, "it waits once, not for each partition"
        assert sorted(found.locked) == ["bars_2025_01", "bars_2025_02", "bars_2025_03"]
        assert sorted(found.dropped) == ["quotes_2025_01", "quotes_2025_02", "quotes_2025_03"]
        assert sorted((await drop_expired(connection, since)).dropped) == sorted(found.locked)


async def test_a_partition_that_is_locked_by_itself_stays_and_the_others_of_its_table_go(database):
    async with hold_open(database, "SELECT FROM bars_2025_02"), database.connect() as connection:
        found = await drop_expired(connection, {"bars": datetime(2025, 4, 1, tzinfo=UTC)})
    assert (sorted(found.dropped), found.locked) == (["bars_2025_01", "bars_2025_03"], ("bars_2025_02",))


async def test_a_partition_is_made_beside_a_long_reading_and_stops_neither_readers_nor_writers(archive_url):
    """Each statement that waits for a lock has all later ones wait behind it."""
    database = Database(archive_url, timeout_sec=lambda: 5.0)
    async with hold_open(database, COUNT):
        for row in (entry(start=datetime(2019, 3, 1, tzinfo=UTC)), entry()):
            assert await Writer(database).write([row]) == []
        assert await column(database, COUNT) == [2]
    await database.aclose()


async def test_a_table_that_is_locked_gets_its_partition_later(database):
    late = [entry(start=datetime(2019, 3, 1, tzinfo=UTC))]
    async with hold_open(database, "LOCK TABLE bars IN SHARE UPDATE EXCLUSIVE MODE"):
        with pytest.raises(PostgresAwayError, match="LockNotAvailable"):
            await Writer(database).write(late)
    assert await Writer(database).write(late) == []


async def test_a_partition_that_is_made_has_all_that_its_table_has(connect, archive_url):
    connection = await connect(archive_url)
    await make_partitions(connection, [find_partition("bars", datetime(2019, 3, 1, tzinfo=UTC))])
    await connection.execute(
        "CREATE TABLE bars_2018 PARTITION OF bars FOR VALUES FROM ('2018-01-01Z') TO ('2019-01-01Z')"
    )
    made, model = [await parts_of(connection, name) for name in ("bars_2019", "bars_2018")]
    assert made == model
    assert len(made) > 20


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


async def test_retention_takes_no_lock_where_replayed_rows_stay(database):
    old = datetime(2012, 6, 1, tzinfo=UTC)
    assert await Writer(database).write([entry(start=old, replay=True)]) == []
    batch = "DELETE FROM bars WHERE symbol = 'QQQ'"  # as while it is being written
    async with hold_open(database, batch), database.connect() as connection:
        assert await drop_expired(connection, {"bars": datetime(2020, 1, 1, tzinfo=UTC)}) == NOTHING


async def test_the_range_of_a_query_reads_one_partition_by_an_index(database):
    plan = await column(
        database,
        "EXPLAIN SELECT * FROM bars WHERE symbol = 'SPY' AND timeframe = '1m' "
        "AND start >= '2026-10-02Z' AND start < '2026-10-09Z'",
    )
    text = "\n".join(plan)
    assert "bars_2026_10_pkey" in text
    assert "bars_2026_09" not in text
    kinds = await column(
        database,
        "SELECT amname FROM pg_class JOIN pg_am ON pg_am.oid = relam "
        "WHERE relname = 'bars_2026_10_start_idx'",
    )
    assert kinds == ["brin"]
    assert TIME_COLUMNS.keys() == {"bars", "quotes", "indicators"}
