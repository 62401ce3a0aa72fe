"""massive is killed at random points while a target comes and goes: each loss and each return is told once.

`KILLS=100 … -s` is the long run, with its figures; `KILLS_SEED` has a run again.
"""

import itertools
import os
import random
import socket
import time

import orjson
import pytest

from support.rig import HOST, Proc, free_port
from support.scenes.agent import Scene, seed
from support.waiting import Stopwatch, until

KILLS = int(os.environ.get("KILLS", "4"))
SEED = int(os.environ.get("KILLS_SEED", "5"))
START_SEC = 20.0
LOG = "massive:alerts"
PATIENCE = {"probe_sec": 0.05, "down_after": 3, "up_after": 2}


class Peer:
    """A port that answers, or does not."""

    def __init__(self) -> None:
        self.port = free_port()
        self._server: socket.socket | None = None

    def turn(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        else:
            self._server = socket.create_server((HOST, self.port), backlog=128)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


@pytest.fixture
def scene(tmp_path):
    with Scene(tmp_path) as scene:
        yield scene


@pytest.fixture
def peer():
    peer = Peer()
    yield peer
    peer.close()


def events_of(scene):
    return [orjson.loads(fields["event"]) for _, fields in scene.system.cmd("XRANGE", LOG, "-", "+")]


def anew(scene: Scene) -> Proc:
    # what one run needs on disk to start is what every run needs
    return scene.module("services.massive", LOG_LEVEL="INFO")


def test_a_kill_at_any_moment_loses_no_event_and_repeats_none(scene, peer):
    chance = random.Random(SEED)
    targets = [{"name": "peer", "host": HOST, "port": peer.port}]
    massive = {"heartbeat": {"interval_sec": 0.5}, "settings": {"targets": targets, **PATIENCE}}
    seed(scene.buses, {"services": {"massive": massive}}, 1)
    kinds = itertools.cycle(["probe_miss", "probe_ok"])
    expected: list[str] = []
    agent, begun, kills, turns = anew(scene), time.monotonic(), 0, 0
    while kills < KILLS:
        # it is away at first; from then on it turns as soon as what it did is told
        expected.append(next(kinds))
        if turns:
            peer.turn()
        turns += 1
        while len(events_of(scene)) < len(expected):
            stopwatch = Stopwatch()
            told = until_or(lambda: len(events_of(scene)) >= len(expected), 0.05 + chance.random() * 0.4)
            if not told and kills < KILLS and agent.logs("probe.changed"):
                agent.kill()
                kills += 1
                agent = anew(scene)
            assert stopwatch.own_sec < START_SEC
        if chance.random() < 0.5:  # or right after it was told
            agent.kill()
            kills += 1
            agent = anew(scene)
    until(lambda: agent.logs("probe.changed"), START_SEC)
    events = events_of(scene)
    assert [event["type"] for event in events] == expected
    assert len({event["id"] for event in events}) == len(events)
    for miss, ok in zip(events[::2], events[1::2], strict=False):
        assert (miss["since"], miss["svc"]) == (ok["since"], "massive/peer")
    print(f"\n{kills} kills, {turns} turns, {len(events)} events, {time.monotonic() - begun:.0f} s")  # noqa: T201 - the figures of a long run


def until_or(condition, within: float) -> bool:
    """Whether it came true within that time."""
    try:
        until(condition, within)
    except AssertionError:
        return False
    return True
