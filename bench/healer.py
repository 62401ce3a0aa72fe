"""Measure a healer of a hundred thousand services: its start, its cost, and how late it reports deaths.

The healer and the servers are real processes. A bare subscriber hears the same beats at the same time, and an
empty event loop waits for the same deadlines. A service's deadline is its last beat plus its timeout, on the
monotonic clock of this machine; a blocking reader of the alert log takes the time at which an event arrives.
"""

import gzip
import math
import multiprocessing
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
import redis
from prometheus_client.parser import text_string_to_metric_families

from bench.beats import Beats, name_services
from bench.figures import Pair, Sample, percentile
from bench.limits import WITHOUT_END, write_deaths
from bench.programs import Usage, Worker, cpu_sec, pss_mb, run_program, wait_until
from bench.server import Server, find_free_port, start_buses

SERVICES: Final = 100_000
INTERVAL_SEC: Final = 10.0
"""The time between two beats of a service in a fleet of a hundred thousand, as the design assumes it."""
SHORT_SEC: Final = 2.0
"""The same in a small fleet. The timeout is always three times the interval."""
MEASURE_SEC: Final = 30.0
WATCHED: Final = 10_000
"""How many services beat beside a sentinel and a mesh."""
DYING: Final = 20
LOG: Final = "healer:alerts:log"
HEARD: Final = "marketswarm_beats_heard_total"
LAG: Final = "marketswarm_event_loop_lag_seconds_bucket"


def make_sections(services: int, interval_sec: float) -> dict[str, Any]:
    beats = {"interval_sec": interval_sec, "timeout_sec": 3 * interval_sec}
    sections: dict[str, Any] = {svc: {"heartbeat": beats} for svc in name_services(services)}
    # the healer's own timeout limits its watchdog, because a start with many services takes seconds on a busy
    # machine
    sections["healer"] = {
        "heartbeat": {"interval_sec": 10, "timeout_sec": 60},
        "threshold": {"heartbeat_cadence": 3 * interval_sec},
    }
    return sections


@dataclass(frozen=True, slots=True)
class Fleet:
    """A healer whose services all beat.

    `start_sec` is the time from its start until it subscribed to the last service, `start_cpu_sec` the
    processor time of that.
    """

    server: Server
    client: Any
    beats: Beats
    pid: int
    start_sec: float
    start_cpu_sec: float
    timeout_sec: float


@contextmanager
def run_fleet(
    services: int, interval_sec: float, beats: Callable[[int], Beats] | None = None, **settings: str
) -> Iterator[Fleet]:
    """Run a healer and the beats of its services, and wait until all that the start costs is over.

    `beats` makes them from the port of their bus, if they are not as fast as the interval says.
    """
    with start_buses(make_sections(services, interval_sec)) as buses:
        began = time.monotonic()
        with (
            run_program("healer", buses, **settings) as process,
            redis.Redis(port=buses[0].port) as client,
        ):
            wait_until(lambda: is_watching(client, services), "the healer to subscribe", 0.005)
            start_sec, start_cpu_sec = time.monotonic() - began, cpu_sec(process.pid)
            rate = services / interval_sec
            with beats(buses[0].port) if beats else Beats(buses[0].port, services, rate) as running:
                wait_until(lambda: client.hlen("healer:roster") >= services, "all to be up", 0.1)
                time.sleep(2 * interval_sec)  # health keys are written, and first beats parsed
                timeout_sec = 3 * interval_sec
                yield Fleet(buses[0], client, running, process.pid, start_sec, start_cpu_sec, timeout_sec)


def is_watching(client: Any, services: int) -> bool:
    return bool(client.pubsub_numsub(f"svc{services - 1:06d}:heartbeat")[0][1])


def collect_events(
    client: Any, kind: str, services: set[str], after: bytes, within_sec: float
) -> dict[str, float]:
    """Wait for an event of each service after an entry of the log; return when each one came.

    Raises RuntimeError if another service has such an event, or if some have none within that time.
    """
    arrivals: dict[str, float] = {}
    by = time.monotonic() + within_sec
    while len(arrivals) < len(services) and time.monotonic() < by:
        for _, entries in client.xread({LOG: after}, block=1000, count=1000):
            now, after = time.monotonic(), entries[-1][0]
            events = [orjson.loads(fields[b"event"]) for _, fields in entries]
            arrivals |= {event["svc"]: now for event in events if event["type"] == kind}
    if arrivals.keys() != services:
        others = sorted(arrivals.keys() - services)
        raise RuntimeError(f"{kind}: {len(arrivals)} of {len(services)} services, and of others {others[:5]}")
    return arrivals


def find_end(client: Any) -> bytes:
    end: bytes = client.xinfo_stream(LOG)["last-generated-id"]
    return end


@dataclass(frozen=True, slots=True)
class Deaths:
    """What happened when services stopped.

    `late` holds the seconds of each miss after its deadline, and `loop_late` those of an empty event loop.
    `spread_sec` is the time from the first deadline to the last miss, and `deadlines_sec` that to the last
    deadline.
    `cpu_sec` is the processor time of the healer from the first deadline to the last miss. `entries` holds
    what the roster had of each service then: its name, its entry and its event.
    """

    late: list[float]
    loop_late: list[float]
    spread_sec: float
    deadlines_sec: float
    cpu_sec: float
    entries: list[tuple[str, bytes, bytes]]


def let_die(fleet: Fleet, victims: range, order_within_sec: float = math.inf) -> Deaths:
    """Stop the beats of some services until all misses are in the log, and let them beat again.

    Raise RuntimeError if a miss is on the log before that of a service whose deadline was more than
    `order_within_sec` earlier.
    """
    after = find_end(fleet.client)
    with Worker("bench.limits", "loop") as loop:
        loop.read()
        last = fleet.beats.silence_services(victims)
        deadlines = {svc: at + fleet.timeout_sec for svc, at in last.items()}
        loop.send(list(deadlines.values()))
        first = min(deadlines.values())
        time.sleep(max(0.0, first - time.monotonic() - 0.1))
        usage = Usage(fleet.pid)
        arrivals = collect_events(fleet.client, "heartbeat_miss", set(last), after, fleet.timeout_sec + 60)
        used = usage.cpu_sec()
        loop_late = loop.read()
    latest = -math.inf
    for svc in arrivals:  # in the order of the log
        latest = max(latest, deadlines[svc])
        if latest - deadlines[svc] > order_within_sec:
            raise RuntimeError(f"{svc} was missed {latest - deadlines[svc]:.1f} s after a later one")
    entries = find_entries(fleet.client, list(arrivals))
    after = find_end(fleet.client)
    fleet.beats.silence_services(range(0))
    collect_events(fleet.client, "heartbeat_ok", set(last), after, 60)
    return Deaths(
        [at - deadlines[svc] for svc, at in arrivals.items()],
        loop_late,
        max(arrivals.values()) - first,
        max(deadlines.values()) - first,
        used,
        entries,
    )


def find_entries(client: Any, services: Sequence[str]) -> list[tuple[str, bytes, bytes]]:
    """Return what the roster holds of services that are down: of each its name, its entry and its event."""
    found: list[tuple[str, bytes, bytes]] = []
    for start in range(0, len(services), 1000):
        some = services[start : start + 1000]
        entries = client.hmget("healer:roster", some)
        events = [orjson.dumps(orjson.loads(entry)["event"]) for entry in entries]
        found += zip(some, entries, events, strict=True)
    return found


def measure_bare_us(fleet: Fleet, deaths: Deaths) -> float:
    """Return the processor time, in microseconds, that a bare pipeline takes for one of these deaths."""
    return 1e6 * write_deaths(fleet.server.port, deaths.entries) / len(deaths.entries)


def pair_ms(late: list[float], loop_late: list[float], share: float) -> Pair:
    """Compare what this share of all did not exceed, in milliseconds. The loop counts as 0.01 at least."""
    return Pair(1000 * percentile(late, share), max(0.01, 1000 * percentile(loop_late, share)))


@contextmanager
def keep_core_busy() -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _spin() -> None:
    while True:
        pass


def measure(scale: float) -> Sample:
    """Measure the start, the cost, and 20 services that die, twice: the second time beside a busy core."""
    services = round(SERVICES * scale)
    victims = range(0, services, max(1, services // DYING))[:DYING]
    with (
        run_fleet(services, INTERVAL_SEC) as fleet,
        Worker("bench.limits", "subscriber", fleet.server.port, services) as bare,
    ):
        began = time.monotonic()
        bare.read()
        bare_sec, bare_cpu_sec = time.monotonic() - began, cpu_sec(bare.pid)
        bare.send(WITHOUT_END)
        time.sleep(INTERVAL_SEC)  # it has heard every service
        ours, theirs = Usage(fleet.pid), Usage(bare.pid)
        time.sleep(MEASURE_SEC * max(scale, 0.1))
        processor, memory = Pair(ours.percent(), theirs.percent()), Pair(pss_mb(fleet.pid), pss_mb(bare.pid))
        quiet = let_die(fleet, victims)
        with keep_core_busy():
            busy = let_die(fleet, range(victims.start + 1, services, victims.step)[:DYING])
    return {
        "processor": processor,
        "memory": memory,
        "start": Pair(fleet.start_sec, bare_sec),
        "start_processor": Pair(fleet.start_cpu_sec, bare_cpu_sec),
        "late": pair_ms(quiet.late, quiet.loop_late, 0.5),
        "worst": pair_ms(quiet.late, quiet.loop_late, 1.0),
        "busy_late": pair_ms(busy.late, busy.loop_late, 0.5),
        "busy_worst": pair_ms(busy.late, busy.loop_late, 1.0),
    }


def measure_storm(scale: float) -> Sample:
    """Let all services die at once, except each hundredth, which must not be missed."""
    services, port = round(SERVICES * scale), find_free_port()
    with run_fleet(services, INTERVAL_SEC, METRICS_PORT=str(port)) as fleet:
        before = read_samples(port)
        deaths = let_die(fleet, range(services // 100, services))
        stall_ms = 1000 * find_lag_bound(before, read_samples(port))
        bare_us = measure_bare_us(fleet, deaths)
    return {
        "late": pair_ms(deaths.late, deaths.loop_late, 0.5),
        "p99": pair_ms(deaths.late, deaths.loop_late, 0.99),
        "spread": Pair(deaths.spread_sec, deaths.deadlines_sec),
        "last": Pair(
            1000 * (deaths.spread_sec - deaths.deadlines_sec), max(0.01, 1000 * deaths.loop_late[-1])
        ),
        "processor": Pair(1e6 * deaths.cpu_sec / len(deaths.late), bare_us),
        "stall": Pair(stall_ms, 1000 * max(deaths.loop_late)),
    }


def measure_saturation(scale: float) -> Sample:
    """Let nearly all services die within two seconds, which is faster than any healer publishes deaths.

    Raise RuntimeError if a living service is missed, if the healer loses its lease, if the living ones are
    not heard meanwhile, or if the misses are not on the log in the order of their deadlines.
    """
    services, port = round(SERVICES * scale), find_free_port()
    victims = range(services // 100, services)
    with run_fleet(services, SHORT_SEC, METRICS_PORT=str(port)) as fleet:
        epoch, before = fleet.client.hget("healer:lease", "epoch"), read_samples(port)
        deaths = let_die(fleet, victims, order_within_sec=1.0)
        after = read_samples(port)
        if fleet.client.hget("healer:lease", "epoch") != epoch:
            raise RuntimeError("the healer lost its lease")
        heard = after[HEARD] - before[HEARD]
        if heard < victims.start * (fleet.timeout_sec + deaths.spread_sec) / SHORT_SEC / 2:
            raise RuntimeError(f"{heard:.0f} beats of {victims.start} living services were heard")
        bare_us = measure_bare_us(fleet, deaths)
    return {
        "late": pair_ms(deaths.late, deaths.loop_late, 0.5),
        "p99": pair_ms(deaths.late, deaths.loop_late, 0.99),
        "spread": Pair(deaths.spread_sec, deaths.deadlines_sec),
        "processor": Pair(1e6 * deaths.cpu_sec / len(deaths.late), bare_us),
        "stall": Pair(1000 * find_lag_bound(before, after), 1000 * max(deaths.loop_late)),
    }


def measure_watchers(scale: float) -> Sample:
    """Measure a sentinel and a mesh beside a healer, once both know a fleet whose services all beat."""
    services = round(WATCHED * scale)
    sections = {"sentinel": {}, "mesh": {}} | make_sections(services, INTERVAL_SEC)
    with (
        start_buses(sections) as buses,
        redis.Redis(port=buses[0].port) as client,
        run_program("healer", buses),
        run_program("sentinel", buses) as sentinel,
        run_program("services.mesh", buses) as mesh,
        Beats(buses[0].port, services, services / INTERVAL_SEC),
        Worker("bench.limits", "subscriber", buses[0].port, services) as bare,
    ):
        bare.read()
        bare.send(WITHOUT_END)
        wait_until(lambda: client.hlen("healer:roster") >= services, "all to be up", 0.1)
        time.sleep(2 * INTERVAL_SEC)  # mesh has written all of them, too
        usages = [Usage(each) for each in (sentinel.pid, mesh.pid, bare.pid)]
        time.sleep(MEASURE_SEC * max(scale, 0.3))
        of_sentinel, of_mesh, of_bare = (usage.percent() for usage in usages)
        if (known := len(orjson.loads(client.get("mesh:topology"))["services"])) < services:
            raise RuntimeError(f"mesh knows {known} services of {services}")
    return {"sentinel": Pair(of_sentinel, of_bare), "mesh": Pair(of_mesh, of_bare)}


def measure_small(scale: float) -> Sample:
    """Let the only service of a fleet die five times, and a thousand at once."""
    with run_fleet(1, SHORT_SEC) as fleet:
        one = [let_die(fleet, range(1)) for _ in range(5)]
    with run_fleet(round(1000 * scale), SHORT_SEC) as fleet:
        many = let_die(fleet, range(round(1000 * scale)))
    late, loop_late = [each.late[0] for each in one], [each.loop_late[0] for each in one]
    return {
        "one": pair_ms(late, loop_late, 0.5),
        "thousand": pair_ms(many.late, many.loop_late, 0.5),
        "thousand_p99": pair_ms(many.late, many.loop_late, 0.99),
        "spread": Pair(many.spread_sec, many.deadlines_sec),
    }


# scrapes


def fetch_metrics(port: int) -> bytes:
    """Scrape as Prometheus does; return the compressed answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - http, and nothing else
        found: bytes = response.read()
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


def find_lag_bound(before: dict[str, float], after: dict[str, float]) -> float:
    """Return the bound, in seconds, that the event loop's lag did not exceed between two scrapes."""
    grown = {key[len(LAG) :]: after[key] - before[key] for key in after if key.startswith(LAG)}
    return min(float(bound) for bound, n in grown.items() if n == grown["+Inf"])


def measure_scrapes(scale: float) -> Sample:
    """Scrape again and again without a pause, where Prometheus would scrape four times a minute."""
    services, port, scrapes = round(SERVICES * scale), find_free_port(), 0
    with (
        run_fleet(services, INTERVAL_SEC, METRICS_PORT=str(port)) as fleet,
        Worker("bench.limits", "loop") as loop,
    ):
        loop.read()
        seconds = MEASURE_SEC * max(scale, 0.1)
        idle = Usage(fleet.pid)
        time.sleep(seconds)
        idle_share, before, usage = idle.percent() / 100, read_samples(port), Usage(fleet.pid)
        now = time.monotonic()
        loop.send([now + 0.25 * n for n in range(1, round(4 * seconds))])
        while usage.sec() < seconds:
            body = fetch_metrics(port)
            scrapes += 1
        used = usage.cpu_sec() - idle_share * usage.sec()
        lag, loop_late = find_lag_bound(before, read_samples(port)), max(loop.read())
    text, cpu = gzip.decompress(body), time.process_time()
    gzip.compress(text, 6)
    return {
        "processor": Pair(used / scrapes, time.process_time() - cpu),
        "stall": Pair(1000 * lag, 1000 * loop_late),
    }


# garbage


def measure_garbage(scale: float) -> Sample:
    """Let services die, in turn with garbage among the beats, on their channels too, and without.

    Every service beats each second. With garbage each tenth payload is none of ours.
    """
    services, delays = round(SERVICES * scale), {0.0: list[float](), 0.1: list[float]()}
    step = max(1, services // DYING)
    with run_fleet(services, 10 / 3, lambda port: Beats(port, services, services)) as fleet:
        for number in range(6):
            share = (0.0, 0.1)[number % 2]
            fleet.beats.set_garbage_share(share)
            time.sleep(2)  # every service has beaten under the new load
            delays[share] += let_die(fleet, range(number % step, services, step)[:DYING]).late
            fleet.beats.set_garbage_share(0.0)
    medians = {share: 1000 * statistics.median(late) for share, late in delays.items()}
    return {"late": Pair(medians[0.1], medians[0.0])}
