"""Each step of a consumer by itself, on a real server: what it returns, and what it leaves to others."""

import asyncio
from collections import Counter

import orjson
import pytest

from marketswarm.bus.consumer import Consumer, format_fields

STREAM, GROUP, DEAD = "rss:items", "group", "vexy:dead"
MIB = 1024 * 1024
HOUR_SEC = 3600.0


@pytest.fixture
async def consumer(bus):
    return await open_consumer(bus, "me")


async def open_consumer(bus, name, streams=(STREAM,)):
    consumer = Consumer(bus, streams, GROUP, name)
    await consumer.open()
    return consumer


def add(server, *names, **fields):
    pairs = [word for pair in fields.items() for word in pair]
    return [server.cmd("XADD", STREAM, "*", "id", name, *pairs).encode() for name in names]


async def read(consumer, count=10):
    return await consumer.read_new({STREAM: count}, 0.01)


async def pending(bus):
    """The consumer and the deliveries of each pending entry."""
    found = await bus.ask(bus.client.xpending_range(STREAM, GROUP, "-", "+", 5000))
    return [(each["consumer"].decode(), each["times_delivered"]) for each in found]


async def test_of_each_stream_so_many_are_read_and_of_one_without_room_none(server, bus):
    streams = [f"s{n}" for n in range(4)]
    consumer = await open_consumer(bus, "me", streams)
    for stream in streams:
        for _ in range(5):
            server.cmd("XADD", stream, "*", "id", 1)
    found = await consumer.read_new(dict(zip(streams, (1, 3, 0, 3), strict=True)), 0.01)
    assert Counter(entry.stream for entry in found) == {"s0": 1, "s1": 3, "s3": 3}
    assert await consumer.read_new({}, 0.01) == []


async def test_an_empty_stream_keeps_no_entry_of_another_waiting(server, bus):
    consumer = await open_consumer(bus, "me", ["empty", STREAM])
    add(server, "a")
    async with asyncio.timeout(10):
        found = await consumer.read_new({"empty": 1, STREAM: 2}, 60)
    assert [entry.stream for entry in found] == [STREAM]


async def test_a_group_that_is_there_is_taken_as_it_is(server, bus, consumer):
    add(server, "a", "b")
    await read(consumer, 1)
    await consumer.open()
    assert [entry.fields for entry in await read(consumer)] == [{b"id": b"b"}]


async def test_entries_whose_reply_was_lost_are_found_again_by_their_consumer(server, bus, consumer):
    assert await consumer.read_own(STREAM) == ([], 0)
    assert not consumer.has_unseen
    first, _ = add(server, "a", "b")
    await read(consumer)
    again = Consumer(bus, [STREAM], GROUP, "me")  # after an error, which may have lost a reply
    assert again.has_unseen
    entries, trimmed = await again.read_own(STREAM)
    assert ([entry.fields[b"id"] for entry in entries], trimmed) == ([b"a", b"b"], 0)
    await again.acknowledge(STREAM, [first])
    server.cmd("XTRIM", STREAM, "MAXLEN", "=", 0)
    assert await again.read_own(STREAM) == ([], 1)
    assert await pending(bus) == []
    assert again.has_unseen  # there may be more
    assert await again.read_own(STREAM) == ([], 0)
    assert not again.has_unseen


async def test_entries_of_a_reply_that_is_too_long_are_left_to_be_read_again(
    server, bus, consumer, monkeypatch
):
    await consumer.read_own(STREAM)
    add(server, "a", title="x" * MIB)
    add(server, "b")
    monkeypatch.setattr("marketswarm.bus.consumer.REPLY_BYTES", 1000)
    assert await read(consumer) == []
    assert consumer.has_unseen
    entries, _ = await consumer.read_own(STREAM)
    assert [entry.fields for entry in entries] == [None, {b"id": b"b"}]


async def test_what_others_left_is_claimed_all_at_once(server, bus, consumer):
    add(server, "a", "b", "c")
    await read(consumer)
    another = await open_consumer(bus, "another")
    assert await another.claim(STREAM, 60) == ([], 0)
    server.cmd("XTRIM", STREAM, "MAXLEN", "=", 2)
    entries, trimmed = await another.claim(STREAM, 0)
    assert ([entry.fields[b"id"] for entry in entries], trimmed) == ([b"b", b"c"], 1)
    assert await pending(bus) == [("another", 1), ("another", 1)]


async def test_ids_are_claimed_page_by_page_from_where_the_last_one_ended(server, consumer, monkeypatch):
    ids = add(server, *(f"n{n}" for n in range(5)))
    await read(consumer)
    consumer = Consumer(consumer.bus, [STREAM], GROUP, "another")
    monkeypatch.setattr("marketswarm.bus.consumer._IDS_AT_ONCE", 2)
    pages, start = [], b"0-0"
    for _ in range(3):
        assert consumer.has_unseen
        page, trimmed, start = await consumer.claim_ids(STREAM, 0, start)
        pages.append((page, trimmed))
    assert pages == [(ids[:2], 0), (ids[2:4], 0), (ids[4:], 0)]
    assert (start, consumer.has_unseen) == (b"0-0", False)


async def test_entries_that_others_still_work_on_do_not_hide_one_that_was_left(server, consumer, monkeypatch):
    ids = add(server, *(f"n{n}" for n in range(30)))
    await read(consumer, 100)
    server.cmd("XCLAIM", STREAM, GROUP, "the dead", 0, ids[-1], "IDLE", 60_000, "JUSTID")
    monkeypatch.setattr("marketswarm.bus.consumer._IDS_AT_ONCE", 1)  # the server looks at ten, then it stops
    entries, _ = await consumer.claim(STREAM, 30)
    assert [entry.id for entry in entries] == ids[-1:]


async def test_what_is_claimed_alone_has_its_deliveries_counted_and_that_of_no_other(server, bus, consumer):
    add(server, "a", "b")
    await read(consumer)
    another = await open_consumer(bus, "another")
    assert await another.claim_one(STREAM, 60, MIB) == (None, 0)
    entry, trimmed = await another.claim_one(STREAM, 0, MIB)
    assert (entry.fields, entry.deliveries, trimmed) == ({b"id": b"a"}, 2, 0)
    assert await pending(bus) == [("another", 2), ("me", 1)]
    server.cmd("XTRIM", STREAM, "MAXLEN", "=", 0)
    assert await another.claim_one(STREAM, 0, MIB) == (None, 2)
    assert await pending(bus) == []


async def test_what_is_too_large_to_be_looked_at_again_is_not(server, consumer):
    add(server, "a", title="x" * 1000)
    await read(consumer)
    entry, _ = await consumer.claim_one(STREAM, 0, 1000)
    assert (entry.fields, entry.size, entry.deliveries) == (None, 0, 2)
    entry, _ = await consumer.claim_one(STREAM, 0, 1008)
    assert (len(entry.fields), entry.size) == (2, 1008)


async def test_an_entry_is_a_dead_letter_once_and_only_by_a_consumer_that_still_has_it(server, bus, consumer):
    add(server, "a", "b")
    first, second = await read(consumer)
    for is_new in (True, False):
        assert await consumer.dead_letter(first, DEAD, "bad", 5.0, {"tries": "1"}) is is_new
    await consumer.acknowledge(STREAM, [second.id])
    assert not await consumer.dead_letter(second, DEAD, "bad", 5.0, {})
    ((_, letter),) = await bus.ask(bus.client.xrange(DEAD))
    assert {name.decode(): value.decode() for name, value in letter.items()} == {
        "stream": STREAM,
        "entry": first.id.decode(),
        "group": GROUP,
        "reason": "bad",
        "tries": "1",
        "ts": "5.000",
    }
    assert await pending(bus) == []


async def test_a_consumer_that_leaves_gives_back_all_that_it_has_at_once(server, bus, consumer):
    server.cmd("EVAL", "for _ = 1, 1200 do redis.call('XADD', KEYS[1], '*', 'id', 1) end", 1, STREAM)
    await read(consumer, 2000)
    await consumer.close()
    another = await open_consumer(bus, "another")
    entry, _ = await another.claim_one(STREAM, 24 * HOUR_SEC, MIB)
    assert entry.deliveries == 2  # by two consumers, and by nobody else
    left = [await another.claim(STREAM, 24 * HOUR_SEC) for _ in range(2)]
    assert [len(entries) for entries, _ in left] == [1000, 199]


async def test_other_consumers_that_are_idle_for_an_hour_are_deleted_if_they_have_nothing(
    server, bus, consumer
):
    [entry] = add(server, "a")
    await read(consumer)
    await consumer.acknowledge(STREAM, [entry])
    add(server, "a", "b")
    for name in ("has one", "idle"):
        await read(await open_consumer(bus, name), 1)
    _, of_idle = await bus.ask(bus.client.xpending_range(STREAM, GROUP, "-", "+", 10))
    await consumer.acknowledge(STREAM, [of_idle["message_id"]])
    await consumer.delete_idle_consumers()
    assert await consumers(bus) == {b"me", b"has one", b"idle"}
    consumer.idle_sec = 0
    await consumer.delete_idle_consumers()
    assert await consumers(bus) == {b"me", b"has one"}


async def consumers(bus):
    return {each["name"] for each in await bus.ask(bus.client.xinfo_consumers(STREAM, GROUP))}


def test_fields_of_a_dead_letter_are_cut_so_that_a_person_can_read_them():
    fields = {b"\xff" * 300: b"x" * 3000} | {f"{n:02}".encode(): b"" for n in range(50)}
    found = orjson.loads(format_fields(fields))
    assert len(found) == 40
    assert found["\ufffd" * 200] == "x" * 2000
    assert format_fields(None) == "{}"
