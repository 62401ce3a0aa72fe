"""Measure a healer of a hundred thousand services: its time to start, its memory and its processor time.

Linux only: reads /proc. The healer process and the servers are real, and every service beats every 10 s.
"""

import os
import sys
import time
from pathlib import Path

import redis

from bench.fleet import (
    Beater,
    build_truth,
    name_services,
    run_healer,
    wait_for_subscription,
    wait_until_settled,
    write_truth,
)
from bench.server import Server, print_table

INTERVAL_SEC = 10.0
MEASURE_SEC = 30.0


def rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_sec(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_idle(pid: int) -> float:
    """Wait until a process uses at most 0.02 s of processor time in half a second; return `cpu_sec` then."""
    last = -1.0
    while (now := cpu_sec(pid)) > last + 0.02:
        last = now
        time.sleep(0.5)
    return now


def main(services: int = 100_000) -> None:
    """Measure one healer after every service is up."""
    with Server() as system, Server() as market:
        write_truth([system, market], build_truth(services, INTERVAL_SEC, 3 * INTERVAL_SEC))
        started = time.monotonic()
        with run_healer(system, market) as process:
            begun = wait_for_subscription(system, f"{name_services(services)[-1]}:heartbeat") - started
            beater = Beater(system.port, services, INTERVAL_SEC)
            with redis.Redis(port=system.port) as client:
                wait_until_settled(client, services, 2 * INTERVAL_SEC)
            before, at = cpu_sec(process.pid), time.monotonic()
            time.sleep(MEASURE_SEC)
            used = (cpu_sec(process.pid) - before) / (time.monotonic() - at)
            memory = rss_mb(process.pid)
            beater.stop()
    print_table(
        f"one healer, {services:,} services, a beat each {INTERVAL_SEC:.0f} s",
        ("start to watching", f"{begun:.1f} s", "goal: 3 s at most"),
        ("memory", f"{memory:.0f} MB RSS", "goal: 250 MB at most"),
        ("processor", f"{100 * used:.1f} % of a core", "goal: 10 % at most"),
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
