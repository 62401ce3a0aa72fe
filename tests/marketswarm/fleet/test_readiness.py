"""Processes are counted by their boots, whatever is sent on their channels."""

import orjson
import pytest

from marketswarm.beat import Beat, encode_beat
from marketswarm.fleet.readiness import InstanceCounter, find_ready
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth

ELSEWHERE = {"channel": "elsewhere", "redis_url": "redis://market-redis:6379"}
SERVICES = {"a": {"replicas": 2}, "b": {"replicas": 2, "heartbeat": ELSEWHERE}, "c": {}}
TRUTH = parse_truth(orjson.dumps({"services": SERVICES})).truth


@pytest.fixture
def counter():
    return InstanceCounter(TRUTH, ["a", "b"])


def beat(svc, boot=None, status="ok", i=1):
    return encode_beat(Beat(svc, i, 1.0, boot=boot, status=status))


def test_each_boot_counts_once(counter):
    for boot in ("one", "two", "one"):
        counter.count_beat(b"a:heartbeat", beat("a", boot))
    counter.count_beat(b"elsewhere", beat("b", "one"))
    assert (counter.count("a"), counter.count("b"), counter.count("c")) == (2, 1, 0)


def test_who_says_goodbye_is_not_there_any_more(counter):
    counter.count_beat(b"a:heartbeat", beat("a", "one"))
    counter.count_beat(b"a:heartbeat", beat("a", "one", "stopping", 2))
    assert counter.count("a") == 0


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", beat("b", "x"), beat("a"), b"{" * 9000])
def test_what_is_no_beat_of_it_or_has_no_boot_counts_for_nobody(counter, payload):
    counter.count_beat(b"a:heartbeat", payload)
    counter.count_beat(b"unknown", payload)
    assert counter.count("a") == 0


def test_there_is_an_end_to_what_it_keeps(counter):
    for number in range(1200):
        counter.count_beat(b"a:heartbeat", beat("a", f"boot {number}"))
    assert counter.count("a") == 1000


async def test_a_fleet_without_such_services_waits_for_nobody():
    counter = InstanceCounter(TRUTH, [])
    await counter.wait_until_listening()
    await counter.listen(None)


@pytest.mark.parametrize(
    ("event", "is_ready"),
    [
        ({"type": "heartbeat_ok"}, True),
        ({"type": "heartbeat_miss", "reason": "failed"}, True),  # it beats, and an alert about it is open
        ({"type": "heartbeat_miss", "reason": "silent"}, False),
        ({}, False),
    ],
)
async def test_a_service_that_beats_is_up_also_while_somebody_reports_a_failure_of_it(event, is_ready):
    truth, bus = parse_truth(orjson.dumps({"services": {"a": {}, "healer": {}}})).truth, MemoryBus()
    for svc in ("a", "healer"):
        await bus.client.set(f"beat:{svc}", encode_beat(Beat(svc, 1, 100.0)))
    await bus.client.set("health:a", orjson.dumps(event))
    ready = await find_ready({"a": 99.0, "healer": 99.0}, truth, lambda _name: bus)
    assert ("a" in ready) is is_ready
