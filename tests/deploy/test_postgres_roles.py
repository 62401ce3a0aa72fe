"""The script that makes the roles of the archive's database in containers, on a real PostgreSQL."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import asyncpg
import pytest

from bootstrap.database import format_verifier
from marketswarm.access.passwords import DATABASE_READER, DATABASE_SIGNALS
from marketswarm.fleet.postgres import STOP_SIGNAL, find_programs
from marketswarm.fleet.server_user import find_server_user, give_folder, run_as
from services.archive.database import SCHEMA
from support.pages import ROOT
from support.rig import free_port
from support.rig.process import Process
from support.waiting import until

pytestmark = pytest.mark.live
OWNER = "marketswarm"
PASSWORDS = {
    OWNER: "a-password-'of-the-owner",
    DATABASE_READER: "a-password-of-the-reader",
    DATABASE_SIGNALS: "a-password-of-signals",
}


class Container(Process):
    """A server as its image makes it: whoever reaches its socket is let in, and others need a password.

    Args:
        superuser: the role that the image made, POSTGRES_USER; its password is that of the owner.
    """

    def __init__(self, superuser: str) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="marketswarm-postgres-"))
        self.folder.chmod(0o711)
        self.programs, self.port, self.user = find_programs(), free_port(), find_server_user()
        self.data, self.socket = self.folder / "data", self.folder / "socket"
        for folder in (self.data, self.socket):
            folder.mkdir(mode=0o755)
            give_folder(self.user, folder)
        self.data.chmod(0o700)
        secret = self.folder / "secret"
        secret.write_text(format_verifier(PASSWORDS[OWNER]))
        auth = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={secret}"]
        self.run("initdb", "-D", str(self.data), f"--username={superuser}", "--no-sync", *auth)
        where = f"unix_socket_directories={self.socket}"
        line = ["postgres", "-D", str(self.data), "-p", str(self.port), "-c", "listen_addresses=127.0.0.1"]
        command = run_as(self.user, [self.programs.path(line[0]), *line[1:], "-c", where, "-c", "fsync=off"])
        log = (self.folder / "log").open("ab")
        self.spawn(command, env={"LC_ALL": "C", "PATH": os.environ["PATH"]}, cwd="/", stdout=log, stderr=log)
        log.close()
        until(lambda: self.psql(superuser, "SELECT", "postgres").returncode == 0)
        assert self.psql(superuser, "CREATE DATABASE marketswarm", "postgres").returncode == 0

    def run(self, program: str, *arguments: str) -> None:
        line = run_as(self.user, [self.programs.path(program), *arguments])
        subprocess.run(line, check=True, capture_output=True, cwd="/", env={"LC_ALL": "C", "PATH": "/bin"})

    @property
    def environ(self) -> dict[str, str]:
        path = f"{self.programs.folder}:{os.environ['PATH']}"
        return {"PATH": path, "PGHOST": str(self.socket), "PGPORT": str(self.port)}

    def psql(self, role: str, sql: str, database: str = OWNER) -> subprocess.CompletedProcess[str]:
        line = ["psql", "-X", "-At", "-U", role, "-d", database, "-c", sql]
        return subprocess.run(line, env=self.environ, capture_output=True, text=True, check=False)

    def make_roles(self, passwords=PASSWORDS) -> None:
        """Run the script as the image does, and as somebody does by hand later."""
        files = {
            "POSTGRES_OWNER_FILE": OWNER,
            "POSTGRES_READER_FILE": DATABASE_READER,
            "POSTGRES_SIGNALS_FILE": DATABASE_SIGNALS,
        }
        for role in files.values():
            (self.folder / role).write_text(f"{format_verifier(passwords[role])}\n")
        environ = self.environ | {key: str(self.folder / role) for key, role in files.items()}
        script = ROOT / "deploy/postgres/roles.sh"
        environ |= {"POSTGRES_USER": "postgres", "POSTGRES_DB": OWNER}
        done = subprocess.run(["sh", script], env=environ, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def connect(self, role, password=None, database=OWNER):
        return asyncpg.connect(
            host="127.0.0.1",
            port=self.port,
            user=role,
            password=password or PASSWORDS[role],
            database=database,
        )

    def close(self) -> None:
        self.signal(STOP_SIGNAL)
        self.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(params=["postgres", OWNER], ids=["new", "of an older release"])
def server(request):
    """A server with new data, and one whose owner of the database was the superuser."""
    server = Container(request.param)
    try:
        yield server
    finally:
        server.close()


async def check_owner(server):
    """Check that the owner may do what archive does, and nothing to the server."""
    owner = await server.connect(OWNER)
    try:
        assert await owner.fetchval("SELECT current_setting('is_superuser')") == "off"
        await SCHEMA.apply_migrations(owner)
        await owner.execute("ALTER TABLE sources ADD COLUMN more integer")
        await owner.execute("ALTER TABLE sources DROP COLUMN more")
        await owner.execute("CREATE DATABASE restored TEMPLATE template0")
        for sql in (
            "COPY (SELECT 1) TO PROGRAM 'id'",
            "SELECT pg_read_file('/etc/passwd')",
            "CREATE ROLE another SUPERUSER",
            "SELECT lo_create(0)",
            "ALTER SYSTEM SET log_min_messages = 'debug5'",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await owner.execute(sql)
    finally:
        await owner.close()
    for role, password in (("postgres", PASSWORDS[OWNER]), ("marketswarm_renames", PASSWORDS[OWNER])):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await server.connect(role, password)
    restored = await server.connect(OWNER, database="restored")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await restored.execute("SELECT lo_create(0)")
        await SCHEMA.apply_migrations(restored)
    finally:
        await restored.close()


async def check_reader(server):
    """Check that the reader may read the tables, and nothing else."""
    reader = await server.connect(DATABASE_READER)
    try:
        assert await reader.fetchval("SELECT count(*) FROM bars") == 0
        for sql in (
            "CREATE TABLE mine (n integer)",
            "CREATE TEMPORARY TABLE mine (n integer)",
            "SELECT lo_create(0)",
            "DELETE FROM bars",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute(sql)
        limits = "SELECT rolconnlimit || ' ' || rolconfig::text FROM pg_roles WHERE rolname = current_user"
        assert await reader.fetchval(limits) == "24 {temp_file_limit=1GB}"
    finally:
        await reader.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await server.connect(DATABASE_READER, database="postgres")


async def fill(server, role):
    """Make the archive's tables as a role, as an older release did."""
    connection = await server.connect(role, PASSWORDS[OWNER])
    await SCHEMA.apply_migrations(connection)
    await connection.close()


async def check_signals(server):
    """Check that signals may add to its tables, and do nothing else."""
    signals = await server.connect(DATABASE_SIGNALS)
    try:
        await signals.execute(
            "INSERT INTO signal_epochs SELECT coalesce(max(epoch), 0) + 1, now(), 'me' FROM signal_epochs"
        )
        for sql in (
            "UPDATE signal_epochs SET instance = 'another'",
            "DELETE FROM signal_epochs",
            "INSERT INTO symbols VALUES ('SPY', 'stocks', now(), now(), false)",
            "SELECT FROM quotes",
            "CREATE TABLE mine (n integer)",
            "CREATE TEMPORARY TABLE mine (n integer)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await signals.execute(sql)
        limits = "SELECT rolconnlimit || ' ' || rolconfig::text FROM pg_roles WHERE rolname = current_user"
        assert await signals.fetchval(limits) == "12 {temp_file_limit=1GB}"
    finally:
        await signals.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await server.connect(DATABASE_SIGNALS, database="postgres")


def test_no_role_is_a_superuser_and_each_may_do_its_work(server, request):
    if "older" in request.node.name:
        asyncio.run(fill(server, OWNER))
    for _ in range(2):  # it may be run again at any time
        server.make_roles()
    asyncio.run(check_owner(server))
    asyncio.run(check_reader(server))
    asyncio.run(check_signals(server))


def test_a_password_that_was_changed_is_in_force_once_the_script_is_run_again(server):
    server.make_roles()
    changed = {role: f"another-{password}" for role, password in PASSWORDS.items()}
    server.make_roles(changed)

    async def knock():
        for role, password in changed.items():
            await (await server.connect(role, password)).close()
            with pytest.raises(asyncpg.InvalidPasswordError):
                await server.connect(role)

    asyncio.run(knock())


def test_a_script_that_was_killed_between_its_steps_goes_on_where_it_was(server, request):
    if "older" in request.node.name:
        assert server.psql(OWNER, "CREATE ROLE marketswarm_renames SUPERUSER LOGIN").returncode == 0
    server.make_roles()
    found = server.psql("postgres", "SELECT rolname FROM pg_roles WHERE rolsuper").stdout.split()
    assert found == ["postgres"]
