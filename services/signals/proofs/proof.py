"""Read from PostgreSQL what proves a symbol's past, and write it line by line, in memory that is bounded."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from services.signals.log.bundle import (
    MAX_ENTRIES,
    AuditedEntry,
    format_audited,
    format_head,
    list_nodes_beside,
)
from services.signals.log.checkpoint import parse_checkpoint
from services.signals.log.note import NoteError, parse_note
from services.signals.proofs.followed_places import PlaceFollower, PlacesChangedError, StoredPlace
from services.signals.store.database import SignalDatabase
from services.signals.store.reader import MissingRowError, fetch_cosigned, fetch_nodes, fetch_symbols

READ_SEC: Final = 3600.0
"""How long reading a proof may take."""
ROWS_AT_ONCE: Final = 2000
_SPAN: Final = """
SELECT first.n, last.n,
    (SELECT tick FROM signal_log WHERE n BETWEEN first.n AND last.n AND kind = 'tick' ORDER BY n LIMIT 1),
    (SELECT tick FROM signal_log WHERE n BETWEEN first.n AND last.n AND kind = 'tick' ORDER BY n DESC LIMIT 1)
FROM (SELECT n FROM signal_log WHERE at >= $1 AND n < $3 ORDER BY at, n LIMIT 1) AS first,
    (SELECT n FROM signal_log WHERE at <= $2 AND n < $3 ORDER BY at DESC, n DESC LIMIT 1) AS last
WHERE first.n <= last.n
"""
_ENTRIES: Final = "SELECT n, entry FROM signal_log WHERE n >= $1 AND n < $2 ORDER BY n"
_CELLS: Final = "tick, symbol::text, outcome, hash, CASE WHEN symbol = $3 THEN content END"
_ROWS: Final = f"""
SELECT {_CELLS} FROM signals WHERE tick >= $1 AND tick <= $2 ORDER BY tick
"""  # noqa: S608 - our own names
_BEFORE: Final = f"""
SELECT found.* FROM unnest($1::text[]) AS wanted (name) CROSS JOIN LATERAL (
    SELECT {_CELLS} FROM signals WHERE symbol = wanted.name AND tick < $2 ORDER BY tick DESC LIMIT 1
) AS found
"""  # noqa: S608 - our own names


class ProofUnavailableError(Exception):
    """There is nothing that can be proven; the text says why."""


@dataclass(frozen=True, slots=True)
class WrittenProof:
    """Hold what a file of proofs covers: entries from `first` on, under a checkpoint over `size` of them."""

    symbol: str
    first: int
    count: int
    size: int


async def write_proof(
    database: SignalDatabase, symbol: str, since: datetime, until: datetime, write: Callable[[str], Any]
) -> WrittenProof:
    """Write the proof of a symbol's places from `since` to `until` (with time zones), a line at a time.

    Only entries that a witness cosigned are in it.

    Raises:
        ProofUnavailableError: nothing of that time is cosigned.
        PlacesChangedError: the stored rows contradict the log.
    """
    async with database.read(READ_SEC) as connection:
        checkpoint = await fetch_cosigned(connection)
        if checkpoint is None:
            raise ProofUnavailableError("no checkpoint is cosigned yet")
        try:
            size = parse_checkpoint(parse_note(checkpoint).text).size
        except NoteError as error:
            raise PlacesChangedError(f"the newest checkpoint {error}") from None
        span = _Span(*(await connection.fetchrow(_SPAN, since, until, size) or (0, -1, None, None)))
        if not span.length:
            raise ProofUnavailableError("the log has no cosigned entry of that time")
        if span.length > MAX_ENTRIES:
            raise ProofUnavailableError(
                f"these are more than {MAX_ENTRIES:,} entries: ask for a shorter time"
            )
        nodes = await fetch_nodes(connection, list_nodes_beside(span.first, span.last + 1, size))
        try:
            write(format_head(symbol, checkpoint, span.first, span.length, nodes))
        except KeyError as error:
            raise PlacesChangedError(f"the node {error.args[0]} of the log's tree is missing") from None
        async for line in _list_lines(connection, symbol, span):
            write(line)
    return WrittenProof(symbol, span.first, span.length, size)


class _Span(NamedTuple):
    """The first and the last entry, and the first and the last tick among them."""

    first: int
    last: int
    first_tick: int | None
    last_tick: int | None

    @property
    def length(self) -> int:
        return self.last + 1 - self.first


async def _list_lines(connection: Any, symbol: str, span: _Span) -> AsyncIterator[str]:
    """Yield the line of each entry. Raises PlacesChangedError."""
    reader = _TickReader(connection, symbol)
    if span.first_tick is not None:
        await reader.begin(span.first_tick, span.last_tick)
    entries = await connection.cursor(_ENTRIES, span.first, span.last + 1)
    expected = span.first
    while rows := await entries.fetch(ROWS_AT_ONCE):
        for row in rows:
            if row["n"] != expected:
                raise PlacesChangedError(f"entry {expected} is missing")
            expected += 1
            yield format_audited(await reader.audit(row["n"], row["entry"]))
        if expected > span.last:
            return
    raise PlacesChangedError(f"entry {expected} is missing")


class _Tick(NamedTuple):
    tick: int
    root: bytes
    symbols: bytes


class _TickReader:
    """Reads the stored places of ticks in their order, and proves that of one symbol."""

    def __init__(self, connection: Any, symbol: str) -> None:
        self._connection, self._symbol = connection, symbol
        self._follower: PlaceFollower | None = None
        self._digest, self._symbols = b"", tuple[str, ...]()
        self._cursor: Any = None
        self._rows: list[StoredPlace] = []

    async def begin(self, first_tick: int, last_tick: int | None) -> None:
        self._cursor = await self._connection.cursor(_ROWS, first_tick, last_tick, self._symbol)

    async def audit(self, number: int, text: str) -> AuditedEntry:
        found = _parse_tick(number, text)
        if found is None:
            return AuditedEntry(text.encode(), None)
        tick, is_changed = found.tick, found.symbols != self._digest
        if is_changed:
            await self._read_symbols(tick, found.symbols, text)
        follower = self._follower
        if follower is None:
            values = list(self._symbols), tick, self._symbol
            follower = self._follower = PlaceFollower(
                self._symbol, [StoredPlace(*row) for row in await self._connection.fetch(_BEFORE, *values)]
            )
        rows = await self._take_rows(tick)
        proof = follower.prove_tick(tick, self._symbols, rows, found.root)
        return AuditedEntry(text.encode(), proof, self._symbols if is_changed else None)

    async def _read_symbols(self, tick: int, digest: bytes, entry: str) -> None:
        """Keep the list of symbols that a tick names by its digest, for it and for the ticks after it.

        Raises PlacesChangedError if the list is missing, ProofUnavailableError if the symbol is not in it.
        """
        try:
            found = await fetch_symbols(self._connection, entry)
        except MissingRowError:
            raise PlacesChangedError(f"tick {tick}: the list of its symbols is missing") from None
        if self._symbol not in found:
            raise ProofUnavailableError(f"tick {tick} has no {self._symbol}; it has {len(found):,} symbols")
        self._digest, self._symbols = digest, found

    async def _take_rows(self, tick: int) -> list[StoredPlace]:
        """Return the rows of a tick, which come in the order of ticks."""
        while not self._rows or self._rows[-1].tick == tick:
            more = await self._cursor.fetch(ROWS_AT_ONCE)
            if not more:
                break
            self._rows += [StoredPlace(*row) for row in more]
        end = next((at for at, row in enumerate(self._rows) if row.tick != tick), len(self._rows))
        found, self._rows = self._rows[:end], self._rows[end:]
        if self._rows and self._rows[0].tick < tick:
            raise PlacesChangedError(f"tick {self._rows[0].tick}: has places, and no entry of the log")
        return found


def _parse_tick(number: int, text: str) -> _Tick | None:
    """Return what an entry says of a tick; None if it is another one. Raises PlacesChangedError."""
    try:
        entry = json.loads(text)
        if entry["kind"] != "tick":
            return None
        return _Tick(int(entry["tick"]), bytes.fromhex(entry["root"]), bytes.fromhex(entry["symbols"]))
    except (ValueError, LookupError, TypeError):
        raise PlacesChangedError(f"entry {number}: not of its form") from None
