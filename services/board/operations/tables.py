"""Say how full the archive's tables are: rows, size, partitions, the newest row; and how its backups are."""

import time
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.bus import BusError
from marketswarm.web.cache import Cached
from services.board.market.archive_reader import ArchiveReader, DatabaseAwayError
from services.board.operations.overview import HealthOverview
from services.tables.row_times import ROW_TIMES, TABLE_NAMES, WINDOWS_SEC, format_newest

STATS_SEC: Final = 30.0
"""How long an answer is kept: the newest rows of long tables are searched for."""
NEWEST_SEC: Final = 6.0
"""How long the newest rows of all tables may be searched for; the answer must begin within ten seconds."""
# The children of a table of PostgreSQL, or of a hypertable of TimescaleDB. Counts are those of the last
# ANALYZE, or of the server's statistics before there was one.
_SIZES: Final = """
with recursive parts(root, part) as (
  select to_regclass(name)::oid, to_regclass(name)::oid from unnest($1::text[]) as name
  where to_regclass(name) is not null
  union all
  select parts.root, inhrelid from parts join pg_inherits on inhparent = parts.part
)
select root.relname::text,
  sum(case when leaf.relkind = 'p' then 0 when leaf.reltuples >= 0 then leaf.reltuples
      else coalesce(seen.n_live_tup, 0) end)::bigint,
  sum(pg_total_relation_size(leaf.oid))::bigint,
  count(*) filter (where leaf.oid <> root.oid and leaf.relkind <> 'p')::bigint
from parts join pg_class as root on root.oid = parts.root join pg_class as leaf on leaf.oid = parts.part
left join pg_stat_all_tables as seen on seen.relid = leaf.oid
group by root.relname order by root.relname"""
_DATABASE: Final = "select pg_database_size(current_database())::bigint"


@dataclass(frozen=True, slots=True)
class TableStats:
    """How full a table is: `rows` is an estimate, `size_bytes` is with its indexes.

    `newest_at` is the time of its newest row, in epoch seconds; None if none was found in time.
    """

    rows: int
    size_bytes: int
    partitions: int
    newest_at: float | None


@dataclass(frozen=True, slots=True)
class DatabaseStats:
    """How full the database is, by table, and how it is saved. What is not known is null.

    `connections` are in use, of `connection_limit`. `last_backup_at` and `last_verified_restore_at` are in
    epoch seconds; `away` says why archive's own reports can't be read.
    """

    tables: dict[str, TableStats]
    size_bytes: int
    connections: int | None
    connection_limit: int | None
    lag_sec: float | None
    last_backup_at: float | None
    last_verified_restore_at: float | None
    away: str | None
    read_at: float


class TableBoard:
    """Reads how full the archive is."""

    def __init__(self, archive: ArchiveReader, overview: HealthOverview) -> None:
        self._archive, self._overview = archive, overview
        self._kept = Cached[str, DatabaseStats](STATS_SEC)

    async def read(self) -> DatabaseStats:
        """Return how full the database is, at most STATS_SEC ago. Raises DatabaseAwayError."""
        return await self._kept.find("", self._read)

    async def _read(self) -> DatabaseStats:
        sizes = await self._archive.fetch(_SIZES, list(TABLE_NAMES))
        ((size_bytes,),) = await self._archive.fetch(_DATABASE)
        ends_at = time.monotonic() + NEWEST_SEC
        tables = {
            name: TableStats(rows, size, parts, await self._find_newest(name, ends_at))
            for name, rows, size, parts in sizes
        }
        backup: Any = None
        database: Any = None
        away = None
        try:
            backup, database = await self._overview.read_reports()
        except BusError as error:
            away = f"bus {error.bus} does not answer: {error.reason}"
        return DatabaseStats(
            tables=tables,
            size_bytes=size_bytes,
            connections=getattr(database, "connections", None),
            connection_limit=getattr(database, "connection_limit", None),
            lag_sec=getattr(database, "lag_sec", None),
            last_backup_at=getattr(backup, "made_at", None),
            last_verified_restore_at=getattr(backup, "verified_at", None),
            away=away,
            read_at=round(time.time(), 3),
        )

    async def _find_newest(self, table: str, ends_at: float) -> float | None:
        """Return the time of the newest row of a table, epoch seconds; None after `ends_at` (monotonic)."""
        if table not in ROW_TIMES:
            return None
        now = time.time()
        try:
            for sec in WINDOWS_SEC:
                if time.monotonic() > ends_at:
                    return None
                if rows := await self._archive.fetch(format_newest(table), now - sec):
                    return round(float(rows[0][0]), 3)
        except DatabaseAwayError:  # it takes too long, or is away since: the rest is answered all the same
            return None
        return None
