"""A cancellation of a request to a bus is never lost (DESIGN, decision 4)."""

import asyncio
import random

import pytest

from marketswarm.bus import Bus
from support.fixtures import opened
from support.rig import Server
from support.waiting import PATIENT_SEC

server = opened(lambda tmp_path_factory: Server(tmp_path_factory.mktemp("server")), scope="module")


async def asks_for_ever(bus, how):
    while True:
        if how == "get":
            await bus.ask(bus.client.get("k"), PATIENT_SEC)
        elif how == "pipeline":
            pipe = bus.pipeline()
            pipe.publish("c", "x")
            pipe.set("k", "x", px=1000)
            await bus.ask(pipe.execute(), PATIENT_SEC)
        else:
            await bus.ask(bus.client.xread({"none": "$"}, block=50), PATIENT_SEC)


@pytest.mark.parametrize("how", ["get", "pipeline", "block"])
async def test_a_cancellation_at_any_moment_ends_the_work(server, how):
    bus = Bus("system-redis", server.url)
    for _ in range(100):
        task = asyncio.create_task(asks_for_ever(bus, how))
        await asyncio.sleep(random.random() * 0.004)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=PATIENT_SEC)
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.1)
        assert done, "the cancellation was lost"
        assert task.cancelled()
    await bus.aclose()
    assert server.cmd("PING")


@pytest.mark.parametrize("how", ["returns", "raises"])
async def test_a_request_that_swallows_a_cancellation_is_a_cancelled_one(server, how):
    async def swallowing():
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if how == "raises":
                raise OSError("while hanging up") from None

    bus = Bus("system-redis", server.url)
    begun = asyncio.Event()
    task = asyncio.create_task(bus.ask(swallowing(), 60))
    await begun.wait()
    task.cancel()
    await asyncio.wait([task], timeout=PATIENT_SEC)
    assert task.cancelled()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await bus.ask(swallowing(), 60)
    assert await bus.ask(bus.client.ping())
    await bus.aclose()
