"""Add to the log of signals: ticks with their places, gaps, and changes of the log's key.

Each entry is one transaction: the entry first, by which PostgreSQL checks that its writer is the newest
leader and that it follows the last entry, then the nodes of the tree that it completes, then the places.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from marketswarm.postgres.errors import RefusedRowsError, refused_encodings
from marketswarm.postgres.transaction import transaction
from services.signals.log.entries import LogEntryKind, make_gap, make_key_change
from services.signals.log.merkle import Node, append_entry, hash_entry, split_span
from services.signals.store.database import LogMovedError, SignalDatabase, StaleEpochError, to_datetime
from services.signals.store.reader import (
    READ_SEC,
    ROW_CELLS,
    SIZE,
    MissingRowError,
    fetch_nodes,
    fetch_symbols,
)
from services.tables.signals import SignalRow

_ATTEMPTS: Final = 5
"""How often to begin an epoch when others begin theirs at the same time."""
_AT: Final = SignalRow._fields.index("at")
_BEGIN: Final = """
INSERT INTO signal_epochs (epoch, began, instance)
SELECT coalesce(max(epoch), 0) + 1, $1, $2 FROM signal_epochs RETURNING epoch
"""
_NEWEST_EPOCH: Final = "SELECT max(epoch) FROM signal_epochs"
_LAST_ACCOUNTED: Final = """
SELECT kind, entry, (extract(epoch FROM at) * 1000)::bigint FROM signal_log
WHERE kind <> 'key' ORDER BY n DESC LIMIT 1
"""
_NEWEST_AT: Final = "SELECT (extract(epoch FROM at) * 1000)::bigint FROM signal_log ORDER BY n DESC LIMIT 1"
_LAST_TICK: Final = "SELECT entry FROM signal_log WHERE tick IS NOT NULL ORDER BY tick DESC LIMIT 1"
_LAST_ROWS: Final = f"""
SELECT {ROW_CELLS} FROM unnest($1::text[]) AS wanted(name) CROSS JOIN LATERAL (
    SELECT * FROM signals WHERE symbol = wanted.name {{}} ORDER BY tick DESC LIMIT 1
) AS found
"""  # noqa: S608 - our own names
_DECIDED: Final = "AND outcome NOT IN ('unchanged', 'closed')"
_ADD_ENTRY: Final = """
INSERT INTO signal_log (n, kind, tick, epoch, at, entry) VALUES ($1, $2, $3, $4, $5, $6)
"""
_ADD_RULES: Final = "INSERT INTO signal_rules (digest, rules) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_ADD_SYMBOLS: Final = "INSERT INTO signal_symbols (digest, symbols) VALUES ($1, $2) ON CONFLICT DO NOTHING"


@dataclass(frozen=True, slots=True)
class TickToWrite:
    """Hold a decided tick.

    Attributes:
        entry: its entry of the log, whose number is the writer's `size`.
        symbols: those of its places, in their order.
        rows: the places that are stored, because they do not follow from the tick before.
        rules: the text by whose digest the entry says how it was decided; None if it names none.
    """

    tick: int
    at_ms: int
    entry: bytes
    symbols: tuple[str, ...]
    rows: Sequence[SignalRow]
    rules: bytes | None = None


@dataclass(frozen=True, slots=True)
class StoredState:
    """Hold what is committed.

    Attributes:
        size: how many entries the log has: the number of the next one.
        last_tick: the last tick that is accounted for, as decided or in a gap; 0 if there is none.
        last_at_ms: the wall time of that entry.
        newest_at_ms: the wall time of the last entry of any kind: none after it may say an earlier one.
        last: the last stored place of each symbol of the last decided tick.
        decided: the last one of each that was decided: neither unchanged nor closed.
    """

    size: int = 0
    last_tick: int = 0
    last_at_ms: int = 0
    newest_at_ms: int = 0
    last: Mapping[str, SignalRow] = field(default_factory=dict)
    decided: Mapping[str, SignalRow] = field(default_factory=dict)


class SignalWriter:
    """Add entries as the leader of an epoch.

    First call `begin_epoch`, then `read_state`, and `read_state` again after a LogMovedError. An entry that
    is written again, because PostgreSQL went away before it said whether it had committed it, is there once.
    Each method may raise PostgresAwayError, StaleEpochError, or RefusedRowsError.
    """

    def __init__(self, database: SignalDatabase) -> None:
        self._database = database
        self.epoch = 0
        """The epoch of this leader; 0 before it began."""
        self.size = 0
        """How many entries the log has, as far as this writer knows: the number of the next one."""
        self._edge: dict[Node, bytes] = {}
        self._known_symbols: tuple[str, ...] = ()
        self._known_rules: bytes | None = None

    async def begin_epoch(self, instance: str) -> int:
        """Begin an epoch, which ends those of all other leaders; return its number.

        Waits for the transaction of another leader. Raises StaleEpochError if others begin again and again.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self._database.connect() as connection:
                    self.epoch = await connection.fetchval(_BEGIN, datetime.now(UTC), instance)
                break
            except (StaleEpochError, RefusedRowsError):  # another one began at the same time
                if attempt == _ATTEMPTS:
                    raise
        return self.epoch

    async def join_epoch(self) -> int:
        """Add as the leader that there is, for a command that adds one entry beside it; return its epoch.

        The leader notices that the log has moved, and reads it again.
        """
        async with self._database.connect() as connection:
            self.epoch = await connection.fetchval(_NEWEST_EPOCH) or 0
        return self.epoch or await self.begin_epoch("command")

    async def read_state(self) -> StoredState:
        """Read where the log ends, and the last places. Raises MissingRowError if nodes or lists lack."""
        async with self._database.read(READ_SEC) as connection:
            size = await connection.fetchval(SIZE)
            wanted = split_span((0, size))
            edge = await fetch_nodes(connection, wanted)
            if len(edge) != len(wanted):
                raise MissingRowError("the log lacks nodes of its tree")
            accounted = await connection.fetchrow(_LAST_ACCOUNTED)
            newest_at_ms = await connection.fetchval(_NEWEST_AT) or 0
            last_entry = await connection.fetchval(_LAST_TICK)
            symbols = () if last_entry is None else await fetch_symbols(connection, last_entry)
            last = [SignalRow(*row) for row in await connection.fetch(_LAST_ROWS.format(""), symbols)]
            decided = [
                SignalRow(*row) for row in await connection.fetch(_LAST_ROWS.format(_DECIDED), symbols)
            ]
        self.size, self._edge, self._known_symbols, self._known_rules = size, edge, symbols, None
        last_tick, last_at_ms = (0, 0) if accounted is None else (_find_last(*accounted[:2]), accounted[2])
        return StoredState(
            size,
            last_tick,
            last_at_ms,
            newest_at_ms,
            {row.symbol: row for row in last},
            {row.symbol: row for row in decided},
        )

    async def write_tick(self, tick: TickToWrite) -> None:
        """Add a tick, and commit it. Raises LogMovedError if another entry has its number."""
        content = orjson.loads(tick.entry)
        if (content["n"], content["tick"], content["places"]) != (self.size, tick.tick, len(tick.symbols)):
            raise ValueError(f"tick {tick.tick}: its entry is not entry {self.size}, or of another tick")
        await self._add(LogEntryKind.TICK, tick.at_ms, tick.entry, tick)
        self._known_symbols, self._known_rules = tick.symbols, tick.rules

    async def write_gap(self, first: int, last: int, at_ms: int, reason: str) -> None:
        """Add that the ticks from `first` to `last`, both among them, were not decided, and why.

        Raises LogMovedError if another entry has its number.
        """
        await self._add(LogEntryKind.GAP, at_ms, make_gap(self.size, first, last, at_ms, reason))

    async def write_key_change(self, at_ms: int, old: str, new: str, signatures: Sequence[str]) -> None:
        """Add that another key signs from here on; both have signed the statement about entry `size`.

        Raises LogMovedError if another entry has that number.
        """
        await self._add(LogEntryKind.KEY, at_ms, make_key_change(self.size, at_ms, old, new, signatures))

    async def _add(
        self, kind: LogEntryKind, at_ms: int, entry: bytes, tick: TickToWrite | None = None
    ) -> None:
        nodes = dict(append_entry(self.size, self._edge, hash_entry(entry)))
        number = None if tick is None else tick.tick
        values = (self.size, str(kind), number, self.epoch, to_datetime(at_ms), entry.decode())
        try:
            async with self._database.connect() as connection, transaction(connection):
                await connection.execute(_ADD_ENTRY, *values)
                await connection.copy_records_to_table(
                    "signal_nodes",
                    records=[(*node, each) for node, each in nodes.items()],
                    columns=("level", "number", "hash"),
                )
                if tick is not None:
                    await self._add_places(connection, tick)
        except LogMovedError:
            if not await self._is_committed(entry):
                raise
        self.size += 1
        nodes |= self._edge
        self._edge = {node: nodes[node] for node in split_span((0, self.size))}

    async def _add_places(self, connection: Any, tick: TickToWrite) -> None:
        if tick.symbols != self._known_symbols:
            digest = bytes.fromhex(orjson.loads(tick.entry)["symbols"])
            await connection.execute(_ADD_SYMBOLS, digest, tick.symbols)
        if tick.rules is not None and tick.rules != self._known_rules:
            await connection.execute(_ADD_RULES, hash_entry(tick.rules), tick.rules.decode())
        at = to_datetime(tick.at_ms)
        with refused_encodings():
            await connection.copy_records_to_table(
                "signals",
                records=((*row[:_AT], at, *row[_AT + 1 :]) for row in tick.rows),
                columns=SignalRow._fields,
            )

    async def _is_committed(self, entry: bytes) -> bool:
        """Return whether this very entry is there, because an attempt before this one was committed."""
        async with self._database.connect() as connection:
            stored = await connection.fetchval("SELECT entry FROM signal_log WHERE n = $1", self.size)
        return bool(stored == entry.decode())


def _find_last(kind: str, entry: str) -> int:
    """Return the last tick that an entry accounts for."""
    return int(orjson.loads(entry)["tick" if kind == LogEntryKind.TICK else "last"])
