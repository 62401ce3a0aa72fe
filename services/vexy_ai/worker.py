"""Process the streams of one bus: read entries, make a record of each, settle them.

No entry is lost or recorded twice. If a bus refuses records, the worker keeps them and settles them before it
reads anything new. An entry whose processing fails stays pending and is claimed again. An entry that failed
too often, or that was delivered too often and never settled, becomes a dead letter.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from marketswarm.agent import Agent, InputStream
from marketswarm.agent.worker_pool import BUS_SEC
from marketswarm.bus.backlog import Backlog, read_backlog
from marketswarm.bus.consumer import Consumer, DeliveredEntry, format_fields
from marketswarm.pages import split_pages
from marketswarm.truth import Truth
from services.vexy_ai.metrics import VexyMetrics
from services.vexy_ai.note_store import NoteStore
from services.vexy_ai.notes import Lexicon, make_lexicon
from services.vexy_ai.records import Record, UnusableError, make_record
from services.vexy_ai.settings import (
    NoteSettings,
    StreamKind,
    VexyEnvironment,
    VexySettings,
    dead_letter_key,
    notes_point,
)

BLOCK_SEC: Final = 0.8  # how long the server blocks a read without entries; a reseed waits for it
IDLE_BACKLOGS_SEC: Final = 5.0
"""How old the backlogs may be while nothing comes; after an entry, they are read before each reading."""
FULL_PAUSE_SEC: Final = 0.2
MAX_ENTRY_BYTES: Final = 32 * 1024 * 1024
BATCH_BYTES: Final = 8 * 1024 * 1024
SETTLED_AT_ONCE: Final = 50  # entries that one script settles


class VexyWorker:
    """Process the streams of one bus."""

    def __init__(
        self, me: Agent[VexyEnvironment], settings_now: Callable[[], VexySettings], metrics: VexyMetrics
    ) -> None:
        self.backlogs: dict[str, Backlog] = {}
        self._me, self._settings_now, self._metrics = me, settings_now, metrics
        self._unsettled: list[tuple[InputStream, Consumer, list[Record]]] = []
        self._store: NoteStore | None = None
        self._batch_limits: dict[str, int] = {}  # as many entries as had BATCH_BYTES in the last batch
        self._claimed_at = self._backlogs_due_at = float("-inf")
        self._backlogs_of: Consumer | None = None
        self._is_idle = False  # the last reading waited in vain
        self._lexicon: tuple[NoteSettings | None, Truth | None, Lexicon] = (None, None, Lexicon({}, {}))

    async def process_next(self, consumer: Consumer, streams: Mapping[str, InputStream]) -> None:
        settings = self._settings_now().settings
        # what was read of a stream that is gone, or is not a stream now, would stop all others
        self._unsettled = [each for each in self._unsettled if each[0].key in streams]
        await self._settle(settings)
        await self._update_backlogs(consumer)
        await self._claim_abandoned(consumer, streams.values(), settings)
        entries = await self._read_new(consumer, settings)
        for stream in streams.values():
            mine = [entry for entry in entries if entry.stream == stream.key]
            await self._process(consumer, stream, mine, settings)

    async def _update_backlogs(self, consumer: Consumer) -> None:
        """Read the backlogs, unless they are known well enough: the last reading waited in vain."""
        now = time.monotonic()
        if self._is_idle and self._backlogs_of is consumer and now < self._backlogs_due_at:
            return
        self.backlogs = {stream: self.backlogs.get(stream, Backlog()) for stream in consumer.streams}
        for stream, before in self.backlogs.items():
            async with self._me.waiting(BUS_SEC):
                backlog = await read_backlog(consumer.bus, stream, consumer.group)
            self.backlogs[stream] = backlog.count_lost(before)
        self._backlogs_of, self._backlogs_due_at = consumer, now + IDLE_BACKLOGS_SEC

    async def _read_new(self, consumer: Consumer, settings: NoteSettings) -> list[DeliveredEntry]:
        """Read new entries of each stream, as many as its limits allow; rest if they allow none."""
        room, self._is_idle = {}, False
        for stream, backlog in self.backlogs.items():
            few = min(settings.batch, self._batch_limits.get(stream, settings.batch))
            room[stream] = max(0, min(few, settings.pending - backlog.pending))
        if not any(room.values()):
            await self._me.rest(FULL_PAUSE_SEC)
            return []
        async with self._me.waiting(BUS_SEC):
            began = time.monotonic()
            entries = await consumer.read_new(room, BLOCK_SEC)
        # a reply that was too long is left out, and comes at once: then entries became pending
        waited_sec = time.monotonic() - began
        self._is_idle = not entries and all(room.values()) and waited_sec > BLOCK_SEC / 2
        for stream in consumer.streams:
            sizes = [entry.size for entry in entries if entry.stream == stream]
            if sizes:  # large entries are read a few at a time
                self._batch_limits[stream] = max(1, BATCH_BYTES * len(sizes) // max(1, sum(sizes)))
        return entries

    async def _claim_abandoned(
        self, consumer: Consumer, streams: Iterable[InputStream], settings: NoteSettings
    ) -> None:
        """Claim and process, one at a time, entries that a consumer did not settle within `claim_sec`.

        One that is too large, or that was delivered more than `tries` times, becomes a dead letter.
        """
        if time.monotonic() - self._claimed_at < settings.claim_sec / 2:
            return
        self._claimed_at = time.monotonic()
        for stream in streams:
            for _ in range(settings.pending):
                async with self._me.waiting(BUS_SEC):
                    entry, trimmed = await consumer.claim_one(stream.key, settings.claim_sec, MAX_ENTRY_BYTES)
                self._metrics.count(stream.key, "gone", trimmed)
                if entry is None:
                    break
                self._metrics.count(stream.key, "taken_over")
                if entry.fields is None:
                    await self._dead_letter(consumer, entry, f"larger than {MAX_ENTRY_BYTES} bytes")
                elif entry.deliveries > settings.tries:
                    why = f"taken {entry.deliveries - 1} times and never settled: who had it ended, or hung"
                    await self._dead_letter(consumer, entry, why)
                else:
                    await self._process(consumer, stream, [entry], settings)
        async with self._me.waiting(BUS_SEC):
            await consumer.delete_idle_consumers()

    async def _process(
        self,
        consumer: Consumer,
        stream: InputStream,
        entries: Sequence[DeliveredEntry],
        settings: NoteSettings,
    ) -> None:
        for page in split_pages(entries, SETTLED_AT_ONCE):
            records = await self._make_records(consumer, stream, page, settings)
            self._unsettled += [(stream, consumer, records)] if records else []
            await self._settle(settings)

    async def _make_records(
        self,
        consumer: Consumer,
        stream: InputStream,
        entries: Sequence[DeliveredEntry],
        settings: NoteSettings,
    ) -> list[Record]:
        """Return the records of entries; an unusable one becomes a dead letter, one that fails waits."""
        truth = self._me.truth
        if self._lexicon[0] is not settings or self._lexicon[1] is not truth:
            self._lexicon = settings, truth, make_lexicon(truth, settings.symbols, settings.topics)
        records, lexicon = [], self._lexicon[2]
        for entry in entries:
            try:
                records.append(make_record(stream, entry.id, entry.fields or {}, lexicon, time.time()))
            except UnusableError as error:
                await self._dead_letter(consumer, entry, str(error))
            except Exception as error:  # noqa: BLE001 - whatever an entry does to the libraries
                reason, tries = f"{type(error).__name__}: {error}"[:300], entry.deliveries
                self._metrics.count(stream.key, "failed")
                self._me.log.warning(
                    "entry.failed", stream=stream.key, entry=entry.id.decode(), tries=tries, why=reason
                )
                if tries >= settings.tries:
                    await self._dead_letter(consumer, entry, reason)
            await asyncio.sleep(0)  # let the beats be sent meanwhile
        return records

    async def _settle(self, settings: NoteSettings) -> None:
        notes = notes_point(self._me.section)
        found = NoteStore(self._me.bus(notes.bus), notes.key)
        store = self._store = self._store if self._store == found else found
        while self._unsettled:
            stream, consumer, records = self._unsettled[0]
            async with self._me.waiting(BUS_SEC):
                new = await store.settle(
                    consumer, stream.key, records, window_sec=settings.digest_sec, notes=settings.notes
                )
            del self._unsettled[0]
            self._metrics.count_settled(stream.key, records, new, time.time())
            # probes and bars are too many for the log
            write = self._me.log.info if stream.kind == StreamKind.ITEMS else self._me.log.debug
            write("items.noted", stream=stream.key, items=len(records), new=new)

    async def _dead_letter(self, consumer: Consumer, entry: DeliveredEntry, reason: str) -> None:
        key = dead_letter_key(self._me.section)
        details = {"tries": str(entry.deliveries), "item": format_fields(entry.fields)}
        async with self._me.waiting(BUS_SEC):
            is_new = await consumer.dead_letter(entry, key, reason, time.time(), details)
        if is_new:
            self._metrics.count(entry.stream, "dead")
            self._me.log.error(
                "entry.dead_lettered", stream=entry.stream, entry=entry.id.decode(), why=reason
            )
