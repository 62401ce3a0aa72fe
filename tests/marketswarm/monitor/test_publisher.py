import asyncio

import orjson
import pytest

from marketswarm.bus import BusError
from marketswarm.detector import Publication, State, Subject, Verdict
from marketswarm.monitor.publisher import BATCH_SIZE, Publisher
from marketswarm.tasks import end_tasks
from marketswarm.testing import MemoryBus
from support.fixtures import closed
from support.simulation.publishers import LOG, NOTICES, down, gone, logged, recording_publisher, up
from support.waiting import PATIENT_SEC, auntil

bus = closed(MemoryBus)


def publisher_on(bus) -> tuple[Publisher, list[Verdict]]:
    told: list[Verdict] = []
    box = recording_publisher(bus, NOTICES, told)
    return box, told


async def test_everything_is_told_in_order_and_two_of_one_service_never_go_together(bus):
    box, told = publisher_on(bus)
    verdicts = [down("a"), down("b"), up("a"), down("a", 4.0), up("b")]
    for verdict in verdicts:
        box.enqueue(verdict)
    assert [verdict.svc for verdict in box.next_batch()] == ["a", "b"]
    await box.work_off()
    assert told == verdicts
    assert len(box) == 0
    assert await logged(bus) == [
        *(("heartbeat_miss", "a"), ("heartbeat_miss", "b"), ("heartbeat_ok", "a")),
        *(("heartbeat_miss", "a"), ("heartbeat_ok", "b")),
    ]


async def test_so_many_go_at_once_and_no_more(bus):
    box, told = publisher_on(bus)
    for n in range(BATCH_SIZE + 1):
        box.enqueue(down(f"svc{n}"))
    assert len(box.next_batch()) == BATCH_SIZE
    await box.work_off()
    assert len(told) == BATCH_SIZE + 1


async def test_a_bus_and_a_service_of_one_name_are_two(bus):
    box, _ = publisher_on(bus)
    box.enqueue(Verdict("x", State.DOWN, Publication.ALERT, 1.0, subject=Subject.BUS))
    box.enqueue(down("x"))
    await box.work_off()
    assert await logged(bus) == [("bus_miss", "x"), ("heartbeat_miss", "x")]


async def test_what_a_bus_does_not_take_waits_in_order_and_is_told_once_it_does(bus):
    box, told = publisher_on(bus)
    bus.connected = False
    task = asyncio.create_task(box.record())
    box.enqueue(down())
    box.enqueue(up())
    await auntil(lambda: box.retries >= 2)
    assert told == []
    bus.connected = True
    await auntil(lambda: not len(box))
    assert await logged(bus) == [("heartbeat_miss", "a"), ("heartbeat_ok", "a")]
    await end_tasks(task)


@pytest.mark.parametrize("before", [[], [down()]])
async def test_what_was_told_already_is_not_told_again(bus, before):
    for verdict in [*before, down(), up(), gone(), gone()]:
        box, told = publisher_on(bus)  # another run, or an answer that got lost
        box.enqueue(verdict)
        await box.work_off()
        assert told == [verdict]
    assert await logged(bus) == [("heartbeat_miss", "a"), ("heartbeat_ok", "a"), ("heartbeat_unwatched", "a")]
    assert await bus.client.hlen("healer:roster") == 0
    assert not await bus.client.exists("health:a")


async def test_what_is_forgotten_in_silence_leaves_the_log_alone(bus):
    box, _ = publisher_on(bus)
    for verdict in (up(publication=Publication.LOG), gone(publication=Publication.NONE)):
        box.enqueue(verdict)
    await box.work_off()
    assert await logged(bus) == [("heartbeat_ok", "a")]
    assert await bus.client.hlen("healer:roster") == 0
    assert not await bus.client.exists("health:a")


@pytest.mark.parametrize("removal", [Publication.ALERT, Publication.NONE])
async def test_a_removal_closes_an_outage_that_another_healer_published_whoever_knows_of_it(bus, removal):
    """A service that is dropped before its restore, or that a standby thought up, is down in the roster."""
    for svc, make in (("a", down), ("b", up)):
        before, _ = publisher_on(bus)
        before.enqueue(make(svc))
        await before.work_off()
    async with bus.client.pubsub() as heard:
        await heard.subscribe("healer:alerts")
        box, _ = publisher_on(bus)
        for svc in ("b", "a") if removal is Publication.NONE else ("a",):
            box.enqueue(gone(svc, publication=removal))
        await box.work_off()
        message = await auntil(lambda: heard.get_message(ignore_subscribe_messages=True))
    assert orjson.loads(message["data"])["type"] == "heartbeat_unwatched"
    assert await logged(bus) == [
        *(("heartbeat_miss", "a"), ("heartbeat_ok", "b")),
        ("heartbeat_unwatched", "a"),
    ]


async def test_a_first_ok_is_on_the_channel_if_it_ends_an_outage_that_another_healer_published(bus):
    async with bus.client.pubsub() as heard:
        await heard.subscribe("healer:alerts")
        leader, _ = publisher_on(bus)
        leader.enqueue(down("a"))
        await leader.work_off()
        standby, _ = publisher_on(bus)  # it did not know of the miss when it heard the first beat
        for svc in ("b", "a"):
            standby.enqueue(up(svc, publication=Publication.LOG))
        await standby.work_off()
        await bus.client.publish("healer:alerts", b'{"type":"the end","svc":""}')
        told: list[tuple[str, str]] = []
        async with asyncio.timeout(PATIENT_SEC):
            while ("the end", "") not in told:
                message = await heard.get_message(ignore_subscribe_messages=True, timeout=1)
                if message is not None:
                    event = orjson.loads(message["data"])
                    told.append((event["type"], event["svc"]))
    assert told[:-1] == [("heartbeat_miss", "a"), ("heartbeat_ok", "a")]
    assert ("heartbeat_ok", "b") in await logged(bus)


async def test_a_publisher_that_takes_over_goes_on_with_the_oldest(bus):
    old, _ = publisher_on(bus)
    old.enqueue(down("a"))
    old.enqueue(down("b"))
    box, told = publisher_on(bus)
    box.enqueue(up("a"))
    box.take_over_queue(old)
    await box.work_off()
    assert told == [down("a"), down("b"), up("a")]


async def test_an_entry_that_nobody_can_read_is_as_good_as_none(bus):
    await bus.client.hset("healer:roster", "a", "junk")
    box, _ = publisher_on(bus)
    box.enqueue(down())
    await box.work_off()
    assert await logged(bus) == [("heartbeat_miss", "a")]


async def test_a_roster_that_is_none_refuses_before_anything_is_written(bus):
    await bus.client.set("healer:roster", "a string")
    box, told = publisher_on(bus)
    box.enqueue(down())
    with pytest.raises(BusError):
        await box.work_off()
    assert (told, len(box)) == ([], 1)
    assert not await bus.client.exists(LOG)
    assert not await bus.client.exists("health:a")
