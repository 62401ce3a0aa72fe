"""Measure how long a closed minute takes from its stream to its 13 indicators on all six timeframes.

The servers and the service are real. The minutes of 500 symbols are spread over a second, as those of a
market are, and then all come at the same moment. Both ends of a delay are ids of entries, which the server
makes of its own clock. The bench compares the service with a bare loop that reads the same entries by hiredis
and writes entries of the same size, and computes nothing. Linux only: reads /proc.
"""

import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import hiredis
import orjson
import redis

from bench.fleet import run_program, write_truth
from bench.footprint import cpu_sec, rss_mb
from bench.server import Server, connect, print_table, wait_until
from marketswarm.keys import CHECKED_BARS, INDICATORS, MARKET_BARS
from marketswarm.market.entries import encode_entry
from marketswarm.market.records import MINUTE_MS, TIMEFRAME_SEC, TIMEFRAMES, AssetClass, Bar, Provenance
from services.bars.loop import COLLECT_SEC

SYMBOLS: Final = 500
HISTORY: Final = 60
"""The minutes of each symbol before those that are measured."""
ROUNDS: Final = 8
"""The minutes of each symbol that are measured."""
STEPS: Final = 100
"""The steps in which the minutes of a round are spread over a second."""
BARE_PREFIX: Final = "bare:"
GOAL_MS: Final = 50
WITHIN_SEC: Final = 180.0

Ids = dict[tuple[str, int], int]
"""When the entry of a symbol's minute was written, in epoch milliseconds."""


@dataclass(frozen=True, slots=True)
class Result:
    """Hold the delays in milliseconds, in order, and the microseconds of a core that each minute took."""

    delays: Sequence[int]
    cost_us: float

    def format_delays(self) -> str:
        return f"p50 {self.find(0.5)} ms, p99 {self.find(0.99)} ms, max {self.delays[-1]} ms"

    def find(self, share: float) -> int:
        """Return the delay that this share of all minutes did not exceed."""
        return self.delays[min(len(self.delays) - 1, round(share * len(self.delays)))]


class Market:
    """Write the minutes of all symbols to the stream, as a source that is asked right now.

    `symbols` is how many there are.
    """

    def __init__(self, port: int, symbols: int) -> None:
        self.symbols = [f"S{number:03}" for number in range(symbols)]
        # hours ago, because that a minute is final by the clock is not what is measured
        self.next_ms = int(time.time() - 7200) * 1000 // MINUTE_MS * MINUTE_MS
        self._chance = random.Random(1)
        self._closes = dict.fromkeys(self.symbols, 100.0)
        self._sock, self._reader = connect(port), hiredis.Reader()

    def send_minute(self, steps: int = 1, spread_sec: float = 0.0) -> Ids:
        """Write the next minute of each symbol, in steps spread over some seconds; return their ids."""
        packed = [self._pack_bar(symbol) for symbol in self.symbols]
        size, began, ids = -(-len(packed) // steps), time.monotonic(), {}
        for at in range(0, len(packed), size):
            time.sleep(max(0.0, began + spread_sec * at / len(packed) - time.monotonic()))
            replies = self._send(packed[at : at + size])
            for symbol, reply in zip(self.symbols[at : at + size], replies, strict=True):
                ids[symbol, self.next_ms] = int(reply.partition(b"-")[0])
        self.next_ms += MINUTE_MS
        return ids

    def _pack_bar(self, symbol: str) -> bytes:
        before = self._closes[symbol]
        close = self._closes[symbol] = round(before * (1 + self._chance.gauss(0, 0.0005)), 4)
        high, low = round(max(before, close) + 0.01, 4), round(min(before, close) - 0.01, 4)
        bar = Bar(
            *(symbol, "1m", self.next_ms, before, high, low, close),
            volume=float(self._chance.randint(100, 10_000)),
            vwap=round((high + low + close) / 3, 4),
            trades=self._chance.randint(1, 500),
        )
        return _pack_add(MARKET_BARS, encode_entry(bar, AssetClass.CRYPTO, Provenance("one", time.time())))

    def _send(self, packed: Sequence[bytes]) -> list[bytes]:
        self._sock.sendall(b"".join(packed))
        return _read_replies(self._sock, self._reader, len(packed))


def _pack_add(stream: str, fields: Mapping[str, str]) -> bytes:
    words = [word for pair in fields.items() for word in pair]
    packed: bytes = hiredis.pack_command(("XADD", stream, "*", *words))  # type: ignore[arg-type]  # its types know one argument
    return packed


def _read_replies(sock: Any, reader: hiredis.Reader, count: int) -> list[bytes]:
    """Raise the first reply that is an error."""
    replies: list[Any] = []
    while len(replies) < count:
        reply = reader.gets()
        if reply is False:
            reader.feed(sock.recv(1 << 16))
        elif isinstance(reply, Exception):
            raise reply
        else:
            replies.append(reply)
    return replies


def find_start(start_ms: int, timeframe: str) -> int:
    """Return the start of the bar that a minute is in. These symbols trade round the clock."""
    return start_ms - start_ms % (1000 * TIMEFRAME_SEC[timeframe])


def find_delays(client: "redis.Redis", stream: str, written: Ids) -> list[int] | None:
    """Return how long each minute took to its entries on all timeframes, in order; None if one lacks any."""
    found: dict[tuple[str, str, int], list[int]] = {}
    entries: Any = client.xrange(stream, min=f"{min(written.values())}-0")
    for ident, fields in entries:
        key = (fields[b"sym"].decode(), fields[b"timeframe"].decode(), int(fields[b"start"]))
        found.setdefault(key, []).append(int(ident.partition(b"-")[0]))
    delays = []
    for (symbol, start_ms), sent_ms in written.items():
        for_each = [
            [
                at
                for at in found.get((symbol, timeframe, find_start(start_ms, timeframe)), [])
                if at >= sent_ms
            ]
            for timeframe in TIMEFRAMES
        ]
        if not all(for_each):
            return None
        delays.append(max(at[0] for at in for_each) - sent_ms)
    return sorted(delays)


def measure(client: "redis.Redis", market: Market, pid: int, stream: str, spread_sec: float) -> Result:
    """Send ROUNDS minutes of each symbol to the process `pid`, and wait for all results."""
    delays: list[int] = []
    used = cpu_sec(pid)
    for _ in range(ROUNDS):
        written = market.send_minute(STEPS if spread_sec else 1, spread_sec)
        time.sleep(0.5)  # looking costs the same Redis, so the first look comes when most is done
        wait_until(
            lambda: find_delays(client, stream, written) is not None,  # noqa: B023  # it is called here
            "the indicators of a minute",
            WITHIN_SEC,
            0.5,
        )
        delays += find_delays(client, stream, written) or []
    return Result(sorted(delays), 1e6 * (cpu_sec(pid) - used) / len(delays))


def copy_bare(port: int) -> None:
    """Answer each minute with entries like those that the service wrote last, until the process is ended."""
    with redis.Redis(port=port) as client:
        written = {
            stream: [
                {name.decode(): value.decode() for name, value in fields.items()}
                for timeframe in TIMEFRAMES
                for _, fields in client.xrevrange(stream, count=1000)
                if fields[b"timeframe"].decode() == timeframe
            ]
            for stream in (CHECKED_BARS, INDICATORS)
        }
    samples = [
        (BARE_PREFIX + stream, next(each for each in found if each["timeframe"] == timeframe))
        for stream, found in written.items()
        for timeframe in TIMEFRAMES
    ]
    sock, reader, upto = connect(port), hiredis.Reader(), b"$"
    print("ready", flush=True)
    while True:
        words = ("XREAD", "COUNT", "2000", "BLOCK", "250", "STREAMS", MARKET_BARS, upto)
        sock.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]  # its types know one argument
        reply: Any = _read_replies(sock, reader, 1)[0]
        for _, entries in reply or ():
            packed = [each for _, flat in entries for each in _pack_copies(flat, samples)]
            sock.sendall(b"".join(packed))
            _read_replies(sock, reader, len(packed))
            upto = entries[-1][0]


def _pack_copies(flat: Sequence[bytes], samples: Sequence[tuple[str, Mapping[str, str]]]) -> Iterator[bytes]:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    symbol, start_ms = fields[b"sym"].decode(), int(fields[b"start"])
    for stream, sample in samples:
        start = str(find_start(start_ms, sample["timeframe"]))
        yield _pack_add(stream, {**sample, "sym": symbol, "start": start})


@contextmanager
def run_bare(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the bare loop in a process of its own while the block runs."""
    words = [sys.executable, "-m", "bench.indicators", "bare", str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the bare loop did not start")
        try:
            yield process
        finally:
            process.terminate()


def write_history(market: Market) -> Ids:
    """Write HISTORY minutes of each symbol; return the ids of the last ones."""
    for _ in range(HISTORY - 1):
        market.send_minute()
    return market.send_minute()


def build_truth(symbols: Sequence[str]) -> bytes:
    """Return a truth with a service that builds the bars of these symbols."""
    section = {
        "heartbeat": {"interval_sec": 1, "timeout_sec": 60},
        "access_points": {"subscribe_to": [{"bus": "market-redis", "key": MARKET_BARS}]},
        "endpoints": [{"symbols": list(symbols), "asset": "crypto"}],
        "settings": {"keep": 2_000_000},
    }
    return orjson.dumps({"services": {"bars": section}})


def main(symbols: int = SYMBOLS) -> None:
    """Measure the service, spread and in a burst, and the bare loop."""
    with Server() as system, Server() as server, redis.Redis(port=server.port) as client:
        market = Market(server.port, symbols)
        write_truth([system, server], build_truth(market.symbols))
        last, began = write_history(market), time.monotonic()
        with run_program("services.bars", system, server) as process:
            wait_until(lambda: find_delays(client, INDICATORS, last), "the history", WITHIN_SEC, 0.5)
            rate, memory = HISTORY * symbols / (time.monotonic() - began), rss_mb(process.pid)
            time.sleep(COLLECT_SEC + 2)  # what the history left behind is collected once, when all is quiet
            spread = measure(client, market, process.pid, INDICATORS, 1.0)
            burst = measure(client, market, process.pid, INDICATORS, 0.0)
        with run_bare(server.port) as process:
            bare = measure(client, market, process.pid, BARE_PREFIX + INDICATORS, 1.0)
    ratio = spread.find(0.99) / max(1, bare.find(0.99))
    print_table(
        f"a minute of {symbols} symbols to 13 indicators on {len(TIMEFRAMES)} timeframes, {ROUNDS} times",
        (
            "bare XREAD and XADD, spread over 1 s",
            bare.format_delays(),
            f"{bare.cost_us:.0f} µs of a core each",
        ),
        ("bars, spread over 1 s", spread.format_delays(), f"{spread.cost_us:.0f} µs of a core each"),
        (
            "ratio",
            f"{ratio:.1f} of p99",
            f"{spread.cost_us / bare.cost_us:.1f} of the core; goal: {GOAL_MS} ms",
        ),
        ("bars, all at once", burst.format_delays(), f"{burst.cost_us:.0f} µs of a core each"),
        ("a history, with its start", f"{rate:,.0f} minutes/s", f"{memory:.0f} MB"),
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        copy_bare(int(sys.argv[2]))
    else:
        main(*map(int, sys.argv[1:]))
