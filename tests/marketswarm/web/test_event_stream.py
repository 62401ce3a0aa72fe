import asyncio
import re

import pytest

from marketswarm.web import event_stream as stream
from marketswarm.web.event_stream import StreamHub, StreamsFull
from support.waiting import PATIENT_SEC

RESUMED = ("resumed", None, "{}")


def parse(wire):
    """Return what an EventSource reads: (event, id, data) of each event that has data."""
    found = []
    for block in wire.decode().split("\n\n"):
        fields = dict(re.findall(r"^(\w+): (.*)$", block, re.MULTILINE))
        if "data" in fields:
            found.append((fields.get("event"), fields.get("id"), fields["data"]))
    return found


async def take(follower):
    return parse(await asyncio.wait_for(anext(follower), PATIENT_SEC))


async def test_a_new_follower_is_told_to_read_the_snapshot_and_then_gets_each_event():
    hub = StreamHub("boot")
    hub.publish("delta", b'{"n":1}')
    follower = hub.follow(None)
    assert await take(follower) == [("reset", "boot-1", "{}")]
    hub.publish("delta", b'{"n":2}')
    hub.publish("alert", b'{"n":3}')
    assert await take(follower) == [("delta", "boot-2", '{"n":2}'), ("alert", "boot-3", '{"n":3}')]


async def test_a_follower_that_comes_back_gets_what_it_missed():
    hub = StreamHub("boot")
    ids = [hub.publish("delta", b"%d" % n) for n in range(5)]
    assert await take(hub.follow(ids[2])) == [("delta", "boot-4", "3"), ("delta", "boot-5", "4"), RESUMED]


async def test_a_follower_that_missed_nothing_is_told_so_and_how_long_to_wait_before_a_new_attempt():
    hub = StreamHub("boot")
    last = hub.publish("delta", b"1")
    follower = hub.follow(last)
    wire = await anext(follower)
    assert wire.startswith(b"retry: 1000\n\n")
    assert parse(wire) == [RESUMED]
    hub.publish("delta", b"2")
    assert await take(follower) == [("delta", "boot-2", "2")]


async def test_the_first_position_can_be_followed_from():
    hub = StreamHub("boot")
    start = hub.position
    hub.publish("delta", b"1")
    assert await take(hub.follow(start)) == [("delta", "boot-1", "1"), RESUMED]


@pytest.mark.parametrize(
    "last_id", [None, "", "boot", "boot-", "boot-9", "boot--1", "boot-x", "other-1", "boot-²"]
)
async def test_an_id_that_is_not_of_this_hub_resets(last_id):
    hub = StreamHub("boot")
    hub.publish("delta", b"1")
    assert await take(hub.follow(last_id)) == [("reset", "boot-1", "{}")]


async def test_an_id_that_the_ring_has_forgotten_resets(monkeypatch):
    monkeypatch.setattr(stream, "RING_EVENTS", 3)
    hub = StreamHub("boot")
    ids = [hub.publish("delta", b"%d" % n) for n in range(6)]
    assert [data for _, _, data in await take(hub.follow(ids[2]))] == ["3", "4", "5", "{}"]
    assert (await take(hub.follow(ids[1])))[0][0] == "reset"


async def test_the_ring_has_a_bound_in_bytes(monkeypatch):
    monkeypatch.setattr(stream, "RING_BYTES", 1000)
    hub = StreamHub("boot")
    ids = [hub.publish("delta", b"x" * 300) for _ in range(6)]
    assert (await take(hub.follow(ids[0])))[0][0] == "reset"
    assert len(await take(hub.follow(ids[3]))) == 2 + 1


async def test_a_follower_that_does_not_keep_up_is_cut_off_and_delays_nobody(monkeypatch):
    monkeypatch.setattr(stream, "QUEUE_BYTES", 1000)
    hub = StreamHub("boot")
    slow, quick = hub.follow(None), hub.follow(None)
    await take(slow)
    await take(quick)
    for n in range(20):
        hub.publish("delta", b'"%s"' % (b"x" * 100))
        assert (await take(quick))[0][1] == f"boot-{n + 1}"
    assert len(hub) == 1
    assert hub.cut_off == 1
    assert [each async for each in slow] == []


async def test_a_backlog_too_large_for_a_queue_resets(monkeypatch):
    monkeypatch.setattr(stream, "QUEUE_BYTES", 1000)
    hub = StreamHub("boot")
    start = hub.position
    for _ in range(20):
        hub.publish("delta", b'"%s"' % (b"x" * 100))
    assert await take(hub.follow(start)) == [("reset", "boot-20", "{}")]


async def test_what_is_told_reaches_all_and_is_not_kept():
    hub = StreamHub("boot")
    start = hub.position
    follower = hub.follow(start)
    await anext(follower)
    hub.tell("tick", b'{"at":1}')
    assert await take(follower) == [("tick", None, '{"at":1}')]
    assert hub.position == start


async def test_closing_ends_all_streams_at_once_after_what_was_sent():
    hub = StreamHub("boot")
    followers = [hub.follow(None) for _ in range(20)]
    for one in followers:
        await take(one)
    hub.publish("delta", b"1")
    hub.close()
    for one in followers:
        assert [parse(each) for each in [each async for each in one]] == [[("delta", "boot-1", "1")]]
    assert len(hub) == 0
    with pytest.raises(StreamsFull):
        hub.follow(None)


async def test_there_are_no_more_streams_than_allowed_and_one_that_ends_makes_room():
    hub = StreamHub("boot", lambda: 1)
    first = hub.follow(None)
    await take(first)
    with pytest.raises(StreamsFull):
        hub.follow(None)
    await first.aclose()
    assert len(hub) == 0
    await take(hub.follow(None))


async def test_a_stream_that_is_given_up_before_it_began_takes_no_room():
    hub = StreamHub("boot", lambda: 1)
    await hub.follow(None).aclose()
    await take(hub.follow(None))


async def test_a_new_bound_of_followers_is_in_force_at_once():
    bound = 0
    hub = StreamHub("boot", lambda: bound)
    with pytest.raises(StreamsFull):
        hub.follow(None)
    bound = 1
    async for wire in hub.follow(None):
        assert b"reset" in wire
        break


async def test_a_stream_counts_from_its_request_on_and_no_more_once_nobody_has_it():
    hub = StreamHub("boot", lambda: 2)
    begun, waiting = hub.follow(None), hub.follow(None)
    with pytest.raises(StreamsFull):
        hub.follow(None)
    del waiting  # its client went away before the answer began
    assert len(hub) == 1
    await take(begun)
    await begun.aclose()
    assert len(hub) == 0
