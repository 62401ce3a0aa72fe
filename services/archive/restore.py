"""Restore backups with pg_restore, and compare what was restored with what was saved."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg

from marketswarm.postgres.pool import open_connection
from marketswarm.postgres.transaction import transaction
from services.archive.backup import (
    PROGRAM_SEC,
    Backup,
    BackupError,
    hash_file,
    read_manifest,
    run_program,
)
from services.archive.database import SCHEMA
from services.archive.reader import TableDigest, read_digests, read_timescaledb_version

_MAINTENANCE: Final = "postgres"  # the database that every server has
_STATEMENT_SEC: Final = 60.0
_COPIES_LOCK: Final = 7_305_821_905_114_002
"""The key of the advisory lock that each restore and verification shares; any number that no other takes."""
COPY_COMMENT: Final = "a copy that marketswarm made to restore a backup; it may be dropped"
"""The comment of each database that a restore makes, by which a later one knows it as one of ours."""
_COPIES: Final = """
SELECT datname::text AS name FROM pg_database
WHERE datname ~ '^restored_[0-9a-f]{12}$' AND pg_get_userbyid(datdba) = current_user
AND shobj_description(oid, 'pg_database') = $1
"""
_SWAP_COMMENTS: Final = """
SELECT format('COMMENT ON DATABASE %I IS %L', name, comment) AS sql
FROM (VALUES ($1::text, $2::text), ($2, $1)) pair (name, other)
CROSS JOIN LATERAL (
    SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = other
) found
"""
"""Makes the statements that give each of two databases the comment of the other one."""
NO_RIGHT: Final = (
    "the role of DATABASE_URL may not make a database to restore into: as a superuser of PostgreSQL, "
    "ALTER ROLE … CREATEDB"
)
NO_ROOM: Final = (
    "the disk of PostgreSQL is full: a restore needs room for a second copy of the database; "
    "free some, or add some"
)
NOT_ALONE: Final = (
    "stop board, signals and whatever else reads the database, as `marketswarm archive restore --help` says; "
    "then restore again"
)
_DISK_FULL_WORDS: Final = "No space left on device"
_END_SESSIONS: Final = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = $1 AND pg_has_role(usesysid, 'USAGE')
"""
"""Ends the sessions in a database that our role may end. An autovacuum is not one of them: only a superuser
may end it, DROP ... WITH (FORCE) fails beside one, and what renames or drops a database ends it by itself."""


_FOREIGN_SESSIONS: Final = """
SELECT DISTINCT format('%s (%s)', coalesce(usename, usesysid::text), application_name) AS session
FROM pg_stat_activity
WHERE datname = $1 AND usesysid IS NOT NULL AND NOT pg_has_role(usesysid, 'USAGE')
    AND application_name NOT LIKE 'TimescaleDB %'
ORDER BY 1
"""
"""Lists the sessions in a database that our role may not end, each with its role and the name of its program.
TimescaleDB ends its own workers when their database is renamed."""


async def restore_backup(
    url: str, dump: Path, programs: Path | None = None, *, replace: bool = False
) -> Backup:
    """Restore a backup into a database, and compare its tables with the manifest.

    To replace a database, the backup is restored into a new one, which takes the name of the old one in one
    transaction once it was compared, so whatever fails before leaves the old one as it is. If this is killed
    at that moment, the old one takes no connections; to call this again mends it.

    The sessions of our role in the old one are ended then. It can't end those of other roles, such as board's
    and signals': while there is one, nothing is restored, and one that begins later keeps the new database
    from taking the name.

    Without `replace` the database must be empty. `programs` is the folder of pg_restore; None for the one on
    PATH.

    Raises:
        BackupError: the backup is damaged, the database is not empty, others are connected to the one that is
            to be replaced, pg_restore failed, what was restored differs, our role may not make a database, or
            the disk is full.
        PostgresAwayError: PostgreSQL can't be used now.
    """
    manifest = read_manifest(dump)
    if not replace:
        async with open_connection(url, _STATEMENT_SEC) as connection:
            if await SCHEMA.read_version(connection):
                why = "the database has tables already: say --replace to replace the whole database"
                raise BackupError(why)
        await _restore_and_compare(url, dump, manifest, programs)
        return manifest
    async with open_connection(_replace_database(url, _MAINTENANCE), _STATEMENT_SEC) as connection:
        # a restore takes hours, and would be for nothing
        await _refuse_foreign_sessions(connection, _read_database(url))
    async with _new_database(url) as fresh:
        await _restore_and_compare(_replace_database(url, fresh), dump, manifest, programs)
        await _swap_databases(url, fresh)
    return manifest


async def verify_backup(url: str, dump: Path, programs: Path | None = None) -> Backup:
    """Restore a backup into a database of its own, compare it with its manifest, and drop that database.

    It raises what `restore_backup` raises.
    """
    manifest = read_manifest(dump)
    async with _new_database(url) as fresh:
        await _restore_and_compare(_replace_database(url, fresh), dump, manifest, programs)
    return manifest


async def _restore_and_compare(url: str, dump: Path, manifest: Backup, programs: Path | None) -> None:
    """Restore a dump into an empty database in one transaction, and compare it with the manifest."""
    dump = dump.with_name(manifest.file)
    try:
        sha256 = await asyncio.to_thread(hash_file, dump)
    except OSError as error:
        raise BackupError(f"{dump}: {error.strerror}") from None
    if sha256 != manifest.sha256:
        raise BackupError(f"{dump.name}: damaged, its SHA-256 is not the one of its manifest")
    options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
    async with _prepared_for_hypertables(url, manifest.timescaledb):
        try:
            await run_program("pg_restore", [*options, str(dump)], url, programs)
        except BackupError as error:
            if _DISK_FULL_WORDS in str(error):
                raise BackupError(f"{NO_ROOM} ({error})") from error
            raise
    async with open_connection(url, PROGRAM_SEC) as connection:
        await SCHEMA.grant_rights(connection)  # dumps have no privileges
        differing = find_differences(manifest.tables, await read_digests(connection, manifest.tables))
    if differing:
        raise BackupError(f"what was restored is not what was saved: {', '.join(differing)}")


@contextlib.asynccontextmanager
async def _prepared_for_hypertables(url: str, version: str | None) -> AsyncIterator[None]:
    """Restore into a database with that version of TimescaleDB, as its documentation says; None: do nothing.

    The tables of the extension are restored with ours, so its version must be the same as in the dump.
    """
    if version is None:
        yield
        return
    # each statement in a session of its own, because one that has loaded the extension can't make it
    await _execute_alone(url, f"CREATE EXTENSION IF NOT EXISTS timescaledb VERSION '{version}'")
    async with open_connection(url, _STATEMENT_SEC) as connection:
        found = await read_timescaledb_version(connection)
    if found != version:
        raise BackupError(f"the backup has tables of TimescaleDB {version}, and the database has {found}")
    await _execute_alone(url, "SELECT timescaledb_pre_restore()")
    try:
        yield
    finally:
        await _execute_alone(url, "SELECT timescaledb_post_restore()")


async def _execute_alone(url: str, sql: str) -> None:
    """Execute a statement over a connection of its own. Raises BackupError if the database refuses it."""
    async with open_connection(url, _STATEMENT_SEC) as connection:
        try:
            await connection.execute(sql)
        except asyncpg.PostgresError as error:
            raise BackupError(f"the backup needs TimescaleDB: {error}") from error


@contextlib.asynccontextmanager
async def _new_database(url: str) -> AsyncIterator[str]:
    """Make a database on the same server and yield its name; at the end drop what then has this name.

    Drop as well what restores that were killed have left. One that is killed before its new database has its
    comment leaves an empty one, which nothing of ours drops.
    """
    name = f"restored_{secrets.token_hex(6)}"
    async with open_connection(_replace_database(url, _MAINTENANCE), PROGRAM_SEC) as connection:
        await _drop_stale_copies(connection)
        try:
            # template1 may have extensions of its own, and TimescaleDB's workers may be using it
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        except asyncpg.InsufficientPrivilegeError as error:
            raise BackupError(NO_RIGHT) from error
        except asyncpg.DiskFullError as error:
            raise BackupError(NO_ROOM) from error
        try:
            await connection.execute(f"COMMENT ON DATABASE {name} IS '{COPY_COMMENT}'")
            yield name
        finally:
            await _drop_database(connection, name)


async def drop_stale_copies(url: str) -> None:
    """Drop the databases that restores and verifications of our role made before they were killed.

    One is known by its name, its owner and its comment. Nothing is dropped while any restore runs. Raises
    PostgresAwayError.
    """
    async with open_connection(_replace_database(url, _MAINTENANCE), PROGRAM_SEC) as connection:
        await _drop_stale_copies(connection)


async def _drop_database(connection: Any, name: str) -> None:
    await connection.fetch(_END_SESSIONS, name)
    await connection.execute(f"DROP DATABASE IF EXISTS {name}")


async def _drop_stale_copies(connection: Any) -> None:
    """Drop the databases that restores of ours made before they were killed; mark this connection as one.

    A restore shares the lock as long as its connection lives, so the holder of the exclusive lock is the only
    restore.
    """
    if await connection.fetchval("SELECT pg_try_advisory_lock($1)", _COPIES_LOCK):
        for row in await connection.fetch(_COPIES, COPY_COMMENT):
            await _drop_database(connection, row["name"])
        await connection.execute("SELECT pg_advisory_unlock($1)", _COPIES_LOCK)
    await connection.execute("SELECT pg_advisory_lock_shared($1)", _COPIES_LOCK)


async def _refuse_foreign_sessions(connection: Any, name: str) -> None:
    """Raise BackupError if a database has sessions that our role may not end."""
    found = [row["session"] for row in await connection.fetch(_FOREIGN_SESSIONS, name)]
    if found:
        raise BackupError(f"our role may not end these sessions in {name}: {', '.join(found)}: {NOT_ALONE}")


async def _swap_databases(url: str, fresh: str) -> None:
    """Give the database `fresh` the name of the one that `url` names, and that one the name `fresh`.

    The sessions of our role in that one are ended. Raises BackupError if it has others.
    """
    name = _read_database(url)
    async with open_connection(_replace_database(url, _MAINTENANCE), _STATEMENT_SEC) as connection:
        # no session begins between the end of the others and the new name
        await connection.execute(f"ALTER DATABASE {_quote(name)} ALLOW_CONNECTIONS false")
        try:
            await connection.fetch(_END_SESSIONS, name)
            try:
                await _swap_names(connection, name, fresh)
            except asyncpg.ObjectInUseError:  # it waits five seconds for the sessions that are left
                await _refuse_foreign_sessions(connection, name)
                raise
        except BaseException:
            await connection.execute(f"ALTER DATABASE {_quote(name)} ALLOW_CONNECTIONS true")
            raise


async def _swap_names(connection: Any, name: str, fresh: str) -> None:
    """Swap the names of two databases without sessions in one transaction; each name keeps its comment."""
    quoted, parked = _quote(name), f"{fresh}_old"
    async with transaction(connection):
        await connection.execute(f"ALTER DATABASE {quoted} RENAME TO {parked}")
        await connection.execute(f"ALTER DATABASE {fresh} RENAME TO {quoted}")
        await connection.execute(f"ALTER DATABASE {parked} RENAME TO {fresh}")
        # a comment stays with its database, and that of a copy says that it may be dropped
        for row in await connection.fetch(_SWAP_COMMENTS, name, fresh):
            await connection.execute(row["sql"])


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _read_database(url: str) -> str:
    return unquote(urlsplit(url).path.strip("/"))


def _replace_database(url: str, name: str) -> str:
    """Return the URL of the database `name` on the server of `url`."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def find_differences(saved: Mapping[str, TableDigest], found: Mapping[str, TableDigest]) -> list[str]:
    lines = []
    for table, digest in saved.items():
        if table not in found:
            lines.append(f"{table} is missing")
        elif found[table].rows != digest.rows:
            lines.append(f"{table} has {found[table].rows:,} rows, {digest.rows:,} were saved")
        elif found[table] != digest:
            lines.append(f"{table} has other rows")
    return lines
