"""Measure pings over HTTP: what an answer costs, and whether the board holds a spike.

The board and its Redis are real processes, and so is the client. The limit is a bare uvicorn that answers OK
to the same client. After each part the entries that Redis has added to the streams are compared with the
acknowledged pings: none may be lost.
"""

import asyncio
import time
from typing import Any, Final, NamedTuple

import redis

from bench.figures import Pair, Sample
from bench.programs import Usage, Worker, read_result, run_program, wait_until
from bench.server import find_free_port, start_buses, wait_for_port
from marketswarm.bus import Bus
from marketswarm.operator.tokens import create_ping_key, write_ping_key

SERVICES: Final = 300
"""The board takes a hundred pings a second of each; a fast machine answers 10,000."""
CONNECTIONS: Final = 50
MEASURE_SEC: Final = 10.0
SPIKE_USERS: Final = 250
SPIKE_EVERY_SEC: Final = 0.25
"""A user's pause between two pings, on average: all of them send 1,000 a second."""


def prepare_bus(url: str) -> str:
    """Write a ping key for every service to the bus, and return its secret."""

    async def write() -> str:
        bus = Bus("system-redis", url)
        key, secret = create_ping_key("bench", None, author="bench", now=time.time())
        assert await write_ping_key(bus, key)
        await bus.aclose()
        return secret

    return asyncio.run(write())


def count_entries(client: "redis.Redis") -> int:
    keys = list(client.scan_iter("pings:*"))
    return sum(int(client.xinfo_stream(key)["entries-added"]) for key in keys)


def run_load(port: int, seconds: float, users: int, every_sec: float, paths: list[str]) -> dict[str, Any]:
    """Return what the client found. Raise RuntimeError if a request was not answered with 200."""
    found: dict[str, Any] = read_result("bench.load", "users", port, seconds, users, every_sec, *paths)
    if found["statuses"].keys() != {"200"}:
        raise RuntimeError(f"not every request was answered: {found['statuses']}")
    return found


class Served(NamedTuple):
    """Microseconds of a core for an answer, answers a second, the p99 of a spike in ms, and all answers."""

    cost_us: float
    rate: float
    spike_ms: float
    answers: int


def measure_server(port: int, pid: int, seconds: float, paths: list[str]) -> Served:
    usage = Usage(pid)
    fast = run_load(port, seconds, CONNECTIONS, 0, paths)
    cost_us = 1e6 * usage.cpu_sec() / fast["statuses"]["200"]
    spike = run_load(port, seconds, SPIKE_USERS, SPIKE_EVERY_SEC, paths)
    answers = fast["statuses"]["200"] + spike["statuses"]["200"]
    return Served(cost_us, fast["rate"], 1000 * spike["p99_sec"], answers)


def measure(scale: float) -> Sample:
    names, seconds = [f"job{n}" for n in range(SERVICES)], MEASURE_SEC * max(scale, 0.1)
    bare_port, port = find_free_port(), find_free_port()
    with Worker("bench.limits", "http", bare_port) as bare_server:
        wait_for_port(bare_port)
        bare = measure_server(bare_port, bare_server.pid, seconds, ["/"])
    jobs = {name: {"heartbeat": {"interval_sec": 600, "timeout_sec": 2000}} for name in names}
    with start_buses({"healer": {}, "board": {}, **jobs}) as buses, redis.Redis(port=buses[0].port) as client:
        secret = prepare_bus(buses[0].url)
        paths = [f"/ping/{secret}/{name}" for name in names]
        with run_program("services.board", buses, BOARD_PORT=str(port)) as board:
            wait_for_port(port)
            wait_until(lambda: takes_pings(port, paths[:1]), "the board to take pings", 0.5)
            before = count_entries(client)
            ours = measure_server(port, board.pid, seconds, paths)
            added = count_entries(client) - before
            assert added >= ours.answers, f"{ours.answers} acknowledged, and {added} on the streams"
    return {
        "processor": Pair(ours.cost_us, bare.cost_us),
        "rate": Pair(ours.rate, bare.rate),
        "spike": Pair(ours.spike_ms, bare.spike_ms),
    }


def takes_pings(port: int, paths: list[str]) -> bool:
    found = read_result("bench.load", "users", port, 0.2, 1, 0.05, *paths)
    return bool(found["statuses"].keys() == {"200"})
