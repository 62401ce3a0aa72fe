"""Measure how long no process does the work of one that ended: its share, its lease, or the healer's part.

There are real processes and real servers. The first process is killed (SIGKILL) at a random moment, or
stopped; the time runs from then until the others share all keys, until one of them holds the lease, or until
the standby healer leads. The limits are times that the operator sets: a timeout, the life of a lease.
"""

import contextlib
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import redis

from bench.figures import Pair, Sample
from bench.healer import is_watching, make_sections
from bench.programs import Usage, run_program, wait_until, wait_until_idle
from bench.server import Server, start_buses
from bench.sharer import KEYS, LEASE_SEC, REPORTS_KEY

TIMEOUT_SEC: Final = 3.0
INSTANCES: Final = 3
HEALER_LEASE_SEC: Final = 3.0
NEVER: Final = "100000"
MEASURE_SEC: Final = 20.0

Buses = tuple[Server, Server]


class Reports:
    """The reports of the instances, read as they arrive.

    `shares` holds each instance's last report: its time, and the number of its keys. `holders` holds when an
    instance got the lease, and its boot, in order.
    """

    def __init__(self, client: "redis.Redis") -> None:
        self._client, self._read = client, 0
        self.shares: dict[str, tuple[float, int]] = {}
        self.holders: list[tuple[float, str]] = []

    def wait_until(self, done: Callable[[], bool], what: str) -> None:
        """Read reports until `done` returns True."""

        def read_and_ask() -> bool:
            self._read_new()
            return done()

        wait_until(read_and_ask, what, 0.002)

    def _read_new(self) -> None:
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


@contextlib.contextmanager
def run_instances(buses: Buses, client: "redis.Redis") -> Iterator[tuple[subprocess.Popen[bytes], Reports]]:
    """Run three instances; yield the process of the lease's holder, and the reports."""
    client.delete(REPORTS_KEY)
    reports = Reports(client)
    with contextlib.ExitStack() as ends:
        first = ends.enter_context(run_program("bench.sharer", buses))
        reports.wait_until(lambda: bool(reports.holders), "a holder of the lease")
        for _ in range(INSTANCES - 1):
            ends.enter_context(run_program("bench.sharer", buses))
        reports.wait_until(lambda: reports.is_complete(INSTANCES), "three shares")
        yield first, reports


def take_over(buses: Buses, client: "redis.Redis", *, kill: bool) -> tuple[float, float]:
    """Kill or stop the first of three instances.

    Returns:
        The seconds until the others share all of its keys, and until another one holds the lease.
    """
    with run_instances(buses, client) as (first, reports):
        time.sleep(TIMEOUT_SEC * random.random())
        boot = reports.holders[0][1]
        gone = time.monotonic()
        if kill:
            first.kill()
        else:
            first.terminate()
        del reports.shares[boot]
        before = dict(reports.shares)
        reports.wait_until(
            lambda: reports.is_complete(INSTANCES - 1) and reports.shares != before, "two shares"
        )
        reports.wait_until(lambda: len(reports.holders) > 1, "another holder of the lease")
        return max(at for at, _ in reports.shares.values()) - gone, reports.holders[1][0] - gone


def measure(_scale: float) -> Sample:
    sections = make_sections(1, TIMEOUT_SEC / 3)
    with start_buses(sections) as buses, redis.Redis(port=buses[1].port) as client:
        share, lease = take_over(buses, client, kill=True)
        stopped_share, stopped_lease = take_over(buses, client, kill=False)
    return {
        "share": Pair(share, TIMEOUT_SEC),
        "lease": Pair(lease, LEASE_SEC),
        "stopped_share": Pair(stopped_share, TIMEOUT_SEC),
        "stopped_lease": Pair(stopped_lease, LEASE_SEC),
    }


# the healer


def read_epoch(client: Any) -> int:
    """Return the epoch on the bus that decides; 0 without a lease."""
    return int(client.hget("healer:lease", "epoch") or 0)


def wait_for_leader(client: Any, after: int) -> None:
    wait_until(lambda: read_epoch(client) > after, "a leader", 0.002)


def measure_healer(scale: float) -> Sample:
    """Measure what leading and standing by cost, and a takeover."""
    with start_buses(make_sections(1, 10.0)) as buses, redis.Redis(port=buses[0].port) as client:
        with run_program("healer", buses, HEALER_LEASE_SEC=NEVER) as alone:
            wait_until(lambda: is_watching(client, 1), "a healer that listens")
            wait_until_idle(alone.pid)
            (without,) = measure_percents(scale, alone.pid)
        before = read_epoch(client)
        with contextlib.ExitStack() as ends:
            leader = ends.enter_context(run_program("healer", buses))
            wait_for_leader(client, before)
            # a new leader is deaf until it has read the stored state, and gives way to one that has
            wait_until(lambda: client.hget("healer:lease", "deaf") == b"", "a leader that hears all")
            led = read_epoch(client)
            standby = ends.enter_context(run_program("healer", buses))
            wait_until(lambda: client.pubsub_numsub("svc000000:heartbeat")[0][1] == 2, "both to listen")
            time.sleep(4)
            leading, standing = measure_percents(scale, leader.pid, standby.pid)
            time.sleep(HEALER_LEASE_SEC * random.random())
            assert read_epoch(client) == led, "another one leads already"
            leader.kill()
            killed = time.monotonic()
            wait_for_leader(client, led)
            takeover = time.monotonic() - killed
    return {
        "takeover": Pair(takeover, HEALER_LEASE_SEC),
        "leading": Pair(leading, without),
        "standing": Pair(standing, without),
    }


def measure_percents(scale: float, *pids: int) -> list[float]:
    usages = [Usage(pid) for pid in pids]
    time.sleep(MEASURE_SEC * max(scale, 0.1))
    return [usage.percent() for usage in usages]
