"""Measure what it costs massive to copy a bar from a WebSocket to the stream.

A server in this process sends bars of fifty symbols, a hundred in a frame, as fast as massive receives them.
There is one connection, a real massive process and real servers. The limit is a bare client that only copies
the same bars from its WebSocket to a stream.
"""

import asyncio
import threading
import time
from typing import Any, Self

import orjson
import redis
from websockets.asyncio.server import ServerConnection, serve

from bench.figures import Pair, Sample
from bench.programs import Usage, Worker, run_program, wait_until, wait_until_idle
from bench.server import find_free_port, start_buses

SYMBOLS = [f"S{n:02d}" for n in range(50)]
MINUTE = 60_000
FRAME = 100
STREAM = "market:bars"
BARS = 100_000


def make_frames(bars: int) -> list[str]:
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
    """A WebSocket server that accepts any client and, once `may_send` is set, sends it all frames twice.

    `subscribed` is set when a client has authenticated and subscribed.
    """

    def __init__(self, frames: list[str]) -> None:
        self.port, self.may_send, self.subscribed = find_free_port(), threading.Event(), threading.Event()
        self._frames = frames
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._serve(),), daemon=True
        )
        self._closing = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
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
        for _ in range(2):
            for frame in self._frames:
                await client.send(frame)
        await client.wait_closed()


def make_section(port: int, symbols: list[str]) -> dict[str, Any]:
    """Have massive read these symbols from the server on `port`, without probes."""
    market = {"symbols": symbols, "feed": "real-time", "keep": 1_000_000}
    market |= {"ws_url": f"ws://127.0.0.1:{port}", "rest_url": f"http://127.0.0.1:{port}", "backfill_sec": 0}
    return {"settings": {"market": market}}


def measure(scale: float) -> Sample:
    """Send bars twice, first to massive and then to the bare client."""
    bars = round(BARS * scale)
    frames = make_frames(bars)
    with BarServer(frames) as server, start_buses({"massive": make_section(server.port, SYMBOLS)}) as buses:
        with (
            run_program("services.massive", buses, **server.environment()) as process,
            redis.Redis(port=buses[1].port) as client,
        ):
            assert server.subscribed.wait(30), "massive did not come"
            wait_until_idle(process.pid)
            usage = Usage(process.pid)
            server.may_send.set()
            wait_until(lambda: client.xlen(STREAM) >= bars, "every bar", 0.005)
            sec, new = usage.sec(), usage.cpu_sec()
            wait_until_idle(process.pid)  # it has handled the repeats, too
            known = usage.cpu_sec() - new
            assert client.xlen(STREAM) == bars, "a bar came twice"
        with BarServer(frames) as bare_server:
            address = f"ws://127.0.0.1:{bare_server.port}"
            with Worker("bench.limits", "bars", address, buses[1].port, "bare:bars") as bare:
                bare.read()
                bare.send(bars)
                began = time.monotonic()
                bare_server.may_send.set()
                bare_cpu = bare.read()
                bare_sec = time.monotonic() - began
    bare_us = 1e6 * bare_cpu / bars
    return {
        "new": Pair(1e6 * new / bars, bare_us),
        "known": Pair(1e6 * known / bars, bare_us),
        "rate": Pair(bars / sec, bars / bare_sec),
    }
