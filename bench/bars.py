"""Measure how long a closed minute takes from its stream to its 13 indicators on six timeframes.

The servers and the service are real. The minutes of 500 symbols are spread over a second, as those of a
market are, and then all come at the same moment. Both ends of a delay are ids of entries, which the server
makes of its own clock. The bench compares the service with a bare loop that reads the same entries by hiredis
and writes entries of the same size, and computes nothing.

Of 10,000 symbols a minute is spread over 60 seconds, and it is counted which part of a core that takes.
"""

import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import hiredis
import redis

from bench.figures import Pair, Sample, percentile
from bench.programs import Usage, Worker, answer, pss_mb, run_program, wait_until
from bench.server import connect, pack_command, send_commands, start_buses
from marketswarm.keys import CHECKED_BARS, INDICATORS, MARKET_BARS, bars_state_key
from marketswarm.pages import split_pages
from services.bars.builder import BarBuilder
from services.bars.loop import COLLECT_SEC
from services.bars.outputs import Arrival
from services.bars.settings import BarsOptions, SymbolGroup
from services.bars.state import VERSION, SymbolState
from services.market.entries import encode_entry
from services.market.intervals import Grid
from services.market.records import (
    DAY_MS,
    MINUTE_MS,
    TIMEFRAME_SEC,
    AssetClass,
    Bar,
    Provenance,
    RecordKind,
)
from services.market.sessions import ROUND_THE_CLOCK, get_session

SYMBOLS: Final = 500
TIMEFRAMES: Final = ("1m", "5m", "15m", "1h", "4h", "1d")
"""Those of all figures of 500 symbols so far. 10,000 have all that the service makes by default."""
MANY_SYMBOLS: Final = 10_000
MANY_HISTORY: Final = 480
"""The minutes of each of many symbols before those that are measured: indicators of 1m to 15m have values."""
MINUTE_SEC: Final = 60.0
STEPS_OF_MINUTE: Final = 600
"""The steps in which the minutes of many symbols are spread over 60 seconds."""
MANY_WITHIN_SEC: Final = 3600.0
ENTRIES_AT_ONCE: Final = 5000
STATES_AT_ONCE: Final = 100
LOOK_EVERY_SEC: Final = 0.5
HISTORY: Final = 60
"""The minutes of each symbol before those that are measured."""
ROUNDS: Final = 8
"""The minutes of each symbol that are measured."""
STEPS: Final = 100
"""The steps in which the minutes of a round are spread over a second."""
BARE_PREFIX: Final = "bare:"

Ids = dict[tuple[str, int], int]
"""When the entry of a symbol's minute was written, in epoch milliseconds."""


class Market:
    """Write the minutes of all symbols to the stream, as a source that is asked right now.

    With `played_from_ms`, play minutes from this time on instead, each when it is over: the clock of the
    recording decides which bars are final then.
    """

    def __init__(self, port: int, symbols: Sequence[str], played_from_ms: int | None = None) -> None:
        self.symbols, self._is_replay = symbols, played_from_ms is not None
        # hours ago, because that a minute is final by the clock is not what is measured
        hours_ago_ms = int(time.time() - 7200) * 1000 // MINUTE_MS * MINUTE_MS
        self.next_ms = hours_ago_ms if played_from_ms is None else played_from_ms
        self._chance = random.Random(1)
        self._closes = dict.fromkeys(self.symbols, 100.0)
        self._sock, self._reader = connect(port), hiredis.Reader()

    def send_minute(self, steps: int = 1, spread_sec: float = 0.0) -> Ids:
        """Write the next minute of each symbol, in steps spread over some seconds; return their ids."""
        packed = [self._pack_bar(symbol, self.next_ms) for symbol in self.symbols]
        size, began, ids = -(-len(packed) // steps), time.monotonic(), {}
        for at in range(0, len(packed), size):
            time.sleep(max(0.0, began + spread_sec * at / len(packed) - time.monotonic()))
            replies = send_commands(self._sock, self._reader, packed[at : at + size])
            for symbol, reply in zip(self.symbols[at : at + size], replies, strict=True):
                ids[symbol, self.next_ms] = int(reply.partition(b"-")[0])
        self.next_ms += MINUTE_MS
        return ids

    def make_history(self, count: int) -> list[dict[str, str]]:
        """Return the entries of so many minutes, which all symbols have had: their prices continue there."""
        entries = []
        for _ in range(count):
            entries.append(self._make_entry(self.symbols[0], self.next_ms))
            self.next_ms += MINUTE_MS
        self._closes = dict.fromkeys(self.symbols, self._closes[self.symbols[0]])
        return entries

    def _pack_bar(self, symbol: str, start_ms: int) -> bytes:
        return pack_add(MARKET_BARS, self._make_entry(symbol, start_ms))

    def _make_entry(self, symbol: str, start_ms: int) -> dict[str, str]:
        before = self._closes[symbol]
        close = self._closes[symbol] = round(before * (1 + self._chance.gauss(0, 0.0005)), 4)
        high, low = round(max(before, close) + 0.01, 4), round(min(before, close) - 0.01, 4)
        bar = Bar(
            *(symbol, "1m", start_ms, before, high, low, close),
            volume=float(self._chance.randint(100, 10_000)),
            vwap=round((high + low + close) / 3, 4),
            trades=self._chance.randint(1, 500),
        )
        origin = Provenance("one", time.time())
        if self._is_replay:
            played_at = (start_ms + MINUTE_MS) / 1000
            origin = Provenance("one", played_at, is_replay=True, played_at=played_at)
        return encode_entry(bar, AssetClass.CRYPTO, origin)


def pack_add(stream: str, fields: Mapping[str, str]) -> bytes:
    return pack_command("XADD", stream, "*", *(word for pair in fields.items() for word in pair))


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


def send_rounds(
    client: "redis.Redis", market: Market, pid: int, stream: str, spread_sec: float
) -> tuple[list[int], float]:
    """Send ROUNDS minutes of each symbol to the process `pid`, and wait for all results.

    Returns:
        The delays in milliseconds, and the microseconds of a core for each minute.
    """
    delays: list[int] = []
    usage = Usage(pid)
    for _ in range(ROUNDS):
        written = market.send_minute(STEPS if spread_sec else 1, spread_sec)
        time.sleep(LOOK_EVERY_SEC)  # looking costs the same Redis, so the first look comes when most is done
        look = partial(find_delays, client, stream, written)
        delays += wait_until(look, "the indicators of a minute", LOOK_EVERY_SEC)
    return delays, 1e6 * usage.cpu_sec() / len(delays)


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
    answer("ready")
    while True:
        words = ("XREAD", "COUNT", "2000", "BLOCK", "250", "STREAMS", MARKET_BARS, upto)
        (reply,) = send_commands(sock, reader, [pack_command(*words)])
        for _, entries in reply or ():
            send_commands(sock, reader, [each for _, flat in entries for each in _pack_copies(flat, samples)])
            upto = entries[-1][0]


def _pack_copies(flat: Sequence[bytes], samples: Sequence[tuple[str, Mapping[str, str]]]) -> Iterator[bytes]:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    symbol, start_ms = fields[b"sym"].decode(), int(fields[b"start"])
    for stream, sample in samples:
        start = str(find_start(start_ms, sample["timeframe"]))
        yield pack_add(stream, {**sample, "sym": symbol, "start": start})


def write_history(market: Market) -> Ids:
    """Write HISTORY minutes of each symbol; return the ids of the last ones."""
    for _ in range(HISTORY - 1):
        market.send_minute()
    return market.send_minute()


def make_section(symbols: Sequence[str], **group: Any) -> dict[str, Any]:
    return {
        "access_points": {"subscribe_to": [{"bus": "market-redis", "key": MARKET_BARS}]},
        "endpoints": [{"symbols": list(symbols), "asset": "crypto", **group}],
        "settings": {"keep": 2_000_000},
    }


def measure(scale: float) -> Sample:
    """Measure the service, spread and in a burst, and the bare loop."""
    symbols = [f"S{number:03}" for number in range(round(SYMBOLS * scale))]
    section = make_section(symbols, timeframes=list(TIMEFRAMES))
    with start_buses({"bars": section}) as buses, redis.Redis(port=buses[1].port) as client:
        market, port = Market(buses[1].port, symbols), buses[1].port
        last = write_history(market)
        with run_program("services.bars", buses) as process:
            wait_until(lambda: find_delays(client, INDICATORS, last), "the history", LOOK_EVERY_SEC)
            time.sleep(COLLECT_SEC + 2)  # what the history left behind is collected once, when all is quiet
            spread, cost_us = send_rounds(client, market, process.pid, INDICATORS, 1.0)
            burst, _ = send_rounds(client, market, process.pid, INDICATORS, 0.0)
        with Worker("bench.bars", port) as worker:
            worker.read()
            bare, bare_us = send_rounds(client, market, worker.pid, BARE_PREFIX + INDICATORS, 1.0)
            bare_burst, _ = send_rounds(client, market, worker.pid, BARE_PREFIX + INDICATORS, 0.0)
    return {
        "processor": Pair(cost_us, bare_us),
        "late": pair_ms(spread, bare, 0.5),
        "p99": pair_ms(spread, bare, 0.99),
        "burst_p99": pair_ms(burst, bare_burst, 0.99),
    }


def measure_many(scale: float) -> Sample:
    """Measure one instance with 10,000 symbols, and a bare loop: the share of a core, and memory.

    The minutes of all symbols are spread over 60 seconds: the last one of a day, and then the first one of
    the next, with which the bars of all timeframes become final.
    """
    symbols = [f"S{number:05}" for number in range(round(MANY_SYMBOLS * scale))]
    midnight_ms = int(time.time()) * 1000 // DAY_MS * DAY_MS
    with start_buses({"bars": make_section(symbols)}) as buses, redis.Redis(port=buses[1].port) as client:
        port = buses[1].port
        market = Market(port, symbols, midnight_ms - MINUTE_MS * (MANY_HISTORY + 2))
        store_states(client, symbols, market.make_history(MANY_HISTORY))
        with run_program("services.bars", buses) as process:
            market.send_minute()  # with which each symbol's series of indicators are read
            wait_for_minute(client, INDICATORS, symbols, market.next_ms - MINUTE_MS, MANY_WITHIN_SEC)
            time.sleep(COLLECT_SEC + 2)  # what the history left behind is collected once, when all is quiet
            idle = Usage(process.pid)
            time.sleep(COLLECT_SEC)
            idle_percent = idle.percent()
            plain = send_spread(client, market, process.pid, INDICATORS)
            final = send_spread(client, market, process.pid, INDICATORS)
            kept_kb = 1000 * pss_mb(process.pid) / len(symbols)
        stored = [client.memory_usage(bars_state_key(each), samples=0) or 0 for each in symbols[:100]]
        with Worker("bench.bars", port) as worker:
            worker.read()
            bare = send_spread(client, market, worker.pid, BARE_PREFIX + INDICATORS)
    return {
        "minute": Pair(plain, bare),
        "final": Pair(final, bare),
        "idle": Pair(max(idle_percent, 0.01), bare),
        "memory": Pair(kept_kb, sum(stored) / len(stored) / 1000),
    }


def store_states(client: "redis.Redis", symbols: Sequence[str], history: Sequence[Mapping[str, str]]) -> None:
    """Write the state of each symbol, as bars stores it after these entries of one of them."""
    state, group = (
        SymbolState(symbols[0], epoch=1),
        SymbolGroup(symbols=(symbols[0],), asset=AssetClass.CRYPTO),
    )
    builder = BarBuilder(state, group, Grid(get_session(ROUND_THE_CLOCK)), BarsOptions(), {})
    for fields in history:
        raw = {name.encode(): value.encode() for name, value in fields.items()}
        written_ms = int(fields["start"]) + MINUTE_MS
        builder.take(Arrival(RecordKind.BARS, f"{written_ms}-0".encode(), raw))
        builder.flush(written_ms)
    stored: dict[Any, Any] = {**builder.pack_changes()[0], VERSION: b"1"}
    for page in split_pages(symbols, STATES_AT_ONCE):
        pipe = client.pipeline(transaction=False)
        for symbol in page:
            pipe.hset(bars_state_key(symbol), mapping=stored)
        pipe.execute()


def send_spread(client: "redis.Redis", market: Market, pid: int, stream: str) -> float:
    """Send the next minute of each symbol over 60 seconds, and wait for all results.

    Return the processor seconds of the process `pid` as percent of a minute.
    """
    usage, start_ms = Usage(pid), market.next_ms
    market.send_minute(STEPS_OF_MINUTE, MINUTE_SEC)
    wait_for_minute(client, stream, market.symbols, start_ms, MANY_WITHIN_SEC)
    return 100 * usage.cpu_sec() / MINUTE_SEC


def wait_for_minute(
    client: "redis.Redis", stream: str, symbols: Sequence[str], start_ms: int, within_sec: float
) -> None:
    """Wait until a stream has the minute of each symbol that begins then.

    Raises RuntimeError if one is missing after `within_sec` seconds.
    """
    missing, after, by = {each.encode() for each in symbols}, "-", time.monotonic() + within_sec
    wanted = (b"1m", str(start_ms).encode())
    while missing:
        entries: Any = client.xrange(stream, min=after, count=ENTRIES_AT_ONCE)
        for ident, fields in entries:
            after = f"({ident.decode()}"
            if (fields[b"timeframe"], fields[b"start"]) == wanted:
                missing.discard(fields[b"sym"])
        if len(entries) < ENTRIES_AT_ONCE:
            time.sleep(LOOK_EVERY_SEC)
        if time.monotonic() > by:
            raise RuntimeError(f"not within {within_sec:g} s: the minute of {len(missing)} symbols")


def pair_ms(ours: Sequence[int], bare: Sequence[int], share: float) -> Pair:
    """Compare what this share of all minutes did not exceed; the server's clock tells no less than 1 ms."""
    return Pair(max(1, percentile(ours, share)), max(1, percentile(bare, share)))


if __name__ == "__main__":
    copy_bare(int(sys.argv[1]))
