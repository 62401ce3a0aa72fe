"""Measure how rss_agg reads a thousand feeds: the first time, when none has changed, and when all have.

The server and rss_agg are real; a site of 1,000 feeds with 20 items each is a process of its own. The feeds
are to be read every second, which is too often: so rss_agg reads each as soon as it can. Linux only: reads
/proc.
"""

import asyncio
import contextlib
import multiprocessing
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import orjson
import redis

from bench.fleet import run_program, write_truth
from bench.footprint import cpu_sec, rss_mb
from bench.server import Server, find_free_port, print_table, wait_until

FEEDS: Final = 1000
ITEMS: Final = 20
STREAM: Final = "rss:items"
MEASURE_SEC: Final = 10.0
PARSE_SEC: Final = 180.0
TEXT: Final = "Shares rose on Thursday after the company said that it would build what it had said. " * 4
ITEM: Final = (
    "<item><guid>{0}-{1}</guid><title>Item {1} of {0}</title><link>https://site.example/{0}/{1}</link>"
    "<pubDate>Thu, 20 Nov 2025 12:00:00 GMT</pubDate><description>&lt;p&gt;{2}&lt;/p&gt;</description></item>"
)


def build_feed(name: str, newest: int) -> bytes:
    items = "".join(ITEM.format(name, number, TEXT) for number in range(newest, newest - ITEMS, -1))
    return f'<?xml version="1.0"?><rss version="2.0"><channel>{items}</channel></rss>'.encode()


class Site:
    """A minimal web server on which every path is a feed: HTTP/1.1 with ETags.

    Args:
        newest: the shared number of the newest item of each feed.
        asked: the shared counter of requests.
    """

    def __init__(self, newest: Any, requests: Any) -> None:
        self._newest, self._requests = newest, requests
        self._bodies: dict[tuple[bytes, int], bytes] = {}

    async def serve(self, port: int) -> None:
        """Serve until cancelled."""
        async with await asyncio.start_server(
            self._answer_requests, "127.0.0.1", port, backlog=512
        ) as server:
            await server.serve_forever()

    async def _answer_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer 304 if the client has the current ETag, otherwise the feed."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                path, newest = request.split(b" ", 2)[1], self._newest.value
                tag = b'"%d"' % newest
                self._requests.value += 1
                if tag in request:
                    writer.write(b"HTTP/1.1 304 Not Modified\r\nETag: %b\r\n\r\n" % tag)
                else:
                    body = self._bodies.setdefault((path, newest), build_feed(path[1:].decode(), newest))
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nETag: %b\r\nContent-Length: %d\r\n\r\n" % (tag, len(body))
                    )
                    writer.write(body)
                await writer.drain()
        writer.close()


def serve_site(port: int, newest: Any, requests: Any) -> None:
    asyncio.run(Site(newest, requests).serve(port))


def build_truth(port: int, feeds: int) -> bytes:
    """Return a truth with an rss_agg that reads all feeds of the site every second."""
    section = {
        "heartbeat": {"interval_sec": 10, "timeout_sec": 60},
        "endpoints": [{"url": f"http://127.0.0.1:{port}/f{n}", "name": f"f{n}"} for n in range(feeds)],
        "settings": {"poll_sec": 1, "host_at_once": 16, "host_spacing_sec": 0, "stream_length": 1_000_000},
    }
    return orjson.dumps({"services": {"rss_agg": section}})


@contextlib.contextmanager
def run_site() -> Iterator[tuple[int, Any, Any]]:
    """Run a site in a process of its own while the block runs.

    Yields:
        Its port, the shared number of the newest item of each feed, and the shared counter of requests.
    """
    port, newest, requests = (
        find_free_port(),
        multiprocessing.Value("i", ITEMS),
        multiprocessing.Value("i", 0),
    )
    process = multiprocessing.Process(target=serve_site, args=(port, newest, requests), daemon=True)
    process.start()
    try:
        yield port, newest, requests
    finally:
        process.kill()
        process.join()


def wait_for_items(client: redis.Redis, items: int) -> float:
    """Return how many seconds it took until the stream had `items` items."""
    begun = time.monotonic()
    wait_until(lambda: client.xlen(STREAM) >= items, f"{items} items", PARSE_SEC)
    return time.monotonic() - begun


def main(feeds: int = FEEDS) -> None:
    """Measure the first reading, unchanged feeds and changed feeds."""
    with Server() as system, Server() as market, redis.Redis(port=market.port) as client, run_site() as found:
        port, newest, requests = found
        write_truth([system, market], build_truth(port, feeds))
        with run_program("services.rss_agg", system, market) as process:
            first_sec = wait_for_items(client, feeds * ITEMS)
            time.sleep(2)  # every feed is on its own schedule then; rss_agg polls, so it is never idle
            before, used, begun = requests.value, cpu_sec(process.pid), time.monotonic()
            time.sleep(MEASURE_SEC)
            unchanged = (requests.value - before) / (time.monotonic() - begun)
            used = (cpu_sec(process.pid) - used) / (time.monotonic() - begun)
            newest.value += 1
            changed_sec = wait_for_items(client, feeds * (ITEMS + 1))
            memory = rss_mb(process.pid)
        assert client.xlen(STREAM) == feeds * (ITEMS + 1)
    print_table(
        f"rss_agg, {feeds:,} feeds of {ITEMS} items",
        ("the first reading of all", f"{first_sec:.1f} s", "kept to 20 a second"),
        ("none has changed", f"{unchanged:.0f} feeds a second", f"{100 * used:.0f} % of a core"),
        ("all have one new item", f"{feeds / changed_sec:.0f} feeds a second", f"{changed_sec:.1f} s"),
        ("memory", f"{memory:.0f} MB RSS", "beside the process that parses"),
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
