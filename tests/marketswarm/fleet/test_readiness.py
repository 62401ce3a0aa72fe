"""The roll of those that come up: processes by their boots, whatever is said on their channels."""

import orjson
import pytest

from marketswarm.beat import make
from marketswarm.fleet.readiness import InstanceCounter
from marketswarm.truth import load

ELSEWHERE = {"channel": "elsewhere", "redis_url": "redis://market-redis:6379"}
SERVICES = {"a": {"replicas": 2}, "b": {"replicas": 2, "heartbeat": ELSEWHERE}, "c": {}}
TRUTH = load(orjson.dumps({"services": SERVICES})).truth


@pytest.fixture
def roll():
    return InstanceCounter(TRUTH, ["a", "b"])


def beat(svc, boot=None, status="ok", i=1):
    return make(svc, i, 1.0, boot=boot, status=status)


def test_each_boot_counts_once(roll):
    for boot in ("one", "two", "one"):
        roll.heard(b"a:heartbeat", beat("a", boot))
    roll.heard(b"elsewhere", beat("b", "one"))
    assert (roll.present("a"), roll.present("b"), roll.present("c")) == (2, 1, 0)


def test_who_says_goodbye_is_not_there_any_more(roll):
    roll.heard(b"a:heartbeat", beat("a", "one"))
    roll.heard(b"a:heartbeat", beat("a", "one", "stopping", 2))
    assert roll.present("a") == 0


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", beat("b", "x"), beat("a"), b"{" * 9000])
def test_what_is_no_beat_of_it_or_has_no_boot_counts_for_nobody(roll, payload):
    roll.heard(b"a:heartbeat", payload)
    roll.heard(b"unknown", payload)
    assert roll.present("a") == 0


def test_there_is_an_end_to_what_it_keeps(roll):
    for number in range(1200):
        roll.heard(b"a:heartbeat", beat("a", f"boot {number}"))
    assert roll.present("a") == 1000


async def test_a_fleet_without_such_services_waits_for_nobody():
    roll = InstanceCounter(TRUTH, [])
    await roll.listens()
    await roll.call(None)
