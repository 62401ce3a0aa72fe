"""Measure how many items a second vexy_ai turns into notes.

The servers and workers are real, and the items are as rss_agg writes them. The bench compares the workers
with a loop that only copies: it also reads through a group, and acknowledges after it has written. The
difference is the cost of the work itself. Linux only: reads /proc.
"""

import contextlib
import random
import sys
import time
from typing import Any, Final

import orjson
import redis

from bench.fleet import run_program, write_truth
from bench.footprint import cpu_sec, rss_mb
from bench.server import Server, print_table

ITEMS: Final = 20_000
ITEMS_KEY: Final = "rss:items"
NOTES_KEY: Final = "vexy:notes"
BATCH: Final = 100
IDLE_SEC: Final = 10.0
WINDOW_SEC: Final = 20
WORDS: Final = tuple(
    "shares rise fall after report of strong weak profit loss and outlook for the year as investors fear "  # noqa: SIM905 - as one would say it
    "hope rates inflation oil gas deal merger chief court bank market growth record demand supply price "
    "Acme Globex".split()
)


def build_truth(digest_sec: int) -> bytes:
    """Return a truth with nothing but a vexy_ai whose digests cover `digest_sec` seconds."""
    settings = {
        "symbols": {"ACME": ["Acme"], "GLBX": ["Globex"], "INIT": ["Initech"]},
        "topics": {"rates": ["inflation"], "energy": ["oil", "gas"]},
        "digest_sec": digest_sec,
        "notes": 1_000_000,
        "batch": BATCH,
    }
    beats = {"interval_sec": 10, "timeout_sec": 60}
    return orjson.dumps({"services": {"vexy_ai": {"heartbeat": beats, "settings": settings}}})


def add_items(client: "redis.Redis", items: int, first: int = 0) -> None:
    """Number the items from `first`; each has a title and a summary of 40 words."""
    chance = random.Random(first)
    pipe = client.pipeline(transaction=False)
    for n in range(first, first + items):
        fields: dict[Any, Any] = {
            "id": f"{n:032x}",
            "feed": f"feed{n % 50}",
            "title": " ".join(chance.choices(WORDS, k=9)),
            "link": f"https://news.example/{n}",
            "summary": " ".join(chance.choices(WORDS, k=40)),
            "published": "Thu, 06 Nov 2025 12:50:58 GMT",
            "tags": "[]",
        }
        pipe.xadd(ITEMS_KEY, fields)
        if n % 1000 == 999:
            pipe.execute()
    pipe.execute()


def measure_copying(client: "redis.Redis", items: int) -> float:
    """Return how many items a second a loop copies that does nothing else."""
    client.xgroup_create(ITEMS_KEY, "copies", id="0")
    began, done = time.monotonic(), 0
    while done < items:
        reply: Any = client.xreadgroup("copies", "bench", {ITEMS_KEY: ">"}, count=BATCH)
        ((_, entries),) = reply
        pipe = client.pipeline(transaction=True)
        for _, fields in entries:
            pipe.xadd("copies", fields)
        pipe.xack(ITEMS_KEY, "copies", *(entry for entry, _ in entries))
        pipe.execute()
        done += len(entries)
    return items / (time.monotonic() - began)


def measure_workers(system: Server, market: Server, workers: int, items: int) -> tuple[float, float]:
    """Measure `workers` workers on `items` items, after the first tenth.

    Returns:
        Items a second, and processor seconds for each item.
    """
    with redis.Redis(port=market.port) as client, contextlib.ExitStack() as stack:
        client.flushall()
        write_truth([system, market], build_truth(86_400))
        add_items(client, items)
        running = [
            stack.enter_context(run_program("services.vexy_ai", system, market)) for _ in range(workers)
        ]
        first = wait_for_notes(client, items // 10)
        began, used = time.monotonic(), sum(cpu_sec(each.pid) for each in running)
        last = wait_for_notes(client, items)
        took, done = time.monotonic() - began, last - first
        return done / took, (sum(cpu_sec(each.pid) for each in running) - used) / done


def wait_for_notes(client: "redis.Redis", items: int) -> int:
    """Return how many notes exist when there are at least `items`."""
    by = time.monotonic() + 300
    while (found := client.xlen(NOTES_KEY)) < items:
        if time.monotonic() > by:
            raise RuntimeError(f"{found} of {items} were noted")
        time.sleep(0.01)
    return int(found)


def measure_digest_and_idle(system: Server, market: Server, notes: int) -> tuple[float, float, float]:
    """Measure the digest of `notes` notes, and then the idle worker.

    Returns:
        Seconds from the end of the window to its digest, MB of memory, and the share of a core.
    """
    with redis.Redis(port=market.port) as client:
        client.flushall()
        write_truth([system, market], build_truth(WINDOW_SEC))
        add_items(client, notes)
        while time.time() % WINDOW_SEC > 1:
            time.sleep(0.05)  # so that all are in one window
        with run_program("services.vexy_ai", system, market) as worker:
            wait_for_notes(client, notes + 1)
            ((_, digest),) = client.xrevrange(NOTES_KEY, count=1)
            began = cpu_sec(worker.pid)
            time.sleep(IDLE_SEC)
            idle = (cpu_sec(worker.pid) - began) / IDLE_SEC
            return float(digest[b"ts"]) - float(digest[b"to"]), rss_mb(worker.pid), idle


def main(items: int = ITEMS, notes: int = 5000) -> None:
    """Measure the loop that copies, one worker, two workers, a large digest and idling."""
    with Server() as system, Server() as market:
        with redis.Redis(port=market.port) as client:
            add_items(client, items)
            bare = measure_copying(client, items)
        alone, cost = measure_workers(system, market, 1, items)
        both, _ = measure_workers(system, market, 2, items)
        late, memory, idle = measure_digest_and_idle(system, market, notes)
    print_table(
        f"{items:,} items to notes",
        ("a loop that only copies", f"{bare:,.0f} items/s", ""),
        ("one worker", f"{alone:,.0f} items/s", f"{alone / bare:.2f} of it"),
        ("two workers", f"{both:,.0f} items/s", f"{both / bare:.2f} of it"),
        ("an item", f"{1e6 * cost:,.0f} µs of a core", ""),
        (f"the digest of {notes:,} notes", f"{late:.1f} s after its window", "looked for every second"),
        ("idle after that", f"{memory:.0f} MB, {100 * idle:.2f} % of a core", "goal: 40 MB, 0.3 %"),
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
