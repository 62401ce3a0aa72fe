"""Answer as four public sources document their hours of crypto: `python -m bench.gate_market PORT`.

A program of its own, so that it shares no event loop with what the bench measures. Each source is found below
its name: `/kraken/0/public/OHLC?pair=…`. Every symbol is traded in every hour, also in the running one.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import orjson

HOUR_SEC: Final = 3600
MAX_ROWS: Final = 10_000

Query = Mapping[str, str]


def find_hours(start_sec: float, end_sec: float) -> range:
    """Return the hours that begin between two times, both included, as epoch seconds."""
    end = int(min(end_sec, time.time())) // HOUR_SEC * HOUR_SEC
    start = -(-int(start_sec) // HOUR_SEC) * HOUR_SEC
    return range(max(start, end - HOUR_SEC * (MAX_ROWS - 1)), end + HOUR_SEC, HOUR_SEC)


def make_prices(hour: int) -> tuple[float, float, float, float]:
    price = 100 + hour // HOUR_SEC % 97 / 10
    return price, price + 1.25, price - 1.5, price + 0.75


def make_texts(hour: int) -> list[str]:
    return [f"{price:.2f}" for price in make_prices(hour)]


def parse_iso(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def answer_kraken(query: Query) -> Any:
    """Answer with the last 720 hours."""
    rows = [
        [at, *make_texts(at), "100.1", "10.5", 4]
        for at in find_hours(time.time() - 720 * HOUR_SEC, time.time())
    ]
    return {"error": [], "result": {query["pair"]: rows, "last": rows[-2][0]}}


def answer_binance(query: Query) -> Any:
    """Answer with the oldest hours from a time on."""
    hours = find_hours(int(query["startTime"]) / 1000, int(query["endTime"]) / 1000)
    tail = ["1050.5", 4, "5.2", "520.1", "0"]
    return [
        [1000 * at, *make_texts(at), "10.5", 1000 * (at + HOUR_SEC) - 1, *tail]
        for at in hours[: int(query["limit"])]
    ]


def answer_coinbase(query: Query) -> Any:
    """Answer with the hours between two times, the newest first."""
    hours = find_hours(parse_iso(query["start"]), parse_iso(query["end"]))
    rows = []
    for at in reversed(hours[-300:]):
        opened, high, low, close = make_prices(at)
        rows.append([at, low, high, opened, close, 10.5])
    return rows


def answer_alpaca(query: Query) -> Any:
    """Answer with the hours of one pair between two times."""
    rows = []
    for at in find_hours(parse_iso(query["start"]), parse_iso(query["end"])):
        opened, high, low, close = make_prices(at)
        start = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        rows.append(
            {"t": start, "o": opened, "h": high, "l": low, "c": close, "v": 10.5, "n": 4, "vw": 100.1}
        )
    return {"bars": {query["symbols"]: rows}, "next_page_token": None}


ANSWERS: Final[Mapping[str, Callable[[Query], Any]]] = {
    "kraken": answer_kraken,
    "binance": answer_binance,
    "coinbase": answer_coinbase,
    "alpaca": answer_alpaca,
}


async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection until it ends."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.writelines(make_reply(head.split(b" ", 2)[1].decode()))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def make_reply(address: str) -> Iterator[bytes]:
    """Yield the head and the body of the answer to a path with its query."""
    parts = urlsplit(address)
    body = orjson.dumps(ANSWERS[parts.path.split("/")[1]](dict(parse_qsl(parts.query))))
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    yield body


async def main(port: int) -> None:
    server = await asyncio.start_server(serve_client, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
