"""Measure how many items a second vexy_ai turns into notes.

The servers and workers are real, and the items are as rss_agg writes them. The limit is a loop that only
copies: it also reads through a group, and acknowledges after it has written.
"""

import contextlib
import random
import time
from typing import Any, Final

import redis

from bench.figures import Pair, Sample
from bench.programs import cpu_sec, run_program, wait_until
from bench.server import Server, start_buses

ITEMS: Final = 20_000
ITEMS_KEY: Final = "rss:items"
NOTES_KEY: Final = "vexy:notes"
BATCH: Final = 100
WORDS: Final = tuple(
    "shares rise fall after report of strong weak profit loss and outlook for the year as investors fear "  # noqa: SIM905 - as one would say it
    "hope rates inflation oil gas deal merger chief court bank market growth record demand supply price "
    "Acme Globex".split()
)
SETTINGS: Final = {
    "symbols": {"ACME": ["Acme"], "GLBX": ["Globex"], "INIT": ["Initech"]},
    "topics": {"rates": ["inflation"], "energy": ["oil", "gas"]},
    "digest_sec": 86_400,
    "notes": 1_000_000,
    "batch": BATCH,
}


def add_items(client: "redis.Redis", items: int) -> None:
    """Give each item a title and a summary of 40 words."""
    chance = random.Random(1)
    pipe = client.pipeline(transaction=False)
    for n in range(items):
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


def copy_items(client: "redis.Redis", items: int) -> tuple[float, float]:
    """Return how many items a second the loop copies, and the microseconds of a core for each."""
    client.xgroup_create(ITEMS_KEY, "copies", id="0")
    began, cpu, done = time.monotonic(), time.process_time(), 0
    while done < items:
        reply: Any = client.xreadgroup("copies", "bench", {ITEMS_KEY: ">"}, count=BATCH)
        ((_, entries),) = reply
        pipe = client.pipeline(transaction=True)
        for _, fields in entries:
            pipe.xadd("copies", fields)
        pipe.xack(ITEMS_KEY, "copies", *(entry for entry, _ in entries))
        pipe.execute()
        done += len(entries)
    return items / (time.monotonic() - began), 1e6 * (time.process_time() - cpu) / items


def run_workers(
    buses: tuple[Server, Server], client: "redis.Redis", workers: int, items: int
) -> tuple[float, float]:
    """Let so many workers write the notes of all items; return the same after the first tenth."""
    with contextlib.ExitStack() as ends:
        running = [ends.enter_context(run_program("services.vexy_ai", buses)) for _ in range(workers)]
        wait_until(lambda: client.xlen(NOTES_KEY) >= items // 10, "the first tenth")
        first, began, used = (
            client.xlen(NOTES_KEY),
            time.monotonic(),
            sum(cpu_sec(each.pid) for each in running),
        )
        wait_until(lambda: client.xlen(NOTES_KEY) >= items, "all notes")
        took, used = time.monotonic() - began, sum(cpu_sec(each.pid) for each in running) - used
    return (items - first) / took, 1e6 * used / (items - first)


def measure(scale: float) -> Sample:
    items, found = round(ITEMS * scale), []
    for workers in (1, 2):  # the items are given out again to new servers only
        with (
            start_buses({"vexy_ai": {"settings": SETTINGS}}) as buses,
            redis.Redis(port=buses[1].port) as client,
        ):
            add_items(client, items)
            found.append((run_workers(buses, client, workers, items), copy_items(client, items)))
    (one, bare), (two, bare_of_two) = found
    return {
        "rate": Pair(one[0], bare[0]),
        "processor": Pair(one[1], bare[1]),
        "rate_of_two": Pair(two[0], bare_of_two[0]),
    }
