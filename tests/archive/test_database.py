"""Connections to a PostgreSQL that takes them and does not answer: its processes are frozen."""

import asyncio
import contextlib
import time

import pytest

from services.archive.database import ArchiveAwayError, Database
from services.archive.transaction import transaction
from support.postgres import Postgres, query

COUNT = "SELECT count(*) FROM symbols"
SYMBOL = "INSERT INTO symbols VALUES ('SPY', 'stocks', now(), now(), false)"


@pytest.fixture
def server():
    """A server that a test may freeze."""
    with Postgres() as server:
        yield server
        server.thaw()


def test_work_on_a_server_that_freezes_ends_at_its_time_limit_or_when_it_is_cancelled(server):
    url = server.new_archive()
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
            with pytest.raises(ArchiveAwayError, match=r"no answer within 1 s|TimeoutError$"):
                async with asyncio.timeout(10):
                    await work(hasty)
        for block in (transaction, contextlib.nullcontext):
            server.thaw()
            frozen.clear()
            task = asyncio.create_task(work(patient, block))
            await frozen.wait()
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 5
        server.thaw()
        for database in (hasty, patient):
            async with database.connect() as connection:
                assert await connection.fetchval(COUNT) == 0
            await database.aclose()

    asyncio.run(scenario())
    assert query(url, COUNT) == [(0,)]
