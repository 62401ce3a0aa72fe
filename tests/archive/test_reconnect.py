"""New connections to a real PostgreSQL: what goes on, what ends, and which sessions are ended."""

import asyncio
import contextlib
import time
from types import SimpleNamespace

import asyncpg
import pytest

from marketswarm.fleet.postgres import ROLE
from marketswarm.postgres.errors import PostgresAwayError
from services.archive import database as module
from services.archive.backup import SNAPSHOT_NAME
from services.archive.database import Database, reconnect
from support.waiting import auntil

RIGHTS = "pg_read_all_stats, pg_signal_backend"
PID = "SELECT pg_backend_pid()"
IDLE_SEC = 0.2
OLD_SEC = 4.0  # a busy machine takes a second from the young session to the look at it


@contextlib.asynccontextmanager
async def sessions(url, count=1, name="archive", begin="BEGIN"):
    """Open sessions that have begun a transaction and do nothing."""
    opened = []
    try:
        for _ in range(count):
            opened.append(await asyncpg.connect(url, server_settings={"application_name": name}))
            await opened[-1].execute(begin)
        yield opened
    finally:
        for each in opened:
            each.terminate()


async def fill(url, stack):
    """Open such sessions until the server takes no more; return them."""
    opened = []
    with contextlib.suppress(asyncpg.TooManyConnectionsError):
        while len(opened) < 200:
            opened += await stack.enter_async_context(sessions(url))
    assert len(opened) < 200
    return opened


async def pid_of(database):
    async with database.connect() as connection:
        return await connection.fetchval(PID)


def is_ended(session):
    return session.is_closed()


async def test_sessions_of_ours_that_idle_in_a_transaction_are_ended_and_all_others_stay(
    database, archive_url, postgres
):
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        mine = [
            *await enter(sessions(archive_url)),
            *await enter(sessions(archive_url, name="marketswarm board")),
        ]
        mine += await enter(sessions(archive_url, begin="BEGIN; SELECT 1"))
        reader = postgres.reader_url_of(archive_url)
        kept = [
            *await enter(sessions(archive_url, name=SNAPSHOT_NAME)),
            *await enter(sessions(archive_url, name="psql")),
            *await enter(sessions(archive_url, name="")),
            *await enter(sessions(archive_url, begin="SELECT 1")),  # in no transaction
            *await enter(sessions(reader, name="archive")),  # of another role
            *await enter(sessions(postgres.url, name="archive")),  # in another database
        ]
        await asyncio.sleep(OLD_SEC)
        kept += await enter(sessions(archive_url))  # for too short a time
        found = await reconnect(database, OLD_SEC)
        assert (found.ended, found.why) == (3, "")
        await auntil(lambda: all(map(is_ended, mine)))
        assert await asyncio.gather(*(each.fetchval("SELECT 1") for each in kept)) == [1] * len(kept)


async def test_idle_connections_are_closed_at_once_and_a_statement_that_runs_goes_on(database):
    before = await pid_of(database)

    async def work():
        async with database.connect() as connection:
            return await connection.fetchval("SELECT pg_backend_pid() FROM pg_sleep(0.5)")

    task = asyncio.create_task(work())
    await asyncio.sleep(0.1)
    found = await reconnect(database, 60)
    assert found.why == ""
    assert await task == before, "it ran over the old one"
    assert await pid_of(database) != before


async def test_who_asks_all_the_while_is_always_answered(database):
    is_over = asyncio.Event()

    async def ask():
        while not is_over.is_set():
            async with database.connect() as connection:
                await connection.execute("SELECT 1")

    asking = [asyncio.create_task(ask()) for _ in range(20)]  # over six connections
    for _ in range(3):
        assert (await reconnect(database, 60)).why == ""
    is_over.set()
    await asyncio.gather(*asking)


async def test_a_statement_that_hangs_is_ended_after_a_while_and_what_waits_for_a_connection_goes_on(
    archive_url, monkeypatch
):
    monkeypatch.setattr(module, "CLOSE_SEC", 0.3)
    monkeypatch.setattr(module, "END_SEC", 0.3)
    database = Database(archive_url)

    async def hang():
        async with database.connect() as connection:
            await connection.execute("SELECT pg_sleep(60)")

    try:
        stuck = [asyncio.create_task(hang()) for _ in range(6)]  # all that the pool has
        await asyncio.sleep(0.5)
        began = time.monotonic()
        found = await reconnect(database, 60)
        assert found.why == ""
        assert time.monotonic() - began < 5
        for task in stuck:
            with pytest.raises(PostgresAwayError):
                await task
        assert await pid_of(database)
    finally:
        await database.aclose()


async def test_the_last_connection_ends_the_sessions_that_use_up_all_others(database, archive_url):
    before = await pid_of(database)
    async with contextlib.AsyncExitStack() as stack:
        opened = await fill(archive_url, stack)
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await asyncpg.connect(archive_url)
        await asyncio.sleep(2 * IDLE_SEC)
        found = await reconnect(database, IDLE_SEC)
        assert (found.ended, found.why) == (len(opened), "")
        assert await pid_of(database) != before


async def test_a_connection_that_answers_is_kept_if_the_server_opens_no_other_one(database, archive_url):
    before = await pid_of(database)
    async with contextlib.AsyncExitStack() as stack:
        await fill(archive_url, stack)  # all of them too young to be ended
        found = await reconnect(database, 60)
        assert found.ended == 0
        assert "TooManyConnectionsError" in found.why or "remaining connection slots" in found.why
        assert await pid_of(database) == before


@pytest.mark.parametrize("lent", [1, 6])  # of the six that the pool may have
async def test_connections_in_use_are_kept_if_the_server_opens_no_other_one(archive_url, lent):
    patience_sec = [10.0]
    database = Database(archive_url, lambda: patience_sec[0])

    async def work(is_begun):
        async with database.connect() as connection:
            is_begun.set()
            return await connection.fetchval("SELECT pg_backend_pid() FROM pg_sleep(3)")

    try:
        begun = [asyncio.Event() for _ in range(lent)]
        working = [asyncio.create_task(work(each)) for each in begun]
        await asyncio.gather(*(each.wait() for each in begun))
        async with contextlib.AsyncExitStack() as stack:
            await fill(archive_url, stack)
            patience_sec[0] = 0.5  # of those that come now
            assert (await reconnect(database, 60)).why
            pids = await asyncio.gather(*working)
            assert await pid_of(database) in pids
    finally:
        await database.aclose()


async def test_while_the_schema_is_brought_up_to_date_nothing_is_closed(database):
    before = await pid_of(database)
    database.migrating_since = 1.0
    assert "schema" in (await reconnect(database, 60)).why
    assert await pid_of(database) == before


async def test_a_connection_that_is_lent_to_no_one_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(module, "RECONNECT_SEC", 0.1)
    found = []

    @contextlib.asynccontextmanager
    async def connect(_within_sec):
        found.append(1)
        if len(found) == 1:
            raise PostgresAwayError("no answer")
        await asyncio.sleep(60)  # as while another schema is brought up to date
        yield

    async def recycle(_within_sec): ...

    database = SimpleNamespace(migrating_since=None, connect=connect, recycle=recycle)
    async with asyncio.timeout(5):
        assert (await reconnect(database, 60)).why == "TimeoutError"


async def test_a_server_that_is_away_is_an_answer_and_no_right_has_sessions_of_other_roles_ended(
    breakable_postgres, database, archive_url
):
    await pid_of(database)
    breakable_postgres.halt()
    assert (await reconnect(database, 60)).why
    breakable_postgres.execute_as_superuser(f"GRANT {RIGHTS} TO {ROLE} WITH ADMIN OPTION")
    breakable_postgres.start()
    reader = breakable_postgres.reader_url_of(archive_url)
    try:
        async with sessions(reader) as (other,), sessions(archive_url) as (mine,):
            await asyncio.sleep(2 * IDLE_SEC)
            found = await reconnect(database, IDLE_SEC)
            assert (found.ended, found.why) == (1, "")
            assert await other.fetchval("SELECT 1") == 1
            await auntil(lambda: is_ended(mine))
    finally:
        await breakable_postgres.execute(f"REVOKE {RIGHTS} FROM {ROLE}")
