"""FAILURES row 30, many times: the notifier is killed at random points, and a receiver keeps a ledger.

Nothing is lost, and what comes again comes under the same id. `KILLS=200 … --nightly -s` is the long
run, with its figures; `KILLS_SEED` has a run again.
"""

import os
import random
import re
import threading
import time
from collections import Counter
from typing import Any

import orjson
import pytest
import redis

from support.rig.receiver import Answer, Receiver, Request
from support.scenes.faults import BUSES
from support.scenes.notifier import LOG, Notified, hooks
from support.waiting import until

LATE = re.compile(rb' \(told [^()]* late\)|"late":(?:true|false)')
"""What a message says on top when it goes out late: a repeat may be the first of the two that is."""
FEW, MANY = 5, int(os.environ.get("KILLS", "20"))
SEED = int(os.environ.get("KILLS_SEED", "4"))
EVERY_SEC = 0.03


class Moody(Receiver):
    """A receiver that mostly takes what it gets; else it is ill, busy, or slow."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.calm = False

    def _answer(self, handler: Any) -> None:
        dice = 1.0 if self.calm else self.chance.random()
        if dice < 0.05:
            self.script.append(Answer(503))
        elif dice < 0.08:
            self.script.append(Answer(429, {"Retry-After": "1"}))
        elif dice < 0.3:
            time.sleep(self.chance.random() * 0.1)
        super()._answer(handler)

    def whole(self) -> list[Request]:
        """The requests that were not broken off by a kill; what is half there nobody can have taken."""
        seen = list(self.seen)
        return [each for each in seen if len(each.body) == int(each.headers.get("content-length", 0)) > 0]

    def told(self) -> set[str]:
        """The events that were accepted."""
        accepted = [request for request in self.whole() if request.status == 200]
        return {event["id"] for request in accepted for event in request.data["events"]}


class Story:
    """Services that go down and come back, each once, as fast as it goes; every event that was written."""

    def __init__(self, scene: Notified, chance: random.Random) -> None:
        self.written: list[str] = []
        self._clients = {bus: redis.Redis(port=scene.server(bus).port) for bus in BUSES}
        self._chance, self._over = chance, threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join(10)
        for client in self._clients.values():
            client.close()

    def _tell(self) -> None:
        down: list[tuple[str, str]] = []
        n = 0
        while not self._over.wait(EVERY_SEC) or down:
            if down and (self._over.is_set() or self._chance.random() < 0.5):
                family, svc = down.pop(self._chance.randrange(len(down)))
                self._write(f"{family}_ok", svc)
                continue
            n += 1
            family = "heartbeat" if self._chance.random() < 0.9 else "bus"
            down.append((family, f"s{n}"))
            self._write(f"{family}_miss", f"s{n}")

    def _write(self, kind: str, svc: str) -> None:
        ts = round(time.time(), 3)
        ident = f"{kind}.{svc}.{round(ts * 1000)}"
        event = {"type": kind, "svc": svc, "ts": ts, "id": ident, "by": "healer"}
        for bus in BUSES if kind.startswith("bus") else BUSES[:1]:
            self._clients[bus].xadd(LOG, {"event": orjson.dumps(event)})
        self.written.append(ident)


@pytest.mark.timeout(120 + 6 * MANY)
@pytest.mark.parametrize("kills", [FEW, pytest.param(MANY, marks=pytest.mark.nightly(f"[{FEW}]"))])
def test_row_30_killed_at_random_points_it_loses_nothing_and_repeats_only_under_the_same_id(tmp_path, kills):
    chance = random.Random(SEED)
    with (
        Moody(chance) as receiver,
        Notified(
            tmp_path,
            hooks(one=receiver),
            env={"NOTIFIER_LEASE_SEC": "0.3"},
            rate_limit_sec=0.0,
            group_wait_sec=0.04,
        ) as scene,
    ):
        story = Story(scene, chance)
        began, gone = time.monotonic(), {""}
        for _ in range(kills):
            if chance.random() < 0.8:  # while it works
                until(lambda gone=gone: leader(scene) not in gone, what="a lease")
                time.sleep(chance.random() * 0.6)  # the moment of a kill is what is tried
            else:  # at any moment of its start
                time.sleep(chance.random())
            scene.notifier.kill()
            gone = {"", *(line["boot"] for line in scene.notifier.logs("agent.joined"))}
            scene.notifier.start()
        took_sec = time.monotonic() - began
        story.end()
        receiver.calm = True
        until(lambda: set(story.written) <= receiver.told(), 120, lambda: describe_rest(story, receiver))
        scene.settled(10)
        judge(story, receiver, kills, took_sec)
        assert not [name for name in scene.state() if name.startswith(("o:m:", "o:w:", "r:l:"))]
        assert scene.dead() == []


def describe_rest(story: Story, receiver: Moody) -> str:
    told = receiver.told()
    rest = [each for each in story.written if each not in told]
    return f"{len(rest)} of {len(story.written)} events, such as {rest[:3]}; {len(receiver.seen)} requests"


def leader(scene: Notified) -> str:
    return scene.system.cmd("GET", "notifier:lease") or ""


def judge(story: Story, receiver: Moody, kills: int, took_sec: float) -> None:
    accepted = [request for request in receiver.whole() if request.status == 200]
    by_event: dict[str, set[str]] = {}
    for request in receiver.whole():
        for event in request.data["events"]:
            by_event.setdefault(event["id"], set()).add(request.id)
    told = receiver.told()
    lost = set(story.written) - told
    others = {event: ids for event, ids in by_event.items() if len(ids) > 1}
    times = Counter(request.id for request in accepted)
    strangers = told - set(story.written)
    figures = {
        "kills": kills,
        "seconds": round(took_sec),
        "events": len(story.written),
        "messages": len(times),
        "attempts": len(receiver.seen),
        "broken off": len(receiver.seen) - len(receiver.whole()),
        "accepted": len(accepted),
        "accepted again": sum(times.values()) - len(times),
        "lost": len(lost),
        "told under two ids": len(others),
    }
    print("\n" + ", ".join(f"{name}: {value}" for name, value in figures.items()))  # noqa: T201 - for `-s`
    assert not lost, sorted(lost)[:5]
    assert not others, list(others.items())[:5]
    assert not strangers
    again = {ident for ident, count in times.items() if count > 1}
    for ident in again:
        bodies = {LATE.sub(b"", request.body) for request in accepted if request.id == ident}
        assert len(bodies) == 1, f"another text: {bodies}"
