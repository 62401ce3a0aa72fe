"""Serve a market of our own over HTTP and WebSocket on 127.0.0.1, as public sources would serve it.

Each source is found at `server.url(name)`, and `SOURCES_BASE_URLS` takes `server.base_urls()`. Which vices a
source has is set at run time, by `set_vice`, or from another process by POST to `/_market/vices`:
`{"kraken": [{"kind": "limited", "retry_after": "7"}]}`; GET of `/_market/state` says what was asked.

As a program, from tests/: `python -m support.market_server --port 8900 --week 2026-11-23 --speed 600`, or
with `--week now --speed 0` for clients that go by the wall clock. Its first line says where it is.
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from support.market_prices import Market
from support.market_shapes import SHAPES, Answer, Asked, json_answer
from support.market_stream import KlineStream
from support.market_view import MarketView, Vice, ViceKind
from support.waiting import PATIENT_SEC, until

HOST: Final = "127.0.0.1"
KEYS: Final = {
    "ALPHA_VANTAGE_API_KEY": "alpha_vantage",
    "APCA_API_KEY_ID": "alpaca",
    "FINNHUB_API_KEY": "finnhub",
    "FRED_API_KEY": "fred",
    "OANDA_API_TOKEN": "oanda",
    "POLYGON_API_KEY": "massive",
    "TWELVE_DATA_API_KEY": "twelve_data",
}
"""The variables of the keys, and of which source each is."""
SECRETS: Final = {"APCA_API_SECRET_KEY": "alpaca"}
MAX_HEAD: Final = 65_536
MAX_BODY: Final = 1_000_000
HUGE_BYTES: Final = 25_000_000
DEEP: Final = 100_000
PAGE_FOR_PEOPLE: Final = (
    b"<!DOCTYPE html>\n<html><head><title>Please wait</title></head><body>busy</body></html>"
)
_CHUNK: Final = b"0," * 250_000


@dataclass(frozen=True, slots=True)
class Request:
    """Hold a request that came.

    Attributes:
        at: when, by the monotonic clock.
        at_ms: when, by the market's clock.
        source: which source was asked; the path and the query are below its address.
        key: the key that was sent; empty where there was none, or the source takes none.
        status: of the answer; 0 where none was sent, or not all of it.
        vice: which vice the answer had; empty for none.
    """

    at: float
    at_ms: int
    source: str
    path: str
    query: Mapping[str, str]
    key: str
    status: int
    vice: str


class PlayClock:
    """Count epoch milliseconds from `begin_ms` on, `speed` times as fast as they pass."""

    def __init__(self, begin_ms: int, speed: float = 1.0) -> None:
        self.begin_ms, self.speed = begin_ms, speed
        self._begun = time.monotonic()

    def __call__(self) -> int:
        return self.begin_ms + round(1000 * (time.monotonic() - self._begun) * self.speed)


class ManualClock:
    """Stand at `now_ms` until somebody moves it."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def key_of(source: str, number: int = 1) -> str:
    """Return a key that a source takes; it takes any number of them."""
    return f"{source}-test-key-{number}"


class MarketServer:
    """Serve a market: `async with MarketServer(market, now_ms) as server:`.

    Args:
        market: what there is.
        now_ms: the market's clock, in epoch milliseconds; what is later nobody knows yet.
        port: where to listen for HTTP; 0 for any free one.
        stream_port: the same for WebSockets.
    """

    def __init__(
        self,
        market: Market,
        now_ms: Callable[[], int] | None = None,
        port: int = 0,
        stream_port: int = 0,
    ) -> None:
        self.market = market
        self.now_ms = now_ms or (lambda: round(1000 * time.time()))
        self.requests: list[Request] = []
        self.port = port
        self.stream = KlineStream(market, self.now_ms, lambda: self._vices.get("binance_stream", ()))
        self._stream_port = stream_port
        self._vices: dict[str, tuple[Vice, ...]] = {}
        self._answering: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._meet, HOST, self.port, limit=MAX_HEAD)
        self.port = self._server.sockets[0].getsockname()[1]
        try:
            await self.stream.open(HOST, self._stream_port)
        except BaseException:
            self._server.close()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        answering = dict(self._answering)
        for writer in answering.values():
            writer.transport.abort()  # what reads or writes there ends by that
        await asyncio.gather(*answering, return_exceptions=True)
        await self._server.wait_closed()
        await self.stream.close()

    # -- for whoever asks

    def url(self, source: str) -> str:
        """Return the address of a source, instead of that in its file."""
        return f"http://{HOST}:{self.port}/{source}"

    def base_urls(self) -> str:
        """Return the addresses of all sources as JSON, for the variable SOURCES_BASE_URLS."""
        return orjson.dumps({source: self.url(source) for source in SHAPES}).decode()

    @property
    def stream_url(self) -> str:
        """The address of the stream of Binance; connect to it, or to `/ws/<stream>` below it."""
        return f"ws://{HOST}:{self.stream.port}"

    @property
    def connected(self) -> int:
        """How many connections are open."""
        return len(self._answering)

    def environment(self) -> dict[str, str]:
        """Return the variables with which a process asks this market: addresses and keys."""
        keys = {name: key_of(source) for name, source in (KEYS | SECRETS).items()}
        return {"SOURCES_BASE_URLS": self.base_urls(), **keys}

    # -- for whoever steers

    def set_vice(self, source: str, *vices: Vice | ViceKind) -> None:
        """Give a source these vices instead of those that it had; none makes it honest.

        `binance_stream` is the WebSocket of Binance. This may be called from any thread.
        """
        if source not in SHAPES and source != "binance_stream":
            raise KeyError(source)
        self._vices[source] = tuple(Vice(each) if isinstance(each, ViceKind) else each for each in vices)

    def count_requests(self, source: str) -> int:
        """Return how often a source was asked."""
        return sum(each.source == source for each in list(self.requests))

    def find_busiest(self, source: str, window_sec: float) -> int:
        """Return the most requests that a source got from one key within any window of so many seconds."""
        times: dict[str, list[float]] = {}
        for each in list(self.requests):
            if each.source == source:
                times.setdefault(each.key, []).append(each.at)
        return max(
            (
                sum(begin <= at < begin + window_sec for at in found)
                for found in times.values()
                for begin in found
            ),
            default=0,
        )

    def read_all(self) -> None:
        """Wait until every request of those who asked until now is in `requests`, and all have hung up.

        What a killed client sent before it died is read after that, and much later while long answers are
        made. Call this from another thread than the server's, once no client is left that could ask.
        """
        # it is accepted after all that came before
        with socket.create_connection((HOST, self.port), timeout=PATIENT_SEC) as last:
            last.sendall(b"GET /nobody HTTP/1.1\r\n\r\n")
            last.recv(1)
        until(lambda: not self.connected, what="all who asked to hang up")

    # -- HTTP

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection until it ends."""
        task = asyncio.current_task()
        assert task is not None
        self._answering[task] = writer
        try:
            while await self._answer_request(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # whoever asked has hung up, or speaks no HTTP
        finally:
            self._answering.pop(task)
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return True if another one may come on this connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        _, target, _ = head[0].split(" ", 2)
        named = (line.partition(":") for line in head[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in named}
        length = int(headers.get("content-length", "0"))
        if not 0 <= length <= MAX_BODY:
            return False
        await reader.readexactly(length)
        parts = urlsplit(target)
        source, _, path = parts.path.lstrip("/").partition("/")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if source not in SHAPES:
            return await _send(writer, json_answer({"error": "no such source"}, 404))
        asked = Asked(f"/{unquote(path)}", query, headers)
        active = (each for each in self._vices.get(source, ()) if each.is_active(self.now_ms()))
        vice = next((each for each in active if each.kind in _OF_ANSWERS), None)
        answer = self._make_answer(source, asked)
        if vice is not None:
            answer = _spoil_answer(vice, source, answer)
        self._log(
            source, asked, 0 if vice and vice.kind in (ViceKind.HANG, ViceKind.CUT) else answer.status, vice
        )
        match vice and vice.kind:
            case ViceKind.HANG:
                while await reader.read(MAX_HEAD):  # until whoever asked hangs up
                    pass
            case ViceKind.CUT:
                body = answer.body
                writer.write(_head(answer, max(len(body), 2)) + body[: len(body) // 2])
                await writer.drain()
            case ViceKind.HUGE:
                writer.write(_head(answer, HUGE_BYTES) + b"[")
                for _ in range(HUGE_BYTES // len(_CHUNK)):
                    writer.write(_CHUNK)
                    await writer.drain()
            case _:
                return await _send(writer, answer)
        return False

    def _make_answer(self, source: str, asked: Asked) -> Answer:
        """Return the answer of a source, with the vices of its data."""
        shape = SHAPES[source]
        if shape.key is not None and not shape.key(asked).startswith(f"{source}-test-key-"):
            return shape.unauthorized
        return shape.answer(MarketView(self.market, self.now_ms(), self._vices.get(source, ())), asked)

    def _log(self, source: str, asked: Asked, status: int, vice: Vice | None) -> None:
        """Keep account of a request."""
        find_key = SHAPES[source].key
        key, kind = "" if find_key is None else find_key(asked), "" if vice is None else vice.kind.value
        self.requests.append(
            Request(
                time.monotonic(),
                self.now_ms(),
                source,
                asked.path,
                asked.query,
                key,
                status,
                kind,
            )
        )


# -- what goes over the wire


_STATUS: Final = {ViceKind.LIMITED: 429, ViceKind.TEAPOT: 418, ViceKind.BROKEN: 500}
_OF_ANSWERS: Final = frozenset(
    {*_STATUS, ViceKind.REFUSED, ViceKind.HANG, ViceKind.CUT, ViceKind.REDIRECT, ViceKind.HTML}
    | {ViceKind.WRONG_JSON, ViceKind.OTHER_SHAPE, ViceKind.HUGE, ViceKind.DEEP}
)


def _head(answer: Answer, length: int) -> bytes:
    """Return the head of an answer."""
    headers = (("Content-Type", answer.content_type), ("Content-Length", str(length)), *answer.headers)
    lines = (f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {answer.status} Answer\r\n{''.join(lines)}\r\n".encode("latin-1")


async def _send(writer: asyncio.StreamWriter, answer: Answer) -> bool:
    """Send an answer; return True, as another request may come."""
    writer.write(_head(answer, len(answer.body)) + answer.body)
    await writer.drain()
    return True


def _spoil_answer(vice: Vice, source: str, answer: Answer) -> Answer:
    """Return an answer as a source with a vice gives it."""
    retry = () if vice.retry_after is None else (("Retry-After", vice.retry_after),)
    match vice.kind:
        case ViceKind.REFUSED:
            return replace(SHAPES[source].refused, headers=retry)
        case ViceKind.REDIRECT:
            return Answer(302, b"", headers=(("Location", f"http://{HOST}:9/elsewhere"),))
        case ViceKind.HTML:
            return Answer(200, PAGE_FOR_PEOPLE, "text/html")
        case ViceKind.WRONG_JSON:
            return replace(answer, status=200, body=answer.body[: len(answer.body) // 2])
        case ViceKind.OTHER_SHAPE:
            return json_answer({"payload": {"items": [{"when": "soon"}]}})
        case ViceKind.DEEP:
            return Answer(200, b"[" * DEEP + b"]" * DEEP)
        case ViceKind.HUGE:
            return replace(answer, status=200)
        case ViceKind.LIMITED | ViceKind.TEAPOT | ViceKind.BROKEN:
            return Answer(_STATUS[vice.kind], b'{"error":"no"}', headers=retry)
    return answer


# -- in a thread


@contextlib.contextmanager
def run_market(
    market: Market, now_ms: Callable[[], int] | None = None, port: int = 0
) -> Iterator[MarketServer]:
    """Serve a market from a thread of its own, for tests whose own loop stands still or is killed."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    server = MarketServer(market, now_ms, port)
    try:
        run(server.__aenter__())
        try:
            yield server
        finally:
            run(server.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
