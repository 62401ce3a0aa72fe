"""Measure how fast the board serves the market: to many users, to followers, and its page.

The servers, PostgreSQL and the board are real; the clients are a process of their own (load.py) on the same
processors. They ask for the newest bars of charts that are watched while they change. The limit is a bare
uvicorn that answers OK to the same clients.

The users come twice: to a board that has just started and has no chart in memory, and to the same one when
it has them. The first time their p95 is what the start costs, since that is more than a twentieth of what is
measured: the database's bars of all charts are read at once.
"""

import asyncio
import contextlib
import itertools
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import asyncpg
import orjson
import redis

from bench.archive import run_postgres
from bench.background import Background
from bench.figures import Pair, Sample, percentile
from bench.healer import read_samples
from bench.pings import run_load
from bench.programs import Usage, Worker, read_result, run_program, wait_until
from bench.server import find_free_port, start_buses, wait_for_port
from marketswarm.keys import CHECKED_BARS, MARKET_SERIES
from services.archive.database import SCHEMA
from services.archive.partitions import find_partition, make_partitions
from services.market.entries import encode_entry
from services.market.records import TIMEFRAME_SEC, AssetClass, Bar, Provenance
from services.tables.rows import BarRow
from services.tables.tables import BAR_TABLE

SYMBOLS: Final = 40
GROUPS: Final = ("indices", "commodities", "forex", "crypto", "sectors")
TIMEFRAMES: Final = ("1m", "15m", "1h", "1d")
ROWS: Final = 600
USERS: Final = 1000
EVERY_SEC: Final = 4.0
MEASURE_SEC: Final = 15.0
FOLLOWERS: Final = 200
FOLLOWED: Final = 5
"""How many charts each follower follows."""
LIVE_SEC: Final = 0.5
"""How often the running bar of each symbol changes."""
CLOSE_SEC: Final = 2.0
"""How often a minute closes, so that the bars of all symbols become final in each timeframe at once."""
PAGES: Final = 30
CHART: Final = "marketswarm_board_market_charts_total"


def name_symbols() -> list[str]:
    return [f"S{n:02}" for n in range(SYMBOLS)]


def make_bar(symbol: str, timeframe: str, start_ms: int, number: int) -> Bar:
    price = 100 + number % 97 / 10
    return Bar(symbol, timeframe, start_ms, price, price + 1.25, price - 1.5, price + 0.75, 1000.0 + number)


async def seed_archive(url: str, now_ms: int) -> None:
    """Make the tables, and write the bars of all symbols up to `now_ms`."""
    connection = await asyncpg.connect(url)
    try:
        await SCHEMA.apply_migrations(connection)
        oldest = now_ms - 1000 * TIMEFRAME_SEC["1d"] * ROWS
        months = {find_partition(BAR_TABLE.name, datetime.fromtimestamp(at / 1000, UTC))
                  for at in range(oldest, now_ms + 86_400_000, 86_400_000)}  # fmt: skip
        await make_partitions(connection, months)
        await connection.execute(BAR_TABLE.stage_sql)
        asked_at = datetime.fromtimestamp(now_ms / 1000, UTC)
        for symbol in name_symbols():
            await connection.execute(
                "INSERT INTO symbols VALUES ($1, 'stocks', $2, $2, false)", symbol, asked_at
            )
            for timeframe in TIMEFRAMES:
                step_ms = 1000 * TIMEFRAME_SEC[timeframe]
                first = now_ms // step_ms - ROWS
                bars = [make_bar(symbol, timeframe, (first + n) * step_ms, n) for n in range(ROWS)]
                rows = [
                    BarRow(symbol, timeframe, bar.start_ms, bar.open, bar.high, bar.low, bar.close,
                           bar.volume, None, None, final=True, rev=0, epoch=0, source="yahoo",
                           asked_at=now_ms, digest="ab" * 32, replay=False)
                    for bar in bars
                ]  # fmt: skip
                async with connection.transaction():
                    await connection.copy_records_to_table(BAR_TABLE.stage, records=rows)
                    await connection.execute(BAR_TABLE.merge_sql)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


def seed_series(client: "redis.Redis", now_ms: int) -> None:
    """Write what sources writes."""
    for number, symbol in enumerate(name_symbols()):
        state = {
            "id": f"{symbol}:bars:1m", "symbol": symbol, "kind": "bars", "timeframe": "1m", "asset": "stocks",
            "group": GROUPS[number % len(GROUPS)], "from": ["yahoo", "finnhub"], "status": "fresh",
            "serving": "yahoo", "since": now_ms / 1000, "newest_ms": now_ms, "loaded_at": now_ms / 1000,
        }  # fmt: skip
        client.hset(MARKET_SERIES, f"{symbol}:bars:1m", orjson.dumps(state))


def make_sections() -> dict[str, Any]:
    """Return a market, and a board with its defaults, except the limits of one address.

    As in each truth, the symbols are named, so the board prepares their calendar when it starts.
    """
    point = {"bus": "market-redis", "key": CHECKED_BARS}
    market = {"requests_per_min": 0, "max_followers_per_address": FOLLOWERS}
    return {
        "board": {"settings": {"market": market}},
        "bars": {
            "access_points": {"publish_to": [point]},
            "endpoints": [{"asset": "stocks", "symbols": name_symbols()}],
        },
    }


class BarWriter(Background):
    """Publishes bars while the `with` block runs.

    Every LIVE_SEC each symbol gets its running bar; they take turns. Every CLOSE_SEC all of them get their
    final bars of all timeframes in one batch, as when a minute closes. `asked_at` of a bar is when it was
    published.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def _run(self) -> None:
        symbols, number, began = name_symbols(), 0, time.monotonic()
        a_close = round(CLOSE_SEC / LIVE_SEC * SYMBOLS)
        with redis.Redis(port=self._port) as client:
            while not self._is_over.wait(max(0.0, began + number * LIVE_SEC / SYMBOLS - time.monotonic())):
                pipe = client.pipeline(transaction=False)
                add_bar(pipe, symbols[number % SYMBOLS], "1m", number, is_final=False)
                if number % a_close == 0:
                    for symbol, timeframe in itertools.product(symbols, TIMEFRAMES):
                        add_bar(pipe, symbol, timeframe, number, is_final=True)
                pipe.execute()
                number += 1


def add_bar(pipe: Any, symbol: str, timeframe: str, number: int, *, is_final: bool) -> None:
    """Add the running bar of a chart, or the one before it, to what a pipeline publishes."""
    now, step_ms = time.time(), 1000 * TIMEFRAME_SEC[timeframe]
    bar = make_bar(symbol, timeframe, (int(1000 * now) // step_ms - is_final) * step_ms, number)
    fields = encode_entry(bar, AssetClass.STOCKS, Provenance("yahoo", now, "cd" * 32))
    pipe.xadd(CHECKED_BARS, fields | {"final": str(int(is_final)), "rev": str(number)}, maxlen=20_000)


class Place(NamedTuple):
    """The ports of the board, of its metrics, and of the market's bus; the process id of the board."""

    board: int
    metrics: int
    market: int
    pid: int


@contextlib.contextmanager
def open_board() -> Iterator[Place]:
    """Run a board with a market, until it knows all series."""
    now_ms = int(time.time() // 60) * 60_000
    board, metrics = find_free_port(), find_free_port()
    with (
        run_postgres() as (url, _),
        start_buses(make_sections()) as buses,
        redis.Redis(port=buses[1].port) as client,
    ):
        asyncio.run(seed_archive(url, now_ms))
        seed_series(client, now_ms)
        ports = {"BOARD_PORT": str(board), "METRICS_PORT": str(metrics)}
        with run_program("services.board", buses, DATABASE_URL=url, **ports) as process:
            wait_until(lambda: count_series(board) == SYMBOLS, "the board to know all series")
            yield Place(board, metrics, buses[1].port, process.pid)


def count_series(port: int) -> int:
    """Return 0 while the board does not answer."""
    try:
        return len(orjson.loads(fetch(port, "/api/v1/sources")[0])["series"])
    except OSError:
        return 0


def fetch(port: int, path: str) -> tuple[bytes, float]:
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return answer.read(), time.perf_counter() - began


def name_charts() -> list[str]:
    return [f"/api/v1/bars/{symbol}?timeframe={frame}" for symbol in name_symbols() for frame in TIMEFRAMES]


class Asked(NamedTuple):
    """What users find.

    Attributes:
        first_p95_ms: of many users of a server that has not answered any of them yet.
        p95_ms: of as many users after that.
        rate: requests a second of a few users that ask as fast as they can.
        cost_us: microseconds of a core for each of these.
    """

    first_p95_ms: float
    p95_ms: float
    rate: float
    cost_us: float


def ask(port: int, pid: int, scale: float, paths: list[str]) -> Asked:
    seconds = MEASURE_SEC * max(scale, 0.1)
    first, many = (run_load(port, seconds, round(USERS * scale), EVERY_SEC, paths) for _ in range(2))
    usage = Usage(pid)
    few = run_load(port, seconds / 2, 50, 0, paths)
    cost_us = 1e6 * usage.cpu_sec() / few["statuses"]["200"]
    return Asked(1000 * first["p95_sec"], 1000 * many["p95_sec"], few["rate"], cost_us)


def follow(port: int, seconds: float) -> float:
    """Return the p99 of how old bars are when followers get them, in milliseconds.

    Raise RuntimeError if less than four fifths of the bars came.
    """
    topics = [f"bars:{symbol}:1m" for symbol in name_symbols()[:FOLLOWED]]
    found = read_result("bench.load", "followers", port, seconds, FOLLOWERS, *topics)
    if found["bars"] < 0.8 * FOLLOWERS * FOLLOWED * seconds / LIVE_SEC:
        raise RuntimeError(f"only {found['bars']} bars came")
    return float(1000 * found["p99_sec"])


def measure(scale: float) -> Sample:
    """Measure the page, users and followers while bars change."""
    port = find_free_port()
    with Worker("bench.limits", "http", port) as worker:
        wait_for_port(port)
        bare = ask(port, worker.pid, scale, ["/"])
        bare_page = percentile([fetch(port, "/")[1] for _ in range(PAGES)], 0.5)
    with open_board() as place, BarWriter(place.market):
        page = percentile([fetch(place.board, "/market")[1] for _ in range(PAGES)], 0.5)
        before = read_samples(place.metrics)
        charts = ask(place.board, place.pid, scale, name_charts())
        misses = count_misses(before, read_samples(place.metrics))
        followed = follow(place.board, MEASURE_SEC * max(scale, 0.1))
    return {
        "processor": Pair(charts.cost_us, bare.cost_us),
        "rate": Pair(charts.rate, bare.rate),
        "users": Pair(charts.first_p95_ms, bare.first_p95_ms),
        "steady": Pair(charts.p95_ms, bare.p95_ms),
        "misses": Pair(misses, 1.0),
        "followers": Pair(followed, bare.p95_ms),
        "page": Pair(1000 * page, 1000 * bare_page),
    }


def count_misses(before: dict[str, float], after: dict[str, float]) -> float:
    """Return how many percent of all charts came from the database instead of a cache."""
    grown = {
        name[len(CHART) :]: after[name] - before.get(name, 0) for name in after if name.startswith(CHART)
    }
    return max(0.01, 100 * grown["archive"] / sum(grown.values()))
