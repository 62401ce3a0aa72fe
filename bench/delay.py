"""From the deadline to the log: how late a miss is told, when few die and when all do at once.

Real servers, a real healer process. A service's deadline is its last beat plus its timeout, all on the
monotonic clock of this machine; the event's arrival is read from the durable log by a blocking reader.
"""

import statistics
import sys
import time

import orjson
import redis
from fleet import Beater, healer, names, seed, truth, watching
from ground import Server, report

INTERVAL_SEC = 2.0
INTERVAL_OF_MANY_SEC = 10.0
"""What a hundred thousand services beat at: the design's own figure."""


def delays(services: int) -> tuple[list[float], float]:
    """Lets a fleet of that size die; returns each miss's delay beyond its deadline, and the time for all."""
    with Server() as system, Server() as market:
        interval_sec = interval_of(services)
        seed([system, market], truth(services, interval_sec, 3 * interval_sec))
        with healer(system, market):
            watching(system, f"{names(services)[-1]}:heartbeat")
            beater = Beater(system.port, services, interval_sec)
            with redis.Redis(port=system.port) as client:
                _until_up(client, services, interval_sec)
                last = dict(zip(names(services), beater.stop(), strict=True))
                arrivals = _misses(client, services, 3 * interval_sec)
    found = [at - last[svc] - 3 * interval_sec for svc, at in arrivals.items()]
    return found, max(arrivals.values()) - min(arrivals.values())


def interval_of(services: int) -> float:
    """Seconds between two beats of one service; the timeout is three times that."""
    return INTERVAL_SEC if services <= 20_000 else INTERVAL_OF_MANY_SEC


def _until_up(client: "redis.Redis", services: int, interval_sec: float) -> None:
    by = time.monotonic() + 60
    while client.hlen("healer:roster") < services:
        if time.monotonic() > by:
            raise RuntimeError("not every service came up")
        time.sleep(0.1)
    time.sleep(2 * interval_sec)


def _misses(client: "redis.Redis", services: int, timeout_sec: float) -> dict[str, float]:
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
        raise RuntimeError(f"only {len(arrivals)} of {services} misses were told")
    return arrivals


def main(sizes: tuple[int, ...] = (1, 1000, 100_000)) -> None:
    """Every size once; the single service several times."""
    rows = []
    for size in sizes:
        found: list[float] = []
        spread = 0.0
        for _ in range(5 if size == 1 else 1):
            some, spread = delays(size)
            found += some
        found.sort()
        p99 = found[min(len(found) - 1, int(len(found) * 0.99))]
        rows.append(
            (
                f"{size:,} services",
                f"median {1000 * statistics.median(found):,.1f} ms",
                f"p99 {1000 * p99:,.1f} ms",
                f"earliest {1000 * found[0]:,.1f} ms",
                f"all told in {spread:.2f} s of {interval_of(size):.0f} s of dying",
            )
        )
    report("silence to the log, beyond the deadline", *rows)


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or (1, 1000, 100_000))
