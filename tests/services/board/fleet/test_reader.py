"""The reader of the fleet, on buses in memory."""

import asyncio
import contextlib
from types import SimpleNamespace

import orjson
import pytest
import structlog

from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from marketswarm.web.event_stream import StreamHub
from services.board.fleet import reader as reader_module
from services.board.fleet.reader import FleetReader
from services.board.fleet.snapshot_builder import HistoryExtract


@pytest.fixture
async def reader():
    buses = {name: MemoryBus(name) for name in ("system-redis", "market-redis")}
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
    yield FleetReader(me, lambda: settings, StreamHub("b"), find_history)
    for bus in buses.values():
        await bus.aclose()


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
