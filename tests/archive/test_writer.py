"""What PostgreSQL refuses for good, one entry at a time, and what the writer waits for."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from marketswarm.postgres.errors import PostgresAwayError, ServerFaultError
from marketswarm.postgres.migrations import Migration, SchemaError
from services.archive.backup import make_backup
from services.archive.database import SCHEMA
from services.archive.restore import restore_backup
from services.archive.writer import TypedEntry, Writer
from services.market.records import RecordKind
from services.tables.rows import ActionRow, ObservationRow, QuoteRow, SymbolRow, make_download_row
from services.tables.tables import ACTION_TABLE, DOWNLOAD_TABLE, OBSERVATION_TABLE, QUOTE_TABLE
from support.archive_rows import START, column, entry
from support.postgres import plain

NIGHTLY = pytest.mark.nightly("the same test with another value")

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


async def test_a_wrong_bar_is_refused_and_those_beside_it_are_written(database):
    entries = [entry(start=START + timedelta(minutes=n)) for n in range(8)]
    for wrong in WRONG_BARS:
        batch = [*entries[:3], entry(**{"start": START + timedelta(days=1), **wrong}), *entries[3:]]
        refused = await Writer(database).write(batch)
        assert [entry for entry, _ in refused] == [batch[3]], wrong
        assert "SPY" not in refused[0][1]
    assert await column(database, "SELECT count(*) FROM bars") == [8]


async def test_a_bar_that_is_only_restated_stays_known_since_when_it_was(database):
    known_at = START + timedelta(days=50)
    writer = Writer(database)
    await writer.write([entry(known_at=known_at)])
    assert await writer.write([entry(rev=0, epoch=5, close=9.5, known_at=None)]) == []
    assert await column(database, "SELECT known_at FROM bars WHERE close = 9.5") == [known_at]
    await writer.write([entry(rev=0, epoch=6, close=9.25, known_at=START)])
    assert await column(database, "SELECT known_at FROM bars") == [START]


async def test_of_two_answers_of_one_time_the_later_entry_stays_in_any_order(database):
    quote = plain(QuoteRow("SPY", START, 9.0, 8.5, None, None, None, None, "yahoo", START, None, False, 5))
    later = quote._replace(price=9.0, bid=8.75, stream_position=6)
    value = plain(ObservationRow("US.CPI", START, 9.0, START, "fred", START, None, False, 5))
    corrected = value._replace(value=3.0, stream_position=6)
    for rows in ((quote, value), (later, corrected), (quote, value)):  # the first ones come again
        entries = [
            TypedEntry("market:quotes", b"1-0", QUOTE_TABLE, rows[0]),
            TypedEntry("market:observations", b"1-0", OBSERVATION_TABLE, rows[1]),
        ]
        assert await Writer(database).write(entries) == []
    assert await column(database, "SELECT bid FROM quotes") == [8.75]
    assert await column(database, "SELECT value FROM observations") == [3.0]


ACTION = plain(
    ActionRow("AAPL", "2020-08-07", "dividend", None, 0.82, None, False, "yahoo", START, None, False, 5)
)
WRONG_ACTIONS = [
    {"kind": "redemption"},
    {"kind": "split"},
    {"ratio": 4.0},
    {"amount": None},
    {"amount": 0.0},
    {"amount": 2e9},
    {"amount": float("nan")},
    {"new_symbol": "APLE"},
    {"withdrawn": True},
    {"ex_day": "1799-12-31"},
    {"kind": "split", "amount": None, "ratio": 1.0},
    {"kind": "rename", "amount": None, "new_symbol": "AAPL"},
]


async def test_a_withdrawn_action_replaces_what_was_paid_and_a_wrong_one_is_refused_alone(database):
    gone = ACTION._replace(amount=None, withdrawn=True, stream_position=6)
    split = ACTION._replace(kind="split", amount=None, ratio=4.0)
    for rows in ((ACTION, split), (gone,), (ACTION, split)):  # the first ones come again
        entries = [TypedEntry("market:actions", b"1-0", ACTION_TABLE, row) for row in rows]
        assert await Writer(database).write(entries) == []
    assert await column(database, "SELECT amount FROM actions WHERE NOT withdrawn") == [None]
    assert await column(database, "SELECT withdrawn FROM actions WHERE kind = 'dividend'") == [True]
    later = ACTION._replace(asked_at=ACTION.asked_at + 1, amount=0.8)
    assert await Writer(database).write([TypedEntry("market:actions", b"2-0", ACTION_TABLE, later)]) == []
    assert await column(database, "SELECT amount FROM actions WHERE kind = 'dividend'") == [0.8]
    for wrong in WRONG_ACTIONS:
        entries = [
            TypedEntry("market:actions", b"3-0", ACTION_TABLE, row)
            for row in (ACTION, ACTION._replace(**{"ex_day": "2019-08-09", **wrong}), split)
        ]
        refused = await Writer(database).write(entries)
        assert [entry for entry, _ in refused] == entries[1:2], wrong
    assert await column(database, "SELECT count(*) FROM actions") == [2]


async def list_vintages(database):
    return await column(
        database,
        "SELECT value || ' ' || to_char(known_at, 'DD') || ' ' || source "
        "FROM observation_vintages ORDER BY known_at",
    )


def unrate(asked_day, value, known_day=None):
    """An entry of the unemployment rate, asked for on a day, and known since then or since another day."""
    asked_at, known_at = START.replace(day=asked_day), START.replace(day=known_day or asked_day)
    row = ObservationRow("US.UNRATE", START, value, known_at, "fred", asked_at, None, False, asked_day)
    return TypedEntry("market:observations", b"1-0", OBSERVATION_TABLE, plain(row))


async def test_every_value_of_a_period_is_kept_with_when_it_was_known_in_whatever_order_it_comes(database):
    """3.8 as it was printed, 3.7 as it was revised, then 3.8 again; it is asked for each day."""
    asked = [(1, 3.8), (2, 3.8), (6, 3.7), (7, 3.7), (9, 3.8), (10, 3.8)]
    entries = [unrate(*each) for each in asked]
    writer = Writer(database)
    for batches in ([entries], [[each] for each in entries], [[each] for each in reversed(entries)]):
        for batch in (*batches, *batches):  # entries come again
            assert await writer.write(batch) == []
        assert await list_vintages(database) == ["3.8 01 fred", "3.7 06 fred", "3.8 09 fred"]
        assert await column(database, "SELECT value FROM observations") == [3.8]
        async with database.connect() as connection:
            await connection.execute("TRUNCATE observations, observation_vintages")
    # what its source says of the past, much later, stands beside what this station saw
    await writer.write(entries[1:])
    await writer.write([unrate(20, 3.8, known_day=1), unrate(21, 3.75, known_day=4)])
    assert await list_vintages(database) == ["3.8 01 fred", "3.75 04 fred", "3.7 06 fred", "3.8 09 fred"]


async def test_a_value_that_is_asked_for_again_is_known_since_the_first_time(database):
    writer = Writer(database)
    for each in (unrate(5, 9.0), unrate(6, 9.0), unrate(5, 9.0)):
        await writer.write([each])
    assert await column(database, "SELECT extract(day FROM known_at)::integer FROM observations") == [5]
    assert await column(database, "SELECT extract(day FROM asked_at)::integer FROM observations") == [6]


async def test_a_database_that_was_made_anew_under_the_service_gets_its_schema(database):
    assert await Writer(database).write([entry()]) == []
    async with database.connect() as connection:
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    with pytest.raises(PostgresAwayError):
        await Writer(database).write([entry()])
    assert await Writer(database).write([entry()]) == []
    assert await column(database, "SELECT count(*) FROM bars") == [1]


@pytest.mark.parametrize("kind", RecordKind)
async def test_a_request_for_records_of_each_kind_is_stored(database, kind):
    fields = {b"source": b"yahoo", b"kind": str(kind).encode(), b"asked_at": b"1790000000", b"outcome": b"ok"}
    row, _ = make_download_row(b"1790000000000-0", fields)
    entries = [TypedEntry("market:downloads", b"1790000000000-0", DOWNLOAD_TABLE, row)]
    assert await Writer(database).write(entries) == []
    assert await column(database, "SELECT kind FROM downloads") == [str(kind)]


@pytest.mark.parametrize("version", [1, pytest.param(3, marks=NIGHTLY)])
async def test_a_backup_of_an_older_schema_that_is_restored_under_the_service_is_brought_up_to_date(
    postgres, database, archive_url, tmp_path, version
):
    """Its sessions are ended, and the next ones find a database without columns that they write."""
    older = await asyncpg.connect(await asyncio.to_thread(postgres.new_database))
    await SCHEMA.apply_migrations(older, SCHEMA.load_migrations()[:version])
    url = postgres.url_of(await older.fetchval("SELECT current_database()"))
    made = await make_backup(url, tmp_path, 1_793_100_000.0, postgres.programs)
    await older.close()
    writer = Writer(database)
    assert await writer.write([entry()]) == []
    await restore_backup(archive_url, tmp_path / made.file, postgres.programs, replace=True)
    for _ in range(2):  # a session that is ended, then a new one
        with contextlib.suppress(PostgresAwayError):
            assert await writer.write([entry()]) == []
    assert await writer.write([entry()]) == []
    async with database.connect() as connection:
        assert await SCHEMA.read_version(connection) == len(SCHEMA.load_migrations())
        assert await connection.fetchval("SELECT count(*) FROM bars") == 1


async def test_an_instance_of_an_older_release_refuses_no_entry_by_the_checks_of_a_later_schema(
    connect, database, archive_url
):
    assert await Writer(database).write([entry()]) == []
    owner, known = await connect(archive_url), SCHEMA.load_migrations()
    later = Migration(len(known) + 1, "later", "ALTER TABLE downloads ADD COLUMN bus text NOT NULL")
    await SCHEMA.apply_migrations(owner, [*known, later])
    fields = {b"source": b"yahoo", b"asked_at": b"1793000000", b"outcome": b"fresh"}
    row, _ = make_download_row(b"1-0", fields)
    batch = [TypedEntry("market:downloads", b"1-0", DOWNLOAD_TABLE, row)]
    with pytest.raises(PostgresAwayError, match=f"schema {later.version}"):
        await Writer(database).write(batch)
    with pytest.raises(SchemaError, match="run the release that made it"):
        await Writer(database).write(batch)


async def test_a_column_that_is_missing_is_waited_for(connect, database, archive_url):
    owner = await connect(archive_url)
    await owner.execute("ALTER TABLE bars RENAME COLUMN epoch TO era")
    for _ in range(2):
        with pytest.raises(PostgresAwayError, match=r"UndefinedColumn.*epoch"):
            await Writer(database).write([entry()])
    await owner.execute("ALTER TABLE bars RENAME COLUMN era TO epoch")
    assert await Writer(database).write([entry()]) == []


@pytest.mark.parametrize(
    "code", ["58030", "XX001", *(pytest.param(code, marks=NIGHTLY) for code in ("58000", "XX000", "XX002"))]
)
async def test_a_fault_of_the_server_itself_is_waited_for_and_refuses_no_entry(
    connect, database, archive_url, code
):
    owner = await connect(archive_url)
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
