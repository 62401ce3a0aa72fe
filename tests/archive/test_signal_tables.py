"""The tables of signals: what their role may do there, and what nobody may."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from marketswarm.access.passwords import DATABASE_SIGNALS
from services.archive.backup import make_backup
from services.archive.database import SCHEMA
from services.archive.restore import restore_backup
from services.signals.log.entries import PlaceOutcome
from services.signals.store.checkpoints import CheckpointTables
from services.signals.store.database import SignalDatabase
from services.signals.store.writer import SignalWriter
from services.tables.row_times import TABLE_NAMES
from services.tables.signals import (
    ARCHIVE_TABLES,
    FIRST_COSIGNATURE,
    LOG_STATE,
    NEWEST_SIGNALS,
    NEWEST_TICK,
    OUTCOMES,
    SIGNAL_BY_ID,
    SIGNAL_TABLES,
    FoundSignal,
    FoundTick,
    LogState,
    SignalCursor,
    SignalQuery,
    find_signal_id,
    select_signals,
)
from support.signal_log import START_MS, SYMBOLS, TickMaker, check_log, make_signal
from support.waiting import PATIENT_SEC

ENTRY = "INSERT INTO signal_log (n, kind, tick, epoch, at, entry) VALUES ($1, $2, $3, $4, now(), '{}')"
BEGIN = "INSERT INTO signal_epochs VALUES ($1, now(), 'one')"
ADDED = {
    "signal_epochs": "INSERT INTO signal_epochs VALUES (1, now(), 'one')",
    "signal_log": "INSERT INTO signal_log VALUES (0, 'tick', 1, 1, now(), '{}')",
    "signal_symbols": "INSERT INTO signal_symbols VALUES (sha256(''), '{SPY}')",
    "signals": "INSERT INTO signals VALUES "
    "(1, 'SPY', 0, now(), 'signal', 'long', 0.45, 0.45, 0, 1, true, sha256(''), '{}')",
    "signal_nodes": "INSERT INTO signal_nodes VALUES (0, 0, sha256(''))",
    "signal_checkpoints": "INSERT INTO signal_checkpoints VALUES (1, now(), 'note')",
    "signal_cosignatures": "INSERT INTO signal_cosignatures VALUES (1, 'witness', now(), 'line')",
    "signal_wordings": "INSERT INTO signal_wordings VALUES (1, 'SPY', now(), 'grok-4', 'it rises')",
    "signal_rules": "INSERT INTO signal_rules VALUES (sha256(''), '{}')",
}
"""By table, in the order in which they can be added, a row."""
CHANGES = {
    "signal_epochs": "epoch = 7",
    "signal_log": "entry = '{\"a\":1}'",
    "signal_symbols": "symbols = '{QQQ}'",
    "signals": "side = 'short'",
    "signal_nodes": "hash = sha256('a')",
    "signal_checkpoints": "note = 'another'",
    "signal_cosignatures": "line = 'another'",
    "signal_wordings": "text = 'another'",
    "signal_rules": "rules = '{\"a\":1}'",
}
"""By table, what would be changed of it."""


@pytest.fixture
async def signals(connect, postgres, archive_url):
    """A connection as the role of signals, with a row in each of its tables."""
    await SCHEMA.apply_migrations(
        await connect(archive_url)
    )  # the rights on a database are not copied with it
    connection = await connect(postgres.url_as(DATABASE_SIGNALS, archive_url))
    for sql in ADDED.values():
        await connection.execute(sql)
    return connection


def list_changes(table):
    change = f"UPDATE {table} SET {CHANGES[table]}"  # noqa: S608 - our own names
    return change, f"{change} WHERE false", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"  # noqa: S608 - our own names


def test_there_is_a_row_and_a_change_of_each_table_and_outcomes_are_those_of_the_log():
    assert set(ADDED) == set(CHANGES) == set(SIGNAL_TABLES)
    assert list(OUTCOMES) == [str(each) for each in PlaceOutcome]


@pytest.mark.parametrize("table", SIGNAL_TABLES)
async def test_signals_may_change_delete_and_drop_nothing(signals, table):
    further = (
        f"DROP TABLE {table}",
        f"ALTER TABLE {table} DISABLE TRIGGER ALL",
        f"SELECT FROM {table} FOR UPDATE",
    )
    for sql in (*list_changes(table), *further, f"SELECT 1; LOCK TABLE {table} IN SHARE MODE"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await signals.execute(sql)
    assert await signals.fetchval(f"SELECT count(*) FROM {table}") == 1  # noqa: S608 - our own names


@pytest.mark.parametrize("table", SIGNAL_TABLES)
async def test_not_even_the_owner_changes_or_deletes_a_row(signals, connection, table):
    before = await connection.fetch(f"SELECT * FROM {table}")  # noqa: S608 - our own names
    for sql in list_changes(table):
        with pytest.raises(asyncpg.RestrictViolationError, match="never changed or deleted"):
            await connection.execute(sql)
    merge = f"{ADDED[table]} ON CONFLICT ON CONSTRAINT {table}_pkey DO UPDATE SET {CHANGES[table]}"
    with pytest.raises(asyncpg.RestrictViolationError):
        await connection.execute(merge)
    assert await connection.fetch(f"SELECT * FROM {table}") == before  # noqa: S608 - our own names


async def test_signals_reads_what_explains_a_place_and_no_other_table_and_makes_none(signals):
    for table in ARCHIVE_TABLES:
        assert await signals.fetch(f"SELECT * FROM {table}") == []  # noqa: S608 - our own names
    others = set(TABLE_NAMES) - set(SIGNAL_TABLES) - set(ARCHIVE_TABLES)
    refused = [f"SELECT FROM {table}" for table in (*others, "schema_version", "monitor_incidents")]
    refused += [
        "INSERT INTO symbols VALUES ('SPY', 'stocks', now(), now(), false)",
        "DELETE FROM bars",
        "DROP TABLE bars",
        "CREATE TABLE mine (n integer)",
        "CREATE TEMPORARY TABLE mine (n integer)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "SET ROLE marketswarm",
        "SET session_replication_role = 'replica'",
        "SELECT lo_create(0)",
        "COPY signals TO PROGRAM 'true'",
    ]
    for sql in refused:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await signals.execute(sql)


async def test_an_epoch_follows_the_newest_one_and_an_entry_the_last_one_of_the_newest_epoch(signals):
    for epoch in (1, 3, 0, -1):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await signals.execute(BEGIN, epoch)
        assert refused.value.sqlstate == "SG001"
    await signals.execute(BEGIN, 2)
    for values, code in {
        (1, "gap", None, 1): "SG001",
        (1, "gap", None, 3): "SG001",
        (0, "gap", None, 2): "SG002",
        (2, "gap", None, 2): "SG002",
        (1, "tick", 1, 2): "SG002",
        (1, "tick", None, 2): "23514",
        (1, "gap", 5, 2): "23514",
        (1, "other", None, 2): "23514",
    }.items():
        with pytest.raises(asyncpg.PostgresError) as refused:
            await signals.execute(ENTRY, *values)
        assert refused.value.sqlstate == code, values
    await signals.execute(ENTRY, 1, "tick", 5, 2)
    with pytest.raises(asyncpg.PostgresError) as refused:  # of a tick before the newest one
        await signals.execute(ADDED["signals"].replace("SPY", "QQQ"))
    assert refused.value.sqlstate == "SG002"


@pytest.mark.parametrize(
    "change",
    [
        {"score": "1.000000000001"},
        {"score": "NaN"},
        {"confidence": "-0.1"},
        {"outcome": "sure"},
        {"outcome": "abstained"},
        {"side": None},
        {"side": "up"},
        {"symbol": "a symbol"},
        {"hash": b"short"},
        {"content": "x" * 65537},
        {"place": -1},
    ],
    ids=str,
)
async def test_a_row_that_can_not_be_is_refused(signals, change):
    columns = {
        "tick": "1",
        "symbol": "'QQQ'",
        "place": "1",
        "at": "now()",
        "outcome": "'signal'",
        "side": "'long'",
        "score": "0",
        "confidence": "0",
        "replay": "false",
        "hash": "sha256('')",
        "content": "'{}'",
    }
    ((name, value),) = change.items()
    columns[name] = "$1"
    sql = f"INSERT INTO signals ({', '.join(columns)}) VALUES ({', '.join(columns.values())})"  # noqa: S608 - our own names
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await signals.execute(sql, value)


async def test_no_lock_that_the_role_of_readers_may_take_keeps_a_tick_from_its_log(
    connect, postgres, archive_url
):
    reader = await connect(postgres.reader_url_of(archive_url))
    await reader.execute("BEGIN")
    for table in SIGNAL_TABLES:
        await reader.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
    database = SignalDatabase(postgres.url_as(DATABASE_SIGNALS, archive_url))
    try:
        async with asyncio.timeout(PATIENT_SEC):
            writer = SignalWriter(database)
            await writer.begin_epoch("one")
            await writer.begin_epoch("two")
            await writer.read_state()
            await writer.write_gap(1, 2, 0, "x")
    finally:
        await database.aclose()
    await reader.execute("ROLLBACK; BEGIN")
    for sql in ("SELECT FROM signal_epochs FOR UPDATE", "LOCK TABLE signal_epochs IN SHARE MODE"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(sql)
        await reader.execute("ROLLBACK; BEGIN")


async def test_a_restored_log_is_whole_and_as_closed_to_changes_as_before(
    connect, postgres, archive_url, tmp_path
):
    database = SignalDatabase(postgres.url_as(DATABASE_SIGNALS, archive_url))
    writer = SignalWriter(database)
    await writer.begin_epoch("one")
    maker = TickMaker(await writer.read_state())
    await writer.write_tick(maker.make(0, {symbol: make_signal(1, symbol) for symbol in SYMBOLS}))
    await writer.write_tick(maker.make(1, {"S03": make_signal(2, "S03", "flat")}))
    await database.aclose()
    made = await make_backup(archive_url, tmp_path, 1e9, postgres.programs)
    assert {table: made.tables[table].rows for table in ("signals", "signal_log", "signal_nodes")} == {
        "signals": len(SYMBOLS) + 1,
        "signal_log": 2,
        "signal_nodes": 3,
    }
    url = await asyncio.to_thread(postgres.new_database)
    await restore_backup(url, tmp_path / made.file, postgres.programs)
    restored = SignalDatabase(postgres.url_as(DATABASE_SIGNALS, url))
    try:
        again = SignalWriter(restored)
        assert await again.begin_epoch("two") == 2
        further = TickMaker(await again.read_state())
        await again.write_tick(further.make(2, {"S04": make_signal(3, "S04", "flat")}))
        assert await check_log(restored) == [1, 2, 3]
    finally:
        await restored.aclose()
    owner = await connect(url)
    for table in SIGNAL_TABLES:
        for sql in list_changes(table):
            with pytest.raises(asyncpg.RestrictViolationError):
                await owner.execute(sql)
    assert await SCHEMA.apply_migrations(owner) == len(SCHEMA.load_migrations())


@pytest.fixture
async def filled(postgres, archive_url):
    """Twelve ticks: in each second one S01 is short, in each third one S02 is long."""
    database = SignalDatabase(postgres.url_as(DATABASE_SIGNALS, archive_url))
    writer = SignalWriter(database)
    await writer.begin_epoch("one")
    maker = TickMaker(await writer.read_state())
    for tick in range(1, 13):
        changed = {} if tick > 1 else {symbol: make_signal(1, symbol, "flat") for symbol in SYMBOLS}
        if tick > 1 and tick % 2 == 0:
            changed["S01"] = make_signal(tick, "S01", "short")
        if tick > 1 and tick % 3 == 0:
            changed["S02"] = make_signal(tick, "S02", "long")
        await writer.write_tick(maker.make(writer.size, changed))
    tables = CheckpointTables(database)
    await tables.write_checkpoint(5, 1.5, b"note")
    await tables.write_checkpoint(9, 2.5, b"note")
    await tables.write_cosignature(5, "witness", 2, "line")
    await database.aclose()


async def read_pages(connection, query):
    """Return the ticks and symbols of all pages."""
    found, before = [], None
    while True:
        sql, values = select_signals(replace(query, before=before))
        rows = [FoundSignal(*row) for row in await connection.fetch(sql, *values)]
        assert len(rows) <= query.limit
        found += [(row.tick, row.symbol) for row in rows]
        if not rows:
            return found
        before = SignalCursor(rows[-1].tick, rows[-1].symbol)


@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_signals_are_paged_the_newest_first_by_symbol_side_and_time(filled, connection, limit):
    changes = {(tick, "S01") for tick in range(2, 13, 2)} | {(tick, "S02") for tick in range(3, 13, 3)}
    everything = sorted(changes | {(1, symbol) for symbol in SYMBOLS}, reverse=True)
    for query, wanted in (
        (SignalQuery(limit=limit), everything),
        (SignalQuery(symbol="S01", limit=limit), [one for one in everything if one[1] == "S01"]),
        (SignalQuery(side="long", limit=limit), [(tick, "S02") for tick in (12, 9, 6, 3)]),
        (SignalQuery(symbol="S01", side="long", limit=limit), []),
        (SignalQuery(since_ms=START_MS + 50_000, limit=limit), [one for one in everything if one[0] >= 10]),
        (SignalQuery(symbol="S02", since_ms=START_MS + 31_000, limit=limit), [(12, "S02"), (9, "S02")]),
        (SignalQuery(since_ms=2 * START_MS, limit=limit), []),
    ):
        assert await read_pages(connection, query) == wanted, query


async def test_a_signal_is_found_by_its_id_and_the_newest_of_a_symbol_by_its_name(filled, connection):
    wanted = make_signal(6, "S01", "short")
    (row,) = await connection.fetch(SIGNAL_BY_ID, find_signal_id(wanted))
    found = FoundSignal(*row)
    assert (found.id, found.n, found.tick, found.symbol) == (find_signal_id(wanted), 5, 6, "S01")
    assert (found.at, found.side, found.score) == (START_MS + 30_000, "short", "0.450000000000")
    assert found.content.encode() == wanted
    assert await connection.fetch(SIGNAL_BY_ID, "0" * 64) == []
    newest = [FoundSignal(*row) for row in await connection.fetch(NEWEST_SIGNALS, ["S01", "S02", "S03", "X"])]
    assert {(each.tick, each.symbol) for each in newest} == {(12, "S01"), (12, "S02"), (1, "S03")}


async def test_how_far_the_log_is_signed_and_cosigned_is_read(filled, connection):
    (row,) = await connection.fetch(LOG_STATE)
    assert LogState(*row) == (12, 9, 2500, 5, 2000, "witness")
    (row,) = await connection.fetch(NEWEST_TICK)
    assert FoundTick(*row)[:3] == (12, 11, START_MS + 60_000)
    assert [tuple(row) for row in await connection.fetch(FIRST_COSIGNATURE, 4)] == [(5, "witness", 2000)]
    assert await connection.fetch(FIRST_COSIGNATURE, 5) == []


async def test_an_empty_log_has_a_state_and_no_newest_tick(connection):
    (row,) = await connection.fetch(LOG_STATE)
    assert LogState(*row) == (0, None, None, None, None, None)
    assert await connection.fetch(NEWEST_TICK) == []


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (SignalQuery(symbol="S01"), "signals_by_symbol"),
        (SignalQuery(symbol="S01", before=SignalCursor(9, "S01")), "signals_by_symbol"),
        (SignalQuery(side="long"), "signals_by_side"),
        (SignalQuery(side="long", before=SignalCursor(9, "S02")), "signals_by_side"),
        (SignalQuery(outcome="failed"), "signals_by_outcome"),
        (SignalQuery(outcome="abstained", before=SignalCursor(9, "S02")), "signals_by_outcome"),
        (SignalQuery(outcome="signal"), "signals_pkey"),
        (SignalQuery(), "signals_pkey"),
        (SignalQuery(before=SignalCursor(9, "S01")), "signals_pkey"),
    ],
    ids=str,
)
async def test_each_page_is_read_by_an_index_in_its_order_and_nothing_is_sorted(
    filled, connection, query, index
):
    await connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; ANALYZE")
    sql, values = select_signals(query)
    lines = [row[0] for row in await connection.fetch(f"EXPLAIN {sql}", *values)]
    inner = "\n".join(lines[next(at for at, line in enumerate(lines) if "Limit" in line) :])
    assert f"using {index} on signals" in inner, inner
    assert "Sort" not in inner, inner


async def test_rare_outcomes_are_read_by_their_index_also_by_a_plan_for_any_value(filled, connection):
    await connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; ANALYZE")
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE page AS {select_signals(SignalQuery(outcome='failed'))[0]}")
    lines = [row[0] for row in await connection.fetch("EXPLAIN EXECUTE page('failed', 100)")]
    assert "using signals_by_outcome on signals" in "\n".join(lines), lines
