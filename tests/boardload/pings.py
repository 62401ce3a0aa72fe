"""Jobs that ping a board many times a second, and an account of what it acknowledged.

Each ping has a number, as the id of its run: of a body, secrets are left out, and all of it if there was no
time to look for them. What was acknowledged with 200 must be in the stream `pings:<svc>`, which keeps the
last hundred of a service: a reader follows all streams and notes every number.
"""

import asyncio
import threading
import time
import uuid
from collections import Counter
from typing import Self

import httpx
import redis

from marketswarm.bus import Bus
from marketswarm.operator.tokens import create_ping_key, write_ping_key

CONNECTIONS = 32
ANSWER_SEC = 10.0
RETRY_SEC = 0.3
TRIES = 30
"""How often it is looked whether the board knows the key; sixty wrong keys would be too many for it."""
PER_SERVICE = 25.0
"""How many pings a second a service has; the board allows a hundred."""


def name_jobs(rate: float) -> list[str]:
    """Return the names of as many services as share `rate` pings a second."""
    return [f"job{n}" for n in range(max(1, round(rate / PER_SERVICE)))]


class Pings:
    """`with Pings(url, bus_url, rate) as pings:` they ping in a thread, and another one reads the streams.

    `sent` counts all pings, `answers` the answers by status (0: the connection was lost), `acknowledged` has
    the numbers of those that were answered with 200, `stored` those that were read from the streams. They
    pinged for `seconds`.
    """

    def __init__(self, url: str, bus_url: str, rate: float) -> None:
        self.sent = 0
        self.answers: Counter[int] = Counter()
        self.acknowledged: set[int] = set()
        self.stored: Counter[int] = Counter()
        self._url, self._bus_url, self._rate = httpx.URL(url), bus_url, rate
        self.seconds = 0.0
        self._jobs = name_jobs(rate)
        self._secret = ""
        self._stop, self._is_read = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._ping, self._read)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * ANSWER_SEC)

    @property
    def lost(self) -> set[int]:
        """The numbers that were acknowledged, and are not on the bus; final at the end of the block."""
        return self.acknowledged - set(self.stored)

    @property
    def per_sec(self) -> float:
        """How many pings were acknowledged a second; final at the end of the block."""
        return len(self.acknowledged) / self.seconds if self.seconds else 0.0

    def _ping(self) -> None:
        asyncio.run(self._ping_all())

    async def _ping_all(self) -> None:
        bus = Bus("system-redis", self._bus_url)
        key, self._secret = create_ping_key("load", None, author="load", now=time.time())
        await write_ping_key(bus, key)
        await bus.aclose()
        for _ in range(TRIES):
            if await self._is_key_known():
                break
            await asyncio.sleep(RETRY_SEC)
        begun = time.monotonic()
        await asyncio.gather(*(self._ping_in_turn(begun) for _ in range(CONNECTIONS)))
        self.seconds = time.monotonic() - begun
        self._is_read.set()

    async def _is_key_known(self) -> bool:
        """Return True if the board takes pings with the new key, of which it learns within a second."""
        reader, writer = await asyncio.open_connection(self._url.host, self._url.port)
        try:
            return await self._send(0, reader, writer) == httpx.codes.OK
        finally:
            writer.close()

    async def _ping_in_turn(self, begun: float) -> None:
        """Send pings over one connection, each when it is due, until the end; connect again after a loss."""
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        while not self._stop.is_set():
            due = begun + self.sent / self._rate
            self.sent += 1
            number = self.sent
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            try:
                async with asyncio.timeout(ANSWER_SEC):
                    if reader is None or writer is None:
                        reader, writer = await asyncio.open_connection(self._url.host, self._url.port)
                    status = await self._send(number, reader, writer)
            except (OSError, EOFError, TimeoutError):
                status = 0
            self.answers[status] += 1
            if status == httpx.codes.OK:
                self.acknowledged.add(number)
            else:
                if writer is not None:
                    writer.close()
                reader = writer = None
                await asyncio.sleep(RETRY_SEC)
        if writer is not None:
            writer.close()

    async def _send(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        """Send one ping, and return the status of its answer."""
        job, body = self._jobs[number % len(self._jobs)], str(number)
        head = (
            f"POST /ping/{self._secret}/{job}?rid={uuid.UUID(int=number)} HTTP/1.1",
            f"Host: {self._url.host}",
            f"Content-Length: {len(body)}",
        )
        writer.write(("\r\n".join(head) + "\r\n\r\n" + body).encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        for line in answer.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await reader.readexactly(int(line.partition(b":")[2]))
        return int(answer.split(b" ", 2)[1])

    def _read(self) -> None:
        """Read all streams until everything is acknowledged and nothing more comes."""
        places: dict[str | bytes, str | bytes | int] = {f"pings:{job}": "0-0" for job in self._jobs}
        with redis.Redis.from_url(self._bus_url) as client:
            while True:
                was_over = self._is_read.is_set()
                found = client.xread(places, block=200)
                for name, entries in found:
                    for entry_id, fields in entries:
                        self.stored[uuid.UUID(fields[b"rid"].decode()).int] += 1
                        places[name.decode()] = entry_id
                if was_over and not found:
                    return
