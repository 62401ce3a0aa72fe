"""What the buses know of who was told, when buses come and go."""

import orjson
import pytest
from structlog.testing import capture_logs

from marketswarm.bus import BusError
from marketswarm.keys import SENTINEL_DIRECT, delivery_key
from marketswarm.testing import MemoryBus
from sentinel.delivery_records import MAX_RECORDS, DeliveryRecords, find_open_miss, load_roster_entries
from sentinel.pending import OpenOutage
from support.simulation.manual_detector import stored

ID = "healer_miss.healer.1762433458300"
OPENED = {"healer:healer": OpenOutage(ID, 1762433458.3)}


@pytest.fixture
async def buses():
    """Two buses, closed at the end."""
    found = [MemoryBus("system-redis"), MemoryBus("market-redis")]
    yield found
    for bus in found:
        bus.connected = True
        await bus.aclose()


@pytest.fixture
def records(buses):
    return DeliveryRecords("sentinel", lambda: buses)


async def accept(records: DeliveryRecords, ident: str, channel: str, outages: dict) -> None:
    records.record_accepted(ident, channel)
    await records.write_missing_records(outages)


async def record(bus: MemoryBus, ident: str = ID) -> dict | None:
    raw = await bus.client.get(delivery_key(ident))
    return None if raw is None else orjson.loads(raw)


async def test_what_was_accepted_is_on_every_bus_for_a_day(buses, records):
    await accept(records, ID, "webhook", OPENED)
    for bus in buses:
        found = await record(bus)
        assert (found["channels"], found["by"]) == (["webhook"], "sentinel")
        assert 86_000 < await bus.client.ttl(delivery_key(ID)) <= 86_400
    await accept(records, ID, "email", OPENED)
    assert (await record(buses[0]))["channels"] == ["webhook", "email"]


async def test_a_bus_that_was_away_gets_it_when_it_is_back_and_only_once(buses, records):
    system, market = buses
    market.connected = False
    await accept(records, ID, "webhook", OPENED)
    assert await record(system) is not None
    market.connected = True
    assert await record(market) is None
    await records.write_records(market, OPENED)
    assert (await record(market))["channels"] == ["webhook"]
    await accept(records, ID, "email", OPENED)
    assert (await record(market))["channels"] == ["webhook", "email"]
    await market.client.delete(delivery_key(ID))
    await records.write_records(market, OPENED)
    assert await record(market) is None  # there is nothing left to write


async def test_what_a_bus_did_not_take_is_tried_again_until_it_does(buses, records):
    market = buses[1]
    await accept(records, ID, "webhook", OPENED)
    market.connected = False
    await accept(records, ID, "email", OPENED)
    await records.write_missing_records(OPENED)
    market.connected = True
    assert (await record(market))["channels"] == ["webhook"]
    await records.write_missing_records(OPENED)
    assert (await record(market))["channels"] == ["webhook", "email"]


async def test_who_told_it_before_us_keeps_his_record(buses, records):
    theirs = b'{"ts":1,"channels":["slack"]}'
    await buses[0].client.set(delivery_key(ID), theirs)
    await accept(records, ID, "webhook", {})
    await accept(records, ID, "email", {})
    assert await buses[0].client.get(delivery_key(ID)) == theirs
    assert (await record(buses[1]))["channels"] == ["webhook", "email"]


async def test_one_record_on_one_bus_is_enough_and_our_own_of_this_run_does_not_count(buses, records):
    assert not await records.is_sent_by_others(ID)
    await buses[1].client.set(delivery_key(ID), b"{}")
    assert await records.is_sent_by_others(ID)
    buses[0].connected = False
    assert await records.is_sent_by_others(ID)
    buses[1].connected = False
    assert not await records.is_sent_by_others(ID)  # nobody to ask
    await accept(records, "another", "webhook", {})
    assert not await records.is_sent_by_others("another")
    for bus in buses:
        bus.connected = True
    assert await DeliveryRecords("sentinel", lambda: buses).is_sent_by_others(ID)


async def test_what_is_open_is_kept_whole_and_only_after_it_was_read(buses, records):
    bus = buses[0]
    await records.write_records(bus, {})
    assert await bus.client.exists(SENTINEL_DIRECT) == 0
    await bus.client.hset(
        SENTINEL_DIRECT, mapping={"bus:x": b'{"id":"a","ts":1.5,"own":true}', "bus:y": b"nonsense"}
    )
    await records.write_records(bus, OPENED)
    assert await bus.client.hlen(SENTINEL_DIRECT) == 2  # an earlier run's, which nobody has taken up yet
    assert await records.load_open_outages(bus) == {"bus:x": OpenOutage("a", 1.5, is_own=True)}
    await records.write_records(bus, OPENED)
    assert await DeliveryRecords("sentinel", lambda: buses).load_open_outages(bus) == OPENED
    await records.write_records(bus, {})
    assert await bus.client.exists(SENTINEL_DIRECT) == 0


@pytest.mark.slow
async def test_it_remembers_no_more_than_it_must(buses, records):
    buses[1].connected = False
    for n in range(300):
        await accept(records, f"id{n}", "webhook", {})
    assert 100 < len(records) <= 2 * MAX_RECORDS  # the alerts themselves, and those for the bus that is away


async def test_a_bus_that_is_away_says_so_itself(buses, records):
    buses[0].connected = False
    with pytest.raises(BusError):
        await records.load_open_outages(buses[0])


async def test_rosters_tell_what_is_down_and_since_when_the_rest_is_up(buses):
    client = buses[0].client
    miss = {"type": "bus_miss", "svc": "market-redis", "ts": 9.5, "id": "a", "by": "healer", "late_sec": 3.0}
    down = {"verdict": "down", "ts": 9.5, "event": miss}
    await client.hset("healer:roster", mapping={"bus:market-redis": orjson.dumps(down), "bus:x": b"[]"})
    await client.hset("sentinel:roster", mapping={"healer": b'{"verdict":"up","ts":8.25}'})
    fields = {"sentinel:roster": ["healer"], "healer:roster": ["bus:market-redis", "bus:x", "bus:none"]}
    held = await load_roster_entries(buses[0], fields)
    assert held.keys() == {"healer:healer", "bus:market-redis"}
    event, raw = find_open_miss(held["bus:market-redis"])
    assert (event.id, event.late_sec, orjson.loads(raw)) == ("a", 3.0, miss)
    assert find_open_miss(held["healer:healer"]) is None
    assert find_open_miss(stored(verdict="down", ts=1.0, event={"type": "bus_miss"})) is None


async def test_it_is_logged_when_a_bus_takes_no_records_and_when_all_take_them_again(buses, records):
    with capture_logs() as said:
        for connected in (False, True):
            buses[1].connected = connected
            await accept(records, f"{ID}{len(said)}", "webhook", OPENED)
    assert [(line["event"], line["bus"]) for line in said] == [
        ("fallback.records_refused", "market-redis"),
        ("fallback.records_accepted", "market-redis"),
    ]
