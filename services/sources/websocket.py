"""Stream the minutes of Binance's pairs over a WebSocket, as its klines of a minute.

`KlineReader` is the protocol, without I/O. `stream_klines` connects, subscribes and reads, and connects again
with growing pauses when a connection ends or brings no bars. What was missed in between is not here: the
caller asks for it over HTTP. Everything that the server sends is hostile: what is not a kline is counted.

The messages and limits: https://github.com/binance/binance-spot-api-docs/blob/master/web-socket-streams.md
"""

import asyncio
import contextlib
import hashlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import isfinite, nan
from typing import Any, Final

import orjson

from marketswarm.net.errors import ConnectionEnded
from marketswarm.net.retry import Backoff
from marketswarm.net.websocket import WebSocketSession
from marketswarm.pages import split_pages
from marketswarm.tasks import run_beside
from services.market.documents import load_json, read_float
from services.market.records import DAY_MS, MINUTE_MS, Bar

MAX_STREAMS: Final = 1024
"""The most streams of one connection that the server takes."""
STREAMS_PER_REQUEST: Final = 200
REQUEST_PAUSE_SEC: Final = 0.25
"""The pause between two requests: the server closes a connection with more than five messages a second."""
MAX_FRAME_BYTES: Final = 1 << 16
MAX_QUEUED_FRAMES: Final = 64
"""The frames that wait in memory; then the server has to wait."""
MAX_NUMBER: Final = 1e18
MAX_EARLY_MS: Final = 2 * MINUTE_MS
"""How far ahead of our clock a minute may begin."""
BATCH_SEC: Final = 0.02
"""For how long after a bar others are waited for, to be delivered together."""
MAX_BATCH: Final = 500
OPEN_SEC: Final = 10.0
"""The limit for opening a connection."""
SILENT_SEC: Final = 60.0
"""After how long without a bar a connection is given up."""
BACKOFF: Final = Backoff(first_sec=1.0, longest_sec=60.0)


# -- the protocol


class Anomaly(StrEnum):
    """Name what made no sense in a frame."""

    MALFORMED = "malformed"  # no JSON object, or no kline
    UNEXPECTED = "unexpected"  # another event
    STRANGER = "stranger"  # a symbol that was not asked for
    IMPLAUSIBLE = "implausible"  # a minute of another day, or of the future
    REFUSED = "refused"  # a request that the server did not carry out


@dataclass(frozen=True, slots=True)
class StreamedBar:
    """A minute of a stream; once it `is_final`, `digest` is the SHA-256 of the frame that brought it."""

    bar: Bar
    is_final: bool
    digest: str = field(default="", compare=False)


class KlineReader:
    """Make requests for klines, and read any frame without raising; `symbols` has ours by the server's."""

    def __init__(self, symbols: Mapping[str, str], anomalies: Counter[Anomaly]) -> None:
        if len(symbols) > MAX_STREAMS:
            raise ValueError(f"{len(symbols)} symbols: a connection takes {MAX_STREAMS}")
        self.anomalies, self._symbols = anomalies, dict(symbols)

    def make_requests(self) -> Iterator[str]:
        """Yield the requests that subscribe to all symbols."""
        streams = [f"{spelled.lower()}@kline_1m" for spelled in sorted(self._symbols)]
        for number, params in enumerate(split_pages(streams, STREAMS_PER_REQUEST), 1):
            yield orjson.dumps({"method": "SUBSCRIBE", "params": params, "id": number}).decode()

    def read_frame(self, frame: bytes | str, now_ms: int) -> StreamedBar | None:
        """Return the minute in a frame that came at `now_ms` (epoch milliseconds); None if there is none."""
        found = self._parse_frame(frame, now_ms)
        if isinstance(found, Anomaly):
            self.anomalies[found] += 1
            return None
        if found is None or not found.is_final:
            return found
        raw = frame if isinstance(frame, bytes) else frame.encode("utf-8", "surrogatepass")
        return replace(found, digest=hashlib.sha256(raw).hexdigest())

    def _parse_frame(self, frame: bytes | str, now_ms: int) -> StreamedBar | Anomaly | None:
        """Return the minute in a frame, or what makes no sense in it; None for a confirmation."""
        try:
            event = load_json(frame)
        except ValueError:
            return Anomaly.MALFORMED
        if isinstance(event, dict) and isinstance(event.get("data"), dict):
            event = event["data"]  # of a combined stream
        if not isinstance(event, dict):
            return Anomaly.MALFORMED
        if event.get("e") == "kline":
            return self._parse_kline(event.get("k"), now_ms)
        if "result" in event and event["result"] is None:
            return None
        return Anomaly.REFUSED if {"error", "code"} & event.keys() else Anomaly.UNEXPECTED

    def _parse_kline(self, kline: Any, now_ms: int) -> StreamedBar | Anomaly:
        """Return the minute in a kline; an anomaly if it is malformed, foreign or implausible."""
        if not isinstance(kline, dict) or kline.get("i") != "1m":
            return Anomaly.MALFORMED
        spelled, start, is_final, trades = (kline.get(name) for name in "stxn")
        prices = [_parse_number(kline.get(name)) for name in "ohlcv"]
        if (
            not isinstance(spelled, str)
            or type(start) is not int
            or type(is_final) is not bool
            or (type(trades) is not int and trades is not None)
            or start % MINUTE_MS
            or not all(map(isfinite, prices))
        ):
            return Anomaly.MALFORMED
        if spelled not in self._symbols:
            return Anomaly.STRANGER
        if not now_ms - DAY_MS <= start <= now_ms + MAX_EARLY_MS:
            return Anomaly.IMPLAUSIBLE
        opened, high, low, close, volume = prices
        symbol = self._symbols[spelled]
        bar = Bar(symbol, "1m", start, opened, high, low, close, volume=volume, trades=trades)
        return StreamedBar(bar, is_final)


def _parse_number(value: Any) -> float:
    """Return a number that is written as text; not a number (nan) if it is anything else, or too large."""
    number = read_float(value) if isinstance(value, str) else None
    return number if number is not None and abs(number) < MAX_NUMBER else nan


# -- the connections


OnBars = Callable[[Sequence[StreamedBar]], Awaitable[None]]
OnEnd = Callable[[str, int], None]


class KlineConnection(WebSocketSession):
    """Connect to a server of klines at `url`, to which the path is added. Use as a context manager."""

    def __init__(self, url: str, reader: KlineReader) -> None:
        super().__init__(
            f"{url}/ws",
            "sources",
            open_sec=OPEN_SEC,
            silent_sec=SILENT_SEC,
            frame_bytes=MAX_FRAME_BYTES,
            queued_frames=MAX_QUEUED_FRAMES,
        )
        self._reader = reader

    async def subscribe(self) -> None:
        """Send all requests, no faster than the server takes them."""
        for request in self._reader.make_requests():
            await self.send(request)
            await asyncio.sleep(REQUEST_PAUSE_SEC)

    async def receive_bars(self) -> list[StreamedBar]:
        """Return the next bars: the first that comes, and those that come right after it.

        Raise ConnectionEnded when the connection ends or is silent. Frames without a bar are not a sign of
        life: a server that sends nothing else is as useless as a dead one.
        """
        bars: list[StreamedBar] = []
        try:
            async with asyncio.timeout(SILENT_SEC):
                while not bars:
                    await self._read_into(bars)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BATCH_SEC):
                    while len(bars) < MAX_BATCH:
                        await self._read_into(bars)
        except TimeoutError:
            raise ConnectionEnded("silent") from None
        except ConnectionEnded:
            if not bars:  # else the next call says so
                raise
        return bars

    async def _read_into(self, bars: list[StreamedBar]) -> None:
        found = self._reader.read_frame(await self.receive(), round(1000 * time.time()))
        if found is not None:
            bars.append(found)


async def stream_klines(reader: KlineReader, on_bars: OnBars, on_end: OnEnd, *, url: str) -> None:
    """Stream until the task is cancelled; whatever `on_bars` raises ends it, too.

    Args:
        on_bars: takes the bars in the order in which they came, those that are not final yet included.
        on_end: takes why a connection ended, in one word, and how many bars it brought, before the pause.
        url: where the server is; the path is added.
    """
    failures = 0
    while True:
        delivered = 0
        try:
            async with KlineConnection(url, reader) as connection, run_beside(connection.subscribe()):
                while True:
                    bars = await connection.receive_bars()
                    await on_bars(bars)
                    delivered += len(bars)
        except ConnectionEnded as ended:
            failures = 1 if delivered else failures + 1
            on_end(ended.reason, delivered)
        await asyncio.sleep(BACKOFF.pause_sec(failures, random.random()))
