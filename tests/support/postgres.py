"""A real PostgreSQL for tests: one server for each of xdist's workers, and a new database for each test.

    from support.postgres import archive_url, postgres  # in a conftest.py: both are fixtures

`postgres` is the server, `archive_url` the URL of a database with the archive's schema and the partitions of
2025 and 2026. A test that kills the server makes one of its own: `with Postgres() as postgres`.
"""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from marketswarm.fleet.postgres import STOP_SIGNAL, PostgresServer
from services.archive.migrations import apply_migrations
from services.archive.partitions import TIME_COLUMNS, find_partition, make_partitions
from support.rig import free_port
from support.rig.process import Process
from support.waiting import until

TEMPLATE = "archive_template"
_MONTHS = [datetime(year, month, 1, tzinfo=UTC) for year in (2025, 2026) for month in range(1, 13)]


class Postgres(Process):
    """A server on 127.0.0.1 with data of its own; runs from the constructor on, and its data end with it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="marketswarm-postgres-"))
        self.folder.chmod(0o711)  # the server may run as another user, who must get there
        # what a test needs survives the end of a process; no test ends the machine
        settings = {"fsync": "off", "synchronous_commit": "off", "shared_buffers": "32MB"}
        self.server = PostgresServer(self.folder / "postgres", free_port(), settings=settings)
        self.server.prepare()
        self._numbers = itertools.count(1)
        self.start()

    def __str__(self) -> str:
        return f"PostgreSQL at port {self.server.port}: {self.log()[-500:]}"

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

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start it; return once it accepts connections. What a kill left behind may need a moment to end."""
        until(self._try_start, 30, lambda: f"{self} to start")

    def _try_start(self) -> bool:
        if not self.running:
            with (self.folder / "log").open("ab") as log:
                self.spawn(self.server.command, env=self.server.environ, cwd="/", stdout=log, stderr=log)
        return self.server.is_ready(self.pid)

    def halt(self) -> None:
        """Stop it by a fast shutdown."""
        self.signal(STOP_SIGNAL)
        self.wait()

    def new_database(self, template: str = "template1") -> str:
        """Make a database; return its URL."""
        name = f"test_{next(self._numbers)}"
        asyncio.run(self.execute(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return self.url_of(name)

    def new_archive(self) -> str:
        """Make a database with the archive's schema and the partitions of two years; return its URL."""
        return self.new_database(self._template())

    async def execute(self, sql: str) -> None:
        """Run a statement in its first database."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    def _template(self) -> str:
        if not getattr(self, "_has_template", False):
            asyncio.run(self._make_template())
            self._has_template = True
        return TEMPLATE

    async def _make_template(self) -> None:
        await self.execute(f"CREATE DATABASE {TEMPLATE}")
        connection = await asyncpg.connect(self.url_of(TEMPLATE))
        try:
            await apply_migrations(connection)
            await make_partitions(
                connection, [find_partition(table, at) for table in TIME_COLUMNS for at in _MONTHS]
            )
        finally:
            await connection.close()

    def close(self) -> None:
        """End it and remove its data."""
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)


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
    """The server of this worker. No test stops it."""
    with Postgres() as server:
        yield server


@pytest.fixture
def archive_url(postgres: Postgres) -> str:
    """The URL of a new database with the archive's schema."""
    return postgres.new_archive()
