"""What the board reads of PostgreSQL, on a real server: and what it does while that does not answer."""

import asyncio
import contextlib

import pytest

from services.board.market import archive_reader
from services.board.market.archive_reader import ArchiveReader, DatabaseAwayError
from support.postgres import Postgres, archive_url, postgres
from support.waiting import Stopwatch, auntil

__all__ = ["archive_url", "postgres"]
AT_ONCE = 12
"""More than the board has connections."""


@contextlib.asynccontextmanager
async def read_archive(url):
    """A reader that looks whether its database is there, as the board runs it."""
    reader = ArchiveReader(url)
    watching = asyncio.create_task(reader.watch())
    try:
        yield reader
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await reader.close()


async def ask(reader):
    """Ask for symbols; return the seconds that the answer took, and why there was none."""
    watch = Stopwatch()
    try:
        await reader.read_symbols(None, None, 5)
    except DatabaseAwayError as error:
        return watch.own_sec, str(error)
    return watch.own_sec, None


@pytest.fixture
def short_waits(monkeypatch):
    """Wait for a database a third as long as usual: what is judged are ratios."""
    for name in ("CONNECT_SEC", "STATEMENT_SEC", "QUERY_SEC", "ANSWER_SEC"):
        monkeypatch.setattr(archive_reader, name, getattr(archive_reader, name) / 3)


@pytest.fixture
def own_postgres():
    """A server for one test, which may break it, and the URL of an archive on it."""
    with Postgres() as server:
        yield server, server.new_archive()


async def test_a_frozen_database_costs_one_wait_and_then_nobody_waits_until_it_answers(
    own_postgres, short_waits
):
    server, url = own_postgres
    async with read_archive(url) as reader:
        await asyncio.gather(*(ask(reader) for _ in range(AT_ONCE)))
        server.freeze()
        found = await asyncio.gather(*(ask(reader) for _ in range(AT_ONCE)))
        assert {reason for _, reason in found} == {archive_reader.NO_ANSWER}
        assert max(sec for sec, _ in found) < 2 * archive_reader.ANSWER_SEC
        assert reader.problem == archive_reader.NO_ANSWER
        again = [await ask(reader) for _ in range(AT_ONCE)]
        assert {reason for _, reason in again} == {archive_reader.NO_ANSWER}
        assert max(sec for sec, _ in again) < archive_reader.QUERY_SEC / 4, "nobody waits for it again"
        server.thaw()
        await auntil(lambda: reader.problem is None, 30, "the database to be read again")
        assert (await ask(reader))[1] is None


async def test_a_host_that_accepts_and_never_answers_is_away_and_is_asked_by_one_at_a_time(short_waits):
    callers, most = set(), []

    async def hold(_reader, writer):
        callers.add(writer)
        most.append(len(callers))
        with contextlib.suppress(ConnectionError):
            while await _reader.read(1000):
                pass
        callers.discard(writer)
        writer.close()

    silent = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with silent, read_archive(f"postgresql://kim:secret@127.0.0.1:{port}/market") as reader:
        assert {reason for _, reason in await asyncio.gather(*(ask(reader) for _ in range(AT_ONCE)))} == {
            archive_reader.NO_ANSWER
        }
        await auntil(lambda: not callers, what="the last of them to give up")
        most.clear()
        await auntil(lambda: len(most) > 1, 30, "two looks at it")
        assert max(most) == 1, "only one looks whether it is there again"
        assert (await ask(reader))[0] < archive_reader.QUERY_SEC / 4, "and nobody waits for that"


async def test_a_statement_that_takes_too_long_is_no_outage(archive_url, short_waits, monkeypatch):
    monkeypatch.setattr(archive_reader, "_SYMBOLS", "select pg_sleep(60), $1::text, $2::text, $3::bigint")
    async with read_archive(archive_url) as reader:
        assert (await ask(reader))[1] == archive_reader.TOO_BUSY
        assert reader.problem is None
