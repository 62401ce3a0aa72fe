"""Measure the time from `marketswarm up` to every service `up`, and what each idle process costs.

The fleet is that of `truth.json`. Linux only: reads /proc.
"""

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

from bench.footprint import cpu_sec
from bench.server import print_table

TRUTH = Path(__file__).parent.parent / "truth.json"
IDLE_SEC = 20.0


def _find_two_ports() -> int:
    while True:
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            two.bind(("127.0.0.1", port + 1))
            return port


def _wait_until_up(port: int, services: set[str], by: float) -> bool:
    """Wait until every service has an `ok` event on the bus; return False if some have none by then.

    `by` is the end of the wait, in monotonic seconds.
    """
    with redis.Redis(port=port) as client:
        while time.monotonic() < by:
            with contextlib.suppress(redis.ConnectionError):
                found = {svc for svc in services if b'_ok"' in (client.get(f"health:{svc}") or b"")}
                if found == services:
                    return True
            time.sleep(0.02)
    return False


def _find_processes(parent: int) -> dict[str, int]:
    """Return the processes of a fleet by their modules, the servers by their ports, and `up` itself."""
    found = {"marketswarm up": parent}
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        for pid in map(int, task.read_text().split()):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ").split()
            found[words[-1]] = pid
    return found


def _pss_mb(pid: int) -> float:
    """Return the memory of a process; what it shares with others counts in equal parts for each of them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def main() -> None:
    """Start the fleet three times, and measure the idle processes of the last fleet."""
    services = set(json.loads(TRUTH.read_text())["services"])
    took: list[float] = []
    rows: list[tuple[str, ...]] = []
    for run in range(3):
        port = _find_two_ports()
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "marketswarm", "up", "--port", str(port), "--truth", str(TRUTH)]
            started = time.monotonic()
            fleet = subprocess.Popen(
                [*command, "--data", folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if not name.endswith("_URL")},
            )  # fmt: skip
            try:
                if not _wait_until_up(port, services, started + 60):
                    raise RuntimeError("the fleet did not come up")
                took.append(time.monotonic() - started)
                if run == 2:
                    rows = _measure_idle(fleet.pid)
            finally:
                fleet.send_signal(signal.SIGINT)
                fleet.wait(15)
    print_table(
        "the fleet as shipped", ("up to all green", f"{statistics.median(took):.1f} s", "goal: 4 s"), *rows
    )


def _measure_idle(parent: int) -> list[tuple[str, ...]]:
    processes = _find_processes(parent)
    before = {name: cpu_sec(pid) for name, pid in processes.items()}
    time.sleep(IDLE_SEC)
    memory = {name: _pss_mb(pid) for name, pid in processes.items()}
    rows: list[tuple[str, ...]] = [
        (
            name,
            f"{memory[name]:.0f} MB PSS",
            f"{100 * (cpu_sec(pid) - before[name]) / IDLE_SEC:.2f} % of a core",
        )
        for name, pid in sorted(processes.items())
    ]
    return [*rows, ("all of it", f"{sum(memory.values()):.0f} MB PSS", "goal: 300 MB")]


if __name__ == "__main__":
    main()
