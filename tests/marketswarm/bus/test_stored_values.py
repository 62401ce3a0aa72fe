import pytest

from marketswarm.bus import Bus, BusError
from marketswarm.bus.stored_values import MAX_STRING_BYTES, count_unusable, read_fields, read_strings
from marketswarm.testing import MemoryBus
from support.rig import Server


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
