"""A real PostgreSQL for tests: one server for each of xdist's workers, and a new database for each test.

    from support.postgres import archive_url, postgres  # in a conftest.py: both are fixtures

`postgres` is the server, `archive_url` the URL of a database with the archive's schema and partitions for
the times that tests name and for the last year. A test that kills or freezes the server asks for
`breakable_postgres`, which is mended in the end.

Two variables of the environment run the same tests on another server:

    MARKETSWARM_TEST_POSTGRES            the folder of its programs, instead of those that the fleet finds
    MARKETSWARM_TEST_POSTGRES_EXTENSION  an extension that is loaded, and is in every database: timescaledb
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from marketswarm.access.passwords import DATABASE_READER
from marketswarm.fleet.postgres import ROLE, STOP_SIGNAL, PostgresServer, find_programs
from marketswarm.fleet.preflight import is_port_free
from marketswarm.fleet.server_user import find_server_user, run_as
from services.archive.database import SCHEMA
from services.archive.partitions import TIME_COLUMNS, find_partition, make_partitions
from support.rig import free_port
from support.rig.process import Process, descendants
from support.waiting import until

TEMPLATE = "archive_template"
PROGRAMS = os.environ.get("MARKETSWARM_TEST_POSTGRES")
EXTENSION = os.environ.get("MARKETSWARM_TEST_POSTGRES_EXTENSION")
partitions_only = pytest.mark.skipif(EXTENSION == "timescaledb", reason="hypertables divide themselves")
hypertables_only = pytest.mark.skipif(
    EXTENSION != "timescaledb", reason="needs MARKETSWARM_TEST_POSTGRES with TimescaleDB"
)
# few, since each is copied for each test: those of the times that tests name, and the last year
_NAMED = [(2025, 1), (2025, 2), (2025, 3), (2025, 4), (2026, 1), (2026, 10), (2026, 11)]
_LAST_YEAR = [datetime.now(UTC) - timedelta(days=15 * back) for back in range(-1, 24)]
_MONTHS = [
    datetime(year, month, 1, tzinfo=UTC)
    for year, month in sorted({*_NAMED, *((at.year, at.month) for at in _LAST_YEAR)})
]


def plain(row: Any) -> Any:
    """Return a row with its times as epoch milliseconds and its days as texts, as rows of the product are."""
    return row._make(
        round(1000 * cell.timestamp()) if isinstance(cell, datetime)
        else str(cell) if isinstance(cell, date)
        else cell
        for cell in row
    )  # fmt: skip


class ServerProcess(Process):
    """The process of a PostgreSQL, which may be started again; it must be prepared before a start."""

    def __init__(self, server: PostgresServer) -> None:
        super().__init__()
        self.server = server

    def __str__(self) -> str:
        return f"PostgreSQL at port {self.server.port}: {self.log()[-500:]}"

    def log(self) -> str:
        return self._log_file.read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start it; return once it accepts connections. What a kill left behind may need a moment to end."""
        until(self._try_start, what=lambda: f"{self} to start")

    def kill(self) -> None:
        """Send SIGKILL; return when it is gone, and its port free.

        A child that it forked just before has the listening socket until it closes it: `prepare` would choose
        another port.
        """
        port = self.server.port
        super().kill()
        until(lambda: is_port_free(port), what=f"port {port} to be free")

    def halt(self) -> None:
        """Stop it by a fast shutdown."""
        self.signal(STOP_SIGNAL)
        self.wait()

    @property
    def _log_file(self) -> Path:
        return self.server.folder.parent / "log"

    def _try_start(self) -> bool:
        if not self.running:
            with self._log_file.open("ab") as log:
                self.spawn(self.server.command, env=self.server.environ, cwd="/", stdout=log, stderr=log)
        return self.server.is_ready(self.pid)


class Postgres(ServerProcess):
    """A server on 127.0.0.1 with data of its own; runs from the constructor on, and its data end with it.

    Args:
        superuser: whether our role has all rights, as in containers. No hypertable is restored without them.
    """

    def __init__(self, *, superuser: bool = bool(EXTENSION)) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="marketswarm-postgres-"))
        self.folder.chmod(0o711)  # the server may run as another user, who must get there
        # what a test needs survives the end of a process; no test ends the machine
        settings = {"fsync": "off", "synchronous_commit": "off", "shared_buffers": "32MB"}
        if EXTENSION:
            settings["shared_preload_libraries"] = EXTENSION
        programs = find_programs(PROGRAMS) if PROGRAMS else None
        super().__init__(
            PostgresServer(self.folder / "postgres", free_port(), programs=programs, settings=settings)
        )
        self.server.prepare()
        access = self.server.cluster / "pg_hba.conf"  # tests read in databases of their own
        access.write_text(access.read_text().replace(f"host {ROLE} ", "host all "))
        if superuser:
            self.execute_as_superuser(f"ALTER ROLE {ROLE} SUPERUSER")
        self._numbers, self._has_template = itertools.count(1), False
        self.start()

    def execute_as_superuser(self, sql: str) -> None:
        """Run a statement of one line while the server is stopped."""
        line = [self.server.programs.path("postgres"), "--single", "-D", str(self.server.cluster), "postgres"]
        subprocess.run(
            run_as(find_server_user(), line),
            input=f"{sql}\n",
            env=self.server.environ,
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        )

    @property
    def url(self) -> str:
        """The URL of its first database, with the password."""
        return self.server.url

    @property
    def programs(self) -> Path:
        """The folder of pg_dump and the other programs."""
        return self.server.programs.folder

    def url_of(self, database: str) -> str:
        return f"{self.url.rpartition('/')[0]}/{database}"

    def reader_url_of(self, url: str) -> str:
        """Return the URL by which the role of readers connects to the database of another URL."""
        return self.url_as(DATABASE_READER, url)

    def url_as(self, role: str, url: str) -> str:
        """Return the URL by which a role connects to the database of another URL."""
        own = self.server.url_file_of(role).read_text("utf-8").strip()
        return f"{own.rpartition('/')[0]}/{url.rpartition('/')[2]}"

    def freeze(self) -> None:
        """Stop all of its processes: connections stay open, and nobody answers."""
        super().freeze()
        self._signal_descendants(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let all of its processes go on."""
        self._signal_descendants(signal.SIGCONT)
        super().thaw()

    def _signal_descendants(self, number: signal.Signals) -> None:
        for pid, _ in descendants(self.pid):
            with contextlib.suppress(ProcessLookupError):  # a connection that closed ends its process
                os.kill(pid, number)

    def new_database(self, template: str = "template0") -> str:
        """Make a database, which is empty unless `template` names one to copy; return its URL."""
        name = f"test_{next(self._numbers)}"
        asyncio.run(self._create_database(name, template))
        return self.url_of(name)

    def new_archive(self) -> str:
        """Make a database with the archive's schema and partitions of some months; return its URL."""
        if EXTENSION:  # its workers use each database, and one in use can't be copied
            url = self.new_database()
            asyncio.run(_make_schema(url))
            return url
        if not self._has_template:
            asyncio.run(self._create_database(TEMPLATE))
            asyncio.run(_make_schema(self.url_of(TEMPLATE)))
            self._has_template = True
        return self.new_database(TEMPLATE)

    async def execute(self, sql: str, database: str = ROLE) -> None:
        """Run a statement, in its first database unless another one is named."""
        connection = await asyncpg.connect(self.url_of(database))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    async def _create_database(self, name: str, template: str = "template0") -> None:
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        if EXTENSION:
            await self.execute(f"CREATE EXTENSION IF NOT EXISTS {EXTENSION}", name)

    def close(self) -> None:
        """End it and remove its data."""
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)


async def _make_schema(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await SCHEMA.apply_migrations(connection)
        months = [find_partition(table, at) for table in TIME_COLUMNS for at in _MONTHS]
        await make_partitions(connection, months)
    finally:
        await connection.close()


def query(url: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query as tuples, on a connection of its own; not inside an event loop."""

    async def ask() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(sql, *values)]
        finally:
            await connection.close()

    return asyncio.run(ask())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server of this worker."""
    with Postgres() as server:
        yield server


@pytest.fixture
def breakable_postgres(postgres: Postgres) -> Iterator[Postgres]:
    """The same server, for a test that breaks it."""
    yield postgres
    if postgres.running:
        postgres.thaw()
    else:
        postgres.start()


@pytest.fixture
def archive_url(postgres: Postgres) -> str:
    """The URL of a new database with the archive's schema."""
    return postgres.new_archive()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[str], Awaitable[Any]]]:
    """Opens connections to a URL, which end with the test."""
    async with contextlib.AsyncExitStack() as opened:

        async def open_connection(url: str) -> Any:
            connection = await asyncpg.connect(url)
            opened.push_async_callback(connection.close)
            return connection

        yield open_connection
