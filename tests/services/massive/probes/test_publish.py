"""Results that go to a bus that is away for a while."""

import asyncio

import pytest

from marketswarm.bus import BusError
from marketswarm.tasks import end_tasks
from marketswarm.testing import MemoryBus
from services.massive.probes import publish as publishing
from services.massive.probes.publish import BATCH_SIZE, ResultPublisher
from services.massive.probes.result import ProbeFinding, ProbeResult
from support.waiting import auntil

MAX_PENDING = BATCH_SIZE + 50


class Place:
    """The bus as it is found: there, or away."""

    def __init__(self, bus):
        self.bus, self.away = bus, False

    def __call__(self):
        if self.away:
            raise BusError("market-redis", "refused")
        return self.bus, "massive:probes"


@pytest.fixture
async def place(monkeypatch, moved_time):
    monkeypatch.setattr(publishing, "MAX_PENDING", MAX_PENDING)
    bus = MemoryBus(within_sec=60)  # an answer that comes too late is published again
    yield Place(bus)
    await bus.aclose()


@pytest.fixture
async def publisher(place):
    publisher = ResultPublisher(place)
    task = asyncio.create_task(publisher.run())
    yield publisher
    await end_tasks(task)


def finding(n):
    return ProbeFinding("a", float(n), ProbeResult("tcp", "h:1"))


async def on_it(bus):
    return [float(fields[b"ts"]) for _, fields in await bus.client.xrange("massive:probes")]


async def test_each_is_on_the_stream_and_the_last_one_under_its_key(place, publisher):
    for n in range(3):
        publisher.add(finding(n), 10.0)
    await auntil(lambda: publisher.published == 3)
    assert await on_it(place.bus) == [0.0, 1.0, 2.0]
    assert b'"ts":2.0' in await place.bus.client.get("probe:a")
    assert 29_000 < await place.bus.client.pttl("probe:a") <= 30_000


async def test_what_was_found_while_it_was_away_comes_later_in_order(place, publisher):
    place.away = True
    for n in range(BATCH_SIZE + 1):
        publisher.add(finding(n), 10.0)
    await auntil(lambda: publisher.outage.problem == "market-redis refused")
    publisher.add(finding(BATCH_SIZE + 1), 10.0)
    place.away = False
    await auntil(lambda: publisher.published == BATCH_SIZE + 2)
    assert await on_it(place.bus) == [float(n) for n in range(BATCH_SIZE + 2)]
    assert (publisher.outage.problem, publisher.lost) == (None, 0)


async def test_of_more_than_there_is_room_for_the_oldest_go_and_are_counted(place, publisher):
    place.away = True
    for n in range(MAX_PENDING):
        publisher.add(finding(n), 10.0)
    await auntil(lambda: publisher.outage.problem)
    for n in range(MAX_PENDING, MAX_PENDING + 10):
        publisher.add(finding(n), 10.0)
    place.away = False
    await auntil(lambda: publisher.outage.problem is None and publisher.published == MAX_PENDING)
    assert publisher.lost == 10
    assert await on_it(place.bus) == [float(n) for n in range(10, MAX_PENDING + 10)]


async def test_a_batch_that_fails_while_as_many_come_as_there_is_room_for_is_lost_and_counted(
    place, publisher, monkeypatch
):
    publish = place.bus.script

    async def fail(*_args):
        monkeypatch.setattr(place.bus, "script", publish)
        for n in range(1, MAX_PENDING + 1):
            publisher.add(finding(n), 10.0)
        raise BusError("market-redis", "timeout")

    monkeypatch.setattr(place.bus, "script", fail)
    publisher.add(finding(0), 10.0)
    await auntil(lambda: publisher.published == MAX_PENDING)
    assert publisher.lost == 1
    assert await on_it(place.bus) == [float(n) for n in range(1, MAX_PENDING + 1)]
