"""The records of who was told, on whichever bus answers."""

import pytest

from marketswarm.event import Event, Kind
from marketswarm.testing import MemoryBus
from notifier.told import may_be_told_by_others, reached, record


async def test_an_event_counts_as_told_when_any_bus_says_that_people_were_reached():
    one, two = MemoryBus("one"), MemoryBus("two")
    await one.client.set("notifier:told:a", record(1.0, ["slack"], "sentinel"))
    await two.client.set("notifier:told:b", record(1.0, ["slack"], "notifier"))
    await two.client.set("notifier:told:held", record(1.0, (), "notifier", "silenced"))
    for bad, raw in (("c", b"{"), ("d", b"7"), ("e", b"{}")):
        await two.client.set(f"notifier:told:{bad}", raw)
    idents = ["a", "b", "c", "d", "e", "held", "none"]
    assert await reached([one, two], idents) == {"a", "b"}
    two.connected = False
    assert await reached([one, two], idents) == {"a"}
    assert await reached([], idents) == set()
    assert await reached([one], []) == set()
    for bus in (one, two):
        bus.connected = True
        await bus.aclose()


@pytest.mark.parametrize(
    ("kind", "may"),
    [
        (Kind.HEALER_MISS, True),
        (Kind.BUS_OK, True),
        (Kind.HEARTBEAT_MISS, False),
        (Kind.TRUTH_DRIFT, False),
    ],
)
def test_the_sentinel_looks_after_healer_and_buses(kind, may):
    assert may_be_told_by_others(Event(kind, "a", 1.0, "x", "healer")) is may
