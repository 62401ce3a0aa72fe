"""Measure the fleet of truth.json: from `marketswarm up` to every service `up`, and what idle agents cost.

The limit is as many bare agents: programs that send the same beats, and do nothing else.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import redis

from bench.figures import Pair, Sample
from bench.programs import ROOT, Usage, Worker, find_tree, pss_mb, wait_until
from bench.server import Server, find_free_port, is_open

TRUTH: Final = ROOT / "truth.json"
IDLE_SEC: Final = 20.0
SETTLE_SEC: Final = 10.0
INTERVAL_SEC: Final = 10.0


@contextlib.contextmanager
def run_fleet(port: int) -> Iterator[int]:
    """Yield the process id of `marketswarm up`, whose buses are on this port and the next one."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "marketswarm", "up", "--port", str(port), "--truth", str(TRUTH)]
        fleet = subprocess.Popen(
            [*command, "--data", folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if not name.endswith("_URL")},
        )  # fmt: skip
        try:
            yield fleet.pid
        finally:
            fleet.send_signal(signal.SIGINT)
            fleet.wait(15)


def is_up(port: int, services: set[str]) -> bool:
    """Return whether every service has an `ok` event on the bus."""
    with redis.Redis(port=port) as client, contextlib.suppress(redis.ConnectionError):
        return all(b'_ok"' in (client.get(f"health:{svc}") or b"") for svc in services)
    return False


def find_agents(parent: int) -> dict[str, int]:
    # split() also drops the zeros that fill the command line of a process that was forked
    words = {
        pid: Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").split()
        for pid in find_tree(parent)[1:]
    }
    return {line[-1].decode(): pid for pid, line in words.items() if b"-m" in line}


def find_two_ports() -> int:
    """Return a free port whose successor is free, too."""
    while is_open((port := find_free_port()) + 1):
        pass
    return port


def measure(_scale: float) -> Sample:
    services, port = set(json.loads(TRUTH.read_text())["services"]), find_two_ports()
    began = time.monotonic()
    with run_fleet(port) as pid:
        wait_until(lambda: is_up(port, services), "all services to be up", 0.02)
        up_sec, agents = time.monotonic() - began, find_agents(pid)
        ours = measure_idle(list(agents.values()))
    with Server() as server, contextlib.ExitStack() as ends:
        began = time.monotonic()
        bare = [
            ends.enter_context(Worker("bench.limits", "agent", server.port, name, INTERVAL_SEC))
            for name in agents
        ]
        for each in bare:
            each.read()
        bare_sec = time.monotonic() - began
        theirs = measure_idle([each.pid for each in bare])
    mean_mb, mean_percent = (statistics.mean(values) for values in zip(*theirs, strict=True))
    return {
        "start": Pair(up_sec, bare_sec),
        "memory": Pair(sum(mb for mb, _ in ours), len(bare) * mean_mb),
        "largest": Pair(max(mb for mb, _ in ours), mean_mb),
        "processor": Pair(sum(percent for _, percent in ours), len(bare) * mean_percent),
        "busiest": Pair(max(percent for _, percent in ours), mean_percent),
    }


def measure_idle(pids: list[int]) -> list[tuple[float, float]]:
    """Return the memory of each process in MB, and its processor time as percent of a core."""
    time.sleep(SETTLE_SEC)
    usages = [Usage(pid) for pid in pids]
    time.sleep(IDLE_SEC)
    return [(pss_mb(pid), usage.percent()) for pid, usage in zip(pids, usages, strict=True)]
