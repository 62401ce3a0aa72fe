"""Measure what scrapes of a hundred thousand services cost, and whether the healer still hears meanwhile.

Linux only. The healer process and the servers are real, and every service beats every 10 s. The bench scrapes
again and again without a pause, where Prometheus would scrape four times a minute.
"""

import gzip
import os
import sys
import time
import urllib.request

import redis
from prometheus_client.parser import text_string_to_metric_families

from bench.fleet import Beater, build_truth, run_healer, wait_until_up, write_truth
from bench.footprint import INTERVAL_SEC, cpu_sec, rss_mb
from bench.server import Server, find_free_port, print_table

MEASURE_SEC = 30.0


def fetch_metrics(port: int) -> bytes:
    """Scrape as Prometheus does; return the compressed answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - http, and nothing else
        found: bytes = answer.read()
    return found


def read_samples(port: int) -> dict[str, float]:
    """Scrape once; return the values without the label `svc`, by name and values of the labels."""
    text = gzip.decompress(fetch_metrics(port)).decode()
    few = "\n".join(line for line in text.splitlines() if "{svc=" not in line) + "\n"
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(few)
        for sample in family.samples
    }


def find_lag_bound(before: dict[str, float], after: dict[str, float]) -> str:
    """Return the bound, in seconds, that the event loop's lag did not exceed between two scrapes."""
    name = "marketswarm_event_loop_lag_seconds_bucket"
    grown = {key[len(name) :]: after[key] - before[key] for key in after if key.startswith(name)}
    return min((bound for bound, n in grown.items() if n == grown["+Inf"]), key=float)


def main(services: int = 100_000) -> None:
    """Measure one healer that is scraped without a pause."""
    port = find_free_port()
    os.environ["METRICS_PORT"] = str(port)
    try:
        with Server() as system, Server() as market:
            write_truth([system, market], build_truth(services, INTERVAL_SEC, 3 * INTERVAL_SEC))
            with run_healer(system, market) as process:
                beater = Beater(system.port, services, INTERVAL_SEC)
                with redis.Redis(port=system.port) as client:
                    wait_until_up(client, services)
                time.sleep(INTERVAL_SEC)
                quiet = read_samples(port)
                time.sleep(MEASURE_SEC)
                memory = rss_mb(process.pid)
                before, took, size = read_samples(port), [], 0
                used, deadline = cpu_sec(process.pid), time.monotonic() + MEASURE_SEC
                while time.monotonic() < deadline:
                    begun = time.monotonic()
                    size = len(fetch_metrics(port))
                    took.append(time.monotonic() - begun)
                used, after = cpu_sec(process.pid) - used, read_samples(port)
                grown = rss_mb(process.pid)
                beater.stop()
    finally:
        del os.environ["METRICS_PORT"]
    gaps = [after[key] - before[key] for key in after if key.startswith("marketswarm_bus_gaps_total")]
    print_table(
        f"one healer, {services:,} services, scraped without a pause",
        ("a scrape", f"{sum(took) / len(took):.2f} s, {size / 1e6:.1f} MB packed", f"of {len(took)}"),
        ("processor, all in all", f"{used / len(took):.2f} s a scrape", ""),
        ("event loop late", f"{find_lag_bound(before, after)} s at most", "goal: 0.25 s"),
        ("the same before that", f"{find_lag_bound(quiet, before)} s at most", ""),
        ("gaps in the listening", f"{sum(gaps):.0f}", "goal: 0"),
        ("memory", f"{memory:.0f} MB RSS before, {grown:.0f} MB after", "goal: 250 MB"),
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
