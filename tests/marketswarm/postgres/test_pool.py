"""The pool of connections to PostgreSQL, and what it says of a server that does not answer."""

import asyncio
import collections
import contextlib
import socket

import pytest
from structlog.testing import capture_logs

from marketswarm.postgres import pool as module
from marketswarm.postgres.errors import PostgresAwayError
from marketswarm.postgres.pool import ConnectionPool
from marketswarm.tasks import end_tasks
from support.waiting import auntil


@contextlib.asynccontextmanager
async def open_pool(url):
    pool = ConnectionPool(url, {"statement_timeout": "300"}, most=2, connect_sec=lambda: 3.0)
    try:
        yield pool
    finally:
        await pool.aclose()


async def ask(pool, sql="SELECT 1"):
    async with pool.connect(5) as connection:
        await connection.execute(sql)


async def test_a_server_that_takes_a_connection_and_does_not_answer_is_named_as_such():
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        url = f"postgresql://someone:secret@127.0.0.1:{frozen.getsockname()[1]}/any?sslmode=disable"
        pool = ConnectionPool(url, {}, most=1, connect_sec=lambda: 0.2)
        with pytest.raises(PostgresAwayError, match=r"^TimeoutError: no answer within 0\.2 s$"):
            await ask(pool)
        assert pool.away is not None
        await pool.aclose()


@pytest.mark.parametrize("sql", ["SELECT pg_sleep(60)", "SELECT FROM nothing_of_this_name", "SELECT 1 / 0"])
async def test_a_statement_that_fails_by_itself_does_not_mean_that_the_server_is_away(archive_url, sql):
    async with open_pool(archive_url) as pool:
        with pytest.raises(pool.failures):
            await ask(pool, sql)
        assert pool.away is None


async def test_a_database_that_is_missing_and_a_wrong_password_mean_that_no_statement_succeeds(postgres):
    for url in (postgres.url_of("nothing_of_this_name"), postgres.url.replace(":", ":not-", 2)):
        async with open_pool(url) as pool:
            with pytest.raises(PostgresAwayError):
                await ask(pool)
            assert pool.away is not None, url


async def test_an_outage_lasts_from_the_first_failure_until_a_statement_succeeds(
    breakable_postgres, archive_url
):
    async with open_pool(archive_url) as pool:
        await ask(pool)
        breakable_postgres.halt()
        found = []
        for _ in range(2):
            with pytest.raises(PostgresAwayError):
                await ask(pool)
            found.append(pool.away.since)
        assert found[0] == found[1]
        breakable_postgres.start()
        await ask(pool)
        assert pool.away is None


async def test_who_watches_hears_of_an_outage_at_once_and_of_its_end(
    breakable_postgres, archive_url, monkeypatch
):
    monkeypatch.setattr(module, "CHECK_SEC", 3600.0)  # a statement that fails must wake it
    heard = collections.deque()

    async def follow(pool):
        async for away in pool.watch():
            heard.append(away is not None)

    async with open_pool(archive_url) as pool:
        watching = asyncio.create_task(follow(pool))
        try:
            await auntil(lambda: list(heard) == [False, False], what="the first look")
            breakable_postgres.halt()
            with pytest.raises(PostgresAwayError):
                await ask(pool)
            await auntil(lambda: heard[-1], what="the outage to be heard of")
            breakable_postgres.start()
            await auntil(lambda: not heard[-1], what="its end to be heard of")
        finally:
            await end_tasks(watching)


async def test_a_slow_statement_is_logged_without_its_values(archive_url):
    pool = ConnectionPool(archive_url, {}, most=2, connect_sec=lambda: 3.0, slow_ms=50)
    try:
        with capture_logs() as lines:
            async with pool.connect(5) as connection:
                await connection.fetch("SELECT $1::text", "quick secret")
                await connection.fetch("SELECT  pg_sleep(0.1), $1::text", "slow secret")
            with pytest.raises(pool.failures):
                await ask(pool, "SELECT pg_sleep(0.1), 1 / (pg_backend_pid() * 0)")
            await auntil(lambda: len(lines) > 1)
    finally:
        await pool.aclose()
    slow = [each for each in lines if each["event"] == "database.slow_query"]
    assert slow[0]["statement"] == "SELECT pg_sleep(0.1), $1::text"
    assert slow[0]["took_ms"] >= 100
    assert slow[0]["failed"] is None
    assert "secret" not in str(lines)
