import pytest

from marketswarm.bus import BusError
from marketswarm.bus.stored_values import LONGEST_BYTES, read_strings
from marketswarm.testing import MemoryBus


async def test_no_more_is_read_of_a_value_than_it_may_have_whatever_lies_there():
    bus = MemoryBus()
    await bus.client.set("short", "x")
    await bus.client.set("longest", b"x" * LONGEST_BYTES)
    await bus.client.set("longer", b"x" * (LONGEST_BYTES + 1))
    await bus.client.rpush("list", "x")
    keys = ["short", "longest", "longer", "list", "none"]
    assert await read_strings(bus, keys) == [b"x", b"x" * LONGEST_BYTES, None, None, None]
    assert await read_strings(bus, ["longest"], longest=10) == [None]
    assert await read_strings(bus, []) == []
    bus.connected = False
    with pytest.raises(BusError):
        await read_strings(bus, keys)
    await bus.aclose()
