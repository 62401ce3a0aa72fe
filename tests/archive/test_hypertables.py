"""The archive in a database with TimescaleDB: the long tables are hypertables, and all else is as without it.

The other tests of this folder run there, too: `support.postgres` says how.
"""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from services.archive.backup import BackupError, make_backup
from services.archive.database import Database
from services.archive.partitions import TIME_COLUMNS, drop_expired
from services.archive.restore import restore_backup, verify_backup
from services.archive.writer import TypedEntry, Writer
from services.tables.rows import IndicatorRow, QuoteRow
from services.tables.tables import INDICATOR_TABLE, QUOTE_TABLE
from support.archive_rows import START, column, entry
from support.postgres import hypertables_only, plain, query

pytestmark = hypertables_only

OLD = datetime(2012, 6, 1, tzinfo=UTC)
QUOTE = QuoteRow("SPY", START, 1.0, None, None, None, None, None, "yahoo", None, None, False)
HYPERTABLES = "SELECT hypertable_name::text FROM timescaledb_information.hypertables ORDER BY 1"


async def test_rows_of_any_year_are_taken_and_a_time_that_can_not_be_is_refused(database):
    years = (1800, 1969, 1970, 2026, 2099)
    wrong = entry(start=datetime(1700, 1, 1, tzinfo=UTC))
    entries = [*(entry(start=datetime(year, 12, 31, 23, 59, tzinfo=UTC)) for year in years), wrong]
    refused = await Writer(database).write(entries)
    assert [(entry, "market_time_check" in why) for entry, why in refused] == [(wrong, True)]
    assert await column(database, "SELECT count(*) FROM bars") == [len(years)]
    assert await column(database, HYPERTABLES) == sorted(TIME_COLUMNS)


async def test_retention_drops_chunks_without_replayed_rows_and_waits_for_no_reader(database):
    replayed = OLD + timedelta(days=30)  # in the chunk between those of two others
    quotes = [
        QUOTE._replace(at=at, replay=at == replayed)
        for at in (OLD, replayed, OLD + timedelta(days=60), START)
    ]
    bars = [entry(start=row.at, replay=row.replay) for row in quotes]
    indicators = [IndicatorRow("SPY", "1m", row.at, 0, 0, True, row.replay, None, "{}") for row in quotes]
    entries = [
        *(TypedEntry("market:quotes", b"1-0", QUOTE_TABLE, plain(row)) for row in quotes),
        *(TypedEntry("bars:indicators", b"1-0", INDICATOR_TABLE, plain(row)) for row in indicators),
    ]
    assert await Writer(database).write([*bars, *entries]) == []
    since = dict.fromkeys(TIME_COLUMNS, datetime(2020, 1, 1, tzinfo=UTC))
    async with database.connect() as reader:
        async with reader.transaction():
            await reader.fetch("SELECT count(*) FROM bars")
            async with database.connect() as connection:
                found = await drop_expired(connection, {"bars": since["bars"]})
            assert (found.dropped, len(found.locked)) == ((), 2)
        assert len((await drop_expired(reader, since)).dropped) == 6
        assert (await drop_expired(reader, since)).dropped == ()
        for table, column in TIME_COLUMNS.items():
            found = await reader.fetch(f"SELECT {column} FROM {table} ORDER BY 1")  # noqa: S608 - our own names
            assert [row[0] for row in found] == [replayed, START], table
    assert await Writer(database).write([entry(start=OLD)]) == []  # a late row


def test_a_restored_backup_has_hypertables_and_takes_rows(postgres, archive_url, tmp_path):
    async def write(*entries):
        database = Database(archive_url)
        assert await Writer(database).write(entries) == []
        await database.aclose()

    asyncio.run(write(entry(start=OLD), entry(start=START)))
    made = asyncio.run(make_backup(archive_url, tmp_path, 1_793_100_000.0, postgres.programs))
    dump, manifest = tmp_path / made.file, (tmp_path / made.file).with_suffix(".json")
    asyncio.run(write(entry(start=OLD.replace(year=2014))))
    asyncio.run(restore_backup(archive_url, dump, postgres.programs, replace=True))
    assert query(archive_url, HYPERTABLES) == [(name,) for name in sorted(TIME_COLUMNS)]
    asyncio.run(write(entry(start=OLD.replace(year=2015))))
    years = "SELECT extract(year FROM start)::int FROM bars ORDER BY 1"
    assert query(archive_url, years) == [(2012,), (2015,), (2026,)]
    document = json.loads(manifest.read_text())
    assert document["timescaledb"] == made.timescaledb
    manifest.write_text(json.dumps({**document, "timescaledb": "1.0.0"}))
    with pytest.raises(BackupError, match=r"TimescaleDB.*1\.0\.0"):
        asyncio.run(verify_backup(archive_url, dump, postgres.programs))
