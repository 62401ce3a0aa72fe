"""The simple subscriber over a bus in memory, as in the tests of agents, ours and users'."""

import asyncio

from marketswarm.bus.subscriber import PING_SEC, subscribe
from marketswarm.tasks import end_tasks
from marketswarm.testing import MemoryBus
from support.waiting import auntil


async def test_it_hears_messages_and_goes_on_after_a_ping(moved_time):
    bus, said = MemoryBus("system-redis"), []
    task = asyncio.create_task(
        subscribe(
            bus,
            channels=["a"],
            on_message=lambda channel, payload: said.append((channel, payload)),
            on_subscribed=lambda: said.append("joined"),
            on_lost=lambda error: said.append(error.reason),
        )
    )
    await auntil(lambda: said == ["joined"])
    await asyncio.sleep(3 * PING_SEC)
    await bus.client.publish("a", "1")
    await auntil(lambda: len(said) > 1)
    assert said == ["joined", (b"a", b"1")]
    await end_tasks(task)
    await bus.aclose()
