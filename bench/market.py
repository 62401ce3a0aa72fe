"""Measure how fast the board serves the market: to many users, to followers, and its page.

The servers, PostgreSQL and the board are real; the clients are a process of their own (market_load.py) on the
same processors. The bench asks for the newest bars of charts that are watched while they change, and
compares that with `/healthz`, which reads nothing: the difference is the cost of charts, not of HTTP.
"""

import asyncio
import contextlib
import itertools
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson
import redis

from bench.fleet import ROOT, run_program, write_truth
from bench.scrape import read_samples
from bench.server import Server, find_free_port, print_table, wait_until
from marketswarm.fleet.postgres import PostgresServer
from marketswarm.keys import CHECKED_BARS, MARKET_SERIES
from marketswarm.market.entries import encode_entry
from marketswarm.market.records import TIMEFRAME_SEC, AssetClass, Bar, Provenance
from services.archive.migrations import apply_migrations
from services.archive.partitions import find_partition, make_partitions
from services.archive.rows import BarRow
from services.archive.tables import BARS

SYMBOLS: Final = 40
GROUPS: Final = ("indices", "commodities", "forex", "crypto", "sectors")
TIMEFRAMES: Final = ("1m", "15m", "1h", "1d")
ROWS: Final = 600
USERS: Final = 1000
EVERY_SEC: Final = 4.0
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
        await apply_migrations(connection)
        oldest = now_ms - 1000 * TIMEFRAME_SEC["1d"] * ROWS
        months = {find_partition(BARS.name, datetime.fromtimestamp(at / 1000, UTC))
                  for at in range(oldest, now_ms + 86_400_000, 86_400_000)}  # fmt: skip
        await make_partitions(connection, months)
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
                    BarRow(symbol, timeframe, datetime.fromtimestamp(bar.start_ms / 1000, UTC), bar.open,
                           bar.high, bar.low, bar.close, bar.volume, None, None, final=True, rev=0,
                           source="yahoo", asked_at=asked_at, digest="ab" * 32, replay=False)
                    for bar in bars
                ]  # fmt: skip
                await connection.copy_records_to_table("bars", records=rows, columns=BARS.columns)
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


def make_truth() -> bytes:
    """Return a truth with a market, and a board with its defaults, except the limits of one address."""
    beats = {"interval_sec": 10, "timeout_sec": 60}
    point = {"bus": "market-redis", "key": CHECKED_BARS}
    market = {"requests_per_min": 0, "max_followers_per_address": FOLLOWERS}
    return orjson.dumps(
        {
            "services": {
                "board": {"heartbeat": beats, "settings": {"market": market}},
                "bars": {"heartbeat": beats, "access_points": {"publish_to": [point]}},
            }
        }
    )


class BarWriter:
    """Publishes bars while the `with` block runs.

    Every LIVE_SEC each symbol gets its running bar; they take turns. Every CLOSE_SEC all of them get their
    final bars of all timeframes in one batch, as when a minute closes. `asked_at` of a bar is when it was
    published.
    """

    def __init__(self, port: int) -> None:
        self._port, self._is_over = port, threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(10)

    def _write(self) -> None:
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


def run_load(*words: object) -> dict[str, Any]:
    """Run market_load.py with these arguments, and return its result."""
    command = [sys.executable, "-m", "bench.market_load", *map(str, words)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        found: dict[str, Any] = orjson.loads(process.stdout.read())
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """The ports of the board, of its metrics, and of the market's bus."""

    board: int
    metrics: int
    market: int


@contextlib.contextmanager
def open_board(database_url: str) -> Iterator[Place]:
    """Run a board with a market, until it knows all series."""
    now_ms = int(time.time() // 60) * 60_000
    asyncio.run(seed_archive(database_url, now_ms))
    place_of = {"BOARD_PORT": str(find_free_port()), "METRICS_PORT": str(find_free_port())}
    board, metrics = map(int, place_of.values())
    with Server() as system, Server() as market, redis.Redis(port=market.port) as client:
        write_truth([system, market], make_truth())
        seed_series(client, now_ms)
        with run_program("services.board", system, market, DATABASE_URL=database_url, **place_of):
            wait_until(lambda: count_series(board) == SYMBOLS, "the board to know all series")
            yield Place(board, metrics, market.port)


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


def measure_users(
    place: Place, seconds: float, users: int, every_sec: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what users find at `/healthz`, and then at charts that change meanwhile."""
    charts = name_charts()
    bare = run_load("users", place.board, seconds, users, every_sec, "/healthz")
    served = run_load("users", place.board, seconds, users, every_sec, *charts)
    for found in (bare, served):
        if set(found["statuses"]) != {"200"}:
            raise RuntimeError(f"not every request was answered: {found['statuses']}")
    return bare, served


def measure_followers(place: Place, seconds: float) -> dict[str, Any]:
    """Return how old bars are when followers get them; all of them have to come."""
    topics = [f"bars:{symbol}:1m" for symbol in name_symbols()[:FOLLOWED]]
    found = run_load("followers", place.board, seconds, FOLLOWERS, *topics)
    if found["bars"] < 0.8 * FOLLOWERS * FOLLOWED * seconds / LIVE_SEC:
        raise RuntimeError(f"only {found['bars']} bars came")
    return found


def measure_page(place: Place) -> list[float]:
    return [fetch(place.board, "/market")[1] for _ in range(PAGES)]


def main(seconds: float = 15.0) -> None:
    """Measure the page, users and followers while bars change."""
    with tempfile.TemporaryDirectory(prefix="marketswarm-bench-") as folder:
        Path(folder).chmod(0o711)  # the server of PostgreSQL may run as another user
        postgres = PostgresServer(Path(folder) / "postgres")
        asyncio.run(_run(postgres, seconds))


async def _run(postgres: PostgresServer, seconds: float) -> None:
    await postgres.start()
    try:
        await asyncio.to_thread(_measure, postgres.url, seconds)
    finally:
        await postgres.stop()


def _measure(url: str, seconds: float) -> None:
    with open_board(url) as place, BarWriter(place.market):
        pages = measure_page(place)
        before = read_samples(place.metrics)
        cold = [fetch(place.board, path)[1] for path in name_charts()]
        bare, served = measure_users(place, seconds, USERS, EVERY_SEC)
        after = read_samples(place.metrics)
        full_bare, full = measure_users(place, seconds / 3, 50, 0)
        followed = measure_followers(place, seconds)
    origins = {
        name[len(CHART) :]: after[name] - before.get(name, 0) for name in after if name.startswith(CHART)
    }
    hit_share = 1 - origins["archive"] / sum(origins.values())
    show(Findings(pages, cold, (bare, served), (full_bare, full), followed, hit_share))


@dataclass(frozen=True, slots=True)
class Findings:
    """What was measured.

    Attributes:
        pages: the seconds of each request for the page, the first one first.
        cold: the seconds of the first request for each chart.
        users: what many users found at `/healthz`, and at charts.
        full: the same of a few that ask as fast as they can.
        followed: what followers found.
        hit_share: the share of charts that came from a cache.
    """

    pages: Sequence[float]
    cold: Sequence[float]
    users: tuple[dict[str, Any], dict[str, Any]]
    full: tuple[dict[str, Any], dict[str, Any]]
    followed: dict[str, Any]
    hit_share: float


def describe(found: dict[str, Any]) -> str:
    median, most, nearly_all = (1000 * found[name] for name in ("median_sec", "p95_sec", "p99_sec"))
    return f"median {median:.0f} ms, p95 {most:.0f} ms, p99 {nearly_all:.0f} ms"


def show(found: Findings) -> None:
    (bare, served), full, followed = found.users, found.full, found.followed
    pages, cold = found.pages, found.cold
    batch = SYMBOLS * len(TIMEFRAMES)
    changes = f"{SYMBOLS / LIVE_SEC:.0f} bars a second, and {batch} at once every {CLOSE_SEC:g} s"
    print_table(
        f"The market on the board: {changes}",
        (
            f"{USERS:,} users, a request every {EVERY_SEC:g} s: /healthz",
            describe(bare),
            f"{bare['rate']:.0f} requests/s",
        ),
        (
            "the same: a chart of 500 bars",
            describe(served),
            f"{served['rate']:.0f} requests/s; goal: p95 200 ms",
        ),
        ("from a cache, with the first of each chart", f"{100 * found.hit_share:.2f} %", "goal: 95 %"),
        (
            "the first of each chart, from the database",
            f"median {1000 * sorted(cold)[len(cold) // 2]:.0f} ms",
            f"worst {1000 * max(cold):.0f} ms",
        ),
        (
            "50 connections, as fast as possible",
            f"{full[1]['rate']:,.0f} charts/s",
            f"{full[1]['rate'] / full[0]['rate']:.2f} of /healthz ({full[0]['rate']:,.0f}/s)",
        ),
        (
            f"a bar to {FOLLOWERS} followers over /ws",
            f"median {1000 * followed['median_sec']:.0f} ms, p99 {1000 * followed['p99_sec']:.0f} ms",
            f"{followed['bars']:,} bars; goal: p99 200 ms",
        ),
        (
            "the page /market",
            f"{1000 * pages[0]:.0f} ms the first, median {1000 * sorted(pages)[len(pages) // 2]:.0f} ms",
            f"worst {1000 * max(pages):.0f} ms; goal: 1,000 ms",
        ),
    )


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
