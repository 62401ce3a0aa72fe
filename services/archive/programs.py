"""Run pg_dump and pg_restore on a database, with its password in their environment alone."""

import shutil
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from marketswarm.agent.child_program import inherit_environ, run_to_end

PROGRAM_SEC: Final = 6 * 3600.0
"""The time limit of a program, and of the work on a connection beside it."""
_ENVIRON: Final = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR")


class BackupError(Exception):
    """A backup could not be made, read or restored; the message says why."""


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
