"""Measure how long no instance does the work of one that ended: the keys of its share, and its lease.

There are three real processes and real servers. One process is killed (SIGKILL) at a random moment, or
stopped; the time runs from then until the others share all keys, and until one of them holds the lease. The
results are ratios: to the service's timeout, and to the lease's life.
"""

import contextlib
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis

from bench.fleet import build_truth, run_program, write_truth
from bench.server import Server, print_table
from bench.sharer import KEYS, LEASE_SEC, REPORTS_KEY

TIMEOUT_SEC = 3.0
INSTANCES = 3
WITHIN_SEC = 30.0


class Reports:
    """The reports of the instances, read as they arrive.

    `shares` holds each instance's last report: its time, and the number of its keys. `holders` holds when an
    instance got the lease, and its boot, in order.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client, self._read = client, 0
        self.shares: dict[str, tuple[float, int]] = {}
        self.holders: list[tuple[float, str]] = []

    def read_new(self) -> None:
        lines: list[Any] = self._client.lrange(REPORTS_KEY, self._read, -1)
        self._read += len(lines)
        for line in lines:
            what, boot, at, count = line.decode().split()
            if what == "share":
                self.shares[boot] = (float(at), int(count))
            else:
                self.holders.append((float(at), boot))

    def is_complete(self, instances: int) -> bool:
        return len(self.shares) == instances and sum(count for _, count in self.shares.values()) == len(KEYS)


def _wait_until(reports: Reports, done: Callable[[], bool], what: str) -> None:
    """Read reports until `done` returns True. Raise RuntimeError, which names `what`, after WITHIN_SEC s."""
    by = time.monotonic() + WITHIN_SEC
    while not done():
        if time.monotonic() > by:
            raise RuntimeError(f"not within {WITHIN_SEC:g} s: {what}")
        time.sleep(0.002)
        reports.read_new()


@contextlib.contextmanager
def run_three(
    servers: tuple[Server, Server], client: redis.Redis
) -> Iterator[tuple[subprocess.Popen[bytes], Reports]]:
    """Run three instances; yield the process of the lease's holder, and the reports."""
    client.delete(REPORTS_KEY)
    reports = Reports(client)
    with contextlib.ExitStack() as ends:
        first = ends.enter_context(run_program("bench.sharer", *servers))
        _wait_until(reports, lambda: bool(reports.holders), "a holder of the lease")
        for _ in range(INSTANCES - 1):
            ends.enter_context(run_program("bench.sharer", *servers))
        _wait_until(reports, lambda: reports.is_complete(INSTANCES), "three shares")
        yield first, reports


def measure_takeover(
    servers: tuple[Server, Server], client: redis.Redis, *, kill: bool
) -> tuple[float, float]:
    """Kill or stop the first of three instances.

    Returns:
        The seconds until the others share all of its keys, and until another one holds the lease.
    """
    with run_three(servers, client) as (first, reports):
        time.sleep(TIMEOUT_SEC * random.random())
        boot = reports.holders[0][1]
        gone = time.monotonic()
        if kill:
            first.kill()
        else:
            first.terminate()
        del reports.shares[boot]
        before = dict(reports.shares)
        _wait_until(
            reports, lambda: reports.is_complete(INSTANCES - 1) and reports.shares != before, "two shares"
        )
        _wait_until(reports, lambda: len(reports.holders) > 1, "another holder of the lease")
        return max(at for at, _ in reports.shares.values()) - gone, reports.holders[1][0] - gone


def main(times: int = 10) -> None:
    """Kill an instance and stop an instance, `times` times each."""
    with Server() as system, Server() as market, redis.Redis(port=market.port) as client:
        write_truth([system, market], build_truth(1, TIMEOUT_SEC / 3, TIMEOUT_SEC))
        killed = [measure_takeover((system, market), client, kill=True) for _ in range(times)]
        stopped = [measure_takeover((system, market), client, kill=False) for _ in range(times)]
    shares, leases = zip(*killed, strict=True)
    print_table(
        f"one of {INSTANCES} instances gone, {times} times each",
        ("killed: its keys done by others", *_format_shares(shares, TIMEOUT_SEC, "the timeout"), "goal: 1.0"),
        ("killed: its lease had by another", *_format_shares(leases, LEASE_SEC, "its life"), "goal: 1.0"),
        ("stopped: its keys", _format_times(share for share, _ in stopped), "", "goal: 1 s"),
        ("stopped: its lease", _format_times(lease for _, lease in stopped), "", "goal: 1 s"),
    )


def _format_times(took: Iterator[float]) -> str:
    found = list(took)
    return f"median {statistics.median(found):.2f} s, worst {max(found):.2f} s"


def _format_shares(took: tuple[float, ...], of_sec: float, what: str) -> tuple[str, str]:
    return _format_times(iter(took)), f"worst {max(took) / of_sec:.2f} of {what} ({of_sec:g} s)"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
