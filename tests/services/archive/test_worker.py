"""The worker of archive on a bus and a database that do what a test wants: what is read, written and lost."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from marketswarm.bus import Bus, BusError
from marketswarm.bus.backlog import read_backlog
from marketswarm.bus.consumer import Consumer, DeliveredEntry
from marketswarm.postgres.errors import PostgresAwayError
from services.archive.database import MIGRATE_SEC
from services.archive.metrics import ArchiveMetrics
from services.archive.settings import ArchiveSettings
from services.archive.worker import BATCHES_AT_ONCE, ArchiveWorker, make_batch
from services.tables import tables
from support.rig import Server

STREAM = "market:downloads"
STREAMS = {STREAM: SimpleNamespace(kind=STREAM)}
FIELDS = {b"source": b"yahoo", b"outcome": b"fresh", b"asked_at": b"1793000000"}
CAUGHT_UP = [1_793_000_000_000, 0, 0, False, 1, 0, b"1793000000000-0", False]
"""The reply of a bus about a stream whose entries are all read."""


class BacklogBus:
    """A bus that says how its stream stands for a group, and no more."""

    name = "market"

    async def script(self, _script, _keys, _args):
        return CAUGHT_UP


class FullConsumer:
    """A consumer of a stream with many entries: of each reading, as many as were asked for."""

    streams, group, has_unseen, bus = (STREAM,), "archive", False, BacklogBus()

    def __init__(self, entries, *, own_trimmed=0, claim_trimmed=0):
        self.left, self.counts, self.claims, self.acknowledged = entries, [], 0, []
        self._own_trimmed, self._claim_trimmed = own_trimmed, claim_trimmed

    async def read_backlog(self, stream):
        return await read_backlog(self.bus, stream, self.group)

    async def read_own(self, _stream):
        found, self._own_trimmed = self._own_trimmed, 0
        return [], found

    async def claim(self, _stream, _idle_sec):
        self.claims += 1
        found, self._claim_trimmed = self._claim_trimmed, 0
        return [], found

    async def delete_idle_consumers(self):
        pass

    async def read_new(self, counts, _block_sec, **_limits):
        number = min(self.left, counts[STREAM])
        self.counts.append(number)
        self.left -= number
        return [DeliveredEntry(STREAM, b"%d-%d" % (len(self.counts), n), FIELDS) for n in range(number)]

    async def acknowledge(self, _stream, idents):
        self.acknowledged += idents


class LosingConsumer(FullConsumer):
    """A consumer whose bus takes no acknowledgement, and sends nothing after the first batch."""

    def __init__(self, error):
        super().__init__(100_000)
        self._error, self.given_up = error, 0
        self._second = asyncio.Event()

    async def read_new(self, counts, block_sec, **limits):
        if not self.counts:
            return await super().read_new(counts, block_sec, **limits)
        self.counts.append(0)
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
    """A writer that counts what it is given; the first `failures` times PostgreSQL is away."""

    def __init__(self, failures=0):
        self.written, self._failures = 0, failures

    async def write(self, typed):
        if self._failures:
            self._failures -= 1
            raise PostgresAwayError("refused")
        self.written += len(typed)
        return []

    async def check(self):
        pass


class Me:
    """An agent that notes what is logged, and for how long something may be waited for."""

    def __init__(self):
        self.logged, self.limits = [], []
        self.log = SimpleNamespace(error=self._note, warning=self._note, info=self._note)

    def _note(self, event, **fields):
        self.logged.append((event, fields))

    @contextlib.asynccontextmanager
    async def waiting(self, within_sec):
        self.limits.append(within_sec)
        yield

    async def rest(self, _seconds):
        return False


class Scene:
    """A worker with settings that a test may change, as a reseed does."""

    def __init__(self, writer=None, **settings):
        self.me, self.writer, self.metrics = Me(), writer or Writer(), ArchiveMetrics()
        self.reseed(**settings)
        self.worker = ArchiveWorker(self.me, lambda: self.settings, self.writer, self.metrics)

    def reseed(self, **settings):
        beats = {"heartbeat": {"interval_sec": 1, "timeout_sec": 10}}
        self.settings = ArchiveSettings.model_validate(beats | {"settings": settings})

    async def process_next(self, consumer):
        await self.worker.process_next(consumer, STREAMS)
        self.metrics.backlogs = self.worker.backlogs


@pytest.mark.parametrize("error", [BusError("market", "timeout"), asyncio.CancelledError()])
async def test_after_an_error_nothing_is_read_ahead_any_more(error):
    consumer = LosingConsumer(error)
    with pytest.raises(type(error)):
        await Scene().process_next(consumer)
    assert (len(consumer.counts), consumer.given_up) == (2, 1)


async def test_claims_get_their_turn_after_twenty_full_batches_and_nothing_that_was_read_ahead_is_left_over():
    scene, consumer = Scene(batch=10, claim_sec=0.1), FullConsumer(235)
    await scene.process_next(consumer)
    assert consumer.counts == [10] * BATCHES_AT_ONCE
    assert scene.writer.written == len(set(consumer.acknowledged)) == 10 * BATCHES_AT_ONCE
    await scene.process_next(consumer)
    assert consumer.counts[BATCHES_AT_ONCE:] == [10, 10, 10, 5]
    assert scene.writer.written == len(set(consumer.acknowledged)) == 235


async def test_a_reseed_is_in_force_with_the_next_batch():
    scene, consumer = Scene(batch=10), FullConsumer(10_000)
    writing = scene.writer.write

    async def write(typed):
        if scene.writer.written == 30:
            scene.reseed(batch=30)
        return await writing(typed)

    scene.writer.write = write
    await scene.process_next(consumer)
    before = consumer.counts[:]
    assert set(before) == {10}
    assert len(before) < BATCHES_AT_ONCE
    await scene.process_next(consumer)
    assert set(consumer.counts[len(before) :]) == {30}


async def test_an_entry_that_breaks_the_maker_of_rows_is_refused_and_ends_nobody(monkeypatch):
    def make(_entry, _fields):
        raise TypeError("Recursion limit reached")

    monkeypatch.setitem(tables.STREAMS, STREAM, (tables.DOWNLOAD_TABLE, make))
    deep = DeliveredEntry(STREAM, b"1-0", FIELDS)
    batch = make_batch([deep], STREAMS, 1_793_000_000.0)
    assert (batch.typed, batch.refused) == ([], [(deep, "TypeError")])


def test_an_entry_of_the_future_is_refused():
    early, late = (
        DeliveredEntry(STREAM, b"1-0", FIELDS | {b"asked_at": at}) for at in (b"1793086400", b"1793086401")
    )
    batch = make_batch([early, late], STREAMS, 1_793_000_000.0)
    assert [each.id for each in batch.typed] == [early.id]
    assert batch.refused == [(late, "asked_at: more than a day ahead")]


@pytest.mark.parametrize("where", ["own_trimmed", "claim_trimmed"])
async def test_entries_that_were_read_and_trimmed_before_they_were_committed_are_counted_as_lost(where):
    """An instance was killed with entries in hand, and the stream dropped them before another one claimed."""
    scene, consumer = Scene(), FullConsumer(3, **{where: 35})
    await scene.process_next(consumer)
    await scene.process_next(consumer)  # counted once
    ((event, fields),) = [each for each in scene.me.logged if each[0] == "stream.lost"]
    assert (event, fields["stream"], fields["entries"]) == ("stream.lost", STREAM, 35)
    assert scene.worker.backlogs[STREAM].lost == 35
    assert scene.metrics.entries_total[STREAM, "trimmed"] == 35
    assert "35 lost" in scene.metrics.summary()


async def test_work_in_postgresql_may_take_as_long_as_a_migration_and_the_time_limit_of_the_truth():
    """Else a longer migration would be rolled back and begun again for ever."""
    for limit_sec in (1, 3600):
        scene = Scene(Writer(failures=2), database_timeout_sec=limit_sec)
        await scene.process_next(FullConsumer(3))
        assert scene.writer.written == 3
        assert [event for event, _ in scene.me.logged] == ["database.away", "database.back"]
        assert max(scene.me.limits) > MIGRATE_SEC + limit_sec


@pytest.mark.live
async def test_a_batch_whose_reply_is_too_long_is_read_again_by_its_ids_and_written_once(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("marketswarm.bus.consumer.REPLY_BYTES", 20_000)
    scene = Scene(batch=30)
    with Server(tmp_path / "bus") as server:
        bus = Bus("market", server.url)
        try:
            for n in range(
                100
            ):  # the first batch is read, and the second one is too long, while that is written
                reason = {b"reason": b"x" * (1000 if 30 <= n < 60 else 1)}
                await bus.ask(bus.client.xadd(STREAM, FIELDS | reason))
            consumer = Consumer(bus, [STREAM], "archive", "me")
            await consumer.open()
            await scene.process_next(consumer)
            assert (scene.writer.written, consumer.has_unseen) == (30, True)
            async with asyncio.timeout(20):
                while consumer.has_unseen or scene.writer.written < 100:
                    await scene.process_next(consumer)
            assert scene.writer.written == 100
            assert scene.worker.backlogs[STREAM].lost == 0
            pending = await bus.ask(bus.client.xpending(STREAM, "archive"))
            assert pending["pending"] == 0
        finally:
            await bus.aclose()
