"""Measure how long after its deadline a miss is in the alert log, when few services stop and when all do.

The servers and the healer process are real. A service's deadline is its last beat plus its timeout, both on
the monotonic clock of this machine; a blocking reader of the alert log takes the time at which an event
arrives.
"""

import statistics
import sys
import time
from typing import Any, Final

import orjson
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

INTERVAL_SEC = 2.0
INTERVAL_OF_MANY_SEC = 10.0
"""The time between two beats of a service in a fleet of a hundred thousand, as the design assumes it."""


def measure_delays(services: int, *, dying: int | None = None) -> tuple[list[float], float]:
    """Start a fleet of `services` services and stop the first `dying` of them, or all.

    Returns:
        Each miss's delay after its deadline, and the time between the first and the last miss, in seconds.
    """
    interval_sec = choose_interval_sec(services)
    with Server() as system, Server() as market:
        write_truth([system, market], build_truth(services, interval_sec, 3 * interval_sec))
        with run_healer(system, market):
            wait_for_subscription(system, f"{name_services(services)[-1]}:heartbeat")
            beater = Beater(system.port, services, interval_sec)
            with redis.Redis(port=system.port) as client:
                wait_until_settled(client, services, 2 * interval_sec)
                victims = name_services(services)[:dying]
                last = dict(zip(victims, beater.stop(dying), strict=False))
                arrivals = collect_misses(client, len(victims), 3 * interval_sec)
            beater.stop()
    found = [at - last[svc] - 3 * interval_sec for svc, at in arrivals.items()]
    return found, max(arrivals.values()) - min(arrivals.values())


def choose_interval_sec(services: int) -> float:
    """Return the seconds between two beats of one service; the timeout is three times that."""
    return INTERVAL_SEC if services <= 20_000 else INTERVAL_OF_MANY_SEC


def collect_misses(client: Any, services: int, timeout_sec: float) -> dict[str, float]:
    """Wait for the misses of `services` services; return when each was in the log, in monotonic seconds.

    Raises RuntimeError if some misses were not in the log within `timeout_sec` + 60 seconds.
    """
    arrivals: dict[str, float] = {}
    position = client.xinfo_stream("healer:alerts:log")["last-generated-id"]
    by = time.monotonic() + timeout_sec + 60
    while len(arrivals) < services and time.monotonic() < by:
        for _, entries in client.xread({"healer:alerts:log": position}, block=1000, count=1000):
            now = time.monotonic()
            position = entries[-1][0]
            for _, fields in entries:
                event = orjson.loads(fields[b"event"])
                if event["type"] == "heartbeat_miss":
                    arrivals[event["svc"]] = now
    if len(arrivals) < services:
        raise RuntimeError(f"only {len(arrivals)} of {services} misses were published")
    return arrivals


CASES: Final = {
    "1 service": (1, None, 5),
    "all of 1,000": (1000, None, 1),
    "20 of 100,000, the rest beating": (100_000, 20, 1),
    "all of 100,000": (100_000, None, 1),
}
"""By name: the number of services, how many of them stop (None: all), and how often that is repeated."""


def main(*wanted: str) -> None:
    """Measure every case, or those whose names are given."""
    rows = []
    for name, (size, dying, times) in CASES.items():
        if wanted and name not in wanted:
            continue
        found: list[float] = []
        spread = 0.0
        for _ in range(times):
            some, spread = measure_delays(size, dying=dying)
            found += some
        found.sort()
        p99 = found[min(len(found) - 1, int(len(found) * 0.99))]
        rows.append(
            (
                name,
                f"median {1000 * statistics.median(found):,.1f} ms",
                f"p99 {1000 * p99:,.1f} ms",
                f"published over {spread:.1f} s",
            )
        )
    print_table("silence to the log, beyond the deadline (goal: median 20 ms, p99 100 ms)", *rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
