"""How often an idle worker asks how far behind its streams are."""

import contextlib
from types import SimpleNamespace

import pytest

from marketswarm.bus.backlog import Backlog
from marketswarm.bus.consumer import DeliveredEntry
from services.vexy_ai import worker as module
from services.vexy_ai.metrics import VexyMetrics
from services.vexy_ai.settings import NoteSettings
from services.vexy_ai.worker import BLOCK_SEC, VexyWorker

ENTRY = DeliveredEntry("items", b"1-0", {b"title": b"a"})


class IdleConsumer:
    """A consumer of two streams whose readings wait in vain, except for `replies`, which come at once."""

    bus, streams, group = None, ("items", "bars"), "notes"

    def __init__(self, clock):
        self.clock, self.replies = clock, []

    async def read_new(self, _counts, block_sec):
        if self.replies:
            return self.replies.pop(0)
        self.clock.now += block_sec
        return []

    async def delete_idle_consumers(self):
        return


@pytest.fixture
def scene(monkeypatch):
    clock, readings = SimpleNamespace(now=0.0), list[float]()

    async def read_backlog(_bus, stream, _group):
        if stream == "bars":
            return Backlog()
        readings.append(round(clock.now, 1))
        return Backlog(pending=scene.pending)

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now, time=lambda: clock.now))
    monkeypatch.setattr(module, "read_backlog", read_backlog)
    monkeypatch.setattr(module, "notes_point", lambda _section: SimpleNamespace(bus="b", key="notes"))
    me = SimpleNamespace(section=None, bus=lambda _name: None, waiting=lambda _sec: contextlib.nullcontext())
    settings = NoteSettings()
    worker = VexyWorker(me, lambda: SimpleNamespace(settings=settings), VexyMetrics())
    scene = SimpleNamespace(consumer=IdleConsumer(clock), readings=readings, pending=0, settings=settings)

    async def work(times, consumer=scene.consumer):
        for _ in range(times):
            await worker.process_next(consumer, {})

    scene.work, scene.clock = work, clock
    return scene


async def test_an_idle_worker_reads_its_backlogs_every_five_seconds_at_most(scene):
    await scene.work(8)
    assert scene.readings == [0.0, 5.6]
    assert scene.clock.now == pytest.approx(8 * BLOCK_SEC)


@pytest.mark.parametrize("reply", [[ENTRY], []], ids=["entries", "too long"])
async def test_after_a_reading_that_came_at_once_the_backlogs_are_read_again(scene, reply):
    await scene.work(1)
    scene.consumer.replies = [reply, reply]
    await scene.work(4)
    assert scene.readings == [0.0, 0.8, 0.8]


async def test_another_consumer_and_a_stream_that_is_full_have_the_backlogs_read_each_time(scene):
    await scene.work(1)
    await scene.work(1, IdleConsumer(scene.clock))
    assert scene.readings == [0.0, 0.8]
    scene.pending = scene.settings.pending  # nothing is read of this stream until some is settled
    await scene.work(3, IdleConsumer(scene.clock))
    assert scene.readings == [0.0, 0.8, 1.6, 2.4, 3.2]
