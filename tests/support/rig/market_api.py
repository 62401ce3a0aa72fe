"""A stand-in for the market data API: a real WebSocket server and a real HTTP server on 127.0.0.1, scripted.

It makes a bar a minute of each of its symbols, by a clock of its own that may run fast, tells those who
subscribed, and has them all for who asks by REST. It keeps a ledger of who came and what was asked. A *mood*
is how it treats the next connection: `moods.append(mute)`; without one it is honest.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast
from urllib.parse import parse_qs, urlsplit

import orjson
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from support.rig.process import HOST

MINUTE = 60_000
KEY = "a-key-that-nobody-may-see"


def status(word: str, message: str = "") -> str:
    return orjson.dumps([{"ev": "status", "status": word, "message": message}]).decode()


def bar(sym: str, start: int) -> dict[str, Any]:
    """The one bar of that minute, the same whoever asks, and however."""
    price = 100 + (start // MINUTE) % 50 + len(sym) / 4
    return {
        "o": price,
        "h": price + 1.5,
        "l": price - 1,
        "c": price + 0.25,
        "v": start // MINUTE % 997,
        "vw": price,
    }


def told(sym: str, start: int) -> dict[str, Any]:
    """As the stream tells it."""
    return {"ev": "AM", "sym": sym, **bar(sym, start), "s": start, "e": start + MINUTE, "av": 1, "z": 1}


class Clock:
    """Epoch milliseconds that pass `speed` times as fast as they do, since `began`."""

    def __init__(self, speed: float = 1.0, began: float | None = None) -> None:
        self.speed, self.began = speed, time.time() if began is None else began

    def __call__(self) -> float:
        return 1000 * (self.began + (time.time() - self.began) * self.speed)


Mood = Callable[["SmallMarket", ServerConnection], Awaitable[None]]


class SmallMarket:
    """`with SmallMarket("AAPL", "MSFT") as market:`; `made` is every bar there is, by symbol."""

    def __init__(self, *symbols: str, clock: Clock | None = None, page: int = 5000) -> None:
        self.clock, self.page = clock or Clock(), page
        self.made: dict[str, list[int]] = {sym: [] for sym in symbols}
        self.moods: deque[Mood] = deque()
        self.answers: deque[tuple[int, dict[str, str], bytes]] = deque()  # of REST, before honest ones
        self.met: list[float] = []  # when connections came, monotonic
        self.keys: list[str] = []
        self.asks: list[tuple[str, str]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.asked_at: list[float] = []  # when those came, monotonic
        self.confirms = True
        self._open: dict[ServerConnection, set[str]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._web = _WebServer((HOST, 0), _Web)
        self._web.market = self
        self._serving = threading.Thread(target=self._web.serve_forever, args=(0.02,), daemon=True)
        self._server: Server
        self._making: asyncio.Task[None] | None = None
        self._made_until = self._sent_until = 0  # the last minutes that `run` made, and sent to subscribers

    def __enter__(self) -> Self:
        self._thread.start()
        self._serving.start()
        self._server = self.do(self._begin())
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_error: object) -> None:
        self.do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
        self._web.shutdown()
        self._web.server_close()
        self._serving.join(5)

    @property
    def ws(self) -> str:
        return f"ws://{HOST}:{self.port}/stocks"

    @property
    def rest(self) -> str:
        return f"http://{HOST}:{self._web.server_port}"

    @property
    def connected(self) -> int:
        return len(self._open)

    @property
    def subscribed(self) -> set[str]:
        """The symbols that somebody who is here now wants."""
        return set().union(*list(self._open.values()))

    def do(self, work: Awaitable[Any]) -> Any:
        """Has it done in the server's own loop."""

        async def done() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(10)

    def run(self) -> None:
        """Make bars from now on, each when its minute is over."""

        async def begin() -> None:
            self._made_until = self._sent_until = self.last_minute()
            self._making = asyncio.create_task(self._make_bars())

        self.do(begin())

    def stop(self) -> None:
        """Make no more."""

        async def end() -> None:
            while self._making is not None and not self._making.done():
                self._making.cancel()  # again: one that comes while a client is sent to may get lost
                await asyncio.wait([self._making], timeout=0.5)
            await self._send_due()

        self.do(end())

    def catch_up(self) -> None:
        """Make the bars of all minutes that are over, as who asks by REST finds them."""

        async def make() -> None:
            if self._making is not None and not self._making.done():
                self._make_due()

        if self._making is not None:
            self.do(make())

    def make(self, sym: str, start: int, *, tell: bool = True) -> None:
        """Make this bar; tell it to who wants it, or to nobody."""
        self.do(self._make(sym, start, tell))

    def send(self, frame: str | bytes) -> None:
        """Send this to all clients."""

        async def say() -> None:
            for each in list(self._open):
                await each.send(frame)

        self.do(say())

    def cut(self) -> None:
        """The connections are gone, without a word."""

        async def abort() -> None:
            for each in list(self._open):
                each.transport.abort()

        self.do(abort())

    def last_minute(self) -> int:
        """When the last minute that is over began."""
        return int(self.clock() // MINUTE) * MINUTE - MINUTE

    async def _begin(self) -> Server:
        return await serve(self._meet, HOST, 0, ping_interval=None, close_timeout=0.2)

    async def _close(self) -> None:
        if self._making is not None:
            self._making.cancel()
            await asyncio.gather(self._making, return_exceptions=True)
        self._server.close()
        await self._server.wait_closed()

    async def _make_bars(self) -> None:
        while True:
            await asyncio.sleep(MINUTE / 1000 / self.clock.speed / 4)
            self._make_due()
            await self._send_due()

    def _make_due(self) -> None:
        while self._made_until < self.last_minute():
            self._made_until += MINUTE
            for made in self.made.values():
                made.append(self._made_until)

    async def _send_due(self) -> None:
        while self._sent_until < self._made_until:
            for sym in self.made:
                await self._send_bar(sym, self._sent_until + MINUTE)
            self._sent_until += MINUTE

    async def _make(self, sym: str, start: int, tell: bool) -> None:
        self.made[sym].append(start)
        if tell:
            await self._send_bar(sym, start)

    async def _send_bar(self, sym: str, start: int) -> None:
        for each, wanted in list(self._open.items()):
            if sym in wanted:
                with contextlib.suppress(ConnectionClosed):
                    await asyncio.wait_for(each.send(orjson.dumps([told(sym, start)]).decode()), 1)

    async def _meet(self, connection: ServerConnection) -> None:
        self.met.append(time.monotonic())
        mood = self.moods.popleft() if self.moods else honest
        try:
            await mood(self, connection)
        except ConnectionClosed:
            pass
        finally:
            self._open.pop(connection, None)

    async def listen(self, connection: ServerConnection) -> None:
        """Take what an admitted connection asks, until it is closed."""
        wanted = self._open.setdefault(connection, set())
        async for message in connection:
            said = orjson.loads(message)
            self.asks.append((said["action"], said["params"]))
            for channel in said["params"].split(","):
                sym = channel.removeprefix("AM.")
                {"subscribe": wanted.add, "unsubscribe": wanted.discard}[said["action"]](sym)
                if self.confirms and said["action"] == "subscribe":
                    await connection.send(status("success", f"subscribed to: {channel}"))

    async def admit(self, connection: ServerConnection) -> bool:
        """Greet, look at the key; whether it will do."""
        await connection.send(status("connected", "Connected Successfully"))
        said = orjson.loads(await connection.recv())
        self.keys.append(said["params"])
        if said["action"] != "auth" or said["params"] != KEY:
            await connection.send(status("auth_failed", "authentication failed"))
            return False
        await connection.send(status("auth_success", "authenticated"))
        return True


async def honest(market: SmallMarket, connection: ServerConnection) -> None:
    if await market.admit(connection):
        await market.listen(connection)


async def mute(_market: SmallMarket, connection: ServerConnection) -> None:
    """Takes the connection and says nothing."""
    await connection.wait_closed()


def saying(*frames: str | bytes) -> Mood:
    """Lets in, says these, and goes on honestly."""

    async def mood(market: SmallMarket, connection: ServerConnection) -> None:
        if await market.admit(connection):
            for frame in frames:
                await connection.send(frame)
            await market.listen(connection)

    return mood


def ending(word: str, code: int = 1008, reason: str = "") -> Mood:
    """Lets in, says a status, and hangs up."""

    async def mood(market: SmallMarket, connection: ServerConnection) -> None:
        if await market.admit(connection):
            if word:
                await connection.send(status(word, "as it pleases us"))
            await connection.close(code, reason)

    return mood


class _WebServer(ThreadingHTTPServer):
    daemon_threads = True
    market: SmallMarket

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: a client that was killed hangs up."""


class _Web(BaseHTTPRequestHandler):
    """The REST side."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        market = cast("_WebServer", self.server).market
        market.catch_up()
        market.asked_at.append(time.monotonic())
        market.requests.append((self.path, dict(self.headers.items())))
        if market.answers:
            self._answer(*market.answers.popleft())
        elif self.headers.get("Authorization") != f"Bearer {KEY}":
            self._answer(401, {}, b'{"status":"ERROR"}')
        else:
            self._answer(200, {}, orjson.dumps(_document(market, self.path)))

    def _answer(self, code: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


def _document(market: SmallMarket, path: str) -> dict[str, Any]:
    parts = urlsplit(path)
    if parts.path == "/v1/marketstatus/now":
        return {"market": "open", "serverTime": "2026-11-20T10:00:00-05:00", "exchanges": {"nasdaq": "open"}}
    *_, sym, _range, _one, _minute, first, last = parts.path.split("/")
    after = int(parse_qs(parts.query).get("cursor", ["0"])[0])
    begun = [
        start for start in list(market.made.get(sym, [])) if max(int(first), after) <= start <= int(last)
    ]
    begun.sort()
    found: dict[str, Any] = {
        "ticker": sym,
        "adjusted": False,
        "status": "DELAYED",
        "results": [{**bar(sym, start), "t": start, "n": 3} for start in begun[: market.page]],
    }
    if len(begun) > market.page:
        found["next_url"] = f"{market.rest}{parts.path}?cursor={begun[market.page]}"
    return found
