import asyncio
import sys

import pytest

from marketswarm.bus import BusError
from marketswarm.bus.scripts import Script
from marketswarm.testing import MemoryBus, MemoryBuses
from support.waiting import PATIENT_SEC


async def test_two_clients_of_one_bus_see_the_same():
    buses = MemoryBuses()
    one, other, elsewhere = buses("system-redis"), buses("system-redis"), buses("market-redis")
    await one.ask(one.client.set("k", "v"))
    assert await other.ask(other.client.get("k")) == b"v"
    assert await elsewhere.ask(elsewhere.client.get("k")) is None
    for bus in (one, other, elsewhere):
        await bus.aclose()


async def test_scripts_and_pipelines_work_as_on_a_bus():
    bus = MemoryBus()
    assert await bus.script(Script("return redis.call('INCRBY', KEYS[1], ARGV[1])"), ["n"], [5]) == 5
    pipe = bus.pipeline()
    pipe.incr("n")
    pipe.get("n")
    assert await bus.ask(pipe.execute()) == [6, b"6"]
    await bus.aclose()


async def test_a_bus_that_is_cut_off_refuses_until_it_is_not():
    bus = MemoryBus()
    bus.connected = False
    with pytest.raises(BusError) as caught:
        await bus.ask(bus.client.ping())
    assert caught.value.reason == "refused"
    bus.connected = True
    assert await bus.ask(bus.client.ping())
    await bus.aclose()


async def test_a_task_that_is_cancelled_in_a_request_ends():
    bus = MemoryBus("system-redis")

    async def ask_for_ever() -> None:
        while True:
            await bus.ask(bus.client.get("a"))
            await asyncio.sleep(0.001)

    for turn in range(20):
        task = asyncio.create_task(ask_for_ever())
        await asyncio.sleep(0.0013 * turn)
        task.cancel()
        await asyncio.wait([task], timeout=PATIENT_SEC)
        assert task.cancelled()
    await bus.aclose()


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fakeredis", None)
    with pytest.raises(ImportError, match="fakeredis"):
        MemoryBus()
