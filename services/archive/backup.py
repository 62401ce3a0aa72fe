"""Make backups with pg_dump, list them, and remove old ones; run PostgreSQL's programs.

A backup is two files in a folder: the dump (`archive-20261123T033000Z.dump`, pg_dump's custom format) and its
manifest (`.json`), which is written last, so a dump without one is not complete. The manifest has the SHA-256
of the dump, and the number of rows and a digest of each table, read in the very snapshot that pg_dump saves.
So a restored database can be compared with what was saved: `restore.py`.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from marketswarm.agent.child_program import inherit_environ, run_to_end
from marketswarm.bus.stored_values import is_ahead
from marketswarm.postgres.pool import open_connection
from marketswarm.postgres.transaction import terminate, transaction
from services.archive.database import SCHEMA
from services.archive.reader import TableDigest, read_digests, read_timescaledb_version

PROGRAM_SEC: Final = 6 * 3600.0
"""The time limit of a program, and of the work on a connection beside it."""
_ENVIRON: Final = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR")
SNAPSHOT_NAME: Final = "archive backup"
"""What the session is called that holds the snapshot of a backup: it does nothing while pg_dump works."""
_NAME: Final = re.compile(r"archive-\d{8}T\d{6}Z\.json")
_REMAINS: Final = re.compile(r"(archive-\d{8}T\d{6}Z)\.(?:part|json\.part|dump)")
_MANIFEST_BYTES: Final = 1 << 20

TableName = Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,62}$")]
ExtensionVersion = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.-]{0,30}$")]


class BackupError(Exception):
    """A backup could not be made, read or restored; the message says why."""


@dataclass(frozen=True, slots=True)
class Backup:
    """Hold a manifest.

    `file` is the name of the dump, in the same folder; `begun_at` is in epoch seconds; `server` and
    `timescaledb` are versions, the latter None for a database without it.
    """

    file: str
    begun_at: Annotated[float, Field(allow_inf_nan=False)]
    size: int
    sha256: str
    schema: int
    server: str
    tables: Mapping[TableName, TableDigest]
    timescaledb: ExtensionVersion | None = None


_MANIFEST: Final = TypeAdapter(Backup)


async def make_backup(url: str, folder: Path, now: float, programs: Path | None = None) -> Backup:
    """Save the database in `folder`, which is made if it is missing; return the manifest.

    Only we may read the folder and its files, which are named by `now` (epoch seconds). `programs` is the
    folder of pg_dump; None for the one on PATH.

    Raises:
        BackupError: pg_dump failed, the folder can't be written, or the database has no schema yet.
        PostgresAwayError: PostgreSQL can't be used now.
    """
    stem = f"archive-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
    draft = folder / f"{stem}.part"
    try:
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        await asyncio.to_thread(_remove_remains, folder)
        with _opened_draft(draft):
            contents = await _dump(url, draft, programs)
            sha256, size = await asyncio.to_thread(hash_file, draft), draft.stat().st_size
            made = Backup(f"{stem}.dump", now, size, sha256, **contents)
            await asyncio.to_thread(_publish, folder, draft, made)
    except OSError as error:
        raise BackupError(f"{folder}: {error.strerror or type(error).__name__}") from error
    return made


async def _dump(url: str, draft: Path, programs: Path | None) -> dict[str, Any]:
    """Have pg_dump save a database in a file; return what it contains, by the same snapshot."""
    async with (
        open_connection(url, PROGRAM_SEC) as connection,
        transaction(connection, isolation="repeatable_read", readonly=True),
    ):
        await connection.execute(f"SET application_name = '{SNAPSHOT_NAME}'")
        snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
        options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(run_program("pg_dump", [*options, f"--file={draft}"], url, programs))
                reading = group.create_task(_read_contents(connection))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return reading.result()


async def _read_contents(connection: Any) -> dict[str, Any]:
    try:
        version = await SCHEMA.read_version(connection)
        if not version:
            raise BackupError("the database has no tables of archive yet")
        return {
            "tables": await read_digests(connection),
            "schema": version,
            "server": str(await connection.fetchval("SHOW server_version")),
            "timescaledb": await read_timescaledb_version(connection),
        }
    except asyncio.CancelledError:
        terminate(connection)  # which would otherwise wait for the server
        raise


@contextlib.contextmanager
def _opened_draft(draft: Path) -> Iterator[None]:
    """Make a draft that is locked as long as this process lives; remove it in the end."""
    with draft.open("ab") as file:
        if not _try_lock(file):
            raise BackupError(f"{draft} is being written by another process")
        try:
            draft.chmod(0o600)
            yield
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


def _try_lock(file: IO[bytes]) -> bool:
    """Lock a file until it is closed or this process ends; return False if another process has it locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_remains(folder: Path) -> None:
    """Remove what backups that were killed left, as far as that is possible."""
    stems = {match[1] for path in folder.iterdir() if (match := _REMAINS.fullmatch(path.name))}
    for stem in stems:
        files = [folder / f"{stem}{suffix}" for suffix in (".part", ".json.part", ".dump")]
        if not (folder / f"{stem}.json").exists() and not _is_being_written(files):
            for file in files:
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)


def _is_being_written(files: Iterable[Path]) -> bool:
    for path in files:
        with contextlib.suppress(OSError), path.open("r+b") as file:
            if not _try_lock(file):
                return True
    return False


def list_backups(folder: Path, now: float) -> list[Backup]:
    """Return the newest backup first; leave out one with an unreadable manifest.

    One begun ahead of `now` (epoch seconds), by a clock that was set back since, comes after all others.
    """
    found = []
    for path in sorted(folder.glob("archive-*.json"), reverse=True):
        if _NAME.fullmatch(path.name):
            with contextlib.suppress(BackupError):
                found.append(read_manifest(path))
    return sorted(found, key=lambda each: is_ahead(each.begun_at, now))


def read_newest_backup(folder: Path, now: float) -> Backup | None:
    """Return the newest backup whose dump is there; None if all that are left were begun ahead of `now`."""
    known = (each for each in list_backups(folder, now) if not is_ahead(each.begun_at, now))
    return next((each for each in known if (folder / each.file).exists()), None)


def read_manifest(path: Path) -> Backup:
    """Return the manifest at `path`, or beside the dump at `path`.

    Raises BackupError if there is no manifest, or it is not valid.
    """
    path = path.with_suffix(".json")
    try:
        if path.stat().st_size > _MANIFEST_BYTES:
            raise BackupError(f"{path.name}: no manifest of a backup")
        found = _MANIFEST.validate_json(path.read_bytes())
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror}; a dump without its manifest is not complete") from None
    except ValidationError:
        raise BackupError(f"{path.name}: no manifest of a backup") from None
    if found.file in ("", "..") or Path(found.file).name != found.file:
        raise BackupError(f"{path.name}: names a file elsewhere")
    return found


def remove_old_backups(folder: Path, before: float, now: float) -> list[str]:
    """Remove the backups begun before that time, but not the newest as of `now`; return their dumps.

    Both are in epoch seconds.

    Raises BackupError if a file can't be removed.
    """
    removed = []
    for each in list_backups(folder, now)[1:]:
        if each.begun_at < before:
            dump = folder / each.file
            try:
                dump.unlink(missing_ok=True)
                dump.with_suffix(".json").unlink(missing_ok=True)  # last: it names a dump that is still there
            except OSError as error:
                raise BackupError(f"{dump} can't be removed: {error.strerror}") from error
            removed.append(each.file)
    return removed


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _publish(folder: Path, draft: Path, made: Backup) -> None:
    """Give the dump its name, then write its manifest, each in one step."""
    draft.replace(folder / made.file)
    manifest = (folder / made.file).with_suffix(".json")
    new = manifest.with_suffix(".json.part")
    new.touch()
    new.chmod(0o600)
    new.write_bytes(orjson.dumps(made, option=orjson.OPT_INDENT_2))
    new.replace(manifest)


async def run_program(name: str, arguments: list[str], url: str, programs: Path | None) -> None:
    """Run one of PostgreSQL's programs on a database, and wait for its end. It does not outlive this process.

    `programs` is the folder of the program; None for the one on PATH. Raises BackupError if there is no such
    program, or it failed.
    """
    path = shutil.which(name, path=None if programs is None else str(programs))
    if path is None:
        where = "on PATH" if programs is None else f"in {programs}"
        raise BackupError(f"there is no {name} {where}: install PostgreSQL's client, or set POSTGRES_BIN")
    plain, password = split_password(url)
    environ = {
        **inherit_environ(_ENVIRON),
        "PGPASSWORD": password,
        "PGTZ": "UTC",
        "PGCONNECT_TIMEOUT": "10",
    }
    command = [path, "--no-password", f"--dbname={plain}", *arguments]
    try:
        code, _, errors = await run_to_end(command, environ, PROGRAM_SEC)
    except TimeoutError:
        raise BackupError(f"{name} took more than {PROGRAM_SEC:.0f} s") from None
    if code:
        lines = errors.decode("utf-8", "replace").strip().splitlines() or ["no output"]
        error_line = next((line for line in lines if "error:" in line), lines[0])  # warnings may come before
        raise BackupError(f"{name} failed: {error_line[:300]}")


def split_password(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    if parts.password is None:
        return url, ""
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}@{host}")), unquote(parts.password)
