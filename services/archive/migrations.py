"""Bring a database to the schema of this release: plain SQL files, applied in the order of their numbers.

Each that is missing is applied in a transaction of its own, all under one advisory lock of the session: one
of several instances applies them, no lock on a table outlives its migration, and a process that is killed
leaves whole migrations, after which the next one goes on. The table `schema_version` has a row for each file
with its SHA-256.

The runner is our own. The kept tools for plain SQL files connect by psycopg2 (yoyo-migrations and
yandex-pgmigrate) or are programs of other languages (dbmate, Flyway), and the lock of yoyo is a row that a
killed process leaves behind. Those for asyncpg (asyncpg-trek, pogo-migrate) take no lock against a second
instance, and don't notice that an applied file was edited.
"""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import asyncpg

from marketswarm.passwords import DATABASE_READER
from services.archive.transaction import transaction

LOCK: Final = 7_305_821_905_114_001
"""The key of the advisory lock; any number that no other program takes."""
_FILE_NAME: Final = re.compile(r"([0-9]{4})_([a-z_]+)\.sql")
_VERSION_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_version (
    version integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied timestamptz NOT NULL DEFAULT now()
)
"""
_MISSING_GRANTS: Final = """
WITH reader AS (SELECT oid, rolname FROM pg_roles WHERE rolname = $1)
SELECT format('GRANT USAGE ON SCHEMA %s TO %I', current_schema(), rolname) AS sql
FROM reader WHERE NOT has_schema_privilege(reader.oid, current_schema(), 'USAGE')
UNION ALL
SELECT format('GRANT SELECT ON %s TO %I', pg_class.oid::regclass, rolname)
FROM reader, pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
    AND pg_get_userbyid(relowner) = current_user
    AND NOT has_table_privilege(reader.oid, pg_class.oid, 'SELECT')
"""


class SchemaError(Exception):
    """A database has a schema that this release can't work with; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """Hold one file: its number, its name and its SQL."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The SHA-256 of the SQL."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations() -> tuple[Migration, ...]:
    """Return the migrations of this release, in order."""
    found = []
    for file in files("services.archive").joinpath("migrations").iterdir():
        match = _FILE_NAME.fullmatch(file.name)
        if match is not None:
            found.append(Migration(int(match[1]), match[2], file.read_text("utf-8")))
    return tuple(sorted(found, key=lambda each: each.version))


async def apply_migrations(connection: Any, migrations: Sequence[Migration] | None = None) -> int:
    """Apply the migrations that a database lacks; return the version of its schema then.

    Args:
        connection: a connection of asyncpg, outside a transaction.
        migrations: those of this release, unless others are given.

    Raises:
        SchemaError: the database is of a later release, or one of its migrations was edited since.
    """
    known = load_migrations() if migrations is None else migrations
    async with hold_lock(connection):
        await connection.execute(_VERSION_TABLE)
        rows = await connection.fetch("SELECT version, sha256 FROM schema_version")
        applied: dict[int, str] = {row["version"]: row["sha256"] for row in rows}
        require_known(applied, known)
        for migration in known:
            if migration.version not in applied:
                await _apply(connection, migration)
        async with transaction(connection):
            await grant_reading(connection)
    return max((each.version for each in known), default=0)


async def _apply(connection: Any, migration: Migration) -> None:
    """Apply one migration, and note that it was, in one transaction."""
    async with transaction(connection):
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO schema_version (version, name, sha256) VALUES ($1, $2, $3)",
            *(migration.version, migration.name, migration.sha256),
        )


@contextlib.asynccontextmanager
async def hold_lock(connection: Any) -> AsyncIterator[None]:
    """Hold the lock of the migrations for the block; wait until no other session holds it."""
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
    try:
        yield
    except asyncio.CancelledError:  # of a time limit: a silent server would not answer the unlock, either
        connection.terminate()
        raise
    finally:
        with contextlib.suppress(asyncpg.InterfaceError):  # closed: the server has released it
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def grant_reading(connection: Any) -> None:
    """Let the role of readers read each table of ours, if the server has that role.

    Nothing is written where it may do so already: a partition is read by the rights on its table.
    """
    for sql in [row["sql"] for row in await connection.fetch(_MISSING_GRANTS, DATABASE_READER)]:
        await connection.execute(sql)


async def read_version(connection: Any) -> int:
    """Return the version of a database's schema; 0 for a database without one."""
    if await connection.fetchval("SELECT to_regclass('schema_version')") is None:
        return 0
    return int(await connection.fetchval("SELECT coalesce(max(version), 0) FROM schema_version"))


def require_known(applied: dict[int, str], known: Sequence[Migration]) -> None:
    """Check that each applied migration is one of ours, unchanged.

    Args:
        applied: the SHA-256 of each applied migration, by version.
        known: the migrations of this release.

    Raises:
        SchemaError: one is not.
    """
    by_version = {each.version: each for each in known}
    for version, sha256 in sorted(applied.items()):
        ours = by_version.get(version)
        if ours is None:
            raise SchemaError(
                f"the database has schema {version}, and this release knows {max(by_version, default=0)}: "
                "run the release that made it, or a later one"
            )
        if ours.sha256 != sha256:
            raise SchemaError(
                f"migration {version} ({ours.name}) is not the one that was applied: restore that file, "
                "and put the change into a new one"
            )
