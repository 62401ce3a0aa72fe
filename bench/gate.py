"""Measure how long the gate of sources takes to load 500 series within the limits of their sources.

The gate, the buses and every request are real; a light server answers as the sources document it
(gate_market.py). The bench compares the time with what the limits alone allow: a source that takes L requests
in W seconds has answered n of them (⌈n / L⌉ - 1) · W seconds after the first at the earliest, and the slowest
source decides.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Mapping
from math import ceil
from typing import Any, Final

import orjson
import redis

from bench.figures import Pair, Sample
from bench.limits import ask_http
from bench.programs import Worker, run_program
from bench.server import Server, find_free_port, start_buses, wait_for_port
from marketswarm.keys import MARKET_DOWNLOADS, PRELOAD_STATUS
from services.sources.catalog.files import shipped_catalog

MIX: Final[Mapping[str, int]] = {
    "kraken": 60,
    "coinbase": 140,
    "binance": 200,
    "alpaca": 100,
}
"""How many series each source serves: hours of crypto, each of another symbol."""
HISTORY_DAYS: Final = 5.0
WITHIN_SEC: Final = 240.0


def make_section() -> dict[str, Any]:
    """Group the series by their source, as people write them."""
    endpoints = [
        {
            "symbols": [f"{source[:3].upper()}{number:03}/USDT" for number in range(count)],
            "asset": "crypto",
            "timeframe": "1h",
            "from": [source],
            "history_days": HISTORY_DAYS,
        }
        for source, count in MIX.items()
    ]
    return {"endpoints": endpoints, "settings": {"gate": {"share": 1.0, "timeout_sec": WITHIN_SEC}}}


def find_bound(source: str, requests: int) -> float:
    """Return the seconds after which a source has answered so many requests at the earliest."""
    windows = shipped_catalog()[source].limits.windows()
    return max((ceil(requests / limit) - 1) * float(sec) for sec, limit in windows)


def run_gate(buses: tuple[Server, Server], port: int) -> tuple[float, float]:
    """Return the seconds that the gate took, and those of a processor."""
    urls = {source: f"http://127.0.0.1:{port}/{source}" for source in MIX}
    keys = {"APCA_API_KEY_ID": "bench", "APCA_API_SECRET_KEY": "bench"}
    variables = {"SOURCES_BASE_URLS": orjson.dumps(urls).decode(), **keys}
    began, before = time.monotonic(), os.times()
    with run_program("services.sources.gate", buses, **variables) as program:
        program.wait()
        took_sec, after = time.monotonic() - began, os.times()  # the servers are not waited for yet
    used_sec = after.children_user + after.children_system - before.children_user - before.children_system
    return took_sec, used_sec


def count_requests(client: "redis.Redis") -> Counter[str]:
    """Return how many requests each source got. Raise RuntimeError if one was not answered as it should."""
    counts: Counter[str] = Counter()
    entries: Any = client.xrange(MARKET_DOWNLOADS)
    for _, fields in entries:
        if fields[b"outcome"] != b"ok":
            raise RuntimeError(f"{fields[b'url'].decode()}: {fields[b'reason'].decode()}")
        counts[fields[b"source"].decode()] += 1
    return counts


def measure(_scale: float) -> Sample:
    """Run the gate once."""
    port = find_free_port()
    with (
        start_buses({"sources": make_section()}) as buses,
        Worker("bench.gate_market", port),
        redis.Redis(port=buses[1].port) as client,
    ):
        wait_for_port(port)
        took, used = run_gate(buses, port)
        status: dict[str, Any] = orjson.loads(client.get(PRELOAD_STATUS) or b"{}")
        if status.get("state") != "open" or status["loaded"] != sum(MIX.values()):
            raise RuntimeError(f"the gate is {status.get('state')}: {str(status.get('failed'))[:2000]}")
        counts = count_requests(client)
        hours = (
            f"startTime={1000 * (time.time() - 86_400 * HISTORY_DAYS):.0f}&endTime={1000 * time.time():.0f}"
        )
        url = f"http://127.0.0.1:{port}/binance/klines?{hours}&limit=1000"
        bare = asyncio.run(ask_http([url] * counts.total()))
    bound = max(find_bound(source, count) for source, count in counts.items())
    return {
        "time": Pair(took, bound),
        "processor": Pair(1000 * used / counts.total(), 1000 * bare / counts.total()),
    }
