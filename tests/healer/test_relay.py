import asyncio
import contextlib
from types import SimpleNamespace

import orjson
import pytest
from structlog.testing import capture_logs

from healer import relay as module
from healer.relay import Relay
from marketswarm.agent.outage_state import RULES
from marketswarm.bus import BusError
from marketswarm.closed_outages import read_closed
from marketswarm.event import Event, Kind, encode_event
from marketswarm.keys import ALERT_LOG, HEALER_LEASE, MASSIVE_ALERTS
from marketswarm.monitor import Fence, VerdictEncoder
from marketswarm.monitor.publisher import LogLength
from marketswarm.tasks import end_tasks
from marketswarm.testing import MemoryBus
from support.waiting import auntil


class Healer:
    """The agent, as far as a relay needs it."""

    tracer = None

    def __init__(self, get_bus, is_named) -> None:
        self.get_bus, self.is_named = get_bus, is_named

    def bus(self, _name):
        return self.get_bus()

    @property
    def truth(self):
        return SimpleNamespace(services={RULES[0].by: None} if self.is_named() else {})


def make_relay(get_bus, leadership, is_named=lambda: True):
    encoder = VerdictEncoder(family="heartbeat", by="healer", channel="healer:alerts")
    return Relay(RULES[0], Healer(get_bus, is_named), "system-redis", encoder, leadership, LogLength())


@contextlib.asynccontextmanager
async def running(relay):
    task = asyncio.create_task(relay.run())
    yield
    await end_tasks(task)
    assert task.cancelled()  # else it has ended before, by an error of its own


LAST_ID = "18446744073709551615-18446744073709551615"
MISS, OK, UNWATCHED = Kind.PROBE_MISS, Kind.PROBE_OK, Kind.PROBE_UNWATCHED


class Fleet:
    """A healer that leads on a bus in memory, and massive, which the truth names or does not."""

    def __init__(self) -> None:
        self.bus, self.names_massive, self.clock = MemoryBus(), True, 1_793_000_000_000

    async def start(self) -> None:
        await self.bus.client.hset(HEALER_LEASE, mapping={"boot": "me", "epoch": 1})

    async def alert(self, kind, *targets):
        for target in targets:
            self.clock += 1
            ident = f"{kind}.massive:{target}.{self.clock}"
            event = Event(
                kind, f"massive/{target}", self.clock / 1000, ident, "massive", since=self.clock / 1000
            )
            await self.bus.client.xadd(MASSIVE_ALERTS, {"event": encode_event(event)})

    async def logged(self):
        entries = await self.bus.client.xrange(ALERT_LOG)
        return [orjson.loads(fields[b"event"]) for _, fields in entries]

    async def told(self):
        return [(each["type"], each["svc"].removeprefix("massive/")) for each in await self.logged()]

    async def position(self):
        return (await self.bus.client.xrevrange(MASSIVE_ALERTS, count=1))[0][0]

    async def is_closed(self):
        return (await read_closed(self.bus, MASSIVE_ALERTS)).position == await self.position()

    def relay(self):
        leadership = SimpleNamespace(fence=lambda _bus: Fence("me", 1))
        return make_relay(lambda: self.bus, leadership, lambda: self.names_massive)


@pytest.fixture
async def fleet(monkeypatch):
    monkeypatch.setattr(module, "CLOSE_AFTER_SEC", 0.0)
    monkeypatch.setattr(module, "BLOCK_SEC", 0.01)
    monkeypatch.setattr(module, "FULL_PAUSE_SEC", 0.0)
    fleet = Fleet()
    await fleet.start()
    yield fleet
    await fleet.bus.aclose()


async def test_what_a_service_left_open_is_closed_once_the_truth_does_not_name_it(fleet):
    await fleet.alert(MISS, "shop", "db", "mail")
    await fleet.alert(OK, "db")
    before = [(MISS, "shop"), (MISS, "db"), (MISS, "mail"), (OK, "db")]
    async with running(fleet.relay()):
        await auntil(lambda: at_length(fleet, 4))
        assert await fleet.told() == before
        fleet.names_massive = False
        await auntil(fleet.is_closed)
    closed = (await fleet.logged())[4:]
    assert [(each["type"], each["svc"]) for each in closed] == [
        (UNWATCHED, "massive/shop"),
        (UNWATCHED, "massive/mail"),
    ]
    assert {each["by"] for each in closed} == {"healer"}
    assert closed[0]["since"] == 1_793_000_000.001
    assert all(each["ts"] > 1_793_000_000.004 for each in closed)


async def at_length(fleet, number):
    return len(await fleet.told()) == number


async def test_an_outage_is_closed_once_by_all_healers_and_again_if_it_is_reported_again(fleet):
    fleet.names_massive = False
    await fleet.alert(MISS, "shop")
    for _ in range(2):
        async with running(fleet.relay()):
            await auntil(fleet.is_closed)
        assert await fleet.told() == [(MISS, "shop"), (UNWATCHED, "shop")]
    async with running(fleet.relay()):  # massive was left running
        await fleet.alert(OK, "shop")
        await fleet.alert(MISS, "shop")
        await auntil(fleet.is_closed)
    assert (await fleet.told())[2:] == [(OK, "shop"), (MISS, "shop"), (UNWATCHED, "shop")]


async def test_a_healer_that_dies_while_it_closes_many_outages_leaves_the_rest_to_the_next_one(
    fleet, monkeypatch
):
    targets = [f"t{n}" for n in range(250)]
    await fleet.alert(MISS, *targets)
    relay = fleet.relay()
    write, batches = relay._write, iter([True])  # noqa: SLF001 - it dies after its first batch

    async def write_one_batch(bus, fence, field, *more):
        if field.endswith(" closed") and next(batches, None) is None:
            raise BusError("system-redis", "refused")
        return await write(bus, fence, field, *more)

    monkeypatch.setattr(relay, "_write", write_one_batch)
    async with running(relay):
        await auntil(lambda: at_length(fleet, 250))
        fleet.names_massive = False
        await auntil(lambda: at_length(fleet, 350))
    async with running(fleet.relay()):
        await auntil(fleet.is_closed)
    assert (await fleet.told())[250:] == [(UNWATCHED, each) for each in targets]


async def test_a_service_that_the_truth_names_again_in_time_closes_its_outages_itself(fleet, monkeypatch):
    monkeypatch.setattr(module, "CLOSE_AFTER_SEC", 3600.0)
    fleet.names_massive = False
    await fleet.alert(MISS, "shop")
    async with running(fleet.relay()):
        await auntil(lambda: at_length(fleet, 1))
        fleet.names_massive = True
        await fleet.alert(OK, "shop")
        await auntil(lambda: at_length(fleet, 2))
    assert await fleet.told() == [(MISS, "shop"), (OK, "shop")]


async def test_a_time_from_the_far_future_does_not_close_what_comes_after_it(fleet):
    fleet.names_massive = False
    fleet.clock = 900_000_000_000_000
    await fleet.alert(MISS, "shop")
    async with running(fleet.relay()):
        await auntil(fleet.is_closed)
    closed = await read_closed(fleet.bus, MASSIVE_ALERTS)
    assert not closed.covers("probe_miss.massive:shop.900000000000000")


async def test_events_that_a_bus_did_not_take_are_copied_again_and_those_of_a_stream_begun_anew_too(
    fleet, monkeypatch
):
    relay, refusals = fleet.relay(), iter([True])
    write = relay._write  # noqa: SLF001 - the bus refuses one write

    async def refuse_once(*args):
        if next(refusals, None) is not None:
            raise BusError("system-redis", "refused")
        return await write(*args)

    monkeypatch.setattr(relay, "_write", refuse_once)
    await fleet.alert(MISS, "shop")
    async with running(relay):
        await auntil(lambda: at_length(fleet, 1))
        await fleet.bus.client.xadd(MASSIVE_ALERTS, {"event": "{}"}, id=LAST_ID)
        await auntil(lambda: relay.skipped.total() == 1)
        await fleet.bus.client.delete(MASSIVE_ALERTS)
        await fleet.alert(OK, "shop")
        await auntil(lambda: at_length(fleet, 2))
    assert await fleet.told() == [(MISS, "shop"), (OK, "shop")]


async def test_alerts_that_were_trimmed_off_before_they_were_copied_are_said_and_counted(fleet):
    await fleet.alert(MISS, "shop")
    relay = fleet.relay()
    async with running(relay):
        await auntil(lambda: at_length(fleet, 1))
    await fleet.alert(OK, "shop")
    await fleet.alert(MISS, "db")
    await fleet.bus.client.xtrim(MASSIVE_ALERTS, maxlen=1, approximate=False)
    later = fleet.relay()
    with capture_logs() as said:
        async with running(later):
            await auntil(lambda: at_length(fleet, 2))
    assert [(line["event"], line["stream"]) for line in said] == [("relay.lost", MASSIVE_ALERTS)]
    assert (relay.lost, later.lost) == (0, 1)
