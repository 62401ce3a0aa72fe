"""Many browsers on one board, without the browsers: plain connections that parse the stream of events.

Each fetches the page again after an alert, as static/page.js does.
"""

import asyncio
import contextlib
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import orjson

RETRY_SEC = 0.3
LEAST_SEC = 0.2
SPREAD_SEC = 0.05
MAX_LINE = 16 * 1024 * 1024


@dataclass(slots=True)
class Seen:
    """What one follower got: events, pages, resets, numbers left out; seconds from alert to here."""

    events: int = 0
    pages: int = 0
    alerts: set[str] = field(default_factory=set)
    lost: int = 0
    resets: int = 0
    connections: int = 0
    delays: list[float] = field(default_factory=list)
    boot: str = ""
    number: int = 0

    @property
    def position(self) -> str:
        return f"{self.boot}-{self.number}"

    def take(self, kind: str, event_id: str, data: bytes) -> None:
        """Count an event; a number that does not follow the last one is a loss, but after a reset."""
        self.events += 1
        if kind == "reset":
            self.resets += 1
        elif event_id:
            boot, _, number = event_id.rpartition("-")
            if boot == self.boot and int(number) != self.number + 1:
                self.lost += abs(int(number) - self.number - 1)
        if event_id:
            boot, _, number = event_id.rpartition("-")
            self.boot, self.number = boot, int(number)
        if kind == "alert":
            alert: dict[str, Any] = orjson.loads(data)
            self.alerts.add(alert["id"])
            self.delays.append(time.time() - alert["ts"])


class Followers:
    """`with Followers(url, 100) as followers:` they follow in a thread, and connect again after each loss."""

    def __init__(self, url: str, count: int) -> None:
        self.seen = [Seen() for _ in range(count)]
        self._url = httpx.URL(url)
        self._loop = asyncio.new_event_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join(10)

    @property
    def are_connected(self) -> bool:
        """True once each has got an event."""
        return all(each.events for each in self.seen)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._follow_all())

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _follow_all(self) -> None:
        self._tasks = [asyncio.create_task(self._follow(seen)) for seen in self.seen]
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, seen: Seen) -> None:
        fetching = asyncio.create_task(self._fetch_pages(seen))
        self._tasks.append(fetching)
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._read_stream(seen)
            await asyncio.sleep(RETRY_SEC)

    async def _fetch_pages(self, seen: Seen) -> None:
        """Fetch the page of the fleet after each alert, at most every LEAST_SEC."""
        known = 0
        while True:
            await asyncio.sleep(SPREAD_SEC * random.random())
            if known == len(seen.delays):
                continue
            known = len(seen.delays)
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(self._url.host, self._url.port)
                head = "GET / HTTP/1.0", f"Host: {self._url.host}", "Accept-Encoding: gzip"
                writer.write("\r\n".join((*head, "", "")).encode())
                await reader.read(-1)
                writer.close()
                seen.pages += 1
            await asyncio.sleep(LEAST_SEC)

    async def _read_stream(self, seen: Seen) -> None:
        """Read the stream to its end, from the last event that this one has."""
        reader, writer = await asyncio.open_connection(self._url.host, self._url.port, limit=MAX_LINE)
        seen.connections += 1
        try:
            # HTTP/1.0: the body is not cut into chunks, and ends with the connection
            head = (
                "GET /api/v1/stream HTTP/1.0",
                f"Host: {self._url.host}",
                f"Last-Event-ID: {seen.position}",
            )
            writer.write("\r\n".join((*head, "", "")).encode())
            await reader.readuntil(b"\r\n\r\n")
            fields: dict[str, bytes] = {}
            while line := await reader.readline():
                name, _, value = line.strip().partition(b": ")
                if name:
                    fields[name.decode()] = value
                elif "event" in fields:
                    seen.take(
                        fields["event"].decode(), fields.get("id", b"").decode(), fields.get("data", b"")
                    )
                    fields = {}
        finally:
            writer.close()
