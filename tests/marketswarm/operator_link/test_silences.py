"""Silences on several buses, some of which fail."""

import pytest
from pydantic import ValidationError

from marketswarm.bus import NoBusError
from marketswarm.keys import NOTIFIER_SILENCES
from marketswarm.operator_link import create_silence, read_silences, write_silence
from marketswarm.testing import MemoryBus

NOW = 1_762_433_458.0


@pytest.fixture
async def buses():
    found = [MemoryBus("system-redis"), MemoryBus("market-redis")]
    yield found
    for bus in found:
        await bus.aclose()


def silence(for_sec=60.0, services=("mesh",)):
    return create_silence(services, (), for_sec, author="kim", reason="new disks", now=NOW)


async def add(buses, *silences):
    for each in silences:
        await write_silence(buses, await read_silences(buses), each, NOW)


async def test_a_silence_is_written_to_every_bus(buses):
    made = silence()
    assert await write_silence(buses, await read_silences(buses), made, NOW) == {}
    for bus in buses:
        assert (await read_silences([bus])).silences == {made.id: made}


def test_of_many_silences_no_two_have_one_id():
    assert len({silence().id for _ in range(20_000)}) == 20_000


async def test_a_bus_that_was_away_gets_what_it_lacks_with_the_next_silence(buses):
    first, second = silence(), silence()
    buses[1].connected = False
    stored = await read_silences(buses)
    assert (await write_silence(buses, stored, first, NOW)).keys() == {"market-redis"}
    buses[1].connected = True
    await add(buses, second)
    assert (await read_silences(buses[1:])).silences == {first.id: first, second.id: second}


async def test_a_silence_that_ended_a_month_ago_is_deleted(buses):
    old = silence()
    await add(buses, old)
    later = NOW + 60 + 31 * 86_400
    await write_silence(buses, await read_silences(buses), silence(for_sec=1e7), later)
    assert old.id not in (await read_silences(buses)).silences


async def test_without_any_bus_there_is_an_error_with_every_reason(buses):
    stored = await read_silences(buses)
    for bus in buses:
        bus.connected = False
    with pytest.raises(NoBusError, match="no bus took it") as caught:
        await write_silence(buses, stored, silence(), NOW)
    assert caught.value.failed.keys() == {"system-redis", "market-redis"}
    with pytest.raises(NoBusError):
        await read_silences(buses)


async def test_what_is_no_silence_is_skipped(buses):
    await buses[0].client.hset(NOTIFIER_SILENCES, "x", b"\xff{")
    assert (await read_silences(buses)).silences == {}


@pytest.mark.parametrize("odd", [{"services": ()}, {"for_sec": -1.0}, {"services": ("x" * 201,)}])
def test_a_silence_that_is_out_of_bounds_is_not_made(odd):
    with pytest.raises(ValidationError):
        silence(**odd)
