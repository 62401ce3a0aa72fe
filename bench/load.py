"""Ask a server for paths as many users do, or follow the board's market as many clients do.

    python -m bench.load users PORT SECONDS USERS EVERY_SEC PATH [PATH …]
    python -m bench.load followers PORT SECONDS CLIENTS TOPIC [TOPIC …]

A program of its own, so that it shares no event loop with what it measures. A user has a connection, and asks
for one path after the other, every EVERY_SEC on average; with EVERY_SEC 0 as soon as the last answer came. If
there are enough paths, each user has its own, as a service is pinged by one job.
As a browser does, it opens a new connection where the board closed an idle one, and asks again.
A follower has a WebSocket with all topics, and notes how old each bar is when it comes: a bar's `asked_at` is
when the bench published it. It prints a JSON object.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import orjson
from websockets.asyncio.client import connect

from bench.figures import percentile
from bench.programs import answer

LOST: Final = "lost"
OK: Final = "200"
AT_ONCE: Final = 20
"""How many connections are opened at once: a board accepts them as fast as any server."""


class User(asyncio.Protocol):
    """One connection, with one request at a time; the status of an error has its text behind it."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._size = 0
        self._answer: asyncio.Future[str] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def ask(self, path: str) -> asyncio.Future[str]:
        """Return a future of the status, which is set when the answer is complete.

        A path may have the word POST before it; then the request has a body that Pushgateway takes.
        """
        method, _, path = path.rpartition(" ")
        body = b"beat 1\n" if method else b""
        head = f"{method or 'GET'} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\n"
        self.transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self._answer = asyncio.get_running_loop().create_future()
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Set the status of an answer when it is complete."""
        self._buffer += data
        if not self._size:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            self._size = end + 4 + int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        if len(self._buffer) >= self._size and self._answer is not None:
            status = self._buffer[9:12].decode()
            if status != OK:
                status += ": " + bytes(self._buffer).partition(b"\r\n\r\n")[2][:200].decode(
                    "utf-8", "replace"
                )
            self._buffer, self._size = bytearray(), 0
            self._answer.set_result(status)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(LOST)


async def open_user(port: int) -> User:
    return (await asyncio.get_running_loop().create_connection(User, "127.0.0.1", port))[1]


async def run_users(
    port: int, seconds: float, users: int, every_sec: float, paths: Sequence[str]
) -> dict[str, Any]:
    """Let users ask for `seconds`; return how many answers had which status, and how long they took."""
    statuses, took, last_at = Counter[str](), list[float](), 0.0
    opening, begin = asyncio.Semaphore(AT_ONCE), asyncio.Event()

    async def use(number: int) -> None:
        nonlocal last_at
        chance, own = random.Random(number), paths[number::users] if len(paths) >= users else paths
        async with opening:
            user = await open_user(port)
        opened.release()
        await begin.wait()
        over = time.perf_counter() + seconds
        while True:
            wait_sec = chance.expovariate(1 / every_sec) if every_sec else 0.0
            await asyncio.sleep(max(0.0, min(wait_sec, over - time.perf_counter())))
            if (sent := time.perf_counter()) >= over:
                break
            path = chance.choice(own)
            if user.transport.is_closing():
                user = await open_user(port)
            if (status := await user.ask(path)) == LOST:  # the board closed it as idle in that moment
                user = await open_user(port)
                status = await user.ask(path)
            statuses[status] += 1
            took.append(time.perf_counter() - sent)
            last_at = time.monotonic()
        user.transport.close()

    opened = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as group:
        for number in range(users):
            group.create_task(use(number))
        for _ in range(users):
            await opened.acquire()
        begin.set()
    return {"statuses": statuses, "rate": len(took) / seconds, "last_at": last_at, **describe(took)}


async def run_followers(port: int, seconds: float, clients: int, topics: Sequence[str]) -> dict[str, Any]:
    """Let clients follow for `seconds`; return how many bars came, and how old they were then."""
    took = list[float]()
    opening, over = asyncio.Semaphore(AT_ONCE), asyncio.Event()
    ready = asyncio.Semaphore(0)

    async def follow() -> None:
        async with opening:
            socket = await connect(f"ws://127.0.0.1:{port}/ws", compression=None, max_queue=None)
            await socket.recv()  # hello
            await socket.send(orjson.dumps({"subscribe": topics}).decode())
            await socket.recv()  # the snapshot
        ready.release()
        reading = asyncio.create_task(read(socket))
        await over.wait()
        reading.cancel()
        await socket.close()

    async def read(socket: Any) -> None:
        async for message in socket:
            now = 1000 * time.time()
            took.extend((now - one["data"]["asked_at"]) / 1000 for one in orjson.loads(message)["updates"])

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(follow())
        for _ in range(clients):
            await ready.acquire()
        took.clear()  # what came while others had still to connect
        await asyncio.sleep(seconds)
        over.set()
    return {"bars": len(took), **describe(took)}


def describe(took: Sequence[float]) -> dict[str, float]:
    shares = {"median_sec": 0.5, "p95_sec": 0.95, "p99_sec": 0.99}
    return {name: percentile(took or [0.0], share) for name, share in shares.items()}


def main(what: str, port: str, seconds: str, many: str, *rest: str) -> None:
    if what == "users":
        found = asyncio.run(run_users(int(port), float(seconds), int(many), float(rest[0]), rest[1:]))
    else:
        found = asyncio.run(run_followers(int(port), float(seconds), int(many), rest))
    answer(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
