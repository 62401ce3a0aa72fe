"""Measure what leading and standing by cost, and for how long no healer leads when a leader is killed.

Linux only: reads /proc. The healer processes and servers are real; there is no other service to monitor.
"""

import contextlib
import random
import statistics
import sys
import time

import redis

from bench.fleet import build_truth, run_healer, wait_for_subscription, write_truth
from bench.footprint import cpu_sec, wait_until_idle
from bench.server import Server, print_table, wait_until

LEASE_SEC = 3.0
MEASURE_SEC = 20.0
NEVER = "100000"


def read_epoch(client: redis.Redis) -> int:
    """Return the epoch on the bus that decides; 0 without a lease."""
    return int(client.hget("healer:lease", "epoch") or 0)


def measure_takeover(system: Server, market: Server, client: redis.Redis) -> float:
    """Kill a leader at a random moment of its lease; return the seconds until the other healer leads."""
    with contextlib.ExitStack() as ends:
        first = ends.enter_context(run_healer(system, market))
        before = read_epoch(client)
        _wait_for_leader(client, before)
        # a new leader is deaf until it has read the stored state, and gives way to a healer that has read it
        wait_until(lambda: client.hget("healer:lease", "deaf") == b"", "a leader that hears all")
        led = read_epoch(client)
        ends.enter_context(run_healer(system, market))
        wait_until(lambda: client.pubsub_numsub("svc000000:heartbeat")[0][1] == 2, "both healers to listen")
        time.sleep(LEASE_SEC / 2 + random.random() * LEASE_SEC)
        if read_epoch(client) != led:
            raise RuntimeError("another one leads already")
        first.kill()
        killed = time.monotonic()
        _wait_for_leader(client, led)
        return time.monotonic() - killed


def _wait_for_leader(client: redis.Redis, after: int) -> None:
    wait_until(lambda: read_epoch(client) > after, "a leader", every_sec=0.002)


def measure_costs(system: Server, market: Server, client: redis.Redis) -> tuple[float, float, float]:
    """Return the processor time of three healers, each as a share of a core.

    They are one that hardly ever renews its lease, a leader, and one that stands by.
    """
    with run_healer(system, market, HEALER_LEASE_SEC=NEVER) as alone:
        wait_for_subscription(system, "svc000000:heartbeat")
        began = wait_until_idle(alone.pid)
        time.sleep(MEASURE_SEC)
        without = (cpu_sec(alone.pid) - began) / MEASURE_SEC
    before = read_epoch(client)
    with run_healer(system, market) as leader:
        _wait_for_leader(client, before)
        with run_healer(system, market) as standby:
            time.sleep(4)
            led, stood = cpu_sec(leader.pid), cpu_sec(standby.pid)
            time.sleep(MEASURE_SEC)
            led, stood = cpu_sec(leader.pid) - led, cpu_sec(standby.pid) - stood
    return without, led / MEASURE_SEC, stood / MEASURE_SEC


def main(times: int = 20) -> None:
    """Measure the costs and `times` takeovers."""
    with Server() as system, Server() as market, redis.Redis(port=system.port) as client:
        write_truth([system, market], build_truth(1, 10.0, 30.0))
        without, leading, standing = measure_costs(system, market, client)
        took = sorted(measure_takeover(system, market, client) for _ in range(times))
    print_table(
        f"a lease of {LEASE_SEC:g} s, {times} leaders killed",
        ("takeover", f"median {statistics.median(took):.2f} s, worst {took[-1]:.2f} s", "goal: lease + 1 s"),
        ("processor, hardly renewing", f"{100 * without:.2f} % of a core"),
        ("processor, leading", f"{100 * leading:.2f} % of a core"),
        ("processor, standing by", f"{100 * standing:.2f} % of a core"),
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
