"""Measure how rss_agg reads a thousand feeds: when none has changed, and when all have.

The server and rss_agg are real; a site of 1,000 feeds with 20 items each is a process of its own. The feeds
are to be read every second, which is too often: so rss_agg reads each as soon as it can. The limits are bare
requests by the same client for as many feeds, and feedparser alone on the same documents.
"""

import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import Iterator
from typing import Any, Final

import feedparser
import redis

from bench.figures import Pair, Sample
from bench.limits import ask_http
from bench.programs import Usage, run_program, wait_until
from bench.server import find_free_port, start_buses, wait_for_port

FEEDS: Final = 1000
ITEMS: Final = 20
STREAM: Final = "rss:items"
MEASURE_SEC: Final = 10.0
TEXT: Final = "Shares rose on Thursday after the company said that it would build what it had said. " * 4
ITEM: Final = (
    "<item><guid>{0}-{1}</guid><title>Item {1} of {0}</title><link>https://site.example/{0}/{1}</link>"
    "<pubDate>Thu, 20 Nov 2025 12:00:00 GMT</pubDate><description>&lt;p&gt;{2}&lt;/p&gt;</description></item>"
)


def make_feed(name: str, newest: int) -> bytes:
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
                    body = self._bodies.setdefault((path, newest), make_feed(path[1:].decode(), newest))
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nETag: %b\r\nContent-Length: %d\r\n\r\n" % (tag, len(body))
                    )
                    writer.write(body)
                await writer.drain()
        writer.close()


def serve_site(port: int, newest: Any, requests: Any) -> None:
    asyncio.run(Site(newest, requests).serve(port))


def make_section(port: int, feeds: int) -> dict[str, Any]:
    """Have rss_agg read all feeds of the site every second."""
    return {
        "endpoints": [{"url": f"http://127.0.0.1:{port}/f{n}", "name": f"f{n}"} for n in range(feeds)],
        "settings": {"poll_sec": 1, "host_at_once": 16, "host_spacing_sec": 0, "stream_length": 1_000_000},
    }


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
        wait_for_port(port)
        yield port, newest, requests
    finally:
        process.kill()
        process.join()


def parse_bare(feeds: int, newest: int) -> float:
    """Parse all feeds by feedparser alone; return the processor seconds."""
    documents = [make_feed(f"f{n}", newest) for n in range(feeds)]
    cpu = time.process_time()
    for document in documents:
        assert len(feedparser.parse(document).entries) == ITEMS
    return time.process_time() - cpu


def wait_for_items(client: "redis.Redis", items: int) -> None:
    wait_until(lambda: client.xlen(STREAM) >= items, f"{items} items")


def measure(scale: float) -> Sample:
    """Measure unchanged feeds, and feeds with a new item, in microseconds of a core for each."""
    feeds = round(FEEDS * scale)
    with (
        run_site() as (port, newest, requests),
        start_buses({"rss_agg": make_section(port, feeds)}) as buses,
        redis.Redis(port=buses[1].port) as client,
        run_program("services.rss_agg", buses) as process,
    ):
        wait_for_items(client, feeds * ITEMS)
        time.sleep(2)  # every feed is on its own schedule then; rss_agg polls, so it is never idle
        before, usage = requests.value, Usage(process.pid)
        time.sleep(MEASURE_SEC)
        unchanged, used = requests.value - before, usage.cpu_sec()
        newest.value += 1
        usage = Usage(process.pid)
        wait_for_items(client, feeds * (ITEMS + 1))
        changed_sec, changed = usage.sec(), usage.cpu_sec()
        assert client.xlen(STREAM) == feeds * (ITEMS + 1)
        process.terminate()
        urls = [f"http://127.0.0.1:{port}/f{n}" for n in range(feeds)]
        bare = asyncio.run(ask_http(urls, {"If-None-Match": f'"{newest.value}"'}))
    parsed = parse_bare(feeds, ITEMS + 1)
    return {
        "unchanged": Pair(1e6 * used / unchanged, 1e6 * bare / feeds),
        "changed": Pair(1e6 * changed / feeds, 1e6 * parsed / feeds),
        "changed_rate": Pair(feeds / changed_sec, feeds / parsed),
    }
