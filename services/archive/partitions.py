"""Divide the long tables by time: a partition for each month, made ahead, and dropped whole by retention.

Which partition holds a time follows from the time alone, so that any instance makes the same ones: months
since 2020, years since 2010, decades since 1970, and one for all before. With TimescaleDB the tables are
hypertables, which divide themselves.

Retention goes by the time of a record. A recording is old by that when it is played, so a partition with rows
marked `replay` is never dropped; delete those rows to get rid of them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from marketswarm.postgres.transaction import transaction
from services.archive.database import SCHEMA
from services.tables.row_times import ROW_TIMES

TIME_COLUMNS: Final = {table: ROW_TIMES[table] for table in ("bars", "quotes", "indicators")}
"""The tables that are divided, and the column by which."""
MONTHS_AHEAD: Final = 2
_MONTHS_SINCE, _YEARS_SINCE, _DECADES_SINCE = 2020, 2010, 1970
_LOCK_SEC: Final = 2
_BEGINNING: Final = datetime(1800, 1, 1, tzinfo=UTC)
_END: Final = datetime(2100, 1, 2, tzinfo=UTC)  # after the last time that a row may have
_NAME: Final = re.compile(
    r"(?P<table>[a-z]+)_(?:before_1970|(?P<year>\d{4})(?:(?P<decade>s)|_(?P<month>\d\d))?)"
)

_EXPIRED_CHUNKS: Final = """
SELECT format('%I.%I', chunk_schema, chunk_name), range_start, range_end FROM timescaledb_information.chunks
WHERE hypertable_schema = current_schema() AND hypertable_name = $1 AND range_end <= $2 ORDER BY range_start
"""
_DROP_CHUNKS: Final = """
SELECT drop_chunks($1::text::regclass, newer_than => $2::timestamptz, older_than => $3::timestamptz)
"""


@dataclass(frozen=True, slots=True)
class Partition:
    """Name the part of a table with the times from `begins` on and before `ends`."""

    table: str
    name: str
    begins: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class DroppedPartitions:
    """Name what retention dropped, and what it left because others locked it."""

    dropped: tuple[str, ...]
    locked: tuple[str, ...]


def find_partition(table: str, at: datetime) -> Partition:
    """`at` must be in UTC."""
    if at.year >= _MONTHS_SINCE:
        begins, ends = datetime(at.year, at.month, 1, tzinfo=UTC), next_month(at)
        return Partition(table, f"{table}_{at.year}_{at.month:02}", begins, min(ends, _END))
    if at.year >= _YEARS_SINCE:
        return Partition(table, f"{table}_{at.year}", _year(at.year), _year(at.year + 1))
    if at.year >= _DECADES_SINCE:
        decade = at.year - at.year % 10
        return Partition(table, f"{table}_{decade}s", _year(decade), _year(decade + 10))
    return Partition(table, f"{table}_before_1970", _BEGINNING, _year(_DECADES_SINCE))


def parse_partition(name: str) -> Partition | None:
    match = _NAME.fullmatch(name)
    if match is None or match["table"] not in TIME_COLUMNS:
        return None
    if match["year"] is None:
        return find_partition(match["table"], _BEGINNING)
    month = int(match["month"] or 1)
    if not 1 <= month <= 12:
        return None
    found = find_partition(match["table"], datetime(int(match["year"]), month, 1, tzinfo=UTC))
    return found if found.name == name else None


def list_ahead(now: datetime) -> list[Partition]:
    times = [now]
    for _ in range(MONTHS_AHEAD):
        times.append(next_month(times[-1]))
    return [find_partition(table, at) for table in TIME_COLUMNS for at in times]


def list_expired(names: Iterable[str], keep_since: Mapping[str, datetime]) -> list[Partition]:
    """Return the partitions among `names` that hold nothing at or after the time `keep_since` of their table.

    A table that `keep_since` does not name is kept for ever.
    """
    known = (parse_partition(name) for name in names)
    found = [each for each in known if each is not None and each.table in keep_since]
    return [each for each in found if each.ends <= keep_since[each.table]]


async def read_partitions(connection: Any) -> frozenset[str]:
    rows = await connection.fetch(
        "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
        "WHERE inhparent = ANY(ARRAY(SELECT to_regclass(name) FROM unnest($1::text[]) name))",
        list(TIME_COLUMNS),
    )
    return frozenset(row["relname"] for row in rows)


async def is_partitioned(connection: Any) -> bool:
    """Return True if the tables are partitioned natively, False if they are hypertables."""
    kind = await connection.fetchval("SELECT relkind FROM pg_class WHERE oid = 'bars'::regclass")
    return bool(kind == b"p")


async def make_partitions(connection: Any, wanted: Iterable[Partition]) -> int:
    """Make the partitions that are missing; return how many were. Nothing is made for hypertables.

    They are made under the lock of the schema, since two instances may need the same ones. Readers and
    writers of the table continue. A table that is locked for _LOCK_SEC or longer is an error of class 55.
    """
    async with transaction(connection):
        await connection.execute(SCHEMA.lock_sql)
        if not await is_partitioned(connection):
            return 0
        known = await read_partitions(connection)
        missing = {each.name: each for each in wanted if each.name not in known}
        await _limit_lock_wait(connection)
        for each in missing.values():  # names and times are ours, so nothing in them is quoted or foreign
            # PARTITION OF waits for all readers of the table, and all others wait behind it: ATTACH does not
            await connection.execute(
                f"CREATE TABLE {each.name} (LIKE {each.table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
            )
            await connection.execute(
                f"ALTER TABLE {each.table} ATTACH PARTITION {each.name} "
                f"FOR VALUES FROM ('{each.begins.isoformat()}') TO ('{each.ends.isoformat()}')"
            )
    return len(missing)


async def drop_expired(connection: Any, keep_since: Mapping[str, datetime]) -> DroppedPartitions:
    """Drop what lies wholly before `keep_since`, by table, and has no row marked `replay`.

    Each partition is dropped in a transaction of its own, in which no other session writes its table. What
    others lock for longer than _LOCK_SEC is left for the next time, and the rest is dropped all the same.
    """
    is_native = await is_partitioned(connection)
    if is_native:
        expired = list_expired(await read_partitions(connection), keep_since)
    else:
        expired = [
            Partition(table, *chunk)
            for table, since in keep_since.items()
            if table in TIME_COLUMNS
            for chunk in await connection.fetch(_EXPIRED_CHUNKS, table, since)
        ]
    dropped, locked = [], []
    busy_tables = set()
    for each in expired:
        if await _has_replayed(connection, each):
            continue
        # a waiting statement blocks all later ones of its table, so wait for a long reader only once
        wait_ms = 1 if each.table in busy_tables else 1000 * _LOCK_SEC
        try:
            if await _drop(connection, each, wait_ms, is_native=is_native):
                dropped.append(each.name)
        except asyncpg.LockNotAvailableError:
            busy_tables.add(each.table)
            locked.append(each.name)
    return DroppedPartitions(tuple(dropped), tuple(locked))


async def _drop(connection: Any, part: Partition, wait_ms: int, *, is_native: bool) -> bool:
    """Drop a partition, or a chunk of a hypertable; return False if it has a row marked `replay` by now.

    Raises LockNotAvailableError if it is locked for longer than `wait_ms`.
    """
    async with transaction(connection):
        await _limit_lock_wait(connection, wait_ms)
        # readers continue; a row that is being written is seen by the next statement
        await connection.execute(f"LOCK TABLE ONLY {part.table} IN SHARE ROW EXCLUSIVE MODE")
        if await _has_replayed(connection, part):
            return False
        if is_native:
            await connection.execute(f"DROP TABLE IF EXISTS {part.name}")
        else:
            await connection.execute(_DROP_CHUNKS, part.table, part.begins, part.ends)
    return True


async def _limit_lock_wait(connection: Any, wait_ms: int = 1000 * _LOCK_SEC) -> None:
    """Have the statements of this transaction wait for a lock no longer than `wait_ms`.

    A backup may read for hours, and a statement that waits for it blocks every later reader and writer.
    """
    await connection.execute(f"SET LOCAL lock_timeout = '{wait_ms}ms'")


async def _has_replayed(connection: Any, part: Partition) -> bool:
    """Return True if a row of a partition was played from a recording; an index says so."""
    column = TIME_COLUMNS[part.table]
    sql = (
        f"SELECT EXISTS (SELECT FROM {part.table} "  # noqa: S608 - our own names
        f"WHERE replay AND {column} >= $1 AND {column} < $2)"
    )
    return bool(await connection.fetchval(sql, part.begins, part.ends))


def next_month(at: datetime) -> datetime:
    return datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)


def _year(year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC)
