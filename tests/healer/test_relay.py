import asyncio
import contextlib
from itertools import cycle
from types import SimpleNamespace

import pytest

from healer import relay as module
from healer.relay import Relay
from healer.service_alert import RULES
from marketswarm.bus import BusError
from marketswarm.monitor import Fence
from marketswarm.monitor.publisher import LogLength
from support.waiting import auntil


class Refusing:
    """A bus that refuses for several reasons in turn, as one does whose server is going."""

    name = "system-redis"
    client = SimpleNamespace(hget=lambda *_: None)

    def __init__(self) -> None:
        self.reasons, self.asked = cycle(["refused", "tls", "loading"]), 0

    async def ask(self, _reply):
        self.asked += 1
        raise BusError(self.name, next(self.reasons))


@pytest.fixture
def said(monkeypatch):
    found = []
    monkeypatch.setattr(module, "RETRY_SEC", 0.001)
    monkeypatch.setattr(module.log, "warning", lambda event, **more: found.append((event, more["reason"])))
    return found


@pytest.fixture
def bus():
    return Refusing()


@pytest.fixture
def relay(bus):
    leadership = SimpleNamespace(fence=lambda _bus: Fence("me", 1))
    return Relay(RULES[0], lambda: bus, lambda: "healer:alerts", leadership, LogLength())


@contextlib.asynccontextmanager
async def running(relay):
    task = asyncio.create_task(relay.run())
    yield
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()  # else it has ended before, by an error of its own


async def test_a_bus_that_refuses_for_several_reasons_in_turn_is_one_line(relay, bus, said):
    async with running(relay):
        await auntil(lambda: bus.asked >= 20)
    assert said == [("relay.waiting", "refused")]


async def test_a_bus_that_goes_on_refusing_is_said_again_at_intervals(relay, said, monkeypatch):
    monkeypatch.setattr(module, "LOG_EVERY_SEC", 0.01)
    async with running(relay):
        await auntil(lambda: len(said) >= 3)
    assert {event for event, _ in said} == {"relay.waiting"}
