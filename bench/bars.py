"""Measure how many bars a second massive copies from a WebSocket to the stream, its processor and memory.

A server in this process sends bars of fifty symbols, a hundred in a frame, as fast as massive receives them.
There is one connection, a real massive process and real servers. An idle massive is measured too. Linux only:
reads /proc.
"""

import asyncio
import sys
import threading
import time
from types import TracebackType
from typing import Self

import orjson
import redis
from websockets.asyncio.server import ServerConnection, serve

from bench.fleet import run_program, write_truth
from bench.footprint import cpu_sec, rss_mb, wait_until_idle
from bench.server import Server, find_free_port, print_table, wait_until

SYMBOLS = [f"S{n:02d}" for n in range(50)]
MINUTE = 60_000
FRAME = 100
STREAM = "market:bars"


def build_frames(bars: int) -> list[str]:
    """Return frames with `bars` bars of the last minutes, oldest first, as the API sends them.

    The bars of one minute are those of all symbols, in turn.
    """
    first = int(1000 * time.time() // MINUTE) * MINUTE - (bars // len(SYMBOLS) + 1) * MINUTE
    prices = {"o": 100.45, "c": 100.44, "h": 100.46, "l": 100.44, "vw": 100.4488, "a": 100.45, "op": 99.9}
    events = []
    for n in range(bars):
        start = first + n // len(SYMBOLS) * MINUTE
        bar = {"sym": SYMBOLS[n % len(SYMBOLS)], "s": start, "e": start + MINUTE, "v": 4110, "av": 9470157}
        events.append({"ev": "AM", **prices, "z": 685, **bar})
    return [orjson.dumps(events[at : at + FRAME]).decode() for at in range(0, bars, FRAME)]


class BarServer:
    """A WebSocket server that accepts any client and, once `may_send` is set, sends it all frames.

    All frames are sent `times` times. `subscribed` is set when a client has authenticated and subscribed.
    """

    def __init__(self, frames: list[str], times: int) -> None:
        self.port, self.may_send, self.subscribed = find_free_port(), threading.Event(), threading.Event()
        self._frames, self._times = frames, times
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._serve(),), daemon=True
        )
        self._closing = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(10)

    def environment(self) -> dict[str, str]:
        """Return the variables by which massive sends its key to this server."""
        address = f"127.0.0.1:{self.port}"
        return {
            "POLYGON_API_KEY": "bench",
            "MASSIVE_WS_URL": f"ws://{address}",
            "MASSIVE_REST_URL": f"http://{address}",
        }

    async def _serve(self) -> None:
        async with serve(self._serve_client, "127.0.0.1", self.port, compression=None):
            await self._closing.wait()

    async def _serve_client(self, client: ServerConnection) -> None:
        """Serve one client: accept its login and subscription, wait for `may_send`, send all frames.

        Then wait until the client closes the connection.
        """
        await client.send('[{"ev":"status","status":"connected"}]')
        await client.recv()
        await client.send('[{"ev":"status","status":"auth_success"}]')
        await client.recv()
        self.subscribed.set()
        await asyncio.to_thread(self.may_send.wait)
        for _ in range(self._times):
            for frame in self._frames:
                await client.send(frame)
        await client.wait_closed()


def build_truth(port: int, symbols: list[str]) -> bytes:
    """Return a truth with a massive that reads these symbols from the server on `port` and has no probes."""
    market = {"symbols": symbols, "feed": "real-time", "keep": 1_000_000}
    market |= {"ws_url": f"ws://127.0.0.1:{port}", "rest_url": f"http://127.0.0.1:{port}", "backfill_sec": 0}
    section = {"heartbeat": {"interval_sec": 1, "timeout_sec": 60}, "settings": {"market": market}}
    return orjson.dumps({"services": {"massive": section}})


def measure_idle() -> float:
    """Return the resident memory of a massive without symbols, in MB."""
    with Server() as system, Server() as market:
        write_truth([system, market], build_truth(find_free_port(), []))
        with (
            run_program("services.massive", system, market) as process,
            redis.Redis(port=system.port) as client,
        ):
            wait_until(lambda: client.get("beat:massive"), "a beat of massive")
            wait_until_idle(process.pid)
            return rss_mb(process.pid)


def measure_flow(bars: int, times: int = 2) -> tuple[float, float, float, float]:
    """Measure one massive that receives `bars` bars, `times` times.

    Returns:
        New bars a second, processor time for a new bar and for a repeated one in microseconds, and MB at the
        end.
    """
    frames = build_frames(bars)
    with Server() as system, Server() as market, BarServer(frames, times) as server:
        write_truth([system, market], build_truth(server.port, SYMBOLS))
        with (
            run_program("services.massive", system, market, **server.environment()) as process,
            redis.Redis(port=market.port) as client,
        ):
            if not server.subscribed.wait(30):
                raise RuntimeError("massive did not come")
            before, began = wait_until_idle(process.pid), time.monotonic()
            server.may_send.set()
            wait_until(lambda: client.xlen(STREAM) >= bars, "every bar", 300.0, 0.005)
            took, used = time.monotonic() - began, cpu_sec(process.pid) - before
            now = wait_until_idle(process.pid)  # it has handled the repeats, too
            if client.xlen(STREAM) != bars:
                raise RuntimeError("a bar came twice")
            return (
                bars / took,
                1e6 * used / bars,
                1e6 * (now - before - used) / bars / (times - 1),
                rss_mb(process.pid),
            )


def main(bars: int = 100_000) -> None:
    """Measure an idle massive, and one that receives `bars` bars twice."""
    idle_mb = measure_idle()
    rate, new_us, repeated_us, end_mb = measure_flow(bars)
    print_table(
        f"{bars:,} bars of {len(SYMBOLS)} symbols, {FRAME} a frame, each sent twice",
        (
            "from socket to stream",
            f"{rate:,.0f} bars/s",
            "all tickers there are: 11,000 in the second after a minute",
        ),
        ("processor", f"{new_us:.0f} µs a bar, {repeated_us:.0f} µs one that is known"),
        ("memory", f"{end_mb:.0f} MB RSS at the end, {idle_mb:.0f} MB idle"),
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
