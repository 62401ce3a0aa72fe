"""Measure 10,000 jobs, each with another schedule: the longest tick of the detector, a healer's start, a gap.

The ticks are those of the detector alone, in simulated time: detector.py. A tick is measured in processor
time, so that other work does not count. The start and the stall are those of a real healer on a real server;
its gap begins when the server closes its subscription.
"""

import time
from datetime import UTC, datetime
from typing import Any, Final

import redis
from cronsim import CronSim

from bench.beats import name_services
from bench.detector import JOBS, WALL, make_schedule
from bench.figures import Pair, Sample
from bench.healer import find_lag_bound, is_watching, read_samples
from bench.programs import Worker, cpu_sec, read_result, run_program, wait_until, wait_until_idle
from bench.server import find_free_port, start_buses
from marketswarm.detector.bus import JOB_WEIGHT, MAX_PER_EVALUATION

GAP_SEC: Final = 10.0
"""How long the healer is watched after its subscription was closed."""


def make_sections(jobs: int) -> dict[str, Any]:
    return {"healer": {}} | {
        svc: {"heartbeat": {"schedule": make_schedule(n), "grace_sec": 600}}
        for n, svc in enumerate(name_services(jobs))
    }


def measure_bare_tick(jobs: int) -> float:
    """Return the most processor seconds of cronsim for the next runs of as many jobs as a tick looks at."""
    now, at_once, longest = datetime.fromtimestamp(WALL, UTC), MAX_PER_EVALUATION // JOB_WEIGHT, 0.0
    for start in range(0, jobs, at_once):
        cpu = time.process_time()
        for n in range(start, min(jobs, start + at_once)):
            next(CronSim(make_schedule(n), now))
        longest = max(longest, time.process_time() - cpu)
    return longest


def make_gap(client: Any, port: int, jobs: int) -> float:
    """Close the healer's subscription; return the bound of how late its event loop then was, in seconds."""
    before = read_samples(port)
    client.client_kill_filter(_type="pubsub")
    wait_until(lambda: not is_watching(client, jobs), "the subscription to be closed", 0.001)
    wait_until(lambda: is_watching(client, jobs), "the healer to subscribe again")
    time.sleep(GAP_SEC)
    return find_lag_bound(before, read_samples(port))


def measure(scale: float) -> Sample:
    jobs, port = round(JOBS * scale), find_free_port()
    ticks = read_result("bench.detector", "jobs", jobs)
    bare_ms = 1000 * measure_bare_tick(jobs)
    with start_buses(make_sections(jobs)) as buses, redis.Redis(port=buses[0].port) as client:
        began = time.monotonic()
        with (
            run_program("healer", buses, METRICS_PORT=str(port)) as healer,
            Worker("bench.limits", "loop") as loop,
        ):
            wait_until(lambda: is_watching(client, jobs), "the healer to subscribe", 0.005)
            start_sec, start_cpu_sec = time.monotonic() - began, cpu_sec(healer.pid)
            wait_until_idle(healer.pid)
            loop.read()
            loop.send([time.monotonic() + 0.25 * n for n in range(1, round(4 * GAP_SEC))])
            stall_sec = make_gap(client, port, jobs)
            loop_sec = max(loop.read())
        began = time.monotonic()
        with Worker("bench.limits", "subscriber", buses[0].port, jobs) as bare:
            bare.read()
            bare_sec, bare_cpu_sec = time.monotonic() - began, cpu_sec(bare.pid)
    return {
        "tick": Pair(ticks["start"], bare_ms),
        "gap": Pair(ticks["gap"], bare_ms),
        "start": Pair(start_sec, bare_sec),
        "start_processor": Pair(start_cpu_sec, bare_cpu_sec),
        "stall": Pair(1000 * stall_sec, 1000 * loop_sec),
    }
