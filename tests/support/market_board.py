"""A board with a market: real Redis, real PostgreSQL, a real board, and prices of a walk with a known seed.

    with open_market(tmp_path, archive_url) as market:
        market.publish_bar("SPY", "1m", start_ms, close=501.0)

The walk stands for what the services sources, bars and archive would have written. Its last minute is `NOW`.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx
import orjson
import redis

from marketswarm.keys import (
    CHECKED_BARS,
    FEATURES,
    INDICATORS,
    MARKET_QUARANTINE,
    MARKET_QUOTES,
    MARKET_SERIES,
    MARKET_SOURCES,
    PRELOAD_STATUS,
    VEXY_NOTES,
)
from services.market.entries import encode_entry
from services.market.records import (
    DAY_MS,
    MINUTE_MS,
    TIMEFRAME_SEC,
    AssetClass,
    Bar,
    Provenance,
    Quote,
    VolumeKind,
)
from support.rig import PLAIN, Fleet, free_port
from support.waiting import until

T = TypeVar("T")
BAR_COLUMNS = (
    *("symbol", "timeframe", "start", "open", "high", "low", "close", "volume", "vwap", "trades"),
    *("final", "rev", "source", "asked_at", "digest", "replay"),
)
OBSERVATION_COLUMNS = ("symbol", "start", "value", "known_at", "source", "asked_at", "digest", "replay")
CORRELATION_COLUMNS = ("day", "a", "b", "value", "n")
INDICATOR_COLUMNS = ("symbol", "timeframe", "start", "rev", "final", "values")
FEATURE_COLUMNS = ("symbol", "start", "rev", "values")
NOW = int(time.time()) // 60 * 60_000
PLAYED = 4
"""Which request, counted from the newest, a recording answered, where not all of the market is played."""
BEATS = {"interval_sec": 0.5, "timeout_sec": 5}
BOARD_BEATS = {"interval_sec": 0.5, "timeout_sec": 30}
"""A thousand requests at once take some seconds on a busy machine: no reason to end as one that hangs."""


def publishes(*keys: str) -> dict[str, Any]:
    points = [{"bus": "market-redis", "key": key} for key in keys]
    return {"heartbeat": BEATS, "access_points": {"publish_to": points}}


TRUTH: dict[str, Any] = {
    "fleet": "testing",
    "services": {
        "board": {"heartbeat": BOARD_BEATS, "settings": {"market": {"requests_per_min": 0}}},
        "sources": publishes(MARKET_QUOTES, MARKET_SERIES, MARKET_SOURCES),
        "bars": publishes(CHECKED_BARS, INDICATORS, FEATURES, MARKET_QUARANTINE),
        "vexy_ai": {**publishes(VEXY_NOTES), "settings": {"symbols": {"GLD": ["Gold Shares"]}}},
    },
}


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol of the example market: where its walk ends, and how it walks."""

    name: str
    asset: str
    group: str
    price: float
    step: float = 0.0006
    timeframe: str = "1m"
    kind: str = "bars"
    source: str = "yahoo"


SYMBOLS = (
    Symbol("SPY", "stocks", "indices", 581.2, source="massive"),
    Symbol("QQQ", "stocks", "indices", 497.5, source="massive"),
    Symbol("IWM", "stocks", "indices", 221.4),
    Symbol("DIA", "stocks", "indices", 431.9),
    Symbol("GLD", "stocks", "commodities", 251.1),
    Symbol("USO", "stocks", "commodities", 74.35, 0.0011),
    Symbol("EUR/USD", "forex", "forex", 1.0873, 0.0002, source="twelve_data"),
    Symbol("USD/JPY", "forex", "forex", 149.61, 0.0003, source="twelve_data"),
    Symbol("GBP/USD", "forex", "forex", 1.2641, 0.0002, source="twelve_data"),
    Symbol("BTC/USD", "crypto", "crypto", 96_412.0, 0.0012, source="kraken"),
    Symbol("ETH/USD", "crypto", "crypto", 3371.0, 0.0016, source="kraken"),
    Symbol("DOGE/USD", "crypto", "crypto", 0.3871, 0.002, source="kraken"),
    Symbol("^VIX", "volatility", "volatility", 15.2, 0.001, timeframe="1d", source="cboe"),
    Symbol("XLF", "stocks", "sectors", 49.7),
    Symbol("XLK", "stocks", "sectors", 233.6),
    Symbol("XLE", "stocks", "sectors", 95.8),
    Symbol(
        "CPIAUCSL", "economic", "economic", 314.7, 0.003, timeframe="1mo", kind="observations", source="fred"
    ),
    Symbol("UNRATE", "economic", "economic", 4.1, 0.02, timeframe="1mo", kind="observations", source="fred"),
    Symbol(
        "DGS10", "economic", "economic", 4.28, 0.01, timeframe="1d", kind="observations", source="treasury"
    ),
)


def walk(symbol: Symbol, timeframe: str, end_ms: int, count: int) -> list[Bar]:
    """Return bars of a walk that ends with the bar before `end_ms`; the same for the same arguments."""
    chance = random.Random(f"{symbol.name} {timeframe}")
    step_ms = 1000 * TIMEFRAME_SEC[timeframe]
    scale = symbol.step * (TIMEFRAME_SEC[timeframe] / 60) ** 0.5
    price, bars = symbol.price, []
    for number in range(count):
        start = (end_ms // step_ms - count + number) * step_ms
        close = price * (1 + chance.gauss(0, scale))
        high, low = max(price, close) * (1 + scale / 3), min(price, close) * (1 - scale / 3)
        volume = round(chance.uniform(1e3, 9e4))
        bars.append(Bar(symbol.name, timeframe, start, price, high, low, close, volume, None, volume // 90))
        price = close
    return [rescale(bar, symbol.price / price) for bar in bars]  # all timeframes end at one price


def rescale(bar: Bar, factor: float) -> Bar:
    """Return a bar whose prices are multiplied, in the decimals in which a source would have them."""
    names, size = ("open", "high", "low", "close"), bar.close * factor
    decimals = 2 if size >= 100 else 4 if size >= 1 else 6
    return replace(bar, **{name: round(getattr(bar, name) * factor, decimals) for name in names})


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


async def seed_archive(url: str, end_ms: int, *, replay: bool = False) -> None:
    """Write the walks of all symbols into the database, with indicators, features, correlations, requests."""
    connection = await asyncpg.connect(url)
    try:
        for symbol in SYMBOLS:
            await _seed_symbol(connection, symbol, end_ms, replay=replay)
        names = sorted(one.name for one in SYMBOLS if one.kind == "bars")
        chance = random.Random("correlations")
        pairs = [(one, other) for one in names for other in names if one < other]
        day = _moment(end_ms).date()
        rows = [(day, one, other, round(chance.uniform(-0.7, 0.98), 4), 60) for one, other in pairs]
        await connection.copy_records_to_table("correlations", records=rows, columns=CORRELATION_COLUMNS)
        actions = [
            ("SPY", date.fromisoformat(day), kind, ratio, amount, None, withdrawn, "yahoo", _moment(end_ms),
             "ef" * 32, replay, 0)
            for day, kind, ratio, amount, withdrawn in (
                ("2020-08-31", "split", 4.0, None, False),
                ("2020-08-31", "dividend", None, 0.8, False),
                ("2020-08-07", "dividend", None, 0.5, False),
                ("2020-08-14", "dividend", None, None, True),
            )
        ]  # fmt: skip
        await connection.copy_records_to_table("actions", records=actions)
        asked = [
            (f"{end_ms - 9000 * n}-0", "yahoo" if n % 3 else "finnhub", "SPY:bars:1m", "SPY", "bars", "1m",
             _moment(end_ms - 9000 * n), 120 + n, "https://example.org/v8/chart/SPY", 200 if n % 3 else 429,
             "answered" if n % 3 else "limited", "" if n % 3 else "60 requests\u202e", "ab" * 32, 9120, 5,
             replay or n == PLAYED)
            for n in range(12)
        ]  # fmt: skip
        await connection.copy_records_to_table("downloads", records=asked)
    finally:
        await connection.close()


async def _seed_symbol(connection: Any, symbol: Symbol, end_ms: int, *, replay: bool) -> None:
    """Write what the database has of one symbol."""
    origin = (symbol.source, _moment(end_ms), "cd" * 32, replay)
    known = (symbol.name, symbol.asset, _moment(end_ms - 400 * DAY_MS), _moment(end_ms), replay)
    await connection.copy_records_to_table("symbols", records=[known])
    if symbol.kind == "observations":
        bars = walk(replace(symbol, step=symbol.step / 200), "1d", end_ms - 3 * DAY_MS, 40)
        values = [
            (symbol.name, _moment(bar.start_ms), bar.close, _moment(bar.start_ms + 2 * DAY_MS), *origin)
            for bar in bars
        ]
        for table in ("observations", "observation_vintages"):
            await connection.copy_records_to_table(table, records=values, columns=OBSERVATION_COLUMNS)
        return
    counts = {"1m": 900, "5m": 600, "15m": 300, "1h": 300, "4h": 200, "1d": 300}
    if symbol.timeframe == "1d":
        counts = {"1d": 300}
    for timeframe, count in counts.items():
        bars = walk(symbol, timeframe, end_ms, count)
        if timeframe == "1d":  # since the last close something happened
            bars = [rescale(bar, 1 - 20 * symbol.step) for bar in bars]
        if symbol.name == "BTC/USD" and timeframe == "1m":  # an exchange that was away for a while
            bars = bars[:-90] + bars[-62:]
        rows = [
            (bar.symbol, timeframe, _moment(bar.start_ms), bar.open, bar.high, bar.low, bar.close, bar.volume,
             None, bar.trades, True, 0, *origin)
            for bar in bars
        ]  # fmt: skip
        await connection.copy_records_to_table("bars", records=rows, columns=BAR_COLUMNS)
        computed = [
            (symbol.name, timeframe, _moment(bar.start_ms), 0, True, orjson.dumps(_average(bars, n)).decode())
            for n, bar in enumerate(bars)
        ]
        await connection.copy_records_to_table("indicators", records=computed, columns=INDICATOR_COLUMNS)
    days = [
        (symbol.name, _moment(bar.start_ms), 0, '{"return_1d": 0.25, "volatility_20d": null}') for bar in bars
    ]
    await connection.copy_records_to_table("features", records=days[-30:], columns=FEATURE_COLUMNS)


def _average(bars: list[Bar], index: int) -> dict[str, float | None]:
    """Return some indicators of a bar: means of closes, null until there are enough."""
    closes = [bar.close for bar in bars[max(0, index - 19) : index + 1]]
    mean = sum(closes) / 20 if len(closes) == 20 else None
    spread = None if mean is None else (sum((each - mean) ** 2 for each in closes) / 20) ** 0.5
    rises = sum(max(0.0, b - a) for a, b in pairwise(closes))
    falls = sum(max(0.0, a - b) for a, b in pairwise(closes))
    return {
        "sma_20": mean,
        "bb_upper": None if mean is None or spread is None else mean + 2 * spread,
        "bb_lower": None if mean is None or spread is None else mean - 2 * spread,
        "rsi_14": None if mean is None else 100 * rises / ((rises + falls) or 1.0),
    }


class MarketBoard:
    """The board's address, and what the services of the market would publish."""

    def __init__(self, fleet: Fleet, port: int) -> None:
        self.fleet, self.port = fleet, port
        self.url = f"http://127.0.0.1:{port}"
        self.socket_url = f"ws://127.0.0.1:{port}/ws"
        self.client = redis.Redis.from_url(fleet.market.url, protocol=2)

    def get(self, path: str, **how: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=15, verify=PLAIN, **how)

    def publish_bar(
        self,
        symbol: str,
        timeframe: str,
        start_ms: int,
        close: float,
        *,
        final: bool = True,
        rev: int = 0,
        epoch: int = 0,
        replay: bool = False,
        day: str | None = None,
        volume_kind: VolumeKind | None = None,
    ) -> None:
        """Publish a bar as the service bars does."""
        bar = Bar(symbol, timeframe, start_ms, close, close, close, close, volume=100.0)
        origin = Provenance("massive", NOW / 1000, "ef" * 32, is_replay=replay, volume_kind=volume_kind)
        fields = encode_entry(bar, AssetClass.STOCKS, origin)
        place = {"final": str(int(final)), "rev": str(rev), "epoch": str(epoch)}
        if day is not None:
            place["day"] = day
        self.client.xadd(CHECKED_BARS, {**dict[Any, Any](fields), **place})

    def publish_quote(self, symbol: str, price: float, at_ms: int) -> None:
        """Publish a quote as the service sources does."""
        origin = Provenance("twelve_data", NOW / 1000, "ef" * 32)
        fields = encode_entry(Quote(symbol, at_ms, price), AssetClass.FOREX, origin)
        self.client.xadd(MARKET_QUOTES, dict[Any, Any](fields))

    def publish_note(self, title: str, *tickers: str, link: str = "https://news.example/1") -> None:
        """Publish a note about an item of a feed as the service vexy_ai does."""
        fields = {"kind": "note", "id": title, "feed": "wire", "title": title, "link": link}
        fields |= {"tickers": orjson.dumps(tickers).decode(), "topics": "[]", "sentiment": "0.440"}
        self.client.xadd(VEXY_NOTES, dict[Any, Any](fields))

    def seed_states(self, *, replay: bool = False) -> None:
        """Write the states of series, sources and gate, and two records in quarantine."""
        now = NOW / 1000
        for symbol in SYMBOLS:
            ident = f"{symbol.name}:{symbol.kind}:{symbol.timeframe}"
            is_late = symbol.name == "USO"
            attempts = {"finnhub": {"verdict": "limited", "reason": "60 a minute", "at": now, "failures": 3}}
            state = {
                "id": ident, "symbol": symbol.name, "kind": symbol.kind, "timeframe": symbol.timeframe,
                "asset": symbol.asset, "group": symbol.group, "critical": symbol.name in ("SPY", "EUR/USD"),
                "from": ["finnhub", symbol.source, "alpha_vantage"], "status": "late" if is_late else "fresh",
                "serving": symbol.source, "since": now - 7200, "replay": replay, "attempts": attempts,
                "reason": "finnhub limited", "newest_ms": NOW - MINUTE_MS, "loaded_at": now,
            }  # fmt: skip
            self.client.hset(MARKET_SERIES, ident, orjson.dumps(state))
        for name, health in (("massive", "up"), ("yahoo", "up"), ("finnhub", "down"), ("kraken", "up")):
            state = {
                "name": name, "state": health, "since": now - 86_400, "asked_at": now, "ok_at": now - 12,
                "answers": 812, "failures": 3, "limited": 40, "records": 48_123,
                "outcome": "answered" if health == "up" else "limited",
                "reason": "" if health == "up" else "60 requests a minute",
            }  # fmt: skip
            self.client.hset(MARKET_SOURCES, name, orjson.dumps(state))
        failed = {
            "series": "DGS2:observations:1d",
            "source": "",
            "status": "failed",
            "reason": "treasury failed",
        }
        gate = {"state": "open", "started_at": now - 320, "ended_at": now - 300, "total": 20, "done": 20,
                "share": 0.8, "loaded": 19, "failed": [failed]}  # fmt: skip
        self.client.set(PRELOAD_STATUS, orjson.dumps(gate))
        played = {"replay": "1"} if replay else {}
        for number, why in enumerate(
            ("jump of 41 % against an ATR of 0.3 %", "high 570.1 below close 581.2")
        ):
            self.client.xadd(MARKET_QUARANTINE, {
                "check": ("jump", "high_low")[number], "why": why, "stream": "market:bars", "entry": "1-1",
                "at": NOW - 60_000, "sym": "SPY",
                "fields": orjson.dumps({"sym": "SPY", "close": "819.1", **played}),
                "source": "yahoo",
            })  # fmt: skip


def run_apart(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a thread, where no event loop of a browser runs, and return its result."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *arguments).result()


@contextlib.contextmanager
def open_market(
    folder: Path,
    archive_url: str | None,
    *,
    replay: bool = False,
    environ: Mapping[str, str] | None = None,
    services: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Iterator[MarketBoard]:
    """Start servers and a board with an example market; `settings` are those of the board in the truth.

    `services` are further sections of the truth, of services that do not run.
    """
    port = free_port()
    env = {"BOARD_PORT": str(port), **(environ or {})}
    if archive_url is not None:
        run_apart(asyncio.run, seed_archive(archive_url, NOW, replay=replay))
        env["DATABASE_URL"] = archive_url
    board = {"heartbeat": BOARD_BEATS, "settings": {"market": {"requests_per_min": 0, **settings}}}
    truth = {**TRUTH, "services": {**TRUTH["services"], "board": board, **(services or {})}}
    with Fleet(folder, truth, [], env, tail=False) as fleet:
        market = MarketBoard(fleet, port)
        market.seed_states(replay=replay)
        with contextlib.closing(market.client):
            fleet.start("board")
            until(lambda: _is_ready(market), what="the board to know the market")
            yield market


def _is_ready(market: MarketBoard) -> bool:
    """Return True once the board has read the states."""
    with contextlib.suppress(httpx.HTTPError):
        answer = market.get("/api/v1/sources")
        return answer.status_code == 200 and bool(answer.json()["series"])
    return False
