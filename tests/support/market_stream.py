"""Serve the minutes of a market over WebSocket as Binance's stream of klines does.

A client connects to `/ws/btcusdt@kline_1m`, to `/stream?streams=a/b`, or to `/ws` and subscribes. It gets the
minute that is not over at most every `PUSH_SEC`, and each minute once more when it is over, with `x` true.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import orjson
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from services.market.records import MINUTE_MS, AssetClass, Bar
from support.market_prices import Market
from support.market_view import MarketView, Vice, ViceKind

PUSH_SEC: Final = 0.05
HUGE_FRAME: Final = b"[" + b"0," * 2_000_000 + b"0]"
MAX_FRAME: Final = 65_536


@dataclass(slots=True)
class _Client:
    """Hold what a client wants, and how far it got with each stream."""

    connection: ServerConnection
    is_combined: bool
    sent_ms: dict[str, int] = field(default_factory=dict)  # stream -> the last minute that was sent as over


class KlineStream:
    """Send klines to whoever subscribed, by the market's clock, with the vices that `find_vices` returns."""

    def __init__(
        self, market: Market, now_ms: Callable[[], int], find_vices: Callable[[], Iterable[Vice]]
    ) -> None:
        self.port = 0
        self.connections = 0
        """How often somebody connected."""
        self._market, self._now_ms, self._find_vices = market, now_ms, find_vices
        self._streams = {
            symbol.replace("/", "").lower() + "@kline_1m": symbol
            for symbol, each in market.instruments.items()
            if each.asset is AssetClass.CRYPTO
        }
        self._clients: list[_Client] = []
        self._server: Server
        self._pushing: asyncio.Task[None]

    async def open(self, host: str, port: int) -> None:
        """Listen, and begin to send."""
        self._server = await serve(self._meet, host, port, max_size=MAX_FRAME, close_timeout=0.2)
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        self._pushing = asyncio.create_task(self._push())

    async def close(self) -> None:
        """End all connections."""
        self._pushing.cancel()
        await asyncio.gather(self._pushing, return_exceptions=True)
        self._server.close()
        self.cut()  # a client that is ended or busy may not answer a close for long
        await self._server.wait_closed()

    def cut(self) -> None:
        """Abort all connections, without a word to anybody."""
        for client in list(self._clients):
            client.connection.transport.abort()

    def _active_vices(self) -> Mapping[ViceKind, Vice]:
        """Return the vices of now."""
        now = self._now_ms()
        return {each.kind: each for each in self._find_vices() if each.is_active(now)}

    async def _meet(self, connection: ServerConnection) -> None:
        """Serve a client until it leaves."""
        self.connections += 1
        if ViceKind.LIMITED in self._active_vices():
            await connection.close(1008, "Too many requests")
            return
        assert connection.request is not None
        parts = urlsplit(connection.request.path)
        named = parse_qs(parts.query).get("streams", [""])[0].split("/")
        client = _Client(connection, parts.path == "/stream")
        self._subscribe(
            client, [parts.path.removeprefix("/ws").strip("/")] if not client.is_combined else named
        )
        self._clients.append(client)
        try:
            async for message in connection:
                await connection.send(self._take(client, message))
        except ConnectionClosed:
            pass
        finally:
            self._clients.remove(client)

    def _take(self, client: _Client, message: str | bytes) -> str:
        """Carry out what a client asks, and return what it is told."""
        try:
            asked = orjson.loads(message)
            streams, method = list(asked["params"]), asked["method"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return orjson.dumps({"error": {"code": 2, "msg": "Invalid request"}}).decode()
        if method == "SUBSCRIBE":
            self._subscribe(client, streams)
        elif method == "UNSUBSCRIBE":
            for stream in streams:
                client.sent_ms.pop(stream, None)
        return orjson.dumps({"result": None, "id": asked.get("id")}).decode()

    def _subscribe(self, client: _Client, streams: Iterable[str]) -> None:
        """Send these streams from now on; those that nobody knows are never sent, as there."""
        begun = self._now_ms() // MINUTE_MS * MINUTE_MS - MINUTE_MS
        for stream in streams:
            if stream in self._streams:
                client.sent_ms.setdefault(stream, begun)

    async def _push(self) -> None:
        """Send what is due, again and again."""
        while True:
            await asyncio.sleep(PUSH_SEC)
            vices = self._active_vices()
            if ViceKind.CUT in vices:
                self.cut()
            elif ViceKind.HANG not in vices:
                for client in list(self._clients):
                    with contextlib.suppress(ConnectionClosed, TimeoutError):
                        await asyncio.wait_for(self._push_to(client, vices), 2.0)

    async def _push_to(self, client: _Client, vices: Mapping[ViceKind, Vice]) -> None:
        """Send a client what is due."""
        for kind, frame in _BAD_FRAMES.items():
            if kind in vices:
                await client.connection.send(frame)
                return
        now = self._now_ms()
        for stream, sent_ms in list(client.sent_ms.items()):
            view = MarketView(self._market, now, vices.values())
            shift = view.shift_ms
            bars = view.find_bars(self._streams[stream], "1m", sent_ms + 1 + shift, now + shift)
            for bar in sorted(bars, key=lambda each: each.start_ms):
                is_over = bar.start_ms - shift + MINUTE_MS <= now
                await client.connection.send(self._encode(client, stream, bar, is_over))
                if is_over:
                    client.sent_ms[stream] = max(client.sent_ms.get(stream, 0), bar.start_ms - shift)

    def _encode(self, client: _Client, stream: str, bar: Bar, is_over: bool) -> str:
        """Return the message about a minute."""
        spelled = stream.partition("@")[0].upper()
        kline: dict[str, Any] = {
            "t": bar.start_ms,
            "T": bar.start_ms + MINUTE_MS - 1,
            "s": spelled,
            "i": "1m",
        }
        named = {"o": bar.open, "c": bar.close, "h": bar.high, "l": bar.low, "v": bar.volume}
        kline |= {name: f"{number or 0.0:.8f}" for name, number in named.items()}
        kline |= {"n": bar.trades, "x": is_over, "f": 1, "L": 2, "q": "0", "V": "0", "Q": "0", "B": "0"}
        event = {"e": "kline", "E": self._now_ms(), "s": spelled, "k": kline}
        return orjson.dumps({"stream": stream, "data": event} if client.is_combined else event).decode()


_BAD_FRAMES: Final[Mapping[ViceKind, str | bytes]] = {
    ViceKind.WRONG_JSON: '{"e":"kline","k":{"t":',
    ViceKind.HTML: "<html><body>busy</body></html>",
    ViceKind.OTHER_SHAPE: '{"payload":{"items":[]}}',
    ViceKind.DEEP: "[" * 100_000 + "]" * 100_000,
    ViceKind.HUGE: HUGE_FRAME,
}
