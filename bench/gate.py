"""Measure how long the gate of sources takes to load 500 series within the limits of their sources.

The gate, the buses and every request are real; a light server answers as the sources document it
(gate_market.py). The bench compares the time with what the limits alone allow: a source that takes L requests
in W seconds has answered n of them (⌈n / L⌉ - 1) · W seconds after the first at the earliest, and the slowest
source decides.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any, Final

import orjson
import redis

from bench.fleet import ROOT, run_program, write_truth
from bench.server import Server, find_free_port, print_table, wait_until
from marketswarm.keys import MARKET_BARS, MARKET_DOWNLOADS, PRELOAD_STATUS
from services.sources.catalog.files import shipped_catalog

MIX: Final[Mapping[str, int]] = {
    "kraken": 60,
    "coinbase": 60,
    "okx": 60,
    "binance": 100,
    "bybit": 60,
    "kucoin": 60,
    "gate_io": 50,
    "alpaca": 50,
}
"""How many series each source serves: hours of crypto, each of another symbol."""
HISTORY_DAYS: Final = 5.0
WITHIN_SEC: Final = 240.0


def make_truth() -> bytes:
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
    beats = {"interval_sec": 10, "timeout_sec": 60}
    settings = {"gate": {"share": 1.0, "timeout_sec": WITHIN_SEC}}
    section = {"heartbeat": beats, "endpoints": endpoints, "settings": settings}
    return orjson.dumps({"services": {"sources": section}})


@contextlib.contextmanager
def run_market() -> Iterator[int]:
    """Run gate_market.py, and yield its port."""
    port = find_free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.gate_market", str(port)], cwd=ROOT)
    try:
        wait_until(lambda: is_open(port), "the stand-in of the sources")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def find_bound(source: str, requests: int) -> float:
    """Return the seconds after which a source has answered so many requests at the earliest."""
    windows = shipped_catalog()[source].limits.windows()
    return max((ceil(requests / limit) - 1) * float(sec) for sec, limit in windows)


def run_gate(system: Server, market: Server, port: int) -> tuple[float, float]:
    """Return the seconds that the gate took, and those of a processor."""
    urls = {source: f"http://127.0.0.1:{port}/{source}" for source in MIX}
    keys = {"APCA_API_KEY_ID": "bench", "APCA_API_SECRET_KEY": "bench"}
    variables = {"SOURCES_BASE_URLS": orjson.dumps(urls).decode(), **keys}
    began, before = time.monotonic(), os.times()
    with run_program("services.sources.gate", system, market, **variables) as program:
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


def main() -> None:
    """Run the gate once."""
    with (
        Server() as system,
        Server() as market,
        run_market() as port,
        redis.Redis(port=market.port) as client,
    ):
        write_truth([system, market], make_truth())
        took, used = run_gate(system, market, port)
        status: dict[str, Any] = orjson.loads(client.get(PRELOAD_STATUS) or b"{}")
        if status.get("state") != "open" or status["loaded"] != sum(MIX.values()):
            raise RuntimeError(f"the gate is {status.get('state')}: {str(status.get('failed'))[:2000]}")
        counts, bars = count_requests(client), client.xinfo_stream(MARKET_BARS)["entries-added"]
    bounds = {source: find_bound(source, count) for source, count in counts.items()}
    slowest = max(bounds, key=bounds.__getitem__)
    print_table(
        f"The gate: {sum(MIX.values())} series of {len(MIX)} sources within their limits",
        ("requests", f"{counts.total():,}", f"{bars:,} bars published"),
        (
            "the limits alone",
            f"{bounds[slowest]:.0f} s",
            f"{slowest}: {counts[slowest]} requests; all in turn: {sum(bounds.values()):.0f} s",
        ),
        ("the gate, with its start", f"{took:.1f} s", f"{took / bounds[slowest]:.2f} of it"),
        ("processor time of the gate", f"{used:.1f} s", f"{1000 * used / counts.total():.1f} ms a request"),
    )


if __name__ == "__main__":
    main()
