"""The reader of the fleet, on buses in memory."""

import asyncio
import contextlib
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import orjson
import pytest
import structlog

from marketswarm.status.service_rows import ServiceState
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from marketswarm.web.event_stream import StreamHub
from services.board.fleet import reader as reader_module
from services.board.fleet.pages import write_turned
from services.board.fleet.reader import FleetReader
from services.board.fleet.snapshot_builder import HistoryExtract
from services.board.templates import TEMPLATES


@pytest.fixture
async def buses():
    found = {name: MemoryBus(name) for name in ("system-redis", "market-redis")}
    yield found
    for bus in found.values():
        await bus.aclose()


def make_reader(buses, write_rows):
    me = SimpleNamespace(
        truth=parse_truth(orjson.dumps({"services": {"a": {}}})).truth,
        revision=1,
        bus=buses.__getitem__,
        log=structlog.get_logger(),
        waiting=asyncio.timeout,
    )

    async def find_history():
        return HistoryExtract()

    settings = SimpleNamespace(settings=SimpleNamespace(read_sec=1.0))
    return FleetReader(me, lambda: settings, StreamHub("b"), find_history, write_rows)


@pytest.fixture
def reader(buses):
    return make_reader(buses, partial(write_turned, TEMPLATES))


async def test_an_error_of_ours_leaves_the_last_snapshot_standing_and_is_logged_once(reader, monkeypatch):
    await reader.read()
    before = reader.snapshot
    assert (reader.problem, [one.svc for one in before.services]) == (None, ["a"])

    def build(*_parts):
        raise TypeError("Integer exceeds 64-bit range")

    with structlog.testing.capture_logs() as logs, monkeypatch.context() as patch:
        patch.setattr(reader_module, "build_snapshot", build)
        for _ in range(3):
            await reader.read()
    assert reader.snapshot is before
    assert reader.problem == "the fleet can't be read: TypeError"
    assert [line["event"] for line in logs] == ["board.reading_failed"]
    with contextlib.suppress(TypeError):
        await reader.read()
    assert reader.problem is None


async def take_kinds(follower):
    wire = await asyncio.wait_for(anext(follower), 5)
    return [line[7:] for line in wire.decode().split("\n") if line.startswith("event: ")]


async def turn(reader, monkeypatch):
    """Have the reader find a service down; return the kinds of the events of it, and of those kept."""
    await reader.read()
    start = reader.hub.position
    follower = reader.hub.follow(start)
    assert await take_kinds(follower) == ["resumed"]
    services = tuple(replace(one, state=ServiceState.DOWN) for one in reader.snapshot.services)
    found = replace(reader.snapshot, services=services)
    with monkeypatch.context() as patch:
        patch.setattr(reader_module, "build_snapshot", lambda *_parts: found)
        await reader.read()
    assert reader.problem is None
    return await take_kinds(follower), await take_kinds(reader.hub.follow(start))


async def test_a_row_that_turned_is_told_after_what_changed_and_is_not_kept(reader, monkeypatch):
    assert await turn(reader, monkeypatch) == (["delta", "rows"], ["delta", "resumed"])


async def test_a_row_that_can_not_be_written_delays_nothing(buses, monkeypatch):
    def fail(_snapshot, _delta):
        raise ValueError("no such time")

    reader = make_reader(buses, fail)
    with structlog.testing.capture_logs() as logs:
        assert await turn(reader, monkeypatch) == (["delta"], ["delta", "resumed"])
        await turn(reader, monkeypatch)
    assert [line["event"] for line in logs] == ["board.rows_failed"]
    assert reader.age_sec(time.monotonic()) < 5


async def test_a_reading_that_takes_too_long_is_given_up_and_the_next_one_counts(reader, monkeypatch):
    await reader.read()
    before = reader.snapshot

    async def hang(*_buses):
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(reader_module, "READ_SEC", 0.01)
        patch.setattr(reader_module, "read_notifications", hang)
        await reader.read()
    assert (reader.snapshot is before, reader.problem) == (True, "the fleet can't be read within 0 s")
    await reader.read()
    assert (reader.snapshot is before, reader.problem) == (False, None)
