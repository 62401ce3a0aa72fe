"""What is observed of a real PostgreSQL: its connections, sessions that are idle, and how old tables are."""

import os
import time

import psutil
import pytest

from marketswarm.operator.service_reports import DatedTable
from services.archive import database_observer
from services.archive.backup import SNAPSHOT_NAME
from services.archive.database_observer import (
    DatabaseObserver,
    measure_memory_percent,
    read_memory_percent,
)
from services.tables.row_times import ROW_TIMES
from support.waiting import auntil

QUOTES, DOWNLOADS, ALERTS = DatedTable.QUOTES, DatedTable.DOWNLOADS, DatedTable.ALERT_LOG
QUOTE = (
    "INSERT INTO quotes (symbol, at, price, source, replay) "
    "VALUES ($1, now() - make_interval(secs => $2), 1, 'x', false)"
)
DOWNLOAD = (
    "INSERT INTO downloads (id, source, asked_at, outcome) "
    "VALUES ('1-0', 'x', now() - make_interval(secs => $1), 'records')"
)
FILL = (
    "CREATE TEMPORARY TABLE filled AS SELECT repeat(md5(each::text), 30) FROM generate_series(1, 100000) each"
)
FILLED_BYTES = 80 << 20


@pytest.fixture
def observer(database):
    return DatabaseObserver(database)


async def measure(observer, *tables):
    return (await observer.observe(tables)).table_ages


async def test_the_connections_of_all_clients_are_counted_with_those_that_are_left_for_them(
    observer, connect, archive_url, postgres
):
    before = await observer.observe([])
    limit = int(await (await connect(archive_url)).fetchval("SHOW max_connections"))
    assert 0 < limit - before.connection_limit <= 10, "without those of superusers"
    others = [await connect(postgres.reader_url_of(archive_url)) for _ in range(3)]
    assert all([await each.fetchval("SELECT true") for each in others])
    after = await observer.observe([])
    assert after.connections - before.connections >= 3, "also those of another role"
    assert abs(after.ts - time.time()) < 60
    assert after.size_bytes > 5_000_000
    assert (after.replicas, after.replica_lag_sec) == (0, None)
    assert after.lag_sec is None


async def test_a_session_that_does_nothing_in_a_transaction_is_counted_after_a_while(
    observer, connect, archive_url, monkeypatch
):
    async def count():
        return (await observer.observe([])).idle_transactions

    idle = await connect(archive_url)
    monkeypatch.setattr(database_observer, "IDLE_SEC", 0)
    assert await count() == 0
    await idle.execute("BEGIN")
    await auntil(lambda: reaches(count, 1))
    monkeypatch.setattr(database_observer, "IDLE_SEC", 60)
    assert await count() == 0, "not yet"
    monkeypatch.setattr(database_observer, "IDLE_SEC", 0)
    assert await count() == 1
    await idle.execute(f"SET application_name = '{SNAPSHOT_NAME}'")
    assert await count() == 0, "pg_dump works for that one"
    await idle.execute("SET application_name = ''; ROLLBACK")
    assert await count() == 0


async def reaches(count, wanted):
    return await count() == wanted


async def test_the_age_of_a_table_is_that_of_its_newest_row_that_is_not_of_the_future(
    observer, connect, archive_url
):
    connection = await connect(archive_url)
    assert await measure(observer, QUOTES, DOWNLOADS) == {}, "there are no rows"
    for symbol, ago in (("OLD", 86_400 * 20.0), ("SPY", 5000.0), ("NEXT", -3000.0)):
        await connection.execute(QUOTE, symbol, ago)
    await connection.execute(DOWNLOAD, 40.0)
    assert await measure(observer, QUOTES, DOWNLOADS) == {
        "quotes": pytest.approx(5000, abs=60),
        "downloads": pytest.approx(40, abs=60),
    }
    await connection.execute(QUOTE, "SPY", 10.0)
    assert await measure(observer, QUOTES) == {"quotes": pytest.approx(10, abs=60)}, "and what came since"
    await connection.execute("DELETE FROM quotes WHERE symbol = 'SPY'")
    assert await measure(observer, QUOTES) == {"quotes": pytest.approx(86_400 * 20, abs=60)}
    await connection.execute("DELETE FROM quotes WHERE symbol = 'OLD'")
    assert await measure(observer, QUOTES) == {}


async def test_each_table_has_an_age(observer):
    assert set(DatedTable) <= set(ROW_TIMES)
    assert await measure(observer, *DatedTable) == {}


async def test_a_table_that_takes_too_long_is_left_alone_for_a_while_and_the_others_are_known(
    observer, connect, archive_url, monkeypatch
):
    monkeypatch.setattr(database_observer, "AGE_SEC", 0.2)
    connection = await connect(archive_url)
    await connection.execute(QUOTE, "SPY", 10.0)
    await connection.execute(DOWNLOAD, 10.0)
    await connection.execute("BEGIN; LOCK TABLE quotes")
    assert set(await measure(observer, QUOTES, DOWNLOADS)) == {"downloads"}
    await connection.execute("ROLLBACK")
    assert set(await measure(observer, QUOTES, DOWNLOADS)) == {"downloads"}
    monkeypatch.setattr(database_observer, "PUT_OFF_SEC", 0.0)
    await connection.execute("BEGIN; LOCK TABLE downloads")
    assert await measure(observer, DOWNLOADS) == {}
    await connection.execute("ROLLBACK")
    assert set(await measure(observer, DOWNLOADS)) == {"downloads"}


async def test_its_memory_is_what_all_processes_of_the_server_take_and_grows_with_one_of_another_session(
    observer, connect, archive_url
):
    before = (await observer.observe([])).memory_percent
    assert 0.0 < before < 100.0
    other = await connect(archive_url)
    await other.execute("SET temp_buffers = '120MB'")
    await other.execute(FILL)
    grown = (await observer.observe([])).memory_percent - before
    assert grown > 100.0 * FILLED_BYTES / psutil.virtual_memory().total
    await other.close()


async def test_a_process_that_does_not_serve_the_connection_is_a_stranger(connect, archive_url):
    connection = await connect(archive_url)
    assert await read_memory_percent(connection) > 0
    pid = await connection.fetchval("SELECT pg_backend_pid()")
    assert measure_memory_percent(pid, "marketswarm elsewhere 10.0.0.1(5432)") is None
    assert measure_memory_percent(os.getpid(), "marketswarm") is None
    await connection.close()
    assert measure_memory_percent(2**22 + 1, "marketswarm") is None, "there is no such process"
