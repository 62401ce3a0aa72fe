"""Workers that share a queue are killed at random points: each item has one note, each window one digest.

`KILLS=100 … -s` is the long run, with its figures; `KILLS_SEED` has a run again.
"""

import os
import random
import threading
import time
from collections import Counter
from typing import Any

import pytest
import redis

from support.rig import Proc
from support.scenes.agent import Scene, seed
from support.scenes.vexy_ai import digests, entries, pending, truth
from support.waiting import until

KILLS = int(os.environ.get("KILLS", "6"))
SEED = int(os.environ.get("KILLS_SEED", "5"))
WORKERS = 2
AT_ONCE = 40
EVERY_SEC = 0.02
DOCUMENT = truth(claim_sec=0.3, batch=20, digest_sec=1, notes=1_000_000, symbols={"ACME": ["Acme"]})


class Feed:
    """Puts items on the stream as long as it lasts: new ones, the same ones again, edited ones."""

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        self.written: set[tuple[str, str]] = set()  # ids and versions
        self._client = redis.Redis(port=scene.market.port)
        self._chance, self._over = chance, threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join(10)
        self._client.close()

    def _write(self) -> None:
        n = 0
        while not self._over.wait(EVERY_SEC):
            pipe = self._client.pipeline()
            for _ in range(self._chance.randrange(AT_ONCE)):
                dice = self._chance.random()
                n += dice < 0.8
                ident, version = f"i{n}", str(self._chance.randrange(2, 5)) if dice > 0.9 else ""
                self.written.add((ident, version))
                item: dict[Any, Any] = {"id": ident, "title": f"Acme rises for the {n}th time", "feed": "f"}
                pipe.xadd("rss:items", item | ({"version": version} if version else {}))
            pipe.execute()


@pytest.mark.timeout(120 + 6 * KILLS)
def test_workers_killed_at_random_points_leave_each_item_one_note_and_each_window_one_digest(tmp_path):
    chance = random.Random(SEED)
    with Scene(tmp_path) as scene:
        seed(scene.buses, DOCUMENT, 1)
        workers = [scene.module("services.vexy_ai", LOG_LEVEL="INFO") for _ in range(WORKERS)]
        for worker in workers:
            worker.wait_log("agent.joined")
        feed, began = Feed(scene, chance), time.monotonic()
        pauses = random.Random(SEED + 1)
        in_hand = [kill_one(scene, pauses.choice(workers), pauses) for _ in range(KILLS)]
        took_sec = time.monotonic() - began
        feed.end()
        until(lambda: settled(scene), 60, "all of it")
        until(lambda: not scene.market.cmd("HLEN", "vexy:notes:windows"), 30, "every digest")
        judge(scene, feed, in_hand, took_sec)


def kill_one(scene: Scene, worker: Proc, chance: random.Random) -> int:
    """Kills a worker with work in hand, about, or at any moment; how much was in hand then, in all."""
    dice = chance.random()
    if dice < 0.5:
        until(lambda: pending(scene), 20, "work in hand")
    elif dice < 0.8:
        before = len(worker.logs("items.noted"))
        until(lambda: len(worker.logs("items.noted")) > before, 20, "work")
        time.sleep(chance.random() * 0.1)
    else:
        time.sleep(chance.random())
    worker.kill()
    held = pending(scene)
    worker.start()
    return held


def settled(scene: Scene) -> bool:
    group = scene.market.cmd("XINFO", "GROUPS", "rss:items")[0]
    return not group["lag"] and not group["pending"]


def judge(scene: Scene, feed: Feed, in_hand: list[int], took_sec: float) -> None:
    notes = [each for each in entries(scene.market) if each["kind"] == "note"]
    told = digests(scene)
    times = Counter((each["id"], each.get("version", "")) for each in notes)
    windows = Counter(each["window"] for each in notes)
    figures = {
        "kills": KILLS,
        "seconds": round(took_sec),
        "items": len(feed.written),
        "entries": scene.market.cmd("XLEN", "rss:items"),
        "notes": len(notes),
        "lost": len(feed.written - set(times)),
        "noted twice": sum(count > 1 for count in times.values()),
        "kills with work in hand": sum(held > 0 for held in in_hand),
        "windows": len(windows),
        "digests": len(told),
        "dead": scene.market.cmd("XLEN", "vexy:dead"),
    }
    print("\n" + ", ".join(f"{name}: {value}" for name, value in figures.items()))  # noqa: T201 - for `-s`
    assert set(times) == feed.written
    assert not [each for each, count in times.items() if count > 1]
    assert {each["window"]: each["items"] for each in told} == windows
    assert len(told) == len(windows)
    assert figures["dead"] == 0
