"""Measure how many bars a second archive brings from the stream into committed rows.

The servers, the service and PostgreSQL are real, with fsync as PostgreSQL has it by default. The bench
compares the service with a bare COPY of the same rows into a table of the same columns without any index: the
difference is the cost of reading and checking entries, of the primary key, and of deciding which revision
stays. Linux only: reads /proc.
"""

import asyncio
import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson
import redis

from bench.fleet import run_program, write_truth
from bench.footprint import cpu_sec, rss_mb
from bench.server import Server, print_table, wait_until
from marketswarm.fleet.postgres import PostgresServer
from marketswarm.keys import CHECKED_BARS
from marketswarm.market.entries import encode_entry
from marketswarm.market.records import AssetClass, Bar, Provenance
from services.archive.rows import BarRow, make_bar_row
from services.archive.tables import BARS

COUNT: Final = 100_000
SYMBOLS: Final = 500
LIVE_RATE: Final = SYMBOLS / 60 * 6
"""Bars a second of SYMBOLS symbols in six timeframes; most of the time only the minutes come."""
BEGIN_MS: Final = 1_793_000_040_000
WITHIN_SEC: Final = 300.0
POLL_SEC: Final = 0.01  # seldom enough to leave the processors to those who are measured


def make_entries(count: int) -> list[dict[str, str]]:
    """Return the entries of `count` bars, minute by minute of all symbols."""
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


def add_entries(client: "redis.Redis", entries: list[dict[str, str]]) -> None:
    """Add entries to the stream of checked bars."""
    pipe = client.pipeline(transaction=False)
    for n, fields in enumerate(entries, 1):
        pipe.xadd(CHECKED_BARS, fields)  # type: ignore[arg-type]  # its types know no dict of text
        if n % 5000 == 0:
            pipe.execute()
    pipe.execute()


async def measure_copy(url: str, entries: list[dict[str, str]]) -> float:
    """Return how many rows a second a bare COPY commits, as many at once as the service does."""
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


def count_waiting(client: "redis.Redis") -> int:
    """Return how many entries the service has not committed yet."""
    for group in client.xinfo_groups(CHECKED_BARS):
        if group["name"] == b"archive":
            return int(group["pending"]) + int(group["lag"] or 0)
    return int(client.xlen(CHECKED_BARS))


def measure_service(system: Server, market: Server, url: str, count: int) -> tuple[float, float, float]:
    """Start the service with `count` bars on the stream, and measure it after the first tenth.

    Returns:
        Bars a second, processor seconds of the service for each, and its MB of memory.
    """
    with redis.Redis(port=market.port) as client, contextlib.ExitStack() as stack:
        program = stack.enter_context(
            run_program("services.archive", system, market, DATABASE_URL=url, METRICS_PORT="")
        )
        wait_until(lambda: count_waiting(client) <= count * 0.9, "the first tenth", WITHIN_SEC, POLL_SEC)
        began, used, left = time.monotonic(), cpu_sec(program.pid), count_waiting(client)
        wait_until(lambda: count_waiting(client) == 0, "all bars", WITHIN_SEC, POLL_SEC)
        took = time.monotonic() - began
        return left / took, (cpu_sec(program.pid) - used) / left, rss_mb(program.pid)


async def count_rows(url: str) -> int:
    """Return how many bars are in the database."""
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM bars"))
    finally:
        await connection.close()


def main(count: int = COUNT) -> None:
    """Measure bare COPY, the service, and how the service catches up with the live rate; print a table."""
    entries = make_entries(count)
    with tempfile.TemporaryDirectory(prefix="marketswarm-bench-") as folder, Server() as system:
        Path(folder).chmod(0o711)  # the server of PostgreSQL may run as another user
        asyncio.run(_measure(Path(folder), system, entries))


async def _measure(folder: Path, system: Server, entries: list[dict[str, str]]) -> None:
    """Run PostgreSQL and the bus, measure, and print the table."""
    postgres, count = PostgresServer(folder / "postgres"), len(entries)
    await postgres.start()
    try:
        bare = await measure_copy(postgres.url, entries)
        with Server() as market, redis.Redis(port=market.port) as client:
            beats = {"heartbeat": {"interval_sec": 10, "timeout_sec": 60}}
            write_truth([system, market], orjson.dumps({"services": {"archive": beats}}))
            add_entries(client, entries)
            rate, cost, memory = await asyncio.to_thread(measure_service, system, market, postgres.url, count)
        assert await count_rows(postgres.url) == count
    finally:
        await postgres.stop()
    print_table(
        f"{count:,} bars from the stream to committed rows",
        ("bare COPY of the same rows, no index", f"{bare:,.0f} rows/s", ""),
        ("archive", f"{rate:,.0f} bars/s", f"{rate / bare:.2f} of it; goal: 20,000"),
        ("a bar", f"{1e6 * cost:,.0f} µs of a core", f"{memory:.0f} MB"),
        (f"catching up, {SYMBOLS} symbols live", f"{rate / LIVE_RATE:,.0f} times the live rate", "goal: 5"),
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
