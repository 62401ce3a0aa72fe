"""What the fallback reads from the logs of the buses, and sends."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.channels import Message
from marketswarm.event import Event, Kind, encode_event, make_event_id
from marketswarm.keys import ALERT_LOG, roster_key
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from sentinel.delivery_records import RECORD_LIFE_SEC
from sentinel.fallback import Fallback
from support.waiting import auntil

TRUTH = parse_truth(orjson.dumps({"services": {"healer": {}}})).truth


class Inbox:
    """A channel that accepts everything."""

    name, where, within_sec = "inbox", "nowhere", 5.0

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def send(self, message: Message, _anchor: str | None = None) -> None:
        self.ids.append(message.id)

    async def aclose(self) -> None:
        pass


@dataclass
class FakeAgent:
    """What the fallback needs of an agent; it waits 50 ms for others."""

    buses: dict[str, MemoryBus]
    name: str = "sentinel"
    settings: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(sentinel_direct_sec=0.05))

    def bus(self, name: str) -> MemoryBus:
        return self.buses[name]

    def set_degraded(self, *_args: object, **_more: object) -> None:
        pass


def make_miss(ago_sec: float) -> Event:
    ts = time.time() - ago_sec
    return Event(
        Kind.BUS_MISS, "market-redis", ts, make_event_id(Kind.BUS_MISS, "market-redis", ts), "healer"
    )


async def add_miss(bus: MemoryBus, ago_sec: float, entry: str = "*") -> str:
    """Adds a bus_miss of so long ago to the log; its id."""
    miss = make_miss(ago_sec)
    await bus.client.xadd(ALERT_LOG, {"event": encode_event(miss)}, id=entry)
    return miss.id


@pytest.fixture
async def start_fallback() -> AsyncIterator[Callable[[dict[str, MemoryBus], Inbox], None]]:
    """Starts a fallback over some buses and one channel, and cancels it at the end."""
    running: list[asyncio.Task[None]] = []

    def start(buses: dict[str, MemoryBus], inbox: Inbox) -> None:
        fallback = Fallback(FakeAgent(buses), [inbox])  # type: ignore[arg-type]  # a part of one
        fallback.set_truth(TRUTH)
        running.append(asyncio.create_task(fallback.run()))

    yield start
    for task in running:
        task.cancel()
    await asyncio.wait(running)


@pytest.fixture
async def buses() -> AsyncIterator[dict[str, MemoryBus]]:
    found = {name: MemoryBus(name) for name in TRUTH.bus_names()}
    yield found
    for bus in found.values():
        await bus.aclose()


async def test_a_log_that_begins_anew_repeats_no_alarm_that_has_no_record_any_more(buses, start_fallback):
    bus, inbox = buses["system-redis"], Inbox()
    await add_miss(bus, 3600)  # before the start
    open_miss = make_miss(60)
    entry = {"verdict": "down", "ts": open_miss.ts, "event": orjson.loads(encode_event(open_miss))}
    await bus.client.hset(roster_key("healer"), "bus:market-redis", orjson.dumps(entry))
    start_fallback(buses, inbox)
    await auntil(lambda: inbox.ids == [open_miss.id], what="it to follow the log")

    await bus.client.delete(ALERT_LOG)  # as of a backup: all that it has is older
    await add_miss(bus, 9 * 86_400, "1-0")
    await add_miss(bus, RECORD_LIFE_SEC + 60, "2-0")
    recent = await add_miss(bus, RECORD_LIFE_SEC - 60, "3-0")
    await auntil(lambda: len(inbox.ids) > 1, what="another one")
    assert inbox.ids == [open_miss.id, recent]
