"""What is read back from the bus: a record that can't be right is reported, and the others are read."""

import pytest

from marketswarm.bus.stored_values import count_unusable
from marketswarm.history.encoding import encode_service
from marketswarm.history.fleet_history import ServiceHistory
from marketswarm.history.rollup import HOUR_SEC
from marketswarm.history.spans import KnownState, Timeline
from marketswarm.history.store import begin_history, read_history, write_history
from marketswarm.testing import MemoryBus

NOW = 497_000 * HOUR_SEC + 600


@pytest.fixture
async def bus():
    bus, stored = MemoryBus(), begin_history(NOW)
    stored.history.follow({"a": "system", "b": "system"}, 30.0, NOW)
    stored.history.mark_unheard(NOW - 60, NOW)
    assert await write_history(bus, stored, b"1-1")
    return bus


async def test_what_was_written_is_read_whole_or_for_some_services(bus):
    assert (await read_history(bus, NOW)).history.services.keys() == {"a", "b"}
    assert (await read_history(bus, NOW, ["b", "unknown"])).history.services.keys() == {"b"}


@pytest.mark.parametrize("late_sec", [0, HOUR_SEC])
async def test_a_record_from_the_future_is_reported_and_left_out(bus, late_sec):
    begin = NOW + HOUR_SEC + late_sec
    record = ServiceHistory(begin // HOUR_SEC, Timeline(begin, KnownState.UP))
    moved = ServiceHistory(0, Timeline(0), bus=1, moved_at=begin)
    before = count_unusable()
    for each in (record, moved):
        await bus.ask(bus.client.hset("board:history:spans", "a", encode_service(each)))
        found = (await read_history(bus, NOW)).history.services
        assert found.keys() == ({"b"} if late_sec else {"a", "b"})
    assert count_unusable() - before == (2 if late_sec else 0)


async def test_nonsense_in_a_field_costs_that_field_alone(bus):
    await bus.ask(bus.client.hset("board:history:spans", "a", b"\xff" * 30))
    await bus.ask(bus.client.hset("board:history", "bus:system", b"\xff" * 30))
    before = count_unusable()
    found = (await read_history(bus, NOW)).history
    assert found.services.keys() == {"b"}
    assert "system" not in found.buses
    assert count_unusable() - before == 2
