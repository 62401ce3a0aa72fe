"""Write the streams of one bus: read entries, make rows, commit them, acknowledge them.

A batch is in memory until it is committed. While there are more entries than a batch takes, the next one is
read while PostgreSQL merges this one. While PostgreSQL is away no more than these two are read, so the
streams hold the rest, as many entries as their writers keep. An entry that is acknowledged is committed; one
that is not is delivered again, and writing it again changes nothing.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from marketswarm.agent import Agent, InputStream
from marketswarm.agent.worker_pool import BUS_SEC
from marketswarm.bus.backlog import Backlog
from marketswarm.bus.consumer import Consumer, DeliveredEntry, format_fields
from marketswarm.bus.stream import ENTRY_BYTES
from marketswarm.net.retry import Backoff
from marketswarm.postgres.errors import PostgresAwayError
from marketswarm.postgres.migrations import SchemaError
from marketswarm.postgres.pool import DatabaseAway
from marketswarm.tasks import run_beside
from services.archive.database import MIGRATE_SEC
from services.archive.metrics import ArchiveMetrics
from services.archive.settings import ArchiveEnvironment, ArchiveSettings, find_dead_letter_key
from services.archive.writer import TypedEntry, Writer
from services.market.fields import EntryError
from services.tables.tables import make_row

BLOCK_SEC: Final = 0.8  # how long the server blocks a reading without entries; a reseed waits for it
WRITE_SEC: Final = 300.0
"""How long a batch may take beyond the limits of PostgreSQL, because it is halved to find a refused entry."""
CHECK_EVERY_SEC: Final = 5.0
"""The seconds without a batch after which PostgreSQL is asked whether it is there."""
BATCHES_AT_ONCE: Final = 20
"""The most batches that are written, each while the next is read, before settings, claims and pending entries
are checked again."""
_NO_WAIT_SEC: Final = 0.001
_READ_SEC: Final = 12.0  # the server sends thousands of entries at once
_BACKLOG_EVERY_SEC: Final = 1.0
_AWAY_BACKOFF: Final = Backoff(first_sec=0.2, longest_sec=5.0)


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold entries that are written together: those that became rows, and invalid ones with the reason.

    `is_full` is True if there may be more of them on a stream than a batch takes.
    """

    entries: Sequence[DeliveredEntry]
    typed: Sequence[TypedEntry]
    refused: Sequence[tuple[DeliveredEntry, str]]
    is_full: bool = False


class ArchiveWorker:
    """Write the streams of one bus."""

    def __init__(
        self,
        me: Agent[ArchiveEnvironment],
        settings_now: Callable[[], ArchiveSettings],
        writer: Writer,
        metrics: ArchiveMetrics,
    ) -> None:
        self.backlogs: dict[str, Backlog] = {}
        self.backlogs_at = float("-inf")
        """When all of them were read last, by the monotonic clock."""
        self.outage: DatabaseAway | None = None
        """Since when PostgreSQL can't be used, and the error of the last attempt."""
        self._attempts = 0
        self._me, self._settings_now, self._writer, self._metrics = me, settings_now, writer, metrics
        self._claimed_at = self._looked_at = self._reached_at = float("-inf")

    async def process_next(self, consumer: Consumer, streams: Mapping[str, InputStream]) -> None:
        """Commit what was read and not acknowledged, first of ours, then of who is gone; then new entries.

        Entries are acknowledged after the commit. Without other work, new ones are awaited for BLOCK_SEC.
        """
        config = self._settings_now()
        settings = config.settings
        await self._update_backlogs(consumer)
        await self._commit(consumer, make_batch(await self._read_own(consumer), streams, time.time()))
        claimed = await self._claim(consumer, settings.claim_sec)
        await self._commit(consumer, make_batch(claimed, streams, time.time()))
        # while there is other work to do, new entries are not waited for
        block_sec = _NO_WAIT_SEC if consumer.has_unseen else BLOCK_SEC
        batch = await self._read_batch(consumer, streams, settings.batch, block_sec)
        for _ in range(BATCHES_AT_ONCE - 1):
            if not batch.is_full or self._settings_now() is not config:
                break
            following = self._read_batch(consumer, streams, settings.batch, _NO_WAIT_SEC)
            async with run_beside(following) as reading:  # what fails is still pending, and is read again
                await self._commit(consumer, batch)
                batch = await reading
            await self._update_backlogs(consumer)
        await self._commit(consumer, batch)
        if time.monotonic() - self._reached_at >= CHECK_EVERY_SEC:  # an outage would stay unnoticed
            await self._retry_while_away(consumer, self._writer.check)

    async def _update_backlogs(self, consumer: Consumer) -> None:
        """Read the backlog of each stream, once a second; log entries that were lost since the last time."""
        if time.monotonic() - self._looked_at < _BACKLOG_EVERY_SEC:
            return
        self._looked_at = time.monotonic()
        self.backlogs = {stream: self.backlogs.get(stream, Backlog()) for stream in consumer.streams}
        for stream, before in self.backlogs.items():
            async with self._me.waiting(BUS_SEC):
                backlog = (await consumer.read_backlog(stream)).count_lost(before)
            self._note_lost(stream, backlog, backlog.lost - before.lost, "trimmed before archive read them")
        self.backlogs_at = time.monotonic()

    def _note_trimmed(self, stream: str, entries: int) -> None:
        """Note entries that a killed instance had read, and that were trimmed before they were acknowledged.

        If it had committed them, they are counted as lost and are not.
        """
        self._metrics.count(stream, "trimmed", entries)
        known = self.backlogs.get(stream, Backlog())
        lost = replace(known, lost=known.lost + entries)
        self._note_lost(stream, lost, entries, "read by an instance that was killed, then trimmed")

    def _note_lost(self, stream: str, backlog: Backlog, entries: int, why: str) -> None:
        self.backlogs[stream] = backlog
        if entries:
            self._me.log.error("stream.lost", stream=stream, entries=entries, why=why)

    async def _read_own(self, consumer: Consumer) -> list[DeliveredEntry]:
        """After an error, return entries that are pending for us and not in hand; otherwise an empty list."""
        found: list[DeliveredEntry] = []
        for stream in consumer.streams:
            async with self._me.waiting(BUS_SEC):
                entries, trimmed = await consumer.read_own(stream)
            self._note_trimmed(stream, trimmed)
            found += entries
        return found

    async def _claim(self, consumer: Consumer, claim_sec: float) -> list[DeliveredEntry]:
        """Claim entries that were not committed within `claim_sec`; do this every half of that."""
        if time.monotonic() - self._claimed_at < claim_sec / 2:
            return []
        found: list[DeliveredEntry] = []
        for stream in consumer.streams:
            async with self._me.waiting(BUS_SEC):
                entries, trimmed = await consumer.claim(stream, claim_sec)
            self._note_trimmed(stream, trimmed)
            self._metrics.count(stream, "claimed", len(entries))
            found += entries
        if not found:  # else there may be more
            self._claimed_at = time.monotonic()
            async with self._me.waiting(BUS_SEC):
                await consumer.delete_idle_consumers()
        return found

    async def _read_batch(
        self, consumer: Consumer, streams: Mapping[str, InputStream], most: int, block_sec: float
    ) -> Batch:
        async with self._me.waiting(BUS_SEC):
            counts = dict.fromkeys(consumer.streams, most)
            entries = await consumer.read_new(counts, block_sec, within_sec=_READ_SEC)
        return make_batch(entries, streams, time.time(), most)

    async def _commit(self, consumer: Consumer, batch: Batch) -> None:
        """Write a batch to PostgreSQL, acknowledge it, and move what was refused to the dead letters."""
        refused = {(entry.stream, entry.id): why for entry, why in batch.refused}
        for typed, why in await self._write(consumer, batch.typed) if batch.typed else ():
            refused[typed.stream, typed.id] = why
        written: dict[str, list[bytes]] = {stream: [] for stream in consumer.streams}
        dead = []
        for entry in batch.entries:
            if (entry.stream, entry.id) in refused:
                dead.append(entry)
            else:
                written[entry.stream].append(entry.id)
        for stream, idents in written.items():
            async with self._me.waiting(BUS_SEC):
                await consumer.acknowledge(stream, idents)
            self._metrics.count(stream, "written", len(idents))
        for entry in dead:
            await self._dead_letter(consumer, entry, refused[entry.stream, entry.id])

    async def _dead_letter(self, consumer: Consumer, entry: DeliveredEntry, reason: str) -> None:
        key, details = find_dead_letter_key(self._me.section), {"fields": format_fields(entry.fields)}
        async with self._me.waiting(BUS_SEC):
            is_new = await consumer.dead_letter(entry, key, reason, time.time(), details)
        if is_new:
            self._metrics.count(entry.stream, "refused")
            self._me.log.warning("entry.refused", stream=entry.stream, entry=entry.id.decode(), why=reason)

    async def _write(self, consumer: Consumer, typed: Sequence[TypedEntry]) -> list[tuple[TypedEntry, str]]:
        async def write_batch() -> list[tuple[TypedEntry, str]]:
            began = time.monotonic()
            found = await self._writer.write(typed)
            self._metrics.batch_seconds.observe(time.monotonic() - began)
            return found

        return await self._retry_while_away(consumer, write_batch)

    async def _retry_while_away(self, consumer: Consumer, work: Callable[[], Awaitable[T]]) -> T:
        while True:
            # its own limits end what hangs, because a shorter one here would roll back each long migration
            limit_sec = MIGRATE_SEC + self._settings_now().settings.database_timeout_sec + WRITE_SEC
            try:
                async with self._me.waiting(limit_sec):
                    found = await work()
            except (PostgresAwayError, SchemaError, TimeoutError) as error:
                await self._wait_for_database(consumer, error)
                continue
            self._reached_at = time.monotonic()
            if self.outage is not None:
                away_sec = time.monotonic() - self.outage.since
                self._me.log.info("database.back", bus=consumer.bus.name, away_sec=round(away_sec, 1))
                self.outage, self._attempts = None, 0
            return found

    async def _wait_for_database(self, consumer: Consumer, error: Exception) -> None:
        before = self.outage
        self.outage = DatabaseAway(error, time.monotonic() if before is None else before.since)
        if before is None:
            self._me.log.warning("database.away", bus=consumer.bus.name, why=self.outage.reason)
        self._attempts += 1
        await self._update_backlogs(consumer)
        await self._me.rest(_AWAY_BACKOFF.pause_sec(self._attempts))


def make_batch(
    entries: Sequence[DeliveredEntry], streams: Mapping[str, InputStream], now: float, most: int | None = None
) -> Batch:
    """Return the batch of entries that were read at `now` (epoch seconds), up to `most` of each stream."""
    typed: list[TypedEntry] = []
    refused: list[tuple[DeliveredEntry, str]] = []
    for entry in entries:
        try:
            typed.append(make_typed(entry, streams[entry.stream].kind, now))
        except EntryError as error:
            refused.append((entry, str(error)))
        except Exception as error:  # noqa: BLE001 - one entry must not end archive
            refused.append((entry, type(error).__name__))
    fullest = max(Counter(entry.stream for entry in entries).values(), default=0)
    return Batch(entries, typed, refused, is_full=most is not None and fullest >= most)


def make_typed(entry: DeliveredEntry, kind: str, now: float) -> TypedEntry:
    """Return what an entry of a stream of this kind becomes at `now`. Raise EntryError if it is invalid."""
    if entry.fields is None or entry.size > ENTRY_BYTES:
        raise EntryError("too large")
    return TypedEntry(entry.stream, entry.id, *make_row(kind, entry.id, entry.fields, now))
