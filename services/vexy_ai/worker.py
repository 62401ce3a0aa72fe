"""Process the streams of one bus: read entries, make a record of each, settle them.

Each bus has a worker of its own, so a bus that is down stops no other. No entry is lost or recorded twice. If
a bus refuses records, the worker keeps them and settles them before it reads anything new. An entry whose
processing fails stays pending and is claimed again. An entry that failed too often, or that was delivered too
often and never settled, becomes a dead letter.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from marketswarm.agent import Agent
from marketswarm.bus import BusError
from services.vexy_ai.backlog import Backlog
from services.vexy_ai.metrics import VexyMetrics
from services.vexy_ai.notes import Lexicon
from services.vexy_ai.queue import MAX_ENTRY_BYTES, Consumer, NoteStore, QueueEntry
from services.vexy_ai.records import Record, UnusableError, make_record
from services.vexy_ai.settings import (
    Source,
    StreamKind,
    VexyEnvironment,
    VexySettings,
    WorkSettings,
    dead_letter_key,
    find_sources,
    notes_point,
)

BUS_SEC: Final = 10.0  # longer than a step of the queue may take: waiting for a bus must not count as hanging
BLOCK_SEC: Final = 0.8  # how long the server blocks a read without entries; a reseed waits for it
FULL_PAUSE_SEC: Final = 0.2
BATCH_BYTES: Final = 8 * 1024 * 1024
SETTLED_AT_ONCE: Final = 50  # entries that one script settles


class Worker:
    """Process the streams of one bus.

    Each method may raise BusError; call it again to continue where it stopped.
    """

    def __init__(self, me: Agent[VexyEnvironment], bus: str, metrics: VexyMetrics) -> None:
        self.bus = bus
        self.backlogs: dict[Source, Backlog] = {}
        self._me, self._metrics = me, metrics
        self._queue: Consumer | None = None
        self._unsettled: list[tuple[Source, Consumer, list[Record]]] = []
        self._lost: dict[Source, tuple[int, int]] = {}  # entries lost before this worker began, and since
        self._batch_limits: dict[Source, int] = {}  # as many entries as had BATCH_BYTES in the last batch
        self._claimed_at = float("-inf")
        self._lexicon: tuple[WorkSettings | None, Lexicon] = (None, Lexicon({}, {}))

    async def process_next(self, settings: WorkSettings) -> None:
        """Settle the unsettled records, claim abandoned entries, read new entries, and process both."""
        queue = await self._open_consumer(settings)
        await self._settle(settings)
        await self._update_backlogs(queue)
        await self._claim_abandoned(queue, settings)
        await self._process(queue, await self._read_new(queue, settings), settings)

    def reset(self) -> None:
        """Drop the consumer, so that the next call opens a new one.

        Call it after a BusError: the streams may have changed meanwhile.
        """
        self._queue = None

    async def close(self) -> None:
        """Leave the consumer groups and drop the consumer."""
        if self._queue is not None:
            async with self._me.waiting(BUS_SEC):
                await self._queue.close()
        self.reset()

    async def _open_consumer(self, settings: WorkSettings) -> Consumer:
        """Return a consumer of this bus's streams in the truth in force.

        Keep the current consumer if its streams, its group and its bus are unchanged; otherwise close it and
        open a new one.
        """
        named = find_sources(self._me.section.access_points.subscribe_to)
        sources = tuple(source for source in named if source.bus == self.bus)
        current, bus = self._queue, self._me.bus(self.bus)
        if current and (current.sources, current.group, current.bus) == (sources, settings.group, bus):
            return current
        await self.close()
        queue = Consumer(bus, sources, settings.group, self._me.boot)
        async with self._me.waiting(BUS_SEC):
            await queue.open()
        self._queue = queue
        self._claimed_at = float("-inf")
        return queue

    async def _update_backlogs(self, queue: Consumer) -> None:
        """Read the backlog of each stream into `backlogs`.

        Its `lost` counts only entries that were lost since this worker began.
        """
        found = {}
        for source in queue.sources:
            async with self._me.waiting(BUS_SEC):
                backlog = await queue.read_backlog(source)
            # entries that were lost before this worker began are not reported again
            before, most = self._lost.get(source, (backlog.lost, 0))
            most = max(most, backlog.lost - before)
            self._lost[source] = before, most
            found[source] = replace(backlog, lost=most)
        self.backlogs = found

    async def _read_new(self, queue: Consumer, settings: WorkSettings) -> list[QueueEntry]:
        """Read new entries of each stream, as many as its batch and pending limits allow.

        If no stream may be read, rest for FULL_PAUSE_SEC and return an empty list.
        """
        room = {}
        for source, backlog in self.backlogs.items():
            few = min(settings.batch, self._batch_limits.get(source, settings.batch))
            room[source] = max(0, min(few, settings.pending - backlog.pending))
        if not any(room.values()):
            await self._me.rest(FULL_PAUSE_SEC)
            return []
        async with self._me.waiting(BUS_SEC):
            entries = await queue.read_new(room, BLOCK_SEC)
        for source in queue.sources:
            sizes = [entry.size for entry in entries if entry.source == source]
            if sizes:  # large entries are read a few at a time
                self._batch_limits[source] = max(1, BATCH_BYTES * len(sizes) // max(1, sum(sizes)))
        return entries

    async def _claim_abandoned(self, queue: Consumer, settings: WorkSettings) -> None:
        """Claim and process, one at a time, entries that a consumer did not settle within `claim_sec`.

        Do this at most every `claim_sec / 2`. An entry that is too large, or that was delivered more than
        `tries` times, becomes a dead letter.
        """
        if time.monotonic() - self._claimed_at < settings.claim_sec / 2:
            return
        self._claimed_at = time.monotonic()
        for source in queue.sources:
            for _ in range(settings.pending):
                async with self._me.waiting(BUS_SEC):
                    entry, gone = await queue.claim(source, settings.claim_sec)
                self._metrics.count_trimmed(source.key, gone)
                if entry is None:
                    break
                self._metrics.count_claimed(source.key)
                if not entry.is_complete:
                    await self._dead_letter(queue, entry, f"larger than {MAX_ENTRY_BYTES} bytes")
                elif entry.deliveries > settings.tries:
                    why = f"taken {entry.deliveries - 1} times and never settled: who had it ended, or hung"
                    await self._dead_letter(queue, entry, why)
                else:
                    await self._process(queue, [entry], settings)

    async def _process(self, queue: Consumer, entries: Sequence[QueueEntry], settings: WorkSettings) -> None:
        """Make records of the entries and settle them, stream by stream, SETTLED_AT_ONCE at a time."""
        for source in queue.sources:
            mine = [entry for entry in entries if entry.source == source]
            for at in range(0, len(mine), SETTLED_AT_ONCE):
                records = await self._make_records(queue, mine[at : at + SETTLED_AT_ONCE], settings)
                self._unsettled += [(source, queue, records)] if records else []
                await self._settle(settings)

    async def _make_records(
        self, queue: Consumer, entries: Sequence[QueueEntry], settings: WorkSettings
    ) -> list[Record]:
        """Return a record for each entry of which one can be made.

        An unusable entry becomes a dead letter; an entry that fails otherwise stays pending, to be tried
        again.
        """
        records, lexicon = [], self._get_lexicon(settings)
        for entry in entries:
            try:
                records.append(make_record(entry.source, entry.id, entry.fields, lexicon, time.time()))
            except UnusableError as reason:
                await self._dead_letter(queue, entry, str(reason))
            except Exception as error:  # noqa: BLE001 - whatever an entry does to the libraries
                await self._handle_failure(queue, entry, f"{type(error).__name__}: {error}"[:300], settings)
            await asyncio.sleep(0)  # let the beats be sent meanwhile
        return records

    async def _settle(self, settings: WorkSettings) -> None:
        """Settle every list of unsettled records, oldest first; count and log each."""
        notes = notes_point(self._me.section)
        store = NoteStore(self._me.bus(notes.bus), notes.key)
        while self._unsettled:
            source, queue, records = self._unsettled[0]
            async with self._me.waiting(BUS_SEC):
                new = await queue.settle(
                    source, store, records, window_sec=settings.digest_sec, notes=settings.notes
                )
            del self._unsettled[0]
            self._metrics.count_settled(source, records, new, time.time())
            # probes and bars are too many for the log
            write = self._me.log.info if source.kind is StreamKind.ITEMS else self._me.log.debug
            write("items.noted", stream=source.key, items=len(records), new=new)

    async def _handle_failure(
        self, queue: Consumer, entry: QueueEntry, reason: str, settings: WorkSettings
    ) -> None:
        """Count and log an entry that failed, and leave it pending; after its last try, dead-letter it."""
        self._metrics.count_failed(entry.source.key)
        self._me.log.warning(
            "item.failed",
            stream=entry.source.key,
            entry=entry.id.decode(),
            tries=entry.deliveries,
            why=reason,
        )
        if entry.deliveries >= settings.tries:
            await self._dead_letter(queue, entry, reason)

    async def _dead_letter(self, queue: Consumer, entry: QueueEntry, reason: str) -> None:
        """Move an entry to the dead letters; count and log it, unless another consumer settled it first."""
        async with self._me.waiting(BUS_SEC):
            is_new = await queue.dead_letter(entry, dead_letter_key(self._me.section), reason, time.time())
        if is_new:
            self._metrics.count_dead(entry.source.key)
            self._me.log.error("item.dead", stream=entry.source.key, entry=entry.id.decode(), why=reason)

    def _get_lexicon(self, settings: WorkSettings) -> Lexicon:
        """Return the lexicon of these settings; build a new one when the settings have changed."""
        if self._lexicon[0] is not settings:
            self._lexicon = settings, Lexicon(settings.symbols, settings.topics)
        return self._lexicon[1]


RETRY_SEC: Final = 1.0


class WorkerPool:
    """Run one worker for each bus that the truth names.

    A worker whose bus fails tries again after RETRY_SEC.
    """

    def __init__(
        self, me: Agent[VexyEnvironment], settings_now: Callable[[], VexySettings], metrics: VexyMetrics
    ) -> None:
        self._me, self._settings_now, self._metrics = me, settings_now, metrics
        self._workers: dict[str, Worker] = {}
        self._failing: dict[str, BusError] = {}  # by the bus of the worker; the bus that fails may be another

    def start_workers(self) -> None:
        """Start a worker on each bus whose streams the truth in force names, if the bus has no worker yet."""
        for bus in self._buses() - self._workers.keys():
            self._workers[bus] = worker = Worker(self._me, bus, self._metrics)
            self._me.task(self._run(worker), name=f"work {bus}")

    @property
    def backlogs(self) -> Mapping[str, Backlog]:
        """Return the last backlog that was read of each stream, by the stream's key."""
        by_worker = [worker.backlogs for worker in self._workers.values()]
        return {source.key: backlog for each in by_worker for source, backlog in each.items()}

    def problem(self) -> str | None:
        """Return each failing bus with its reason, separated by `; `; None if no bus fails."""
        return "; ".join(dict.fromkeys(map(_describe, self._failing.values()))) or None

    def _buses(self) -> set[str]:
        """Return the buses of the streams that the truth in force names."""
        return {source.bus for source in find_sources(self._me.section.access_points.subscribe_to)}

    async def _run(self, worker: Worker) -> None:
        """Process entries until the truth names no stream on the worker's bus; then close the worker."""
        try:
            while worker.bus in self._buses():
                try:
                    await worker.process_next(self._settings_now().settings)
                except BusError as error:
                    self._report_failure(worker, error)
                    worker.reset()
                    await self._me.rest(RETRY_SEC)
                else:
                    self._failing.pop(worker.bus, None)
        finally:
            try:
                await worker.close()
            finally:
                self._failing.pop(worker.bus, None)
                del self._workers[worker.bus]  # now another worker of the same consumer may begin

    def _report_failure(self, worker: Worker, error: BusError) -> None:
        """Record that a worker's bus fails; log the failure unless the last one was the same."""
        before = self._failing.get(worker.bus)
        if before is None or _describe(before) != _describe(error):  # a repeated failure is logged once
            self._me.log.warning("items.unread", bus=error.bus, reason=error.reason)
        self._failing[worker.bus] = error


def _describe(error: BusError) -> str:
    """Return an error's bus and reason, such as `market-redis timeout`."""
    return f"{error.bus} {error.reason}"
