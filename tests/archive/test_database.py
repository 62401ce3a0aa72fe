"""Connections to a PostgreSQL that takes them and does not answer: its processes are frozen."""

import asyncio
import contextlib
from datetime import date

import asyncpg
import pytest

from marketswarm.postgres.errors import PostgresAwayError
from marketswarm.postgres.transaction import transaction
from services.archive import database as database_module
from services.archive.correlations import Compared, compute_correlations
from services.archive.database import SCHEMA, Database
from support.postgres import query
from support.waiting import auntil

COUNT = "SELECT count(*) FROM symbols"
SYMBOL = "INSERT INTO symbols VALUES ('SPY', 'stocks', now(), now(), false)"


def test_work_on_a_server_that_freezes_ends_at_its_time_limit_or_when_it_is_cancelled(
    breakable_postgres, archive_url
):
    server, url = breakable_postgres, archive_url
    hasty, patient, frozen = Database(url, timeout_sec=lambda: 1.0), Database(url), asyncio.Event()

    async def work(database, block=transaction):
        async with database.connect() as connection, block(connection):
            if block is transaction:
                await connection.execute(SYMBOL)
            await asyncio.to_thread(server.freeze)
            frozen.set()
            await connection.execute(COUNT)

    async def scenario():
        for _ in ("a connection that is open", "a new one"):
            with pytest.raises(PostgresAwayError, match=r"no answer within 1 s|TimeoutError$"):
                async with asyncio.timeout(10):
                    await work(hasty)
        for block in (transaction, contextlib.nullcontext):
            server.thaw()
            frozen.clear()
            task = asyncio.create_task(work(patient, block))
            await frozen.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                async with asyncio.timeout(10):
                    await task
        server.thaw()
        for database in (hasty, patient):
            assert await count_rows(database) == 0
            await database.aclose()

    async def count_rows(database):
        async with asyncio.timeout(30):
            while True:  # a second may be too short for a server that was just thawed, on a busy machine
                with contextlib.suppress(PostgresAwayError):
                    async with database.connect() as connection:
                        return await connection.fetchval(COUNT)

    asyncio.run(scenario())
    assert query(url, COUNT) == [(0,)]


def test_correlations_on_a_server_that_freezes_end_when_they_are_cancelled(breakable_postgres, archive_url):
    server, database = breakable_postgres, Database(archive_url)

    async def compute():
        async with database.connect() as connection:
            await compute_correlations(connection, date(2026, 5, 4), Compared(60, 5), "x")

    async def scenario():
        other = await asyncpg.connect(archive_url)
        await other.execute("BEGIN; LOCK TABLE correlated_days IN ACCESS EXCLUSIVE MODE")
        task = asyncio.create_task(compute())
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'correlated_days'::regclass"
        await auntil(lambda: other.fetchval(waits))
        await asyncio.to_thread(server.freeze)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(10):
                await task
        server.thaw()
        await other.close()
        await database.aclose()

    asyncio.run(scenario())


def test_a_migration_takes_as_long_as_it_needs_while_the_server_answers_others(
    breakable_postgres, archive_url, monkeypatch
):
    """It waits for one of another instance here; a server that answers nobody ends the wait."""
    opened, open_connection = [], database_module.open_connection

    def open_counted(*words):
        opened.append(words)
        return open_connection(*words)

    monkeypatch.setattr(database_module, "SILENCE_SEC", 1.0)
    monkeypatch.setattr(database_module, "open_connection", open_counted)
    server, url = breakable_postgres, archive_url
    database = Database(url)

    async def ask():
        async with database.connect() as connection:
            return await connection.fetchval(COUNT)

    async def scenario():
        other = await asyncpg.connect(url)
        await other.execute(f"BEGIN; {SCHEMA.lock_sql}")
        task = asyncio.create_task(ask())
        await auntil(lambda: len(opened) >= 8, what="the server to have answered others for twice the limit")
        assert not task.done()
        assert database.migrating_since is not None
        await other.execute("ROLLBACK")
        assert await task == 0
        await database.aclose()
        await other.execute(f"BEGIN; {SCHEMA.lock_sql}")
        task = asyncio.create_task(ask())
        await auntil(lambda: other.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
        await asyncio.to_thread(server.freeze)
        with pytest.raises(PostgresAwayError, match="no answer within 1 s"):
            async with asyncio.timeout(20):
                await task
        assert database.migrating_since is None
        server.thaw()
        await other.close()

    asyncio.run(scenario())
