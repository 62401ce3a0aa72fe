"""Measure how long proofs of the log of signals take: to be checked offline, to be written, and to be served.

`verify` is what an auditor runs, as a program of its own: a month of trading hours (98,000 ticks) of a symbol
among 500, and a month of all hours (518,400 ticks). The limit is a bare loop over the same file, which parses
each line and hashes it once. `prove` writes proofs from a real PostgreSQL; its limit is a bare SELECT of the
same entries. `one` is the proof of one tick over an open connection; its limit is a bare SELECT of its entry.
"""

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import asyncpg

from bench.archive import run_postgres
from bench.figures import Pair, Sample
from bench.programs import ROOT, WITHIN_SEC
from services.archive.database import SCHEMA
from services.signals.log.bundle import AuditedEntry, format_audited, format_head
from services.signals.log.checkpoint import Checkpoint
from services.signals.log.entries import PlaceOutcome, encode_entry, format_time, hash_symbols, make_place
from services.signals.log.merkle import append_entry, hash_entry, hash_span
from services.signals.log.note import SignatureKind, make_key
from services.signals.log.places import PlaceTree, make_following
from services.signals.proofs.proof import write_proof
from services.signals.store.database import SignalDatabase

MONTH: Final = 98_000
"""The ticks of a month of trading hours, one each five seconds."""
LOG_MONTH: Final = 518_400
"""Those of thirty days."""
STORED: Final = 20_000
"""The ticks that are put into PostgreSQL."""
SYMBOLS: Final = tuple(f"S{number:03}" for number in range(500))
CHANGED: Final = 10
"""How many symbols have a new signal at each tick."""
ORIGIN: Final = "log.example/signals"
BEGIN_MS: Final = 1_790_000_000_000
CYCLE_MS: Final = 5000
ASKED: Final = 100
_TABLES: Final = ("signal_log", "signal_symbols", "signals", "signal_nodes", "signal_checkpoints")


class MadeLog:
    """Make ticks one after the other: of each its entry, and the places that changed."""

    def __init__(self) -> None:
        self.key = make_key(ORIGIN, SignatureKind.ED25519)
        self.witness = make_key("witness.example/one", SignatureKind.COSIGNATURE)
        self.size, self.nodes = 0, dict[tuple[int, int], bytes]()
        self.texts = [b""] * len(SYMBOLS)
        self.tree = PlaceTree([b""] * len(SYMBOLS))
        self.fresh: list[int] = []

    def add_tick(self) -> tuple[bytes, list[int], dict[tuple[int, int], bytes]]:
        """Return the entry of the next tick, the indexes of the places that changed, and the new nodes."""
        tick = self.size + 1
        every = range(len(SYMBOLS))
        changed = [*every] if tick == 1 else [(tick * CHANGED + at) % len(SYMBOLS) for at in range(CHANGED)]
        for at in self.fresh:
            self.texts[at] = make_following(SYMBOLS[at], "signal", tick - 1)
        for at in changed:
            content = {"tick": tick, "side": "long", "score": "0.450000000000", "bars": {"digest": "ab" * 32}}
            self.texts[at] = make_place(SYMBOLS[at], PlaceOutcome.SIGNAL, **content)
        self.tree.replace({at: hash_entry(self.texts[at]) for at in {*self.fresh, *changed}})
        self.fresh = changed
        entry = encode_entry(
            {
                "v": 1,
                "kind": "tick",
                "n": self.size,
                "tick": tick,
                "code": "0.1.0",
                "truth": "7",
                "at": format_time(BEGIN_MS + CYCLE_MS * tick),
                "places": len(SYMBOLS),
                "consensus": "6.0",
                "root": self.tree.root.hex(),
                "symbols": hash_symbols(SYMBOLS).hex(),
            }
        )
        nodes = dict(append_entry(self.size, self.nodes, hash_entry(entry)))
        self.nodes |= nodes
        self.size += 1
        return entry, changed, nodes

    def sign(self) -> tuple[bytes, str]:
        """Return the note over all entries, and the line of the witness."""
        text = Checkpoint(ORIGIN, self.size, hash_span((0, self.size), self.nodes)).format()
        at_sec = (BEGIN_MS + CYCLE_MS * self.size) // 1000 + 1
        return text + b"\n" + self.key.sign(text).encode(), self.witness.sign(text, at_sec)


def write_file(path: Path, ticks: int) -> list[str]:
    """Write the proof of a symbol over `ticks` ticks; return the words that verify it."""
    log, body = MadeLog(), path.with_suffix(".body")
    with body.open("w") as file:
        for number in range(ticks):
            entry, _, _ = log.add_tick()
            proof = log.tree.prove(0, log.texts[0])
            file.write(format_audited(AuditedEntry(entry, proof, None if number else SYMBOLS)))
    note, line = log.sign()
    with path.open("w") as file, body.open() as lines:
        file.write(format_head(SYMBOLS[0], note + line.encode(), 0, ticks, {}))
        file.writelines(lines)
    body.unlink()
    return [str(path), "--log", str(log.key.public), "--witness", str(log.witness.public)]


def time_verify(folder: Path, ticks: int) -> Pair:
    """Return the seconds of verify.py over a file, and those of a bare loop over the same lines."""
    words = write_file(folder / "symbol.audit", ticks)
    begun = time.perf_counter()
    line = [sys.executable, "-I", str(ROOT / "services/signals/verify.py"), *words]
    ended = subprocess.run(line, check=False, capture_output=True, text=True, timeout=WITHIN_SEC)
    took_sec = time.perf_counter() - begun
    if not ended.stdout.startswith(f"proven: {ticks} entries"):
        raise RuntimeError(ended.stdout + ended.stderr)
    begun = time.perf_counter()
    with (folder / "symbol.audit").open() as file:
        for each in file:
            json.loads(each)
            sha256(each.encode()).digest()
    return Pair(took_sec, time.perf_counter() - begun)


async def fill(url: str, ticks: int) -> MadeLog:
    """Put a log of `ticks` ticks into PostgreSQL; triggers don't check rows that are not of a leader."""
    log, rows = MadeLog(), {table: list[tuple[Any, ...]]() for table in _TABLES}
    rows["signal_symbols"].append((hash_symbols(SYMBOLS), list(SYMBOLS)))
    for tick in range(1, ticks + 1):
        entry, changed, nodes = log.add_tick()
        at = find_time(tick)
        rows["signal_log"].append((tick - 1, "tick", tick, 1, at, entry.decode()))
        rows["signal_nodes"] += [(*node, each) for node, each in nodes.items()]
        for place in changed:
            text = log.texts[place]
            cells = ("signal", "long", "0.45", "0.45", "0", "1", True, hash_entry(text), text.decode())
            rows["signals"].append((tick, SYMBOLS[place], place, at, *cells))
    note, line = log.sign()
    rows["signal_checkpoints"].append((log.size, find_time(ticks), note.decode()))
    connection = await asyncpg.connect(url)
    try:
        await SCHEMA.apply_migrations(connection)
        for table in ("signal_log", "signals"):
            await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for table, each in rows.items():
            await connection.copy_records_to_table(table, records=each)
        row = (log.size, log.witness.public.name, find_time(ticks), line)
        await connection.copy_records_to_table("signal_cosignatures", records=[row])
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    return log


def find_time(tick: int) -> datetime:
    return datetime.fromtimestamp((BEGIN_MS + CYCLE_MS * tick) / 1000, UTC)


async def time_proofs(url: str, ticks: int) -> dict[str, Pair]:
    """Return the seconds to prove all ticks, and the milliseconds to prove one, each beside a bare SELECT."""
    await fill(url, ticks)
    async with contextlib.aclosing(SignalDatabase(url)) as database:
        begun = time.perf_counter()
        proof = await write_proof(database, "S007", find_time(0), find_time(ticks), len)
        took_sec = time.perf_counter() - begun
        if proof.count != ticks:
            raise RuntimeError(f"{proof.count} entries of {ticks} were proven")
        async with database.connect() as connection:
            begun = time.perf_counter()
            await connection.fetch("SELECT n, entry FROM signal_log ORDER BY n")
            bare_sec = time.perf_counter() - begun
        served, selected = [], []
        for number in range(ASKED):
            tick = 1 + number * (ticks - 1) // ASKED
            begun = time.perf_counter()
            await write_proof(database, "S007", find_time(tick), find_time(tick), len)
            served.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            async with database.connect() as connection:
                await connection.fetchval("SELECT entry FROM signal_log WHERE tick = $1", tick)
            selected.append(time.perf_counter() - begun)
    one = Pair(1000 * statistics.median(served), 1000 * statistics.median(selected))
    return {"prove": Pair(took_sec, bare_sec), "one": one}


def measure(scale: float) -> Sample:
    """Return seconds, and of one proof milliseconds."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        month = time_verify(folder, max(1000, round(MONTH * scale)))
        log = time_verify(folder, max(1000, round(LOG_MONTH * scale)))
    with run_postgres() as (url, _):
        proofs = asyncio.run(time_proofs(url, max(1000, round(STORED * scale))))
    return {"month": month, "log": log, **proofs}
