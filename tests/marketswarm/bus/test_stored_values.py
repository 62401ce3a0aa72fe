import pytest

from marketswarm.bus import Bus, BusError, stored_values
from marketswarm.bus.stored_values import (
    MAX_STRING_BYTES,
    count_unusable,
    parse_object,
    read_fields,
    read_strings,
    replace_unusable,
)
from marketswarm.testing import MemoryBus
from support.rig import Server


@pytest.mark.parametrize("raw", [None, b"", b"ok", b"[1]", b'"x"', b"null", b"{", b"\xff", b'{"a":NaN}'])
def test_json_that_is_no_object_says_nothing(raw):
    assert parse_object(raw) == {}


def test_an_object_is_returned_unless_its_json_is_too_long():
    assert parse_object(b'{"ok":false}', 12) == {"ok": False}
    assert parse_object(b'{"ok":false}', 11) == {}


async def test_no_more_is_read_of_a_value_than_it_may_have_whatever_lies_there():
    bus = MemoryBus()
    await bus.client.set("short", "x")
    await bus.client.set("longest", b"x" * MAX_STRING_BYTES)
    await bus.client.set("longer", b"x" * (MAX_STRING_BYTES + 1))
    await bus.client.rpush("list", "x")
    keys = ["short", "longest", "longer", "list", "none"]
    assert await read_strings(bus, keys) == [b"x", b"x" * MAX_STRING_BYTES, None, None, None]
    assert await read_strings(bus, ["longest"], longest=10) == [None]
    assert await read_strings(bus, []) == []
    bus.connected = False
    with pytest.raises(BusError):
        await read_strings(bus, keys)
    await bus.aclose()


@pytest.mark.live
async def test_fields_come_without_those_that_are_too_large_and_what_was_left_out_is_counted(tmp_path):
    with Server(tmp_path / "bus") as server:
        bus = Bus("bus", server.url)
        server.cmd("HSET", "one", "a", "x", "b", "x" * 11, "c", "x" * 10, "other", "x")
        server.cmd("RPUSH", "list", "x")
        before = count_unusable()
        names = ["a", "b", "c", "d"]
        found = await read_fields(bus, ["one", "none", "list"], names, longest=10)
        assert found == [{b"a": b"x", b"c": b"x" * 10}, {}, {}]
        assert count_unusable() == before + 2
        assert await read_fields(bus, [], names) == []
        server.cmd("SET", "long", "x" * 11)
        assert await read_strings(bus, ["long", "list", "none"], 10, report=True) == [None] * 3
        assert count_unusable() == before + 4
        await bus.aclose()


LAST_ID = "18446744073709551615-18446744073709551615"
LOG = {"log": "stream"}


async def end(bus):
    """End the log with an entry, and return the error that a writer gets."""
    await bus.client.xadd("log", {"event": "last"}, id=LAST_ID)
    with pytest.raises(BusError) as refused:
        await bus.ask(bus.client.xadd("log", {"event": "refused"}))
    return refused.value


async def read_log(bus):
    return [fields[b"event"] for _, fields in await bus.client.xrange("log")]


async def test_of_two_writers_that_find_an_ended_stream_none_deletes_what_the_other_one_wrote():
    bus, before = MemoryBus(), count_unusable()
    error = await end(bus)
    assert await replace_unusable(error, bus, LOG)
    await bus.client.xadd("log", {"event": "first"})
    assert await replace_unusable(error, bus, LOG), "it takes entries, so the second writer may try again"
    await bus.client.xadd("log", {"event": "second"})
    assert await read_log(bus) == [b"first", b"second"]
    assert count_unusable() == before + 1


async def test_of_the_streams_of_a_writer_only_the_ended_one_is_begun_anew():
    bus = MemoryBus()
    await bus.client.xadd("other", {"event": "stays"})
    await bus.client.xgroup_create("empty", "readers", mkstream=True)
    assert await replace_unusable(
        await end(bus),
        bus,
        {"other": "stream", "empty": "stream", "absent": "stream", "text": "string", **LOG},
    )
    assert await bus.client.xlen("other") == 1
    assert await bus.client.xlen("empty") == 0
    assert sorted(await bus.client.keys()) == [b"empty", b"other"]


async def test_what_a_group_was_not_given_stays_in_a_stream_that_is_begun_anew(monkeypatch):
    bus = MemoryBus()
    for event in ("read by all", "read by one", "read by none"):
        await bus.client.xadd("log", {"event": event})
    ids = [ident for ident, _ in await bus.client.xrange("log")]
    await bus.client.xgroup_create("log", "ahead", ids[1])
    await bus.client.xgroup_create("log", "behind", ids[0])
    await bus.client.xadd("log", {"event": "ahead of its time"}, id="9999999999999-0")
    assert await replace_unusable(await end(bus), bus, LOG)
    await bus.client.xadd("log", {"event": "new"})
    assert await read_log(bus) == [b"read by one", b"read by none", b"new"]
    assert [ident for ident, _ in await bus.client.xrange("log")][:2] == ids[1:]
    await bus.client.xgroup_create("log", "ahead", ids[1])
    ((_, entries),) = await bus.client.xreadgroup("ahead", "x", {"log": ">"})
    assert [fields[b"event"] for _, fields in entries] == [b"read by none", b"new"]

    monkeypatch.setattr(stored_values, "UNREAD_BYTES", len("eventread by noneeventnew"))
    assert await replace_unusable(await end(bus), bus, LOG)
    assert await read_log(bus) == [], "the group has read all"
    await bus.client.xgroup_create("log", "behind", "0-0", mkstream=True)
    for event in ("oldest", "read by none", "new"):
        await bus.client.xadd("log", {"event": event})
    assert await replace_unusable(await end(bus), bus, LOG)
    assert await read_log(bus) == [b"read by none", b"new"], "the newest, as far as there is room"


async def test_nothing_is_kept_for_a_group_that_was_given_the_last_possible_id():
    bus = MemoryBus()
    await bus.client.xadd("log", {"event": "read"})
    error = await end(bus)
    await bus.client.xgroup_create("log", "readers", LAST_ID)
    assert await replace_unusable(error, bus, LOG)
    assert await read_log(bus) == []
