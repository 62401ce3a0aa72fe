"""Measure a reseed of 5,000 real agents on one bus: until the last has it in force, and the bytes on the bus.

The agents run by hundreds in a process (agents.py); their server and the seeding are real. The limit is a
bare client that reads the document from the bus once for each agent.
"""

import asyncio
import contextlib
import time
from typing import Any, Final

import hiredis
import orjson
import redis

from bench.beats import name_services
from bench.figures import Pair, Sample
from bench.programs import Usage, Worker
from bench.server import Server, connect, pack_command, send_commands
from marketswarm.bus import Bus
from marketswarm.seeding.transaction import seed_truth

AGENTS: Final = 5000
PROCESSES: Final = 10
SETTLE_SEC: Final = 10.0
BEATS: Final = {"interval_sec": 30, "timeout_sec": 600}
"""The timeout limits the watchdogs, too: hundreds of agents share a processor when they join."""


def make_truth(agents: int, changed_sec: float) -> bytes:
    """Return a truth of which one section, in the middle, has this timeout."""
    sections = {svc: {"heartbeat": BEATS} for svc in name_services(agents)}
    changed = {"heartbeat": BEATS | {"timeout_sec": changed_sec}}
    return orjson.dumps(
        {"services": sections | {f"svc{agents // 2:06d}": changed}}, option=orjson.OPT_INDENT_2
    )


def seed(url: str, document: bytes) -> int:
    """Seed the bus as bootstrap does; return the revision."""

    async def run() -> int:
        bus = Bus("system-redis", url)
        result = await seed_truth(document, [bus], "bench")
        await bus.aclose()
        return result.revision

    return asyncio.run(run())


def count_bytes(client: Any) -> int:
    """Return how many bytes the server has received and sent."""
    found = client.info("stats")
    return int(found["total_net_input_bytes"] + found["total_net_output_bytes"])


def read_bare(port: int, agents: int) -> tuple[float, float]:
    """Read the document once for each agent; return the wall and the processor seconds."""
    wall, cpu, reader = time.monotonic(), time.process_time(), hiredis.Reader()
    with connect(port) as sock:
        for _ in range(agents):
            send_commands(sock, reader, [pack_command("GET", "truth:doc")])
    return time.monotonic() - wall, time.process_time() - cpu


def measure(scale: float) -> Sample:
    agents = round(AGENTS * scale)
    each = -(-agents // PROCESSES)
    with (
        Server(clients=4 * AGENTS) as server,
        redis.Redis(port=server.port) as client,
        contextlib.ExitStack() as ends,
    ):
        seed(server.url, make_truth(agents, 600))
        env = dict.fromkeys(("SYSTEM_REDIS_URL", "MARKET_REDIS_URL"), server.url)
        env |= {"LOG_LEVEL": "ERROR", "TRUTH_WAIT_SEC": "600"}
        workers = [
            ends.enter_context(Worker("bench.agents", first, min(each, agents - first), env=env))
            for first in range(0, agents, each)
        ]
        for worker in workers:
            worker.read()
        time.sleep(SETTLE_SEC)
        before, began = count_bytes(client), time.monotonic()
        time.sleep(SETTLE_SEC)
        idle_rate = (count_bytes(client) - before) / (time.monotonic() - began)
        usages = [Usage(worker.pid) for worker in workers]
        before, began = count_bytes(client), time.monotonic()
        revision = seed(server.url, make_truth(agents, 601))
        for worker in workers:
            worker.send(revision)
        applied_sec = max(worker.read() for worker in workers) - began
        cpu_sec = sum(usage.cpu_sec() for usage in usages)
        carried = count_bytes(client) - before - idle_rate * (time.monotonic() - began)
        bare_before = count_bytes(client)
        bare_sec, bare_cpu_sec = read_bare(server.port, agents)
        bare_bytes = count_bytes(client) - bare_before - idle_rate * bare_sec
    return {
        "applied": Pair(applied_sec, bare_sec),
        "bytes": Pair(carried / 1e6, bare_bytes / 1e6),
        "processor": Pair(1000 * cpu_sec / agents, 1000 * bare_cpu_sec / agents),
    }
