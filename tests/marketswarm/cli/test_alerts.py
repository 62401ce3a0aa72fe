import asyncio
import contextlib

import orjson
import pytest

from marketswarm.bus import Bus
from marketswarm.cli.alerts import KnownIds, follow_log
from marketswarm.keys import ALERT_LOG
from marketswarm.tasks import end_tasks
from support.fixtures import closed
from support.rig import Server
from support.waiting import PATIENT_SEC, auntil

pytestmark = pytest.mark.live


@pytest.fixture
def server(buses):
    return buses[0]


bus = closed(lambda server: Bus("system-redis", server.url))


def tell(server: Server, key: str, ts: float = 1.0, at: str = "*") -> None:
    server.cmd("XADD", ALERT_LOG, at, "event", orjson.dumps({"id": key, "ts": ts}))


@contextlib.asynccontextmanager
async def heard(*buses: Bus, since_sec: float | None = None):
    """The ids of the events that come, in a list that grows."""
    ids: list[str] = []

    async def collect() -> None:
        async with contextlib.aclosing(told) as events:
            async for _, event in events:
                ids.append(event["id"])

    told = await follow_log(buses, since_sec)
    task = asyncio.create_task(collect())
    yield ids
    await end_tasks(task)


async def test_it_begins_now_and_misses_nothing_from_then_on(server, bus):
    tell(server, "before")
    async with heard(bus) as ids:
        tell(server, "at once")
        await auntil(lambda: ids == ["at once"])
        tell(server, "later")
        await auntil(lambda: ids == ["at once", "later"])


async def test_what_was_told_before_anyone_asked_for_the_first_is_not_missed(server, bus):
    told = await follow_log([bus])
    tell(server, "between")
    async with contextlib.aclosing(told), asyncio.timeout(PATIENT_SEC):
        assert (await anext(told))[1]["id"] == "between"


async def test_the_past_comes_first_as_far_back_as_asked(server, bus):
    now = int(server.cmd("TIME")[0])
    tell(server, "old", at=f"{now - 1000}000-0")
    fill = """
        for n = 0, 1499 do
            redis.call('XADD', KEYS[1], ARGV[1] .. n + 1, 'event', string.format('{"id":"%d"}', n))
        end
    """
    server.cmd("EVAL", fill, 1, ALERT_LOG, f"{now - 50}000-")  # more than a page
    async with heard(bus, since_sec=600) as ids:
        await auntil(lambda: len(ids) == 1500)
        tell(server, "new")
        await auntil(lambda: ids[-1] == "new")
    assert ids == [*map(str, range(1500)), "new"]


async def test_nothing_is_lost_or_told_twice_over_a_restart_of_the_bus(server, bus):
    async with heard(bus) as ids:
        tell(server, "1")
        await auntil(lambda: ids == ["1"])
        server.stop()
        server.start()
        tell(server, "2")
        await auntil(lambda: ids == ["1", "2"])


async def test_one_event_on_two_buses_is_told_once_and_both_are_merged_by_time(server, bus, buses):
    other = buses[1]
    tell(server, "b", ts=2)
    tell(other, "a", ts=1)
    tell(server, "both", ts=3)
    tell(other, "both", ts=3)
    second = Bus("market-redis", other.url)
    async with heard(bus, second, since_sec=60) as ids:
        await auntil(lambda: len(ids) == 3)
        tell(other, "c")
        tell(server, "c")
        await auntil(lambda: ids == ["a", "b", "both", "c"])
    await second.aclose()


async def test_a_bus_that_is_away_at_first_is_read_from_when_it_was_asked_for(bus, server):
    tell(server, "long ago", at="1-0")
    server.stop()
    async with heard(bus) as ids:
        server.start()
        tell(server, "then")
        await auntil(lambda: ids == ["then"])


async def test_entries_that_hold_no_event_are_passed_over(server, bus):
    async with heard(bus) as ids:
        server.cmd("XADD", ALERT_LOG, "*", "event", "no json")
        server.cmd("XADD", ALERT_LOG, "*", "other", "{}")
        server.cmd("XADD", ALERT_LOG, "*", "event", "[]")
        tell(server, "good")
        await auntil(lambda: ids == ["good"])


def test_ids_are_remembered_but_not_for_ever():
    told = KnownIds()
    assert told.add({"id": "x"})
    assert not told.add({"id": "x"})
    assert told.add({})
    assert told.add({})
    for number in range(10_001):
        told.add({"id": str(number)})
    assert told.add({"id": "x"})
