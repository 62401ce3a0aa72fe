"""Write a batch of rows in one transaction: copy them into staging tables, then merge them.

If PostgreSQL refuses rows by their content, the batch is halved until the entry is found that is at fault.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from marketswarm.postgres.errors import MissingPartitionError, RefusedRowsError, refused_encodings
from marketswarm.postgres.transaction import transaction
from services.archive.database import Database
from services.archive.partitions import TIME_COLUMNS, find_partition, make_partitions, read_partitions
from services.market.records import DAY_MS
from services.tables.rows import Row, SymbolRow
from services.tables.tables import (
    OBSERVATION_TABLE,
    SYMBOL_TABLE,
    VINTAGE_TABLE,
    TableSchema,
    keep_highest,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PARTITION_ATTEMPTS: Final = 5  # partitions are dropped once an hour, so the second attempt finds them all


class TypedEntry(NamedTuple):
    """Hold what an entry of a stream becomes: a row of a table, and perhaps one of its symbol.

    A tuple, because a batch has thousands, and a frozen dataclass takes twice as long to make.
    """

    stream: str
    id: bytes
    table: TableSchema
    row: Row
    symbol: SymbolRow | None = None


class Writer:
    """Write rows to a database. Each batch is committed when `write` returns."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._partitions: set[str] | None = None  # None until they were read

    async def write(self, entries: Sequence[TypedEntry]) -> list[tuple[TypedEntry, str]]:
        """Write the rows of entries; return those that were refused and why, which alone are not written.

        Raises PostgresAwayError. Some of the rows may be written then; to write all of them again does no
        harm.
        """
        if not entries:
            return []
        try:
            await self._write_all(entries)
        except RefusedRowsError as error:
            if len(entries) == 1:
                await self._database.require_schema()  # else the entry is not to blame
                return [(entries[0], str(error))]
            half = len(entries) // 2
            return [*await self.write(entries[:half]), *await self.write(entries[half:])]
        return []

    async def check(self) -> None:
        """Run a statement that reads no table; raise if the database does not answer."""
        async with self._database.connect() as connection:
            await connection.fetchval("SELECT 1")

    def forget_partitions(self) -> None:
        """Read again before the next batch which partitions exist, because some were dropped."""
        self._partitions = None

    async def _write_all(self, entries: Sequence[TypedEntry]) -> None:
        for _ in range(_PARTITION_ATTEMPTS - 1):
            try:
                return await self._write_once(entries)
            except MissingPartitionError:
                self._partitions = None
        return await self._write_once(entries)

    async def _write_once(self, entries: Sequence[TypedEntry]) -> None:
        by_table: dict[TableSchema, list[Row]] = {}
        for entry in entries:
            by_table.setdefault(entry.table, []).append(entry.row)
        batches: dict[TableSchema, Sequence[Any]] = {
            table: keep_highest(table, rows) for table, rows in by_table.items()
        }
        if OBSERVATION_TABLE in by_table:
            batches[VINTAGE_TABLE] = keep_highest(VINTAGE_TABLE, by_table[OBSERVATION_TABLE])
        symbols = merge_symbols(entry.symbol for entry in entries if entry.symbol is not None)
        if symbols:
            batches[SYMBOL_TABLE] = symbols
        async with self._database.connect() as connection:
            await self._make_partitions(connection, batches)
            async with transaction(connection):
                for table in sorted(batches, key=lambda each: each.name):
                    with refused_encodings():
                        await connection.copy_records_to_table(
                            table.stage, records=batches[table], columns=table.columns
                        )
                    await connection.execute(table.merge_sql)

    async def _make_partitions(self, connection: Any, batches: Mapping[TableSchema, Sequence[Any]]) -> None:
        known = self._partitions
        if known is None:  # another batch may forget them while this one waits for its replies
            self._partitions = known = set(await read_partitions(connection))
        needed = {}
        for table, rows in batches.items():
            column = TIME_COLUMNS.get(table.name)
            if column is not None:
                for day in {getattr(row, column) // DAY_MS for row in rows}:
                    partition = find_partition(table.name, _EPOCH + timedelta(days=day))
                    needed[partition.name] = partition
        missing = [each for name, each in needed.items() if name not in known]
        if missing:
            await make_partitions(connection, missing)
            known.update(each.name for each in missing)


def merge_symbols(rows: Iterable[SymbolRow]) -> list[SymbolRow]:
    found: dict[str, SymbolRow] = {}
    for row in rows:
        known = found.get(row.symbol)
        found[row.symbol] = row if known is None else known.merge(row)
    return [found[symbol] for symbol in sorted(found)]
