"""Workers on two buses, one of which fails; streams and groups that the truth names anew or no more."""

import asyncio

import pytest

from marketswarm.agent import InputStream
from marketswarm.agent.member import Agent
from marketswarm.agent.worker_pool import WorkerPool
from marketswarm.bus import Bus, BusError
from marketswarm.bus.outage import Outage
from marketswarm.bus.stored_values import count_unusable
from marketswarm.settings import CommonSettings
from support.rig import Server
from support.waiting import auntil

A, B, MORE = (InputStream(bus, key, key) for bus, key in (("a", "items"), ("b", "items"), ("a", "more")))


class Fleet:
    """An agent with a pool: what its workers read, what is refused them, and what the truth names."""

    def __init__(self, server):
        self.server, self.streams, self.group = server, [A, B], "group"
        self.read: list[tuple[str, str, bytes]] = []
        self.failing: dict[str, str] = {}
        self.attempts = 0
        self.me = Agent("reader", CommonSettings(), None, lambda name, _url: Bus(name, server.url))
        self.pool = WorkerPool(
            self.me,
            streams_now=lambda: self.streams,
            group_now=lambda: self.group,
            make_worker=lambda: Worker(self),
            make_outage=lambda: Outage(self.me.log, "stream.unread", "stream.read"),
        )

    def keys(self):
        return [key for _, key, _ in self.read]

    def consumers(self, key, group="group"):
        return [each["name"] for each in self.server.cmd("XINFO", "CONSUMERS", key, group)]


class Worker:
    def __init__(self, fleet):
        self.fleet, self.backlogs = fleet, {}

    async def process_next(self, consumer, streams):
        bus = consumer.bus.name
        if bus in self.fleet.failing:
            self.fleet.attempts += 1
            reason = self.fleet.failing[bus]
            raise TimeoutError if reason == "too long" else BusError(bus, reason)
        for entry in await consumer.read_new(dict.fromkeys(streams, 10), 0.02):
            self.fleet.read.append((bus, entry.stream, entry.id))
            await consumer.acknowledge(entry.stream, [entry.id])


@pytest.fixture
async def fleet(tmp_path, monkeypatch):
    for module in ("agent.worker_pool", "bus.stream"):
        monkeypatch.setattr(f"marketswarm.{module}.TYPES_EVERY_SEC", 0.01)
    with Server(tmp_path / "server") as server:
        for name in ("A", "B"):
            monkeypatch.setenv(f"{name}_URL", server.url)
        fleet = Fleet(server)
        async with asyncio.TaskGroup() as group:
            fleet.me.side_tasks.begin_in(group)
            fleet.pool.start_workers()
            yield fleet
            fleet.streams = []
        await fleet.me.close()


async def test_a_bus_that_fails_stops_no_other(fleet):
    fleet.failing = {"a": "timeout"}
    await auntil(lambda: fleet.attempts > 3)
    assert fleet.pool.problem() == "a timeout"
    fleet.server.cmd("XADD", "items", "*", "id", 1)
    await auntil(lambda: [bus for bus, _, _ in fleet.read] == ["b"])
    fleet.failing = {"a": "oom", "b": "oom"}
    await auntil(lambda: fleet.pool.problem() == "a oom; b oom")
    fleet.failing = {}
    await auntil(lambda: fleet.pool.problem() is None)


async def test_a_step_that_takes_too_long_is_a_failure_of_its_bus_and_ends_nobody(fleet):
    fleet.failing = {"a": "too long"}
    await auntil(lambda: fleet.attempts > 3)
    assert fleet.pool.problem() == "a timeout"
    fleet.failing = {}
    await auntil(lambda: fleet.pool.problem() is None)


async def test_a_stream_that_is_replaced_by_another_type_stops_no_other_and_comes_back_by_itself(fleet):
    before = count_unusable()
    fleet.streams = [A, MORE]
    await auntil(lambda: fleet.server.cmd("EXISTS", "items", "more") == 2)
    fleet.server.cmd("SET", "more", "hello")
    await auntil(lambda: fleet.pool.problem() == "a more is a string and not a stream")
    fleet.server.cmd("XADD", "items", "*", "id", 1)
    await auntil(lambda: fleet.keys() == ["items"])
    assert count_unusable() == before + 1
    fleet.server.cmd("DEL", "more")
    fleet.server.cmd("XADD", "more", "*", "id", 1)
    await auntil(lambda: fleet.keys() == ["items", "more"])
    await auntil(lambda: fleet.pool.problem() is None)


async def test_a_bus_all_of_whose_streams_are_replaced_is_told_and_waited_for(fleet):
    fleet.server.cmd("HSET", "items", "a", "b")
    told = [f"{bus} items is a hash and not a stream" for bus in "ab"]
    await auntil(lambda: sorted((fleet.pool.problem() or "").split("; ")) == told)
    fleet.server.cmd("DEL", "items")
    await auntil(lambda: fleet.pool.problem() is None)
    fleet.server.cmd("XADD", "items", "*", "id", 1)
    await auntil(lambda: fleet.keys() == ["items"])


async def test_a_truth_that_names_other_streams_or_another_group_is_followed_at_once(fleet):
    fleet.server.cmd("XADD", "more", "*", "id", 1)
    fleet.streams = [A, MORE]
    await auntil(lambda: fleet.keys() == ["more"])
    await auntil(lambda: len(fleet.pool.workers) == 1)  # that of the other bus has ended
    fleet.group = "another"
    await auntil(lambda: fleet.keys() == ["more", "more"])
    assert fleet.consumers("more") == []
    assert fleet.consumers("more", "another") == [fleet.me.boot]
    fleet.streams = []
    await auntil(lambda: not fleet.pool.workers)
    assert fleet.consumers("more", "another") == []
    fleet.streams = [B]
    fleet.pool.start_workers()
    fleet.server.cmd("XADD", "items", "*", "id", 1)
    await auntil(lambda: fleet.keys()[2:] == ["items"])
