"""Send pings as fast as they are answered, or at a fixed rate, over connections that stay open.

    python -m bench.ping_load PORT SECONDS RATE PATH [PATH …]

A program of its own, so that it shares no event loop with what it measures. RATE 0 means as fast as possible.
It prints a JSON object: how many answers had which status, and how long they took.
"""

import asyncio
import json
import sys
import time
from collections import Counter, deque

CONNECTIONS = 50
GRACE_SEC = 10.0


class Load:
    """Requests that are due, connections that are free, and what became of the requests."""

    def __init__(self, paths: list[str]) -> None:
        self.requests = [
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\n\r\nping".encode()
            for path in paths
        ]
        self.statuses = Counter[str]()
        self.took: list[float] = []
        self.due: deque[float] = deque()
        self.free: list[Connection] = []
        self.sent = 0
        self.is_over = False
        self.is_paced = False

    def send_due(self) -> None:
        while self.due and self.free:
            self.free.pop().send(self.due.popleft())

    def next_request(self) -> bytes:
        self.sent += 1
        return self.requests[self.sent % len(self.requests)]


class Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, load: Load) -> None:
        self.load, self.buffer, self.begun, self.is_waiting = load, b"", 0.0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send a request, or wait until one is due."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        if self.load.is_paced:
            self.load.free.append(self)
        else:
            self.send(time.perf_counter())

    def send(self, due: float) -> None:
        self.begun, self.is_waiting = due, True
        self.transport.write(self.load.next_request())

    def data_received(self, data: bytes) -> None:
        """Count an answer when it is complete, and send the next request."""
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
            return
        self.load.statuses[head[9:12].decode()] += 1
        self.load.took.append(time.perf_counter() - self.begun)
        self.buffer, self.is_waiting = b"", False
        if self.load.is_paced:
            self.load.free.append(self)
            self.load.send_due()
        elif not self.load.is_over:
            self.send(time.perf_counter())

    def connection_lost(self, _error: Exception | None) -> None:
        if self.is_waiting:
            self.load.statuses["lost"] += 1


async def run_load(port: int, seconds: float, rate: float, paths: list[str]) -> Load:
    """Send requests for `seconds`, and wait for the last answers."""
    load, loop = Load(paths), asyncio.get_running_loop()
    load.is_paced = rate > 0
    connections = [
        (await loop.create_connection(lambda: Connection(load), "127.0.0.1", port))[1]
        for _ in range(CONNECTIONS)
    ]
    begun, made = time.perf_counter(), 0
    while (passed := time.perf_counter() - begun) < seconds:
        while made < passed * rate:
            load.due.append(begun + made / rate)
            made += 1
        load.send_due()
        await asyncio.sleep(0.001 if rate else 0.05)
    load.is_over = True
    until = time.perf_counter() + GRACE_SEC
    while (load.due or any(each.is_waiting for each in connections)) and time.perf_counter() < until:
        load.send_due()
        await asyncio.sleep(0.01)
    for each in connections:
        each.transport.close()
    await asyncio.sleep(0.05)
    return load


def main(port: str, seconds: str, rate: str, *paths: str) -> None:
    load = asyncio.run(run_load(int(port), float(seconds), float(rate), list(paths)))
    took = sorted(load.took) or [0.0]
    found = {
        "statuses": load.statuses,
        "median_sec": took[len(took) // 2],
        "p99_sec": took[int(len(took) * 0.99)],
        "most_sec": took[-1],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
