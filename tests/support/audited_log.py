"""A log of signals for tests: ticks as the service makes them, and the rows of its tables."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from services.signals.log.checkpoint import Checkpoint
from services.signals.log.entries import (
    PlaceOutcome,
    TickPlaces,
    encode_entry,
    join_places,
    make_gap,
    make_place,
    make_tick,
)
from services.signals.log.merkle import append_entry, hash_entry, hash_span
from services.signals.log.note import PrivateKey, SignatureKind, make_key
from services.signals.log.places import make_following

ORIGIN = "log.example/signals"
BEGIN_MS = 1_790_000_000_000
CYCLE_MS = 5000
AS_MADE = {"code": "0.1.0", "truth": "7", "consensus": "6.0"}


@dataclass
class AuditedLog:
    """A log that grows by ticks; `rows` has the tables as the migration names them."""

    symbols: tuple[str, ...]
    key: PrivateKey = field(default_factory=lambda: make_key(ORIGIN, SignatureKind.ED25519))
    witness: PrivateKey = field(
        default_factory=lambda: make_key("witness.example/one", SignatureKind.COSIGNATURE)
    )
    size: int = 0
    tick: int = 0
    nodes: dict[tuple[int, int], bytes] = field(default_factory=dict)
    last: dict[str, tuple[int, str]] = field(default_factory=dict)
    following: dict[str, bytes] = field(default_factory=dict)
    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    lists: set[bytes] = field(default_factory=set)

    def add_row(self, table: str, *cells: Any) -> None:
        self.rows.setdefault(table, []).append(cells)

    def find_time(self) -> datetime:
        return datetime.fromtimestamp((BEGIN_MS + CYCLE_MS * self.tick) / 1000, UTC)

    def add_tick(
        self,
        changed: Iterable[str] = (),
        closing: Iterable[str] = (),
        side: str = "long",
        rules: bytes | None = None,
    ) -> None:
        """Add a tick at which some symbols have a new signal, and the market of others closes."""
        self.tick += 1
        new = {each: self._signal(each, side) for each in changed}
        new |= {each: make_place(each, PlaceOutcome.CLOSED, since=self.tick) for each in closing}
        new |= {each: self._signal(each, side) for each in self.symbols if each not in {*new, *self.last}}
        at = self.find_time()
        texts = {each: new.get(each) or self.following[each] for each in self.symbols}
        places = join_places(texts)
        self._add_symbols(places)
        if rules is not None:
            self.add_row("signal_rules", hash_entry(rules), rules.decode())
        for symbol, text in new.items():
            outcome = "closed" if b'"closed"' in text else "signal"
            cells = (side, "0.5", "0.5", "0", "1") if outcome == "signal" else (None,) * 5
            place = places.symbols.index(symbol)
            row = (self.tick, symbol, place, at, outcome, *cells, True, hash_entry(text), text.decode())
            self.add_row("signals", *row)
            self.last[symbol] = self.tick, outcome
            self.following[symbol] = make_following(symbol, outcome, self.tick)
        at_ms = BEGIN_MS + CYCLE_MS * self.tick
        entry = make_tick(self.size, self.tick, at_ms, places, **AS_MADE, rules=rules)
        self.add_entry("tick", entry, self.tick)

    def add_gap(self, count: int) -> None:
        first, self.tick = self.tick + 1, self.tick + count
        at_ms = BEGIN_MS + CYCLE_MS * self.tick
        self.add_entry("gap", make_gap(self.size, first, self.tick, at_ms, "database away"))

    def add_entry(self, kind: str, text: bytes, tick: int | None = None) -> None:
        for (level, number), digest in append_entry(self.size, self.nodes, hash_entry(text)):
            self.nodes[level, number] = digest
            self.add_row("signal_nodes", level, number, digest)
        self.add_row("signal_log", self.size, kind, tick, 1, self.find_time(), text.decode())
        self.size += 1

    def cosign(self) -> bytes:
        """Add a checkpoint over all that is there, cosigned a second after its last tick."""
        text = Checkpoint(ORIGIN, self.size, hash_span((0, self.size), self.nodes)).format()
        note = text + b"\n" + self.key.sign(text).encode()
        line = self.witness.sign(text, (BEGIN_MS + CYCLE_MS * self.tick) // 1000 + 1)
        self.add_row("signal_checkpoints", self.size, self.find_time(), note.decode())
        self.add_row("signal_cosignatures", self.size, self.witness.public.name, self.find_time(), line)
        return note + line.encode()

    def _signal(self, symbol: str, side: str) -> bytes:
        return make_place(symbol, PlaceOutcome.SIGNAL, tick=self.tick, side=side, score="0.5")

    def _add_symbols(self, places: TickPlaces) -> None:
        digest = hash_entry(encode_entry({"symbols": list(places.symbols)}))
        if digest not in self.lists:
            self.lists.add(digest)
            self.add_row("signal_symbols", digest, list(places.symbols))


def play_ticks(log: AuditedLog, count: int, chance: random.Random, share: float = 0.1) -> None:
    """Add ticks at which a share of the symbols changes and markets close; some ticks are missing."""
    for _ in range(count):
        changed = [each for each in log.symbols if chance.random() < share]
        closing = [each for each in log.symbols if each not in changed and chance.random() < share / 4]
        log.add_tick(changed, closing, chance.choice(["long", "short", "flat"]))
        if chance.random() < share / 10:
            log.add_gap(chance.randint(1, 5))


async def store_log(connection: Any, log: AuditedLog) -> None:
    """Write the rows that a log has collected, without the triggers of their tables, and forget them."""
    async with connection.transaction():
        if not await connection.fetchval("SELECT max(epoch) FROM signal_epochs"):
            await connection.execute("INSERT INTO signal_epochs VALUES (1, now(), 'test')")
        for table in ("signal_log", "signals"):
            await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for table in _ORDER:
            if rows := log.rows.pop(table, None):
                await connection.copy_records_to_table(table, records=rows)
        for table in ("signal_log", "signals"):
            await connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


_ORDER = (
    *("signal_log", "signal_symbols", "signals", "signal_nodes"),
    *("signal_checkpoints", "signal_cosignatures", "signal_rules"),
)
