"""What memory a real PostgreSQL takes, by its processes on this machine."""

import os

import psutil

from services.archive.database_memory import measure_memory_percent, read_memory_percent
from services.archive.database_observer import DatabaseObserver

FILL = (
    "CREATE TEMPORARY TABLE filled AS SELECT repeat(md5(each::text), 30) FROM generate_series(1, 100000) each"
)
FILLED_BYTES = 80 << 20


async def test_it_is_what_all_processes_of_the_server_take_and_grows_with_one_of_another_session(
    database, connect, archive_url
):
    observer = DatabaseObserver(database)
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
