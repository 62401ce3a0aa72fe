"""Bring a database to the schema of this release: plain SQL files, applied in the order of their numbers.

Each that is missing is applied in a transaction of its own, which locks the table `schema_version`, so one of
several instances applies it, no lock on a table outlives its migration, and a process that is killed leaves
whole migrations, after which the next one continues. That table has a row for each file with its SHA-256. To
lock it as we do takes the right to write there, so that a role that may only read can't block a migration.

The runner is our own. The kept tools for plain SQL files connect by psycopg2 (yoyo-migrations and
yandex-pgmigrate) or are programs of other languages (dbmate, Flyway), and the lock of yoyo is a row that a
killed process leaves behind. Those for asyncpg (asyncpg-trek, pogo-migrate) take no lock against a second
instance, and don't notice that an applied file was edited.
"""

import contextlib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import asyncpg

from marketswarm.access.passwords import DATABASE_READER
from services.market.database import transaction

LOCK_SCHEMA: Final = "LOCK TABLE schema_version IN SHARE UPDATE EXCLUSIVE MODE"
"""Have no other instance change the schema until this transaction ends; wait for one that does."""
_FILE_NAME: Final = re.compile(r"([0-9]{4})_([a-z_]+)\.sql")
_VERSION_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_version (
    version integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied timestamptz NOT NULL DEFAULT now()
)
"""
_MADE_MEANWHILE: Final = (  # by another instance: the table, its type, or their rows in the catalogue
    asyncpg.DuplicateTableError,
    asyncpg.DuplicateObjectError,
    asyncpg.UniqueViolationError,
)
_WRONG_RIGHTS: Final = """
WITH reader AS (SELECT oid, rolname FROM pg_roles WHERE rolname = $1)
SELECT format('GRANT USAGE ON SCHEMA %s TO %I', current_schema(), rolname) AS sql
FROM reader WHERE NOT has_schema_privilege(reader.oid, current_schema(), 'USAGE')
UNION ALL
SELECT format('GRANT SELECT ON %s TO %I', pg_class.oid::regclass, rolname)
FROM reader, pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition
    AND pg_get_userbyid(relowner) = current_user
    AND NOT has_table_privilege(reader.oid, pg_class.oid, 'SELECT')
UNION ALL
SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', datname)
FROM reader, pg_database
WHERE datname = current_database() AND pg_has_role(datdba, 'USAGE')
    AND has_database_privilege(reader.oid, pg_database.oid, 'TEMPORARY')
UNION ALL
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', pg_proc.oid::regprocedure)
FROM reader, pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace AND pg_has_role(proowner, 'USAGE')
    AND (left(proname, 3) = 'lo_' OR proname IN ('lowrite', 'pg_logical_emit_message'))
    AND has_function_privilege(reader.oid, pg_proc.oid, 'EXECUTE')
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
    """Apply the migrations that a database lacks, by default those of this release; return its version then.

    The connection must be outside a transaction. Raises SchemaError if the database is of a later release, or
    one of its migrations was edited since.
    """
    known = load_migrations() if migrations is None else migrations
    if await connection.fetchval("SELECT to_regclass('schema_version')") is None:
        with contextlib.suppress(*_MADE_MEANWHILE):
            await connection.execute(_VERSION_TABLE)
    while await _apply_next(connection, known):
        pass
    return max((each.version for each in known), default=0)


async def _apply_next(connection: Any, known: Sequence[Migration]) -> bool:
    """Apply the first missing migration; if there is none, grant readers their rights and return False."""
    async with transaction(connection):
        await connection.execute(LOCK_SCHEMA)
        rows = await connection.fetch("SELECT version, sha256 FROM schema_version")
        applied: dict[int, str] = {row["version"]: row["sha256"] for row in rows}
        require_known(applied, known)
        migration = next((each for each in known if each.version not in applied), None)
        if migration is None:
            await grant_reading(connection)
            return False
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO schema_version (version, name, sha256) VALUES ($1, $2, $3)",
            *(migration.version, migration.name, migration.sha256),
        )
    return True


async def grant_reading(connection: Any) -> None:
    """Let the role of readers read each table of ours, and no more, if the server has that role.

    Where our role owns the database, no other role makes temporary tables, and where it is the superuser,
    none makes large objects, because both fill the disk. Nothing is written where all of this is so already;
    a partition is read by the rights on its table.
    """
    for sql in [row["sql"] for row in await connection.fetch(_WRONG_RIGHTS, DATABASE_READER)]:
        await connection.execute(sql)


async def read_version(connection: Any) -> int:
    """Return 0 for a database without a schema."""
    if await connection.fetchval("SELECT to_regclass('schema_version')") is None:
        return 0
    return int(await connection.fetchval("SELECT coalesce(max(version), 0) FROM schema_version"))


def require_known(applied: dict[int, str], known: Sequence[Migration]) -> None:
    """Raise SchemaError unless each applied migration (its SHA-256 by version) is one of ours, unchanged."""
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
