"""The worker of archive: what becomes of the batch that is read ahead when the one before it fails."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from marketswarm.bus import BusError
from marketswarm.bus.consumer import DeliveredEntry
from services.archive.metrics import ArchiveMetrics
from services.archive.settings import ArchiveSettings
from services.archive.worker import ArchiveWorker

STREAMS = {"market:downloads": SimpleNamespace(kind="market:downloads")}
FIELDS = {b"source": b"yahoo", b"outcome": b"fresh", b"asked_at": b"1793000000"}


class LosingConsumer:
    """A consumer whose bus takes no acknowledgement, and sends nothing after the first batch."""

    streams = tuple(STREAMS)
    has_unseen = False
    bus = SimpleNamespace(name="market")

    def __init__(self, error):
        self._error, self.reads, self.given_up = error, 0, 0
        self._second = asyncio.Event()

    async def read_own(self, _stream):
        return [], 0

    async def claim(self, _stream, _idle_sec):
        return [], 0

    async def delete_idle_consumers(self):
        pass

    async def read_new(self, counts, _block_sec, **_limits):
        self.reads += 1
        if self.reads == 1:
            (stream,) = counts
            return [DeliveredEntry(stream, b"1-%d" % n, FIELDS) for n in range(counts[stream])]
        self._second.set()
        try:
            return await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise

    async def acknowledge(self, _stream, idents):
        if idents:
            await self._second.wait()
            raise self._error


class Writer:
    """A writer that has nothing to complain about."""

    async def write(self, _typed):
        return []


@contextlib.asynccontextmanager
async def waiting(_within_sec):
    yield


@pytest.mark.parametrize("error", [BusError("market", "timeout"), asyncio.CancelledError()])
async def test_after_an_error_nothing_is_read_ahead_any_more(error, monkeypatch):
    settings = ArchiveSettings.model_validate({"heartbeat": {"interval_sec": 1, "timeout_sec": 10}})
    worker = ArchiveWorker(SimpleNamespace(waiting=waiting), lambda: settings, Writer(), ArchiveMetrics())
    monkeypatch.setattr(worker, "_looked_at", float("inf"))  # the backlog is no matter here
    consumer = LosingConsumer(error)
    with pytest.raises(type(error)):
        await worker.process_next(consumer, STREAMS)
    assert (consumer.reads, consumer.given_up) == (2, 1)
