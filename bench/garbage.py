"""Measure whether garbage delays detection: some services stop, with garbage among the beats and without.

The server and the healer are real, and 100,000 services beat every second. In every second round each tenth
payload is garbage, on the channels of the stopped services too. The delay is measured as in `delay`: from the
deadline to the alert log.
"""

import statistics
import sys
import time
from typing import Final

import redis

from bench.delay import collect_misses
from bench.fleet import (
    build_truth,
    name_services,
    run_healer,
    wait_for_subscription,
    wait_until_settled,
    write_truth,
)
from bench.footprint import cpu_sec
from bench.server import Server, print_table
from bench.storm import Storm

SERVICES: Final = 100_000
INTERVAL_SEC: Final = 1.0
TIMEOUT_SEC: Final = 10.0
DYING: Final = 20
ROUNDS: Final = 3
SHARE: Final = 0.1


def main(services: int = SERVICES, rate: int = 0) -> None:
    """Run ROUNDS rounds with garbage and ROUNDS without, in turn, and print the delays of both.

    `rate` is the number of beats a second of all services; 0: each service beats once in INTERVAL_SEC.
    """
    delays: dict[float, list[float]] = {0.0: [], SHARE: []}
    rates: dict[float, list[float]] = {0.0: [], SHARE: []}
    busy: dict[float, list[float]] = {0.0: [], SHARE: []}
    with Server() as system, Server() as market:
        write_truth(
            [system, market], build_truth(services, services / rate if rate else INTERVAL_SEC, TIMEOUT_SEC)
        )
        with run_healer(system, market) as process, redis.Redis(port=system.port) as client:
            wait_for_subscription(system, f"{name_services(services)[-1]}:heartbeat")
            storm = Storm(system.port, services, rate or services / INTERVAL_SEC)
            wait_until_settled(client, services, TIMEOUT_SEC)
            for n in range(2 * ROUNDS):
                share = (0.0, SHARE)[n % 2]
                storm.set_garbage_share(share)
                time.sleep(2 * INTERVAL_SEC)  # every service has beaten under the new load
                at, sent, cpu = time.monotonic(), storm.sent.value, cpu_sec(process.pid)
                delays[share] += _run_round(storm, client, services, n)
                sec = time.monotonic() - at
                rates[share].append((storm.sent.value - sent) / sec)
                busy[share].append((cpu_sec(process.pid) - cpu) / sec)
                storm.set_garbage_share(0.0)
                storm.silence_services(-1, 1)
                time.sleep(2 * INTERVAL_SEC)  # and the silenced ones beat again
            storm.stop()
            missed = sum(
                b"heartbeat_miss" in fields[b"event"] for _, fields in client.xrange("healer:alerts:log")
            )
    assert missed == 2 * ROUNDS * DYING, f"{missed} misses: {2 * ROUNDS * DYING} died"
    print_table(
        f"{DYING} of {services:,} services stop, {2 * ROUNDS} times: the miss beyond the deadline",
        *[
            (
                f"{100 * share:.0f} % garbage",
                f"median {1000 * statistics.median(found):,.1f} ms",
                f"worst {1000 * max(found):,.1f} ms",
                f"{statistics.mean(rates[share]):,.0f} payloads/s",
                f"healer {100 * statistics.mean(busy[share]):.0f} % of a core",
            )
            for share, found in delays.items()
        ],
        ("ratio of medians", f"{statistics.median(delays[SHARE]) / statistics.median(delays[0.0]):.2f}"),
    )


def _run_round(storm: Storm, client: "redis.Redis", services: int, n: int) -> list[float]:
    """Stop the beats of DYING services; return how many seconds after its deadline each was missed.

    `n` is the number of the round and selects the services. Raise AssertionError if another one is missed.
    """
    of = services // DYING
    storm.silence_services(n, of)
    victims = name_services(services)[n::of][:DYING]
    last = dict(zip(victims, storm.last[n::of], strict=False))
    arrivals = collect_misses(client, len(victims), TIMEOUT_SEC)
    others = {svc: at - storm.last[int(svc[3:])] for svc, at in arrivals.items() if svc not in last}
    assert not others, f"missed so many seconds after a beat: {others}; {storm.behind_sec():.1f} s behind"
    return [at - last[svc] - TIMEOUT_SEC for svc, at in arrivals.items()]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
