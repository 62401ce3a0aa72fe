"""Measure how many bars and indicators a second archive brings from the streams into committed rows.

The servers, the service and PostgreSQL are real, with fsync as PostgreSQL has it by default. The limit is a
bare COPY of the same bars into a table of the same columns without any index: the difference is the cost of
reading and checking entries, of the primary key, and of deciding which revision stays.
"""

import asyncio
import contextlib
import functools
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson
import redis

from bench.figures import Pair, Sample
from bench.programs import Usage, run_program, wait_until
from bench.server import Server, start_buses
from marketswarm.agent.parent_death_guard import die_with_parent
from marketswarm.fleet.postgres import STOP_SIGNAL, PostgresServer
from marketswarm.keys import CHECKED_BARS, INDICATORS
from services.bars import indicators
from services.market.entries import encode_entry
from services.market.records import AssetClass, Bar, Provenance
from services.tables.rows import BarRow, make_bar_row
from services.tables.tables import BAR_TABLE

COUNT: Final = 100_000
LEAST: Final = 20_000
"""Of fewer entries the service would commit all before the first look."""
SYMBOLS: Final = 500
BEGIN_MS: Final = 1_793_000_040_000


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
    names = [name for each in indicators.INDICATORS.values() for name in each.outputs]
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


async def copy_bare(url: str, entries: list[dict[str, str]]) -> tuple[float, float]:
    """Commit rows by a bare COPY, with the batches of the service.

    Returns:
        Rows a second, and the microseconds of a core that this process takes for each.
    """
    rows: list[Any] = []
    for fields in entries:
        raw = {name.encode(): value.encode() for name, value in fields.items()}
        rows.append(make_bar_row(b"1-0", raw)[0])
    connection = await asyncpg.connect(url)
    stage = BAR_TABLE.stage_sql.replace("TEMPORARY ", "").replace("ON COMMIT DELETE ROWS", "")
    await connection.execute(stage)
    began, cpu = time.monotonic(), time.process_time()
    for at in range(0, len(rows), 5000):
        await connection.copy_records_to_table(
            BAR_TABLE.stage, records=rows[at : at + 5000], columns=BarRow._fields
        )
    took, used = time.monotonic() - began, time.process_time() - cpu
    await connection.execute(f"DROP TABLE {BAR_TABLE.stage}")
    await connection.close()
    return len(rows) / took, 1e6 * used / len(rows)


def count_waiting(client: "redis.Redis", stream: str) -> int:
    """Return how many entries of a stream the service has not committed yet."""
    for group in client.xinfo_groups(stream):
        if group["name"] == b"archive":
            return int(group["pending"]) + int(group["lag"] or 0)
    return int(client.xlen(stream))


def run_service(
    buses: tuple[Server, Server], url: str, stream: str, entries: list[dict[str, str]]
) -> tuple[float, float]:
    """Start the service with entries on a stream; return the same of it, after the first tenth."""
    count = len(entries)
    with redis.Redis(port=buses[1].port) as client:
        add_entries(client, stream, entries)
        with run_program("services.archive", buses, DATABASE_URL=url, METRICS_PORT="") as program:
            waiting = functools.partial(count_waiting, client, stream)
            wait_until(lambda: waiting() <= count * 0.9, "the first tenth")
            usage, left = Usage(program.pid), waiting()
            wait_until(lambda: waiting() == 0, "all entries")
            return left / usage.sec(), 1e6 * usage.cpu_sec() / left


async def count_rows(url: str) -> list[int]:
    """Return how many bars and how many indicators are in the database."""
    connection = await asyncpg.connect(url)
    try:
        return [
            int(await connection.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608 - our own names
            for table in ("bars", "indicators")
        ]
    finally:
        await connection.close()


@contextlib.contextmanager
def run_postgres() -> Iterator[tuple[str, int]]:
    """Run a PostgreSQL, and yield the URL of its database and its pid."""
    with tempfile.TemporaryDirectory(prefix="marketswarm-bench-") as folder:
        Path(folder).chmod(0o711)  # the server of PostgreSQL may run as another user
        postgres = PostgresServer(Path(folder) / "postgres")
        postgres.prepare()
        line = die_with_parent(postgres.command)
        quiet = subprocess.DEVNULL
        with subprocess.Popen(line, env=postgres.environ, cwd="/", stderr=quiet) as process:
            try:
                wait_until(lambda: postgres.is_ready(process.pid), "PostgreSQL")
                yield postgres.url, process.pid
            finally:
                process.send_signal(STOP_SIGNAL)


def measure(scale: float) -> Sample:
    """Measure bare COPY, and the service with bars and with indicators."""
    entries = make_entries(max(LEAST, round(COUNT * scale)))
    with run_postgres() as (url, _), start_buses({"archive": {}}) as buses:
        bare = asyncio.run(copy_bare(url, entries))
        bars = run_service(buses, url, CHECKED_BARS, entries)
        values = run_service(buses, url, INDICATORS, make_indicators(entries))
        assert asyncio.run(count_rows(url)) == [len(entries), len(entries)]
    return {
        "bars": Pair(bars[0], bare[0]),
        "bars_processor": Pair(bars[1], bare[1]),
        "indicators": Pair(values[0], bare[0]),
        "indicators_processor": Pair(values[1], bare[1]),
    }
