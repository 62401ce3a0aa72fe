"""Measure how many bars and indicators a second archive brings from the streams into committed rows.

The servers, the service and PostgreSQL are real, with fsync as PostgreSQL has it by default. The bench
compares the service with a bare COPY of the same bars into a table of the same columns without any index: the
difference is the cost of reading and checking entries, of the primary key, and of deciding which revision
stays. Linux only: reads /proc.
"""

import asyncio
import contextlib
import functools
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson
import redis

from bench.fleet import run_program, write_truth
from bench.footprint import cpu_sec, rss_mb
from bench.server import Server, print_table, wait_until
from marketswarm.fleet.postgres import PostgresServer
from marketswarm.keys import CHECKED_BARS, INDICATORS
from marketswarm.market.entries import encode_entry
from marketswarm.market.records import AssetClass, Bar, Provenance
from services.archive.rows import BarRow, make_bar_row
from services.archive.tables import BARS
from services.bars import indicator_catalog

COUNT: Final = 100_000
SYMBOLS: Final = 500
LIVE_RATE: Final = SYMBOLS * 7.3 / 60
"""Bars a second of SYMBOLS symbols, and as many entries of indicators: each open bar of the six timeframes
comes again with each minute (docs/services/archive.md)."""
BEGIN_MS: Final = 1_793_000_040_000
WITHIN_SEC: Final = 300.0
POLL_SEC: Final = 0.01  # seldom enough to leave the processors to those who are measured


def make_entries(count: int) -> list[dict[str, str]]:
    """Return `count` bars, minute by minute of all symbols."""
    provenance = Provenance("yahoo", BEGIN_MS / 1000, "ab" * 32)
    found = []
    for n in range(count):
        price = 100 + n % 97 / 10
        bar = Bar(
            *(f"S{n % SYMBOLS:03}", "1m", BEGIN_MS + 60_000 * (n // SYMBOLS)),
            *(price, price + 1.25, price - 1.5, price + 0.75),
            volume=1000.0 + n,
            vwap=price + 0.125,
            trades=n,
        )
        found.append(encode_entry(bar, AssetClass.STOCKS, provenance) | {"final": "1", "rev": "0"})
    return found


def make_indicators(bars: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return as many values as the service writes."""
    names = [name for each in indicator_catalog.INDICATORS.values() for name in each.outputs]
    return [
        {
            **{
                name: fields[name]
                for name in ("sym", "start", "final", "rev", "source", "asked_at", "digest")
            },
            "timeframe": "1m",
            "values": orjson.dumps({name: n / 7 + at for at, name in enumerate(names)}).decode(),
        }
        for n, fields in enumerate(bars)
    ]


def add_entries(client: "redis.Redis", stream: str, entries: list[dict[str, str]]) -> None:
    pipe = client.pipeline(transaction=False)
    for n, fields in enumerate(entries, 1):
        pipe.xadd(stream, fields)  # type: ignore[arg-type]  # its types know no dict of text
        if n % 5000 == 0:
            pipe.execute()
    pipe.execute()


async def measure_copy(url: str, entries: list[dict[str, str]]) -> float:
    """Return how many rows a second a bare COPY commits, with the batches of the service."""
    rows: list[Any] = []
    for fields in entries:
        raw = {name.encode(): value.encode() for name, value in fields.items()}
        rows.append(make_bar_row(b"1-0", raw)[0])
    connection = await asyncpg.connect(url)
    stage = BARS.stage_sql.replace("TEMPORARY ", "").replace("ON COMMIT DELETE ROWS", "")
    await connection.execute(stage)
    began = time.monotonic()
    for at in range(0, len(rows), 5000):
        await connection.copy_records_to_table(
            BARS.stage, records=rows[at : at + 5000], columns=BarRow._fields
        )
    took = time.monotonic() - began
    await connection.execute(f"DROP TABLE {BARS.stage}")
    await connection.close()
    return len(rows) / took


def count_waiting(client: "redis.Redis", stream: str) -> int:
    """Return how many entries of a stream the service has not committed yet."""
    for group in client.xinfo_groups(stream):
        if group["name"] == b"archive":
            return int(group["pending"]) + int(group["lag"] or 0)
    return int(client.xlen(stream))


@dataclass(frozen=True, slots=True)
class Measured:
    """Entries a second, processor seconds of the service for each, and its MB of memory."""

    rate: float
    cost: float
    memory: float


def measure_service(
    system: Server, market: Server, url: str, stream: str, entries: list[dict[str, str]]
) -> Measured:
    """Start the service with entries on a stream, and measure it after the first tenth."""
    count = len(entries)
    with redis.Redis(port=market.port) as client, contextlib.ExitStack() as stack:
        add_entries(client, stream, entries)
        program = stack.enter_context(
            run_program("services.archive", system, market, DATABASE_URL=url, METRICS_PORT="")
        )
        waiting = functools.partial(count_waiting, client, stream)
        wait_until(lambda: waiting() <= count * 0.9, "the first tenth", WITHIN_SEC, POLL_SEC)
        began, used, left = time.monotonic(), cpu_sec(program.pid), waiting()
        wait_until(lambda: waiting() == 0, "all entries", WITHIN_SEC, POLL_SEC)
        took = time.monotonic() - began
        return Measured(left / took, (cpu_sec(program.pid) - used) / left, rss_mb(program.pid))


async def count_rows(url: str) -> tuple[int, int]:
    """Return how many bars and how many indicators are in the database."""
    connection = await asyncpg.connect(url)
    try:
        bars, indicators = [
            int(await connection.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608 - our own names
            for table in ("bars", "indicators")
        ]
        return bars, indicators
    finally:
        await connection.close()


def main(count: int = COUNT) -> None:
    """Measure bare COPY, the service, and how the service catches up with the live rate; print a table."""
    entries = make_entries(count)
    with tempfile.TemporaryDirectory(prefix="marketswarm-bench-") as folder, Server() as system:
        Path(folder).chmod(0o711)  # the server of PostgreSQL may run as another user
        asyncio.run(_measure(Path(folder), system, entries))


async def _measure(folder: Path, system: Server, entries: list[dict[str, str]]) -> None:
    postgres, count = PostgresServer(folder / "postgres"), len(entries)
    await postgres.start()
    try:
        bare = await measure_copy(postgres.url, entries)
        with Server() as market:
            beats = {"heartbeat": {"interval_sec": 10, "timeout_sec": 60}}
            write_truth([system, market], orjson.dumps({"services": {"archive": beats}}))
            measure = functools.partial(measure_service, system, market, postgres.url)
            bars = await asyncio.to_thread(measure, CHECKED_BARS, entries)
            values = await asyncio.to_thread(measure, INDICATORS, make_indicators(entries))
        assert await count_rows(postgres.url) == (count, count)
    finally:
        await postgres.stop()
    catching_up = 1 / (LIVE_RATE / bars.rate + LIVE_RATE / values.rate)
    print_table(
        f"{count:,} bars and as many indicators from the streams to committed rows",
        ("bare COPY of the same bars, no index", f"{bare:,.0f} rows/s", ""),
        ("archive: bars", f"{bars.rate:,.0f} bars/s", f"{bars.rate / bare:.2f} of it; goal: 20,000"),
        ("  one of them", f"{1e6 * bars.cost:,.0f} µs of a core", f"{bars.memory:.0f} MB"),
        ("archive: indicators", f"{values.rate:,.0f} entries/s", ""),
        ("  one of them", f"{1e6 * values.cost:,.0f} µs of a core", f"{values.memory:.0f} MB"),
        (
            f"catching up, {SYMBOLS} symbols live",
            f"{catching_up:,.0f} times the live rate",
            f"{2 * LIVE_RATE:.0f} entries/s; goal: 5",
        ),
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
