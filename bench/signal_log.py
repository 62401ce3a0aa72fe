"""Measure how many changed places of ticks signals makes durable, against a bare COPY of the same rows.

PostgreSQL is real, with fsync as it is by default. Each tick has PLACES places that all changed, with four
votes each. It is timed from its places to its commit, so with the tree of its places, its entry, the nodes of
the log and the checks of PostgreSQL. The limit is a bare COPY of the same rows, a tick in each transaction,
into a table of the same columns without an index. Both write in turn, a first tick each untimed; the median
of each counts.
"""

import asyncio
import statistics
import time
from typing import Any, Final

import asyncpg

from bench.archive import run_postgres
from bench.figures import Pair, Sample
from services.archive.database import SCHEMA
from services.signals.log.entries import PlaceOutcome, TickPlaces, join_places, make_place, make_tick
from services.signals.log.merkle import hash_entry
from services.signals.store.database import SignalDatabase, to_datetime
from services.signals.store.writer import SignalWriter, TickToWrite
from services.tables.signals import SignalRow

PLACES: Final = 10_000
LEAST: Final = 1000
TICKS: Final = 8
START_MS: Final = 1_793_000_040_000
VOTE: Final = {
    "direction": 1,
    "strength": "0.731000000000",
    "confidence": "0.640000000000",
    "expires": START_MS,
    "reasons": ["the last close is above the mean of 50 bars", "and that mean is rising"],
}
VOTES: Final = dict.fromkeys(("trend", "reversion", "breakout", "volume"), VOTE)
BARS: Final = {
    "timeframe": "1m",
    "source": "alpaca",
    "first": START_MS,
    "last": START_MS,
    "count": 200,
    "digest": "ab" * 32,
}


def make_places(tick: int, count: int) -> TickPlaces:
    return join_places(
        {
            symbol: make_place(
                symbol,
                PlaceOutcome.SIGNAL,
                tick=tick,
                side="long",
                before="flat",
                score="0.467840000000",
                confidence="0.467840000000",
                conflict="0.000000000000",
                participation="1.000000000000",
                price="581.25",
                replay=False,
                votes=VOTES,
                bars=BARS,
            )
            for symbol in (f"S{number:05}" for number in range(count))
        }
    )


def make_rows(tick: int, at_ms: int, places: TickPlaces) -> list[SignalRow]:
    return [
        SignalRow(
            *(tick, symbol, place, at_ms, "signal", "long", "0.467840000000", "0.467840000000"),
            *("0.000000000000", "1.000000000000"),
            replay=False,
            hash=hash_entry(text),
            content=text.decode(),
        )
        for place, (symbol, text) in enumerate(zip(places.symbols, places.texts, strict=True))
    ]


async def write_tick(writer: SignalWriter, tick: int, places: TickPlaces, rows: list[SignalRow]) -> float:
    """Write a tick; return how long it took, in seconds."""
    began, at_ms = time.monotonic(), rows[0].at
    entry = make_tick(writer.size, tick, at_ms, places, code="1", truth="1", consensus="6.0")
    await writer.write_tick(TickToWrite(tick, at_ms, entry, places.symbols, rows))
    return time.monotonic() - began


async def copy_bare(connection: Any, rows: list[SignalRow]) -> float:
    """Copy the rows of a tick into the bare table; return how long it took, in seconds."""
    began, at = time.monotonic(), to_datetime(rows[0].at)
    records = ((*row[:3], at, *row[4:]) for row in rows)
    await connection.copy_records_to_table("bare", records=records, columns=SignalRow._fields)
    return time.monotonic() - began


async def write_in_turn(url: str, count: int) -> tuple[float, float]:
    """Return the rows a second of the log, and those of the bare COPY."""
    owner, database = await asyncpg.connect(url), SignalDatabase(url)
    try:
        await SCHEMA.apply_migrations(owner)
        await owner.execute("CREATE TABLE bare AS SELECT * FROM signals WITH NO DATA")
        writer = SignalWriter(database)
        await writer.begin_epoch("bench")
        await writer.read_state()
        took: list[tuple[float, float]] = []
        for tick in range(1, TICKS + 2):
            places = make_places(tick, count)
            rows = make_rows(tick, START_MS + 5000 * tick, places)
            took.append((await write_tick(writer, tick, places, rows), await copy_bare(owner, rows)))
        stored = await owner.fetchval("SELECT count(*) FROM signals")
        assert stored == count * len(took)
        log_sec, bare_sec = (statistics.median(each) for each in zip(*took[1:], strict=True))
        return count / log_sec, count / bare_sec
    finally:
        await owner.close()
        await database.aclose()


def measure(scale: float) -> Sample:
    """Measure the log of signals and bare COPY."""
    with run_postgres() as (url, _):
        log_rate, bare_rate = asyncio.run(write_in_turn(url, max(LEAST, round(PLACES * scale))))
    return {"places": Pair(log_rate, bare_rate)}
