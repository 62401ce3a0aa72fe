"""Migrations on a real PostgreSQL: applied once, each as a whole, in a schema of their own."""

import asyncio

import asyncpg
import pytest

from marketswarm.access.passwords import DATABASE_READER, DATABASE_SIGNALS
from marketswarm.postgres.migrations import DatabaseSchema, Migration, SchemaError, TableRights
from support.waiting import auntil

SCHEMA = DatabaseSchema("none", rights=(TableRights(DATABASE_READER),))
KNOWN = [
    Migration(1, "first", "CREATE TABLE first (n integer)"),
    Migration(2, "second", "CREATE TABLE second (n integer); INSERT INTO second VALUES (2)"),
]


@pytest.fixture
def url(postgres):
    """The URL of an empty database."""
    return postgres.new_database()


async def test_a_server_without_a_role_for_readers_serves_too(connect, url):
    for rights in ((), (TableRights("nobody_of_this_name"),)):
        assert await DatabaseSchema("none", rights=rights).apply_migrations(await connect(url), KNOWN) == 2


async def test_a_role_reads_the_tables_and_adds_to_those_that_its_rights_name_and_no_others(
    connect, postgres, url
):
    rights = (
        TableRights(DATABASE_READER),
        TableRights(DATABASE_SIGNALS, reads=("second",), adds=("second",)),
    )
    assert await DatabaseSchema("none", rights=rights).apply_migrations(await connect(url), KNOWN) == 2
    signals = await connect(postgres.url_as(DATABASE_SIGNALS, url))
    await signals.execute("INSERT INTO second VALUES (3)")
    assert await signals.fetchval("SELECT max(n) FROM second") == 3
    for sql in (
        "SELECT FROM first",
        "INSERT INTO first VALUES (1)",
        "DELETE FROM second",
        "UPDATE second SET n = 1",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await signals.execute(sql)
    reader = await connect(postgres.url_as(DATABASE_READER, url))
    assert await reader.fetchval("SELECT max(n) FROM second") == 3
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.execute("INSERT INTO second VALUES (4)")


async def test_many_instances_that_start_at_once_make_the_schema_once(connect, url):
    schema = DatabaseSchema("none", name="signals")
    connections = [await connect(url) for _ in range(6)]
    versions = await asyncio.gather(*(schema.apply_migrations(each, KNOWN) for each in connections))
    assert set(versions) == {2}
    assert await connections[0].fetchval("SELECT array_agg(version) FROM signals.schema_version") == [1, 2]
    assert await connections[0].fetchval("SELECT count(*) FROM signals.second") == 1


async def test_each_schema_of_a_database_has_its_own_versions_tables_and_readers(connect, postgres, url):
    owner, reader = await connect(url), await connect(postgres.reader_url_of(url))
    theirs = DatabaseSchema("none", name="signals")
    assert await SCHEMA.apply_migrations(owner, KNOWN) == 2
    assert await theirs.read_version(owner) == 0
    assert await theirs.apply_migrations(owner, KNOWN[:1]) == 1
    assert (await SCHEMA.read_version(owner), await theirs.read_version(owner)) == (2, 1)
    assert await owner.fetchval("SHOW search_path") == '"$user", public', "the session is as it was"
    found = await owner.fetch("SELECT tablename::text FROM pg_tables WHERE schemaname = 'signals'")
    assert {row["tablename"] for row in found} == {"schema_version", "first"}
    assert await reader.fetchval("SELECT n FROM second") == 2
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.fetch("SELECT FROM signals.first")
    await DatabaseSchema("none", name="signals", rights=SCHEMA.rights).grant_rights(owner)
    assert await reader.fetch("SELECT FROM signals.first") == []


async def test_a_migration_that_fails_leaves_nothing_of_itself_and_all_before_it(connect, url):
    connection = await connect(url)
    wrong = Migration(2, "wrong", "CREATE TABLE half (n integer); SELECT 1 / 0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await SCHEMA.apply_migrations(connection, [KNOWN[0], wrong])
    assert await SCHEMA.read_version(connection) == 1
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    assert await SCHEMA.apply_migrations(connection, KNOWN) == 2  # nobody holds the lock


async def test_what_a_migration_has_locked_may_be_read_while_the_next_one_runs(connect, url):
    held, migrating = [await connect(url) for _ in range(2)]
    await held.execute("SELECT pg_advisory_lock(1)")
    third = Migration(3, "third", "LOCK TABLE first IN ACCESS EXCLUSIVE MODE")
    fourth = Migration(4, "fourth", "SELECT pg_advisory_xact_lock(1)")
    task = asyncio.create_task(SCHEMA.apply_migrations(migrating, [*KNOWN, third, fourth]))
    waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'advisory' AND objid = 1)"
    await auntil(lambda: held.fetchval(waits))
    assert await held.fetchval("SELECT count(*) FROM first", timeout=20) == 0
    assert await SCHEMA.read_version(held) == 3
    await held.execute("SELECT pg_advisory_unlock(1)")
    assert await task == 4


async def test_a_schema_of_a_later_release_or_an_edited_one_is_refused(connect, url):
    connection = await connect(url)
    await SCHEMA.apply_migrations(connection, KNOWN)
    edited = [KNOWN[0], Migration(2, KNOWN[1].name, KNOWN[1].sql + "-- edited")]
    with pytest.raises(SchemaError, match="not the one that was applied"):
        await SCHEMA.apply_migrations(connection, edited)
    with pytest.raises(SchemaError, match="run the release that made it"):
        await SCHEMA.apply_migrations(connection, KNOWN[:1])
