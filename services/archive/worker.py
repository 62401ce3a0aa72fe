"""Write the streams of one bus: read entries, make rows, commit them, acknowledge them.

A batch is in memory until it is committed. While PostgreSQL is away nothing more is read, so the streams hold
the rest, as many entries as their writers keep. An entry that is acknowledged is committed; one that is not
is delivered again, and writing it again changes nothing.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from marketswarm.agent import Agent
from marketswarm.bus import ReplyTooLongError
from marketswarm.net.retry import Backoff
from services.archive.consumer import Backlog, Consumer, ReadEntry
from services.archive.database import ArchiveAwayError
from services.archive.metrics import ArchiveMetrics
from services.archive.migrations import SchemaError
from services.archive.rows import RowError
from services.archive.settings import ArchiveEnvironment, SourceStream, WriteSettings, dead_letter_key
from services.archive.tables import STREAMS
from services.archive.writer import RefusedEntry, TypedEntry, Writer

BLOCK_SEC: Final = 0.8  # how long the server blocks a reading without entries; a reseed waits for it
BUS_SEC: Final = 20.0  # longer than any request to the bus may take
WRITE_SEC: Final = 300.0  # longer than a batch takes on a busy machine
_BACKLOG_EVERY_SEC: Final = 1.0
_AWAY_BACKOFF: Final = Backoff(first_sec=0.2, longest_sec=5.0)


@dataclass(slots=True)
class Outage:
    """Hold since when PostgreSQL is away (seconds of the monotonic clock), and how often it was tried."""

    since: float
    reason: str
    attempts: int = 0


class Worker:
    """Write the streams of one bus. Each method may raise BusError; call it again to continue."""

    def __init__(
        self, me: Agent[ArchiveEnvironment], bus: str, writer: Writer, metrics: ArchiveMetrics
    ) -> None:
        self.bus = bus
        self.backlogs: dict[str, Backlog] = {}
        self.outage: Outage | None = None
        self._me, self._writer, self._metrics = me, writer, metrics
        self._consumer: Consumer | None = None
        self._kinds: dict[str, str] = {}
        self._has_own = False  # entries may be pending for us that we do not know of
        self._claimed_at = self._looked_at = float("-inf")

    async def process_next(self, streams: Sequence[SourceStream], settings: WriteSettings) -> None:
        """Read the next entries, those of dead consumers first when it is time, and write them."""
        consumer = await self._open(streams, settings)
        await self._update_backlogs(consumer)
        for entries in (
            await self._read_own(consumer),
            await self._claim(consumer, settings),
            await self._read_new(consumer, settings),
        ):
            await self._process(consumer, entries)

    def reset(self) -> None:
        """Drop the consumer, so that the next call opens a new one, and looks for entries of its own."""
        self._consumer, self._has_own = None, True

    async def close(self) -> None:
        """Leave the groups."""
        if self._consumer is not None:
            async with self._me.waiting(BUS_SEC):
                await self._consumer.close()

    async def _open(self, streams: Sequence[SourceStream], settings: WriteSettings) -> Consumer:
        """Return a consumer of these streams; keep the current one if nothing about them has changed."""
        keys, bus, current = tuple(each.key for each in streams), self._me.bus(self.bus), self._consumer
        self._kinds = {each.key: each.kind for each in streams}
        if current and (current.streams, current.group, current.bus) == (keys, settings.group, bus):
            return current
        await self.close()
        consumer = Consumer(bus, keys, settings.group, self._me.boot)
        async with self._me.waiting(BUS_SEC):
            await consumer.open()
        self._consumer, self._claimed_at = consumer, float("-inf")
        return consumer

    async def _update_backlogs(self, consumer: Consumer) -> None:
        """Read the backlog of each stream, once a second; log entries that were lost since the last time."""
        if time.monotonic() - self._looked_at < _BACKLOG_EVERY_SEC:
            return
        self._looked_at = time.monotonic()
        for stream in consumer.streams:
            async with self._me.waiting(BUS_SEC):
                backlog = await consumer.read_backlog(stream, time.time())
            before = self.backlogs.get(stream, Backlog())
            self.backlogs[stream] = backlog = backlog.count_lost(before)
            if backlog.lost > before.lost:
                self._me.log.error("stream.lost", stream=stream, entries=backlog.lost - before.lost)

    async def _read_own(self, consumer: Consumer) -> list[ReadEntry]:
        """Return entries that are pending for us and not in hand, after an error; an empty list else."""
        if not self._has_own:
            return []
        found: list[ReadEntry] = []
        for stream in consumer.streams:
            async with self._me.waiting(BUS_SEC):
                entries, gone = await consumer.read_own(stream)
            self._metrics.count(stream, "trimmed", gone)
            found += entries
        self._has_own = bool(found)
        return found

    async def _claim(self, consumer: Consumer, settings: WriteSettings) -> list[ReadEntry]:
        """Claim entries that were not committed within `claim_sec`; do this every half of that."""
        if time.monotonic() - self._claimed_at < settings.claim_sec / 2:
            return []
        found: list[ReadEntry] = []
        for stream in consumer.streams:
            async with self._me.waiting(BUS_SEC):
                entries, gone = await consumer.claim(stream, settings.claim_sec)
            self._metrics.count(stream, "trimmed", gone)
            self._metrics.count(stream, "claimed", len(entries))
            found += entries
        if not found:  # else there may be more
            self._claimed_at = time.monotonic()
            async with self._me.waiting(BUS_SEC):
                await consumer.sweep()
        return found

    async def _read_new(self, consumer: Consumer, settings: WriteSettings) -> list[ReadEntry]:
        """Read new entries; while there is other work to do, without waiting for them."""
        try:
            async with self._me.waiting(BUS_SEC):
                return await consumer.read_new(settings.batch, 0.001 if self._has_own else BLOCK_SEC)
        except ReplyTooLongError:
            self._has_own = True
            return []

    async def _process(self, consumer: Consumer, entries: Sequence[ReadEntry]) -> None:
        """Write entries, dead-letter those that are no rows, and acknowledge them all."""
        typed, refused = [], []
        for entry in entries:
            try:
                typed.append(self._make_typed(entry))
            except RowError as error:
                refused.append((entry, str(error)))
        by_id = {(entry.stream, entry.id): entry for entry in entries}
        refused += [
            (by_id[each.entry.stream, each.entry.id], each.reason) for each in await self._write(typed)
        ]
        await self._acknowledge(consumer, entries, refused)

    def _make_typed(self, entry: ReadEntry) -> TypedEntry:
        """Return what an entry becomes. Raise RowError if it is no row."""
        if entry.fields is None:
            raise RowError("too large")
        table, make = STREAMS[self._kinds[entry.stream]]
        return TypedEntry(entry.stream, entry.id, table, *make(entry.id, entry.fields))

    async def _acknowledge(
        self, consumer: Consumer, entries: Sequence[ReadEntry], refused: Sequence[tuple[ReadEntry, str]]
    ) -> None:
        """Acknowledge entries, and write those that were refused to the dead letters."""
        dead = {(entry.stream, entry.id) for entry, _ in refused}
        for stream in consumer.streams:
            done = [each.id for each in entries if each.stream == stream and (stream, each.id) not in dead]
            async with self._me.waiting(BUS_SEC):
                await consumer.acknowledge(stream, done)
            self._metrics.count(stream, "written", len(done))
        for entry, reason in refused:
            async with self._me.waiting(BUS_SEC):
                await consumer.dead_letter(entry, dead_letter_key(self._me.section), reason, time.time())
            self._metrics.count(entry.stream, "refused")
            self._me.log.warning("entry.refused", stream=entry.stream, entry=entry.id.decode(), why=reason)

    async def _write(self, typed: Sequence[TypedEntry]) -> list[RefusedEntry]:
        """Write rows; wait for PostgreSQL as long as it is away."""
        while typed:
            began = time.monotonic()
            try:
                async with self._me.waiting(WRITE_SEC):
                    found = await self._writer.write(typed)
            except (ArchiveAwayError, SchemaError, TimeoutError) as error:
                await self._wait_for_database(str(error) or type(error).__name__)
                continue
            self._metrics.batch_sec.observe(time.monotonic() - began)
            self._end_outage()
            return found
        return []

    async def _wait_for_database(self, reason: str) -> None:
        """Note that PostgreSQL is away, look at the streams, and rest before the next attempt."""
        if self.outage is None:
            self.outage = Outage(time.monotonic(), reason)
            self._me.log.warning("database.away", bus=self.bus, why=reason)
        self.outage.attempts += 1
        self.outage.reason = reason
        if self._consumer is not None:
            await self._update_backlogs(self._consumer)
        await self._me.rest(_AWAY_BACKOFF.pause_sec(self.outage.attempts))

    def _end_outage(self) -> None:
        """Note that PostgreSQL is back."""
        if self.outage is not None:
            away_sec = time.monotonic() - self.outage.since
            self._me.log.info("database.back", bus=self.bus, away_sec=round(away_sec, 1))
            self.outage = None
