"""Bring a schema of a database to this release: plain SQL files, applied in the order of their numbers.

Each that is missing is applied in a transaction of its own, which locks the table `schema_version`, so one of
several instances applies it, no lock on a table outlives its migration, and a process that is killed leaves
whole migrations, after which the next one goes on. That table has a row for each file with its SHA-256. To
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

from marketswarm.postgres.transaction import transaction

_FILE_NAME: Final = re.compile(r"([0-9]{4})_([a-z_]+)\.sql")
_VERSION_TABLE: Final = """
CREATE TABLE IF NOT EXISTS {} (
    version integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied timestamptz NOT NULL DEFAULT now()
)
"""
_MADE_MEANWHILE: Final = (  # by another instance: schema, table, its type, or their rows in the catalogue
    asyncpg.DuplicateSchemaError,
    asyncpg.DuplicateTableError,
    asyncpg.DuplicateObjectError,
    asyncpg.UniqueViolationError,
)
_WRONG_RIGHTS: Final = """
WITH grantee AS (SELECT oid, rolname FROM pg_roles WHERE rolname = $1)
SELECT format('GRANT USAGE ON SCHEMA %I TO %I', $2::text, rolname) AS sql
FROM grantee WHERE NOT has_schema_privilege(grantee.oid, $2::text, 'USAGE')
UNION ALL
SELECT format('GRANT %s ON %s TO %I', privilege, pg_class.oid::regclass, rolname)
FROM grantee, pg_class, (VALUES ('SELECT', $3::text[]), ('INSERT', $4::text[])) AS wanted(privilege, tables)
WHERE relnamespace = to_regnamespace($2::text) AND relkind IN ('r', 'p', 'v') AND NOT relispartition
    AND pg_get_userbyid(relowner) = current_user AND (tables IS NULL OR relname = ANY(tables))
    AND NOT has_table_privilege(grantee.oid, pg_class.oid, privilege)
UNION ALL
SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', datname)
FROM grantee, pg_database
WHERE datname = current_database() AND pg_has_role(datdba, 'USAGE')
    AND has_database_privilege(grantee.oid, pg_database.oid, 'TEMPORARY')
UNION ALL
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', pg_proc.oid::regprocedure)
FROM grantee, pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace AND pg_has_role(proowner, 'USAGE')
    AND (left(proname, 3) = 'lo_' OR proname IN ('lowrite', 'pg_logical_emit_message'))
    AND has_function_privilege(grantee.oid, pg_proc.oid, 'EXECUTE')
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


@dataclass(frozen=True, slots=True)
class TableRights:
    """Hold what a role that does not own the tables of a schema may do with them.

    Attributes:
        reads: the tables that it may read; None for every one.
        adds: the tables to which it may add rows.
    """

    role: str
    reads: tuple[str, ...] | None = None
    adds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DatabaseSchema:
    """Hold which migrations make a schema of a database, and what other roles may do there.

    Attributes:
        package: the one with the SQL files, in its folder `migrations`; they name tables without a schema.
        name: the schema, a plain identifier; it is made if the database lacks it.
        rights: those of the roles that are granted any.
    """

    package: str
    name: str = "public"
    rights: tuple[TableRights, ...] = ()

    @property
    def lock_sql(self) -> str:
        """Have no other instance change the schema until this transaction ends; wait for one that does."""
        return f"LOCK TABLE {self._versions} IN SHARE UPDATE EXCLUSIVE MODE"

    @property
    def _versions(self) -> str:
        return f"{self.name}.schema_version"

    def load_migrations(self) -> tuple[Migration, ...]:
        """Return the migrations of this release, in order."""
        found = []
        for file in files(self.package).joinpath("migrations").iterdir():
            match = _FILE_NAME.fullmatch(file.name)
            if match is not None:
                found.append(Migration(int(match[1]), match[2], file.read_text("utf-8")))
        return tuple(sorted(found, key=lambda each: each.version))

    async def apply_migrations(self, connection: Any, migrations: Sequence[Migration] | None = None) -> int:
        """Apply the migrations that are missing, by default those of this release; return the version then.

        The connection must be outside a transaction. Raises SchemaError if the schema is of a later release,
        or one of its migrations was edited since.
        """
        known = self.load_migrations() if migrations is None else migrations
        if await connection.fetchval("SELECT to_regnamespace($1)", self.name) is None:
            with contextlib.suppress(*_MADE_MEANWHILE):
                await connection.execute(f"CREATE SCHEMA {self.name}")
        if await connection.fetchval("SELECT to_regclass($1)", self._versions) is None:
            with contextlib.suppress(*_MADE_MEANWHILE):
                await connection.execute(_VERSION_TABLE.format(self._versions))
        while await self._apply_next(connection, known):
            pass
        return max((each.version for each in known), default=0)

    async def _apply_next(self, connection: Any, known: Sequence[Migration]) -> bool:
        """Apply the first missing migration; if there is none, grant each role its rights, return False."""
        async with transaction(connection):
            # what extensions have made in `public` is found, too
            await connection.execute(f"{self.lock_sql}; SET LOCAL search_path TO {self.name}, public")
            rows = await connection.fetch(f"SELECT version, sha256 FROM {self._versions}")  # noqa: S608 - our own names
            applied: dict[int, str] = {row["version"]: row["sha256"] for row in rows}
            require_known(applied, known)
            migration = next((each for each in known if each.version not in applied), None)
            if migration is None:
                await self.grant_rights(connection)
                return False
            await connection.execute(migration.sql)
            await connection.execute(
                f"INSERT INTO {self._versions} (version, name, sha256) VALUES ($1, $2, $3)",  # noqa: S608 - our own names
                *(migration.version, migration.name, migration.sha256),
            )
        return True

    async def grant_rights(self, connection: Any) -> None:
        """Grant each role that there is SELECT and INSERT on its tables in this schema, and no more.

        Where our role owns the database, no other role makes temporary tables, and where it is the superuser,
        none makes large objects, because both fill the disk: both rights are revoked from PUBLIC. Nothing is
        written where all of this is so already; a partition is read by the rights on its table.
        """
        for each in self.rights:
            found = await connection.fetch(_WRONG_RIGHTS, each.role, self.name, each.reads, each.adds)
            for sql in [row["sql"] for row in found]:
                await connection.execute(sql)

    async def read_version(self, connection: Any) -> int:
        """Return 0 for a database without this schema."""
        if await connection.fetchval("SELECT to_regclass($1)", self._versions) is None:
            return 0
        sql = f"SELECT coalesce(max(version), 0) FROM {self._versions}"  # noqa: S608 - our own names
        return int(await connection.fetchval(sql))


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
