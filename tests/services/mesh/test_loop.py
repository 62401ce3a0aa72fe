"""mesh and a bus that answers nothing for too long, or a mesh that gets no processor for so long."""

import asyncio

import orjson
import pytest
from structlog.testing import capture_logs

from marketswarm import log as logs
from marketswarm.agent import Agent
from marketswarm.agent.heartbeat import Progress
from marketswarm.beat import Beat
from marketswarm.bus import BusError
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from services.mesh import loop, store
from services.mesh.listener import BeatListener
from services.mesh.store import TopologyWriter
from services.mesh.topology import MeshEvent, Topology
from support.fixtures import closed, opened

TRUTH = parse_truth(b'{"services": {"a": {}, "mesh": {}}}').truth


class Mesh:
    """What mesh uses of an agent, with one bus in memory."""

    waiting = Agent.waiting

    def __init__(self, bus):
        self.log, self.truth, self.section = logs.get("mesh"), TRUTH, TRUTH.services["mesh"]
        self.work_progress = Progress(0.0)
        self.bus = lambda _name: bus


bus = closed(lambda: MemoryBus("system-redis"))
logged = opened(capture_logs)


def topology():
    return Topology(lambda _svc: 3.0)


def stuck(monkeypatch, module, name, times):
    """Have the function `name` hang so many times, before it works again."""
    works, left = getattr(module, name), [None] * times

    async def hang_first(*args, **kwargs):
        if left:
            left.pop()
            await asyncio.Event().wait()
        return await works(*args, **kwargs)

    monkeypatch.setattr(module, name, hang_first)


async def write_picture(bus):
    mesh = topology()
    mesh.record_beat("system-redis", Beat("a", 7, 1000.0, "one"), 0, 1000.0)
    await TopologyWriter(Mesh(bus)).write(mesh, BeatListener(None, mesh))


async def test_a_read_that_takes_too_long_at_the_start_is_tried_again(moved_time, bus, monkeypatch, logged):
    await write_picture(bus)
    stuck(monkeypatch, loop, "read_strings", times=2)
    mesh = topology()
    await loop.restore(Mesh(bus), mesh)
    assert mesh.instances_of("a")["one"].i == 7
    assert [line["event"] for line in logged] == [
        "mesh.state_unavailable",
        "mesh.state_available",
        "mesh.state_loaded",
    ]


async def test_mesh_begins_without_a_picture_that_can_not_be_read(moved_time, bus, monkeypatch, logged):
    await write_picture(bus)
    stuck(monkeypatch, loop, "read_strings", times=9)
    mesh = topology()
    await loop.restore(Mesh(bus), mesh)
    assert not mesh.services
    assert [(line["event"], line["reason"]) for line in logged] == [("mesh.state_unavailable", "timeout")]


async def test_a_write_that_takes_too_long_is_an_outage_and_no_end(moved_time, bus, monkeypatch, logged):
    mesh = topology()
    listener, writer = BeatListener(None, mesh), TopologyWriter(Mesh(bus))
    mesh.record_beat("system-redis", Beat("a", 7, 1000.0, "one"), 0, 1000.0)
    joined = MeshEvent("joined", "a", "one", 1000.0)
    listener.add_events([joined])
    stuck(monkeypatch, TopologyWriter, "_add_events", times=1)
    await writer.write(mesh, listener)
    assert (writer.outage.problem, listener.events) == ("system-redis timeout", [joined])
    await writer.write(mesh, listener)
    assert (writer.outage.problem, listener.events) == (None, [])
    assert await bus.client.xlen("mesh:events") == 1
    assert "a" in orjson.loads(await bus.client.get("mesh:topology"))["services"]
    assert [line["event"] for line in logged] == ["mesh.unwritten", "mesh.written"]


async def test_a_wait_for_a_bus_fails_as_that_bus_and_an_inner_limit_as_itself(moved_time, bus):
    me = Mesh(bus)
    with pytest.raises(BusError, match="system-redis") as failed:
        async with me.waiting(store.BUS_SEC, bus="system-redis"):
            await asyncio.Event().wait()
    assert failed.value.reason == "timeout"
    with pytest.raises(TimeoutError):
        async with me.waiting(store.BUS_SEC, bus="system-redis"), asyncio.timeout(1):
            await asyncio.Event().wait()
    assert not me.work_progress.is_resting
