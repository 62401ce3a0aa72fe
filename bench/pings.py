"""Measure pings over HTTP: how many a second the board acknowledges, and whether it holds a spike.

The board and its Redis are real processes, and so is the client, with fifty connections that stay open. A
bare uvicorn that answers "OK" is measured in the same run, so that the ratio says what a ping costs beside
HTTP; so does the processor time of an answer, which a busy machine changes less. After each part the entries
that Redis has added to the streams are compared with the acknowledged pings.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import orjson
import redis

from bench.fleet import run_program, write_truth
from bench.footprint import cpu_sec
from bench.ping_load import CONNECTIONS
from bench.server import Server, find_free_port, print_table, wait_until
from marketswarm.bus import Bus
from marketswarm.bus.scripts import load_all_scripts
from marketswarm.operator.ping_keys import create_ping_key, write_ping_key
from marketswarm.seeding.functions import load_functions

SERVICES = 100
MEASURE_SEC = 10.0
SPIKE_SEC = 60.0
QUIET_PER_SEC = 250.0
SPIKE = 10
GOAL_PER_SEC = 5_000
BARE = """
import sys, uvicorn
async def app(scope, receive, send):
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"OK"})
quiet = {"log_level": "error", "access_log": False, "lifespan": "off"}
uvicorn.run(app, port=int(sys.argv[1]), http="httptools", loop="asyncio", **quiet)
"""


def run_load(port: int, seconds: float, rate: float, paths: list[str]) -> dict[str, Any]:
    words = [str(port), str(seconds), str(rate), *paths]
    command = [sys.executable, "-m", "bench.ping_load", *words]
    done = subprocess.run(command, capture_output=True, check=True, timeout=seconds + 60)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def run_bare_server(port: int) -> Iterator[int]:
    """Yield the process id."""
    process = subprocess.Popen([sys.executable, "-c", BARE, str(port)])
    try:
        wait_until(lambda: is_listening(port), "the program to listen", 30)
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def prepare_bus(url: str) -> str:
    """Write a ping key for every service to the bus, load our functions there, and return its secret."""

    async def write() -> str:
        bus = Bus("system-redis", url)
        await load_functions(bus, load_all_scripts())
        key, secret = create_ping_key("bench", None, author="bench", now=time.time())
        assert await write_ping_key(bus, key)
        await bus.aclose()
        return secret

    return asyncio.run(write())


def count_entries(client: "redis.Redis") -> int:
    keys = list(client.scan_iter("pings:*"))
    return sum(int(client.xinfo_stream(key)["entries-added"]) for key in keys)


def count_ok(found: dict[str, Any]) -> int:
    return int(found["statuses"].get("200", 0))


def main(seconds: float = MEASURE_SEC, spike_sec: float = SPIKE_SEC) -> None:
    """Measure both servers."""
    names = [f"job{n}" for n in range(SERVICES)]
    beat = {"heartbeat": {"interval_sec": 600, "timeout_sec": 2000}}
    truth = {"version": 1, "services": {"healer": {}, "board": {}, **dict.fromkeys(names, beat)}}
    bare_port, port = find_free_port(), find_free_port()
    with run_bare_server(bare_port) as pid:
        bare = run_load(bare_port, seconds, 0, ["/"])
        bare_cpu_sec = cpu_sec(pid)
    with Server() as system, Server() as market, redis.Redis(port=system.port) as client:
        write_truth([system, market], orjson.dumps(truth))
        secret = prepare_bus(system.url)
        paths = [f"/ping/{secret}/{name}" for name in names]
        with run_program("services.board", system, market, BOARD_PORT=str(port)) as board:
            wait_until(lambda: is_listening(port), "the board to listen", 30)
            wait_until(lambda: count_ok(run_load(port, 0.2, 50, paths)) > 0, "the board to take pings", 30)
            before, used = count_entries(client), cpu_sec(board.pid)
            fast = run_load(port, seconds, 0, paths)
            used = cpu_sec(board.pid) - used
            fast_entries = count_entries(client) - before
            run_load(port, 5, QUIET_PER_SEC, paths)
            before = count_entries(client)
            spike = run_load(port, spike_sec, SPIKE * QUIET_PER_SEC, paths)
            spike_entries = count_entries(client) - before
    per_sec, bare_per_sec = count_ok(fast) / seconds, count_ok(bare) / seconds
    print_table(
        f"pings over HTTP, {CONNECTIONS} connections, {SERVICES} services",
        ("acknowledged", f"{per_sec:,.0f} a second", f"goal: {GOAL_PER_SEC:,}"),
        ("a bare uvicorn", f"{bare_per_sec:,.0f} a second", f"ratio {per_sec / bare_per_sec:.2f}"),
        (
            "processor of an answer",
            f"{1e6 * used / count_ok(fast):.0f} µs",
            f"bare: {1e6 * bare_cpu_sec / count_ok(bare):.0f} µs",
        ),
        *describe_load(fast, fast_entries),
        ("a spike of ten times", f"{SPIKE * QUIET_PER_SEC:,.0f} a second", f"for {spike_sec:g} s"),
        *describe_load(spike, spike_entries),
    )


def describe_load(found: dict[str, Any], entries: int) -> Iterator[tuple[str, ...]]:
    """Yield rows on what became of the pings, and how many of them are on the streams."""
    answers = ", ".join(f"{status}: {count:,}" for status, count in found["statuses"].items())
    median, p99, most = (1e3 * found[name] for name in ("median_sec", "p99_sec", "most_sec"))
    yield "answers", answers, "goal: 200 alone"
    yield "on the streams", f"{entries:,} of {count_ok(found):,} acknowledged", "goal: no fewer"
    yield "time to the answer", f"median {median:.1f} ms, p99 {p99:.1f} ms", f"most {most:.0f} ms"


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
