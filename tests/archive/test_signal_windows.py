"""What windows of signals begin with: the last final bars of the archive, as its role reads them."""

import time
from contextlib import aclosing
from datetime import date

import pytest

from marketswarm.access.passwords import DATABASE_SIGNALS
from marketswarm.postgres.errors import PostgresAwayError
from services.archive.database import SCHEMA
from services.archive.writer import TypedEntry, Writer
from services.signals.store.database import SignalDatabase
from services.signals.store.windows import WindowTables, is_of_tables
from services.tables.rows import BarRow, SymbolRow
from services.tables.tables import BAR_TABLE, SOURCE_BAR_TABLE

DAY_MS = 86_400_000
START = 1_767_571_200_000
ACTIONS = """
INSERT INTO actions (symbol, ex_day, kind, ratio, amount, withdrawn, source, replay) VALUES
    ('SPY', '2026-01-07', 'split', 2, NULL, false, 'one', false),
    ('SPY', '2026-01-08', 'split', NULL, NULL, true, 'one', false),
    ('SPY', '2026-01-09', 'dividend', NULL, 1, false, 'one', false),
    ('QQQ', '2026-01-07', 'split', 3, NULL, false, 'one', false)
"""


def row(number, symbol="SPY", timeframe="1d", *, final=True, source="one", replay=False, known_at=None):
    close = 100.0 + number
    return BarRow(
        *(symbol, timeframe, START + number * DAY_MS, close, close + 1, close - 1, close, 5.0, None, None),
        *(final, 0, 1, source, None, None, replay),
        known_at=known_at,
    )


async def store(database, *rows, table=BAR_TABLE):
    entries = [
        TypedEntry("bars:bars", b"1-0", table, each, SymbolRow(each.symbol, "stocks", START, START, False))
        for each in rows
    ]
    assert await Writer(database).write(entries) == []


@pytest.fixture
async def tables(connect, postgres, archive_url):
    # the rights on a database are not copied with it
    await SCHEMA.apply_migrations(await connect(archive_url))
    async with aclosing(SignalDatabase(postgres.url_as(DATABASE_SIGNALS, archive_url))) as database:
        yield WindowTables(database)


def list_closes(bars):
    return [(each.bar.symbol, each.bar.close, each.source, each.known_ms) for each in bars]


async def test_the_last_final_bars_of_each_symbol_come_the_oldest_first(tables, database):
    late = START + 50 * DAY_MS
    await store(database, *[row(number, known_at=late if number == 4 else None) for number in range(5)])
    await store(database, row(5, final=False), row(6, replay=True), row(7, timeframe="1h"), row(1, "QQQ"))
    found = await tables.read_bars(["QQQ", "SPY", "XLF"], "1d", 3)
    assert list_closes(found) == [
        ("QQQ", 101.0, "one", None),
        ("SPY", 102.0, "one", None),
        ("SPY", 103.0, "one", None),
        ("SPY", 104.0, "one", late),
    ]
    bar = found[0].bar
    assert (bar.timeframe, bar.start_ms, bar.high, bar.low, bar.volume) == ("1d", START + DAY_MS, 102, 100, 5)


async def test_bars_of_one_source_are_those_that_were_loaded_for_themselves(tables, database):
    await store(database, row(0))
    await store(database, row(1), row(2, source="two"), row(3, "QQQ"), table=SOURCE_BAR_TABLE)
    found = await tables.read_source_bars([("SPY", "two"), ("QQQ", "one")], "1d", 3)
    assert list_closes(found) == [("QQQ", 103.0, "one", None), ("SPY", 102.0, "two", None)]
    assert await tables.read_source_bars([], "1d", 3) == []


async def test_splits_count_that_are_not_withdrawn(tables, connection):
    await connection.execute(ACTIONS)
    assert await tables.read_splits(["SPY"]) == [("SPY", date(2026, 1, 7))]


async def test_an_archive_that_grants_no_right_is_named(tables, connection):
    await connection.execute(f"REVOKE SELECT ON actions FROM {DATABASE_SIGNALS}")  # noqa: S608 - our own names
    with pytest.raises(PostgresAwayError, match="actions") as found:
        await tables.read_splits(["SPY"])
    assert is_of_tables(found.value)
    for reads in (tables.read_bars, tables.read_source_bars):
        assert await reads([], "1d", 1) == [], "the others are granted"


async def test_bars_of_the_future_take_no_place(tables, database):
    ahead = (round(time.time() * 1000) - START) // DAY_MS + 100
    await store(database, row(1), *[row(ahead + number) for number in range(3)])
    assert list_closes(await tables.read_bars(["SPY"], "1d", 2)) == [("SPY", 101.0, "one", None)]
