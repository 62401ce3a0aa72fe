"""Read the log of signals: its entries and nodes, and the places of ticks, also those that are not stored.

A place that is not stored follows from the last stored one of its symbol: after `closed` it is closed since
then, after anything else unchanged since then.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from services.signals.log.entries import DECIDED, TickPlaces
from services.signals.log.merkle import Node
from services.signals.log.places import make_following
from services.signals.store.database import SignalDatabase, to_datetime
from services.tables.signals import FoundTick, SignalRow

READ_SEC: Final = 60.0
"""The time limit of a read of many rows."""
ROWS_AT_ONCE: Final = 2000

_MS: Final = "(extract(epoch from {0}) * 1000)::bigint AS {0}"
_DECIMALS: Final = ("score", "confidence", "conflict", "participation")
_FORMS: Final = {"at": _MS.format("at"), **{name: f"{name}::text" for name in _DECIMALS}}
ROW_CELLS: Final = ", ".join(_FORMS.get(name, name) for name in SignalRow._fields)
"""What a SELECT lists of `signals` for a SignalRow."""
SIZE: Final = "SELECT coalesce(max(n), -1) + 1 FROM signal_log"
_FIRST: Final[Node] = (0, 0)
_NODES: Final = """
SELECT level, number, hash FROM signal_nodes
JOIN unnest($1::smallint[], $2::bigint[]) AS wanted(level, number) USING (level, number)
"""
_TICK: Final = f"SELECT tick, n, {_MS.format('at')}, entry FROM signal_log WHERE tick = $1"  # noqa: S608 - our own names
_PLACES: Final = """
SELECT wanted.symbol, found.tick, found.outcome, CASE WHEN found.tick = $2 THEN found.content END
FROM unnest($1::text[]) WITH ORDINALITY AS wanted(symbol, place) LEFT JOIN LATERAL (
    SELECT tick, outcome, content FROM signals
    WHERE symbol = wanted.symbol AND tick <= $2 ORDER BY tick DESC LIMIT 1
) AS found ON true ORDER BY wanted.place
"""
_ROWS: Final = f"""
SELECT {ROW_CELLS} FROM signals
WHERE (tick, symbol) > ($1, $2::text) AND tick < $3 ORDER BY tick, symbol LIMIT $4
"""  # noqa: S608 - our own names
_NEWEST_DECIDED: Final = """
SELECT content FROM (
    SELECT tick, symbol, outcome, content FROM signals ORDER BY tick DESC, symbol DESC LIMIT $2
) AS newest WHERE outcome = ANY($3::text[]) ORDER BY tick DESC, symbol DESC LIMIT $1
"""
_SCANNED_TIMES: Final = 20
"""How many times the places that are wanted are looked at: those between say that a market closed."""
_ENTRIES: Final = "SELECT entry FROM signal_log WHERE n >= $1 AND n < $2 ORDER BY n"
_SPAN: Final = "SELECT min(n), max(n) + 1 FROM signal_log WHERE at >= $1 AND at < $2"
_NEWEST_KEY: Final = "SELECT entry FROM signal_log WHERE kind = 'key' ORDER BY n DESC LIMIT 1"
_NEWEST_COSIGNED: Final = """
SELECT note, ARRAY(SELECT line FROM signal_cosignatures WHERE size = checkpoint.size ORDER BY witness)
FROM signal_checkpoints AS checkpoint
WHERE size = (
    SELECT size FROM signal_cosignatures WHERE $1::text IS NULL OR witness = $1 ORDER BY size DESC LIMIT 1
)
"""
_LAST_COSIGNATURE: Final = """
SELECT size, extract(epoch FROM at)::bigint, line FROM signal_cosignatures
WHERE witness = $1 ORDER BY size DESC LIMIT 1
"""


class MissingRowError(Exception):
    """The tables lack a row that the log names: they were changed, or a backup was restored in part."""


class LastCosignature(NamedTuple):
    """The newest stored cosignature of a witness: its size, its time (epoch seconds) and its line."""

    size: int
    at_sec: int
    line: str


class AuditReader:
    """Read what is committed. Each method may raise PostgresAwayError."""

    def __init__(self, database: SignalDatabase) -> None:
        self._database = database

    async def read_size(self) -> int:
        """Return how many entries are committed."""
        async with self._database.connect() as connection:
            return int(await connection.fetchval(SIZE))

    async def read_nodes(self, nodes: Sequence[Node]) -> Mapping[Node, bytes]:
        """Return the hashes of those full subtrees that there are."""
        async with self._database.connect() as connection:
            return await fetch_nodes(connection, nodes)

    async def read_first_hash(self) -> bytes:
        """Return the hash of the first entry, which no two logs share. Raises MissingRowError without one."""
        found = (await self.read_nodes([_FIRST])).get(_FIRST)
        if found is None:
            raise MissingRowError("the log has no first entry")
        return found

    async def read_entries(self, first: int, end: int) -> list[bytes]:
        """Return the entries from number `first` up to `end`. Raises MissingRowError if one is missing."""
        async with self._database.connect(READ_SEC) as connection:
            rows = await connection.fetch(_ENTRIES, first, end)
        if len(rows) != end - first:
            raise MissingRowError(f"the log has {len(rows)} entries from {first} up to {end}")
        return [row[0].encode() for row in rows]

    async def find_entries(self, from_ms: int, until_ms: int) -> range:
        """Return the numbers of the entries from the first up to the last one of a span of wall time."""
        async with self._database.connect(READ_SEC) as connection:
            row = await connection.fetchrow(_SPAN, to_datetime(from_ms), to_datetime(until_ms))
        return range(0) if row[0] is None else range(row[0], row[1])

    async def read_tick(self, tick: int) -> FoundTick | None:
        """Return the entry of a tick; None of one that was not decided."""
        async with self._database.connect() as connection:
            row = await connection.fetchrow(_TICK, tick)
        return None if row is None else FoundTick(*row)

    async def read_symbols(self, entry: bytes) -> tuple[str, ...]:
        """Return the symbols of a tick by its entry, in the order of its places. Raises MissingRowError."""
        async with self._database.connect(READ_SEC) as connection:
            return await fetch_symbols(connection, entry.decode())

    async def read_places(self, tick: int) -> TickPlaces:
        """Return the places of a tick, one for each symbol, stored or not.

        Raises MissingRowError if there is no such tick, or a symbol has no row from which its place follows.
        """
        async with self._database.read(READ_SEC) as connection:
            row = await connection.fetchrow(_TICK, tick)
            if row is None:
                raise MissingRowError(f"there is no tick {tick}")
            symbols = await fetch_symbols(connection, row["entry"])
            rows = await connection.fetch(_PLACES, symbols, tick)
        return TickPlaces(symbols, tuple(_make_place(*row) for row in rows))

    async def read_rows(self, first_tick: int, end_tick: int) -> AsyncIterator[SignalRow]:
        """Yield the stored places of ticks from `first_tick` up to `end_tick`, by tick and symbol."""
        after = first_tick, ""  # before every symbol
        while True:
            async with self._database.connect(READ_SEC) as connection:
                rows = await connection.fetch(_ROWS, *after, end_tick, ROWS_AT_ONCE)
            for row in rows:
                yield SignalRow(*row)
            if len(rows) < ROWS_AT_ONCE:
                return
            after = rows[-1]["tick"], rows[-1]["symbol"]

    async def read_decided(self, count: int) -> list[str]:
        """Return the texts of the newest places for which votes were weighed, `count` at most, newest first.

        Where most of the newest places are others, as at the close of all markets, it may be fewer.
        """
        wanted = count, _SCANNED_TIMES * count, [str(each) for each in DECIDED]
        async with self._database.connect(READ_SEC) as connection:
            return [row[0] for row in await connection.fetch(_NEWEST_DECIDED, *wanted)]

    async def read_newest_key(self) -> str | None:
        """Return the public key that the last key change names; None if the key never changed."""
        async with self._database.connect() as connection:
            entry = await connection.fetchval(_NEWEST_KEY)
        return None if entry is None else str(orjson.loads(entry)["new"])

    async def read_checkpoint(self) -> bytes | None:
        """Return the note of the largest checkpoint that is stored, with the log's signature alone."""
        sql = "SELECT note FROM signal_checkpoints ORDER BY size DESC LIMIT 1"
        async with self._database.connect() as connection:
            note = await connection.fetchval(sql)
        return None if note is None else note.encode()

    async def read_cosigned_checkpoint(self, witness: str | None = None) -> bytes | None:
        """Return the note of the largest checkpoint that a witness (None: any) cosigned, with all lines."""
        async with self._database.connect() as connection:
            return await fetch_cosigned(connection, witness)

    async def read_cosignature(self, witness: str) -> LastCosignature | None:
        """Return the cosignature of a witness over the largest checkpoint that it cosigned."""
        async with self._database.connect() as connection:
            row = await connection.fetchrow(_LAST_COSIGNATURE, witness)
        return None if row is None else LastCosignature(*row)


async def fetch_cosigned(connection: Any, witness: str | None = None) -> bytes | None:
    """Return the note of the largest checkpoint that a witness (None: any) cosigned, with all lines."""
    row = await connection.fetchrow(_NEWEST_COSIGNED, witness)
    return None if row is None else "".join([row[0], *row[1]]).encode()


async def fetch_nodes(connection: Any, nodes: Collection[Node]) -> dict[Node, bytes]:
    """Return the hashes of those full subtrees that there are."""
    levels, numbers = [each[0] for each in nodes], [each[1] for each in nodes]
    rows = await connection.fetch(_NODES, levels, numbers)
    return {(row["level"], row["number"]): row["hash"] for row in rows}


async def fetch_symbols(connection: Any, entry: str) -> tuple[str, ...]:
    """Return the symbols that the entry of a tick names by their digest. Raises MissingRowError."""
    digest = orjson.loads(entry)["symbols"]
    symbols = await connection.fetchval(
        "SELECT symbols FROM signal_symbols WHERE digest = $1", bytes.fromhex(digest)
    )
    if symbols is None:
        raise MissingRowError(f"there is no list of symbols {digest}")
    return tuple(symbols)


def _make_place(symbol: str, since: int | None, outcome: str, content: str | None) -> bytes:
    if content is not None:
        return content.encode()
    if since is None:
        raise MissingRowError(f"{symbol} has no row from which its place follows")
    return make_following(symbol, outcome, since)
