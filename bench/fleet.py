"""Measure the fleet of truth.json: from `marketswarm up` to every service `up`, and what idle agents cost.

The limit is as many bare agents: programs that send the same beats, and do nothing else. That of the board is
a bare uvicorn, also beside the market of examples/market.json, which plays recorded days.
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
from typing import Final, NamedTuple

import redis

from bench.figures import Pair, Sample
from bench.programs import ROOT, Usage, Worker, find_tree, pss_mb, wait_until
from bench.server import Server, find_free_port, is_open, wait_for_port

TRUTH: Final = ROOT / "truth.json"
MARKET_TRUTH: Final = ROOT / "examples" / "market.json"
BOARD: Final = "services.board"
IDLE_SEC: Final = 20.0
SETTLE_SEC: Final = 10.0
INTERVAL_SEC: Final = 10.0
PLAY_SEC: Final = 10.0
"""The recorded days are played at once; until then the board grows by more than a percent in such a time."""


@contextlib.contextmanager
def run_fleet(port: int, truth: Path) -> Iterator[int]:
    """Yield the process id of `marketswarm up`, whose buses are on this port and the next one."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "marketswarm", "up", "--port", str(port), "--truth", str(truth)]
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


class Idle(NamedTuple):
    """What an idle process takes: MB PSS, and percent of a core."""

    mb: float
    percent: float


def measure(_scale: float) -> Sample:
    services, port = set(json.loads(TRUTH.read_text())["services"]), find_two_ports()
    began = time.monotonic()
    with run_fleet(port, TRUTH) as pid:
        wait_until(lambda: is_up(port, services), "all services to be up", 0.02)
        up_sec, pids = time.monotonic() - began, find_agents(pid)
        ours = dict(zip(pids, measure_idle(list(pids.values())), strict=True))
    with Server() as server, contextlib.ExitStack() as ends:
        began = time.monotonic()
        bare = [
            ends.enter_context(Worker("bench.limits", "agent", server.port, name, INTERVAL_SEC))
            for name in ours
        ]
        for each in bare:
            each.read()
        bare_sec = time.monotonic() - began
        theirs = measure_idle([each.pid for each in bare])
    mean_mb, mean_percent = (statistics.mean(values) for values in zip(*theirs, strict=True))
    percents = [each.percent for each in ours.values()]
    return {
        "start": Pair(up_sec, bare_sec),
        "memory": Pair(sum(each.mb for each in ours.values()), len(bare) * mean_mb),
        "agent": Pair(max(each.mb for name, each in ours.items() if name != BOARD), mean_mb),
        "board": Pair(ours[BOARD].mb, measure_bare_board()),
        "processor": Pair(sum(percents), len(bare) * mean_percent),
        "median": Pair(statistics.median(percents), mean_percent),
        "busiest": Pair(max(percents), mean_percent),
    }


def measure_board(_scale: float) -> Sample:
    """Measure the board of the recorded market, once it has all recorded days and grows no more."""
    services, port = set(json.loads(MARKET_TRUTH.read_text())["services"]), find_two_ports()
    with run_fleet(port, MARKET_TRUTH) as pid:
        wait_until(lambda: is_up(port, services), "all services to be up", 0.1)
        board, before, now = find_agents(pid)[BOARD], 0.0, 1.0
        while now > 1.01 * before:
            time.sleep(PLAY_SEC)
            before, now = now, pss_mb(board)
    return {"memory": Pair(now, measure_bare_board())}


def measure_bare_board() -> float:
    """Return the memory of a bare uvicorn in MB."""
    port = find_free_port()
    with Worker("bench.limits", "http", port) as bare:
        wait_for_port(port)
        return pss_mb(bare.pid)


def measure_idle(pids: list[int]) -> list[Idle]:
    """Return what each process takes while nothing happens."""
    time.sleep(SETTLE_SEC)
    usages = [Usage(pid) for pid in pids]
    time.sleep(IDLE_SEC)
    return [Idle(pss_mb(pid), usage.percent()) for pid, usage in zip(pids, usages, strict=True)]
