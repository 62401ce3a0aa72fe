"""Make backups with pg_dump, check them, and restore them with pg_restore.

A backup is two files in a folder: the dump (`archive-20261123T033000Z.dump`, pg_dump's custom format) and its
manifest (`.json`), which is written last: a dump without one is not complete. The manifest has the SHA-256 of
the dump, and the number of rows and a digest of each table, read in the very snapshot that pg_dump saves. So
a restored database can be compared with what was saved.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
import orjson

from services.archive.database import translated_errors
from services.archive.migrations import read_version
from services.archive.reader import TableDigest, read_digests

_NAME: Final = re.compile(r"archive-\d{8}T\d{6}Z\.json")
_MAINTENANCE: Final = "postgres"  # the database that every server has
_DUMP_SEC: Final = 6 * 3600.0
_ENVIRON: Final = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR")
_MANIFEST_BYTES: Final = 1 << 20


class BackupError(Exception):
    """A backup could not be made, read or restored; the message says why."""


@dataclass(frozen=True, slots=True)
class Backup:
    """Hold a manifest.

    Attributes:
        file: the name of the dump, in the same folder.
        begun_at: when it was begun, in epoch seconds.
        size: the bytes of the dump. sha256: its SHA-256.
        schema: the version of the schema. server: the version of PostgreSQL.
        tables: the digest of each table.
    """

    file: str
    begun_at: float
    size: int
    sha256: str
    schema: int
    server: str
    tables: Mapping[str, TableDigest]


async def make_backup(url: str, folder: Path, now: float, programs: Path | None = None) -> Backup:
    """Save the database in `folder`, which is made if it is missing; return the manifest.

    Args:
        url: the URL of the database.
        folder: the folder; only we may read it, and its files.
        now: the time, in epoch seconds, by which the files are named.
        programs: the folder of pg_dump; None for the one on PATH.

    Raises:
        BackupError: pg_dump failed, or the folder can't be written.
        ArchiveAwayError: PostgreSQL can't be used now.
    """
    stem = f"archive-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
    draft = folder / f"{stem}.part"
    try:
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        async with _snapshot(url) as (connection, snapshot):
            options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
            dumping = asyncio.create_task(
                run_program("pg_dump", [*options, f"--file={draft}"], url, programs), name="pg_dump"
            )
            try:
                tables = await read_digests(connection)
                schema, server = (
                    await read_version(connection),
                    await connection.fetchval("SHOW server_version"),
                )
                await dumping
            finally:
                dumping.cancel()
        draft.chmod(0o600)
        sha256 = await asyncio.to_thread(_hash_file, draft)
        made = Backup(f"{stem}.dump", now, draft.stat().st_size, sha256, schema, str(server), tables)
        await asyncio.to_thread(_publish, folder, draft, made)
    except OSError as error:
        raise BackupError(f"{folder}: {error.strerror or type(error).__name__}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    return made


def list_backups(folder: Path) -> list[Backup]:
    """Return the complete backups in a folder, the newest first; an unreadable manifest is left out."""
    found = []
    for path in sorted(folder.glob("archive-*.json"), reverse=True):
        if _NAME.fullmatch(path.name):
            with contextlib.suppress(BackupError):
                found.append(read_manifest(path))
    return found


def read_newest_backup(folder: Path) -> Backup | None:
    """Return the newest complete backup in a folder; None if there is none."""
    return next((each for each in list_backups(folder) if (folder / each.file).exists()), None)


def read_manifest(path: Path) -> Backup:
    """Return the manifest at `path`, or beside the dump at `path`.

    Raises:
        BackupError: there is none, or it is none of ours.
    """
    path = path.with_suffix(".json")
    try:
        if path.stat().st_size > _MANIFEST_BYTES:
            raise BackupError(f"{path.name}: no manifest of a backup")
        raw = orjson.loads(path.read_bytes())
        tables = {
            str(name): TableDigest(int(each["rows"]), str(each["digest"]))
            for name, each in raw["tables"].items()
        }
        if Path(raw["file"]).name != raw["file"]:
            raise BackupError(f"{path.name}: names a file elsewhere")
        return Backup(
            *(str(raw["file"]), float(raw["begun_at"]), int(raw["size"]), str(raw["sha256"])),
            *(int(raw["schema"]), str(raw["server"]), tables),
        )
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror}; a dump without its manifest is not complete") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BackupError(f"{path.name}: no manifest of a backup") from None


def remove_old_backups(folder: Path, before: float) -> list[str]:
    """Remove the backups begun before that time (epoch seconds), but not the newest; return their dumps."""
    removed = []
    for each in list_backups(folder)[1:]:
        if each.begun_at < before:
            dump = folder / each.file
            dump.with_suffix(".json").unlink(missing_ok=True)  # first: without it the dump is no backup
            dump.unlink(missing_ok=True)
            removed.append(each.file)
    return removed


async def restore_backup(
    url: str, dump: Path, programs: Path | None = None, *, replace: bool = False
) -> Backup:
    """Restore a backup into a database, and compare its tables with the manifest.

    To replace tables, the backup is restored into a new database, which takes the name of the old one in one
    transaction once it was compared: whatever fails before leaves the old one as it is.

    Args:
        url: the URL of the database. It must be empty, unless `replace` is set.
        dump: the file of the backup.
        programs: the folder of pg_restore; None for the one on PATH.
        replace: whether to replace the whole database. Its sessions are ended.

    Raises:
        BackupError: the backup is damaged, the database is not empty, pg_restore failed, or what was restored
            differs.
        ArchiveAwayError: PostgreSQL can't be used now, or our role may not make a database.
    """
    manifest = read_manifest(dump)
    if not replace:
        async with _connection(url) as connection:
            if await read_version(connection):
                raise BackupError("the database has tables already: say --replace to replace them")
        await _restore_and_compare(url, dump, manifest, programs)
        return manifest
    async with _new_database(url) as fresh:
        await _restore_and_compare(_replace_database(url, fresh), dump, manifest, programs)
        await _swap_databases(url, fresh)
    return manifest


async def verify_backup(url: str, dump: Path, programs: Path | None = None) -> Backup:
    """Restore a backup into a database of its own, compare it with its manifest, and drop that database.

    Raises:
        BackupError: the backup is damaged, or can't be restored, or differs.
        ArchiveAwayError: PostgreSQL can't be used now, or our role may not make a database.
    """
    manifest = read_manifest(dump)
    async with _new_database(url) as fresh:
        await _restore_and_compare(_replace_database(url, fresh), dump, manifest, programs)
    return manifest


async def _restore_and_compare(url: str, dump: Path, manifest: Backup, programs: Path | None) -> None:
    """Restore a dump into an empty database in one transaction, and compare it with the manifest."""
    dump = dump.with_name(manifest.file)
    await require_intact(dump, manifest)
    options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
    await run_program("pg_restore", [*options, "--dbname={url}", str(dump)], url, programs)
    async with _connection(url) as connection:
        differing = find_differences(manifest.tables, await read_digests(connection))
    if differing:
        raise BackupError(f"what was restored is not what was saved: {', '.join(differing)}")


@contextlib.asynccontextmanager
async def _new_database(url: str) -> AsyncIterator[str]:
    """Make a database on the same server, yield its name, and drop what has this name in the end."""
    name = f"restored_{secrets.token_hex(6)}"
    async with _connection(_replace_database(url, _MAINTENANCE)) as connection:
        with translated_errors():
            await connection.execute(f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def _swap_databases(url: str, fresh: str) -> None:
    """Give the database `fresh` the name of the one that `url` names, and that one the name `fresh`."""
    name = unquote(urlsplit(url).path.strip("/"))
    quoted, parked = '"' + name.replace('"', '""') + '"', f"{fresh}_old"
    async with _connection(_replace_database(url, _MAINTENANCE)) as connection:
        with translated_errors():
            # nobody comes back between the end of the sessions and the new name
            await connection.execute(f"ALTER DATABASE {quoted} ALLOW_CONNECTIONS false")
            try:
                ending = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1"
                await connection.fetch(ending, name)
                async with connection.transaction():
                    await connection.execute(f"ALTER DATABASE {quoted} RENAME TO {parked}")
                    await connection.execute(f"ALTER DATABASE {fresh} RENAME TO {quoted}")
                    await connection.execute(f"ALTER DATABASE {parked} RENAME TO {fresh}")
            except BaseException:
                await connection.execute(f"ALTER DATABASE {quoted} ALLOW_CONNECTIONS true")
                raise


def _replace_database(url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def require_intact(dump: Path, manifest: Backup) -> None:
    """Check that a dump is the file that its manifest describes. Raise BackupError if it is not."""
    try:
        sha256 = await asyncio.to_thread(_hash_file, dump)
    except OSError as error:
        raise BackupError(f"{dump}: {error.strerror}") from None
    if sha256 != manifest.sha256:
        raise BackupError(f"{dump.name}: damaged, its SHA-256 is not the one of its manifest")


def find_differences(saved: Mapping[str, TableDigest], found: Mapping[str, TableDigest]) -> list[str]:
    """Return a line on each table that is not as it was saved."""
    return [
        f"{table} has {found[table].rows:,} rows, {digest.rows:,} were saved"
        if found[table].rows != digest.rows
        else f"{table} has other rows"
        for table, digest in saved.items()
        if table in found and found[table] != digest
    ]


async def run_program(name: str, arguments: list[str], url: str, programs: Path | None) -> None:
    """Run one of PostgreSQL's programs on a database, and wait for its end.

    The password is in its environment, never an argument. `--dbname` is added, or put where an argument says
    `{url}`.

    Raises:
        BackupError: there is no such program, or it failed; the message has its last line.
    """
    path = shutil.which(name, path=None if programs is None else str(programs))
    if path is None:
        where = "on PATH" if programs is None else f"in {programs}"
        raise BackupError(f"there is no {name} {where}: install PostgreSQL's client, or set POSTGRES_BIN")
    plain, password = split_password(url)
    placed = [each.replace("{url}", plain) for each in arguments]
    placed += [] if placed != arguments else [f"--dbname={plain}"]
    environ = {each: os.environ[each] for each in _ENVIRON if each in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(path, "--no-password", *placed),
        env={**environ, "PGPASSWORD": password, "PGTZ": "UTC", "PGCONNECT_TIMEOUT": "10"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_DUMP_SEC):
            _, errors = await process.communicate()
    except TimeoutError:
        raise BackupError(f"{name} took more than {_DUMP_SEC:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = errors.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        raise BackupError(f"{name} failed: {lines[0][:300]}")


def split_password(url: str) -> tuple[str, str]:
    """Return a URL without its password, and the password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url, ""
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}@{host}")), unquote(parts.password)


@contextlib.asynccontextmanager
async def _connection(url: str) -> AsyncIterator[Any]:
    """Connect to a database for the block. Raise ArchiveAwayError if PostgreSQL can't be used now."""
    with translated_errors():
        connection = await asyncpg.connect(url, timeout=10, server_settings={"timezone": "UTC"})
    try:
        yield connection
    finally:
        connection.terminate()


@contextlib.asynccontextmanager
async def _snapshot(url: str) -> AsyncIterator[tuple[Any, str]]:
    """Begin a transaction whose snapshot other connections can use; yield its connection and its name."""
    async with _connection(url) as connection:
        with translated_errors():
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield connection, await connection.fetchval("SELECT pg_export_snapshot()")


def _hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _publish(folder: Path, draft: Path, made: Backup) -> None:
    """Give a dump its name, then write its manifest, each in one step."""
    draft.replace(folder / made.file)
    manifest = (folder / made.file).with_suffix(".json")
    new = manifest.with_suffix(".json.part")
    new.write_bytes(orjson.dumps(asdict(made), option=orjson.OPT_INDENT_2))
    new.replace(manifest)
