"""How long a stream is kept: by its readers, on a real bus, with a clock moved by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from marketswarm.bus.stream_length import (
    ARCHIVE_READERS,
    BARS_READERS,
    MAX_LENGTH_RATIO,
    POSITION_LIFE_SEC,
    READ_EVERY_SEC,
    RELAY_READERS,
    WRITER_LIFE_SEC,
    EntryCounts,
    StreamLength,
    find_copied,
    find_longest_keep,
    find_slowest,
    find_slowest_group,
    write_positions,
)

STREAM, POSITIONS, KEEP = "some:bars", BARS_READERS.key, 100


class Writer:
    """A writer that trims its stream as it should, with a clock of its own."""

    def __init__(self, bus, name="", positions=BARS_READERS, **more):
        self.bus, self.now, self.keep = bus, 1_794_000_000.0, KEEP
        clocks = {"monotonic": lambda: self.now, "wall": lambda: self.now}
        self.length = StreamLength(positions, name, **more, **clocks)
        self.sent = 0

    async def add(self, count):
        for _ in range(count):
            length = await self.length.compute(self.bus, STREAM, self.keep)
            await self.bus.client.xadd(STREAM, {"n": self.sent}, maxlen=length, approximate=False)
            self.sent += 1
            self.now += READ_EVERY_SEC

    async def count(self):
        return await self.bus.client.xlen(STREAM)


@pytest.fixture
def writer(bus):
    return Writer(bus)


async def test_without_readers_a_stream_keeps_what_its_writer_says(writer):
    await writer.add(3 * KEEP)
    assert await writer.count() == KEEP


async def test_what_a_group_has_not_acknowledged_is_kept_up_to_twice_as_much(writer):
    client = writer.bus.client
    await writer.add(1)
    await client.xgroup_create(STREAM, "slow", id="0")
    await writer.add(KEEP + 50)
    assert await writer.count() == KEEP + 51
    read = await client.xreadgroup("slow", "one", {STREAM: ">"}, count=60)
    await writer.add(1)
    assert await writer.count() == KEEP + 52, "what is read is not stored"
    await client.xack(STREAM, "slow", *[ident for ident, _ in read[0][1]])
    await writer.add(60)
    assert await writer.count() <= KEEP + 112
    await writer.add(3 * KEEP)
    assert await writer.count() == MAX_LENGTH_RATIO * KEEP, "an absent reader must not fill the bus"
    rest = await client.xreadgroup("slow", "one", {STREAM: ">"})
    await client.xack(STREAM, "slow", *[ident for ident, _ in rest[0][1]])
    await writer.add(2)
    assert await writer.count() <= MAX_LENGTH_RATIO * KEEP


async def test_what_the_slowest_reader_by_position_has_not_stored_is_kept(writer):
    bus = writer.bus
    await writer.add(30)
    (tenth, *_), newest = (await bus.client.xrange(STREAM))[9:], (await bus.client.xrevrange(STREAM, count=1))
    await write_positions(bus, POSITIONS, "one", {STREAM: newest[0][0]}, writer.now)
    await write_positions(bus, POSITIONS, "two", {STREAM: tenth[0], "other": b"1-1"}, writer.now)
    await writer.add(KEEP + 30)
    assert await writer.count() >= KEEP + 50, "fifty of these and all before them are unread by two"
    newest = await bus.client.xrevrange(STREAM, count=1)
    for name in ("one", "two"):
        await write_positions(bus, POSITIONS, name, {STREAM: newest[0][0]}, writer.now)
    await writer.add(2)
    assert await writer.count() == KEEP


async def test_a_bus_is_asked_once_a_second_and_not_for_each_entry(writer, monkeypatch):
    await writer.add(1)
    asked, ask = [], writer.bus.ask

    async def count(*args, **more):
        asked.append(args)
        return await ask(*args, **more)

    monkeypatch.setattr(writer.bus, "ask", count)
    for _ in range(500):
        await writer.length.compute(writer.bus, STREAM, KEEP)
    assert len(asked) == 2, "once for the groups, and once for the positions"
    writer.now += READ_EVERY_SEC
    await writer.length.compute(writer.bus, STREAM, KEEP)
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("positions", "field"), [(ARCHIVE_READERS, f"archive {STREAM}"), (RELAY_READERS, STREAM)]
)
async def test_a_reader_that_stores_its_position_without_a_time_holds_the_stream_up_to_twice(
    bus, positions, field
):
    writer = Writer(bus, positions=positions)
    await writer.add(10)
    (newest, _), *_ = await bus.client.xrevrange(STREAM, count=1)
    await bus.client.hset(positions.key, field, newest)
    await writer.add(KEEP + 30)
    assert await writer.count() == KEEP + 40
    await writer.add(3 * KEEP)
    assert await writer.count() == MAX_LENGTH_RATIO * KEEP, "one that never comes back must not fill the bus"
    (newest, _), *_ = await bus.client.xrevrange(STREAM, count=1)
    await bus.client.hset(positions.key, field, newest)
    await writer.add(2)
    assert await writer.count() == KEEP


async def test_only_the_groups_count_that_are_named(bus):
    writer = Writer(bus, positions=None, groups=("mine",))
    await writer.add(1)
    for name in ("mine", "theirs"):
        await bus.client.xgroup_create(STREAM, name, id="0")
    await writer.add(KEEP)
    found = await bus.client.xreadgroup("mine", "one", {STREAM: ">"})
    await bus.client.xack(STREAM, "mine", *[ident for ident, _ in found[0][1]])
    await writer.add(2)
    assert await writer.count() == KEEP
    assert writer.length.unread_of.keys() == {"mine"}


async def test_a_stream_without_the_right_to_ask_for_its_readers_is_said_once_and_what_is_known_counts(
    server, bus
):
    writer = Writer(bus, positions=ARCHIVE_READERS)
    await writer.add(1)
    await bus.client.xgroup_create(STREAM, "slow", id="0")
    server.cmd("ACL", "SETUSER", "default", "-hgetall")
    try:
        with capture_logs() as said:
            await writer.add(KEEP + 30)
        assert await writer.count() == KEEP + 31, "the groups could be asked for"
        assert [(line["event"], line["reason"]) for line in said] == [("stream.readers_unread", "auth")]
    finally:
        server.cmd("ACL", "SETUSER", "default", "+hgetall")
    with capture_logs() as said:
        await writer.add(1)
    assert [line["event"] for line in said] == ["stream.readers_read"]


async def test_a_stream_that_was_deleted_has_no_readers_any_more(writer):
    await writer.add(1)
    await writer.bus.client.xgroup_create(STREAM, "slow", id="0")
    await writer.add(KEEP)
    assert writer.length.unread
    await writer.bus.client.delete(STREAM)
    await writer.add(1)
    assert writer.length.unread_of == {}


async def test_of_several_writers_the_one_that_keeps_most_counts_until_it_is_gone(bus):
    one, other = Writer(bus, "one"), Writer(bus, "other")
    await one.add(1)
    other.keep = 3 * KEEP
    await other.add(2)
    await one.add(4 * KEEP)
    assert await one.count() == 3 * KEEP
    one.now += WRITER_LIFE_SEC
    await one.add(2)
    assert await one.count() == KEEP


async def test_a_bus_that_has_no_such_stream_or_refuses_changes_nothing(writer):
    assert await writer.length.compute(writer.bus, STREAM, KEEP) == KEEP
    await writer.bus.client.set(STREAM, "mine")
    writer.now += READ_EVERY_SEC
    assert await writer.length.compute(writer.bus, STREAM, KEEP) == KEEP


def test_an_instance_that_is_gone_holds_nothing_up_and_none_at_all_does():
    stored = {
        b"s one": b"5-0 1000",
        b"s two": b"3-0 %d" % (1000 - POSITION_LIFE_SEC),
        b"s gone": b"1-0 %d" % (999 - POSITION_LIFE_SEC),
        b"s odd": b"0-0-0 1000",
        b"s worse": b"9 never",
        b"t one": b"2-0 1000",
        b"odd": b"1-0 1000",
        b"s ahead": b"1-0 2000",
    }
    assert find_slowest(stored, "s", 1000.0) == b"3-0"
    assert find_slowest(stored, "t", 1000.0) == b"2-0"
    assert find_slowest(stored, "u", 1000.0) is None
    assert find_slowest({b"s gone": b"1-0 5"}, "s", 1000.0) == b"1-0", "all of them are away, and come back"


def test_of_readers_that_store_no_time_the_slowest_counts_and_what_is_no_position_does_not():
    stored = {b"archive s": b"5-0", b"old s": b"3-1", b"odd s": b"x", b"archive t": b"1-0", b"s": b"2-0"}
    assert find_slowest_group(stored, "s", 0.0) == b"3-1"
    assert find_slowest_group(stored, "u", 0.0) is None
    assert find_copied(stored | {b"s closed": b"1-0 5"}, "s", 0.0) == b"2-0"
    assert find_copied({b"s": b"never"}, "s", 0.0) is find_copied({}, "s", 0.0) is None


@given(st.dictionaries(st.binary(max_size=9), st.binary(max_size=30)))
def test_whatever_is_stored_is_read(stored):
    find_slowest(stored, "s", 1000.0)
    find_slowest_group(stored, "s", 1000.0)
    find_copied(stored, "s", 1000.0)
    assert find_longest_keep(stored, 1000.0) >= 0


async def test_old_positions_of_others_are_deleted(bus):
    await write_positions(bus, POSITIONS, "old", {STREAM: b"1-0"}, 1000.0)
    await write_positions(bus, POSITIONS, "new", {STREAM: b"2-0"}, 1001.0 + POSITION_LIFE_SEC)
    assert set(await bus.client.hgetall(POSITIONS)) == {b"some:bars new"}


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 100), st.data())
def test_entries_after_a_position_are_never_counted_too_few(steps, step, data):
    counts, added = EntryCounts(), 0
    for more in steps:
        added += more
        counts.add_sample(b"%d-0" % added, added, step)
    position = data.draw(st.integers(0, added))
    found = counts.count_after(b"%d-0" % position)
    assert found is None or added - position <= found <= added - position + step + 50
    if steps:
        assert counts.count_after(b"%d-0" % added) == 0


def test_a_stream_that_was_created_again_is_counted_anew():
    counts = EntryCounts()
    counts.add_sample(b"100-0", 100, 1)
    counts.add_sample(b"5-0", 5, 1)
    assert (counts.count_after(b"5-0"), counts.count_after(b"4-0")) == (0, None)
    assert EntryCounts().count_after(b"1-0") is None
