"""The script that makes the role of readers in containers, on a real PostgreSQL."""

import asyncio
import os
import subprocess

import asyncpg
import pytest

from bootstrap.database import format_verifier
from marketswarm.passwords import DATABASE_READER
from services.archive.migrations import apply_migrations
from support.pages import ROOT
from support.postgres import Postgres, query

pytestmark = pytest.mark.live


@pytest.fixture
def server():
    """A server as in a container: its owner may do everything, and nobody made a role for readers."""
    with Postgres(superuser=True) as server:
        query(server.url, f"DROP ROLE {DATABASE_READER}")
        yield server


def run_script(server, folder, password):
    """Run the script as the image of PostgreSQL does, with the verifier of a password.

    The image exports the variables that it knows, but for POSTGRES_PASSWORD_FILE, which it unsets.
    """
    (folder / "reader").write_text(f"{format_verifier(password)}\n")
    owner = server.url.partition("//")[2].partition("@")[0].partition(":")
    environ = {
        "PATH": f"{server.programs}:{os.environ['PATH']}",
        "POSTGRES_USER": owner[0],
        "POSTGRES_DB": server.url.rpartition("/")[2],
        "POSTGRES_READER_FILE": str(folder / "reader"),
        # a container's own socket asks for no password
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.server.port),
        "PGPASSWORD": owner[2],
    }
    script = ROOT / "deploy/postgres/reader.sh"
    done = subprocess.run(["sh", script], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def knock(server, password):
    url = f"postgresql://{DATABASE_READER}:{password}@127.0.0.1:{server.server.port}/marketswarm"
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval("SELECT current_setting('is_superuser')") == "off"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE TABLE mine (n integer)")
        limits = "SELECT rolconnlimit || ' ' || rolconfig::text FROM pg_roles WHERE rolname = current_user"
        assert await connection.fetchval(limits) == "24 {temp_file_limit=1GB}"
    finally:
        await connection.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(url.removesuffix("marketswarm") + "postgres")


def test_it_makes_a_role_that_may_not_write_and_changes_its_password_when_it_is_run_again(server, tmp_path):
    for password in ("a-first-password-'of-thirty-chars", "a-second-password-of-thirty-chars"):
        run_script(server, tmp_path, password)
        asyncio.run(knock(server, password.replace("'", "%27")))
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(knock(server, "a-first-password-%27of-thirty-chars"))


async def make_schema(url):
    connection = await asyncpg.connect(url)
    await apply_migrations(connection)
    await connection.close()


async def try_to_fill(url):
    reader = await asyncpg.connect(url)
    try:
        for sql in ("CREATE TEMPORARY TABLE mine (n integer)", "SELECT lo_create(0)"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute(sql)
    finally:
        await reader.close()


def test_archive_keeps_readers_from_what_fills_the_disk_in_a_restored_database_too(server, tmp_path):
    run_script(server, tmp_path, "a-password-of-thirty-characters")
    for url in (server.url, server.new_database()):
        asyncio.run(make_schema(url))
        database = url.rpartition("/")[2]
        place = f"127.0.0.1:{server.server.port}/{database}"
        asyncio.run(try_to_fill(f"postgresql://{DATABASE_READER}:a-password-of-thirty-characters@{place}"))
