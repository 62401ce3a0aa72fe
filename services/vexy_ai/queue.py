"""Consume the streams of a bus: read entries, claim abandoned ones, settle them, write dead letters.

An entry is settled in one step on the server where possible: its note and its acknowledgement if both are on
one bus, its dead letter and its acknowledgement always. `records.py` makes the record of an entry.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from marketswarm.bus import Bus, BusError, ReplyTooLongError
from marketswarm.bus.scripts import Script
from marketswarm.keys import note_windows_key, notes_seen_key
from services.vexy_ai.backlog import Backlog
from services.vexy_ai.notes import Fields
from services.vexy_ai.records import Record
from services.vexy_ai.settings import Source

BLOCK_MARGIN_SEC: Final = 2.0  # beyond the time for which the server blocks a read
MAX_IDENTITIES: Final = 100_000
IDENTITIES_SEC: Final = 7 * 86_400
WINDOW_FIELDS: Final = 5000
DEAD_LENGTH: Final = 1000
MAX_ENTRY_BYTES: Final = 32 * 1024 * 1024
IDLE_CONSUMER_SEC: Final = 3600.0
SETTLE: Final = Script.beside("services.vexy_ai", "settle.lua")
CLAIM: Final = Script.beside("services.vexy_ai", "claim.lua")
DEAD_LETTER: Final = Script.beside("services.vexy_ai", "dead_letter.lua")
READ_BACKLOG: Final = Script.beside("services.vexy_ai", "read_backlog.lua")
LEAVE: Final = Script.beside("services.vexy_ai", "leave.lua")


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """Hold one entry of a stream; `deliveries` counts its deliveries, this one included.

    An entry that was too large to be read is not `is_complete`, and has no fields.
    """

    source: Source
    id: bytes
    fields: Fields
    deliveries: int = 1
    is_complete: bool = True

    @property
    def size(self) -> int:
        """Return the sum of the lengths of its field names and values, in bytes."""
        return sum(len(name) + len(value) for name, value in self.fields.items())


@dataclass(frozen=True, slots=True)
class NoteStore:
    """Name where notes are written: a bus and the key of a stream.

    Two other keys beside it hold the known identities, and the windows without a digest.
    """

    bus: Bus
    key: str

    @property
    def keys(self) -> list[str]:
        """Return the keys of the notes, of the known identities, and of the windows."""
        return [self.key, notes_seen_key(self.key), note_windows_key(self.key)]


class Consumer:
    """Read some streams of one bus as one consumer of a group.

    Every method but `close` may raise BusError.
    """

    def __init__(self, bus: Bus, sources: Sequence[Source], group: str, consumer: str) -> None:
        self.bus, self.sources, self.group, self.consumer = bus, tuple(sources), group, consumer

    async def open(self) -> None:
        """Create the missing consumer groups at the beginning of each stream; delete long-idle consumers."""
        for source in self.sources:
            try:
                await self.bus.ask(
                    self.bus.client.xgroup_create(source.key, self.group, id="0", mkstream=True)
                )
            except BusError as error:
                if "BUSYGROUP" not in error.detail:
                    raise
            await self._leave(source, "")

    async def read_backlog(self, source: Source) -> Backlog:
        """Return how many entries of a stream are pending, unread and lost, and the age of the oldest."""
        now_ms, pending, unread, oldest, lost = await self.bus.script(
            READ_BACKLOG, [source.key], [self.group]
        )
        oldest_ms = int(oldest.partition(b"-")[0]) if oldest else now_ms
        return Backlog(pending, unread, max(0, now_ms - oldest_ms) / 1000, lost)

    async def read_new(self, count: Mapping[Source, int], block_sec: float) -> list[QueueEntry]:
        """Read new entries, at most `count` of each stream, and wait for the first up to `block_sec`.

        Streams whose count is 0 or missing are not read.
        """
        by_count: dict[int, list[Source]] = {}
        for source in self.sources:
            by_count.setdefault(count.get(source, 0), []).append(source)
        by_count.pop(0, None)
        found: list[QueueEntry] = []
        for left, (most, sources) in zip(reversed(range(len(by_count))), by_count.items(), strict=True):
            found += await self._read(sources, most, 0.001 if left or found else block_sec)
        return found

    async def _read(self, sources: Sequence[Source], most: int, block_sec: float) -> list[QueueEntry]:
        """Read at most `most` new entries of each source, and wait for the first up to `block_sec`.

        Return an empty list if the reply is longer than twice MAX_ENTRY_BYTES; its entries are pending then.
        """
        reading = self.bus.client.xreadgroup(
            self.group,
            self.consumer,
            {source.key: ">" for source in sources},
            count=most,
            block=max(1, round(1000 * block_sec)),
        )
        try:
            reply = await self.bus.ask(reading, block_sec + BLOCK_MARGIN_SEC, max_bytes=2 * MAX_ENTRY_BYTES)
        except ReplyTooLongError:
            return []  # these entries are pending now: each is claimed by itself, if it is not too large
        return list(parse_entries(reply, sources))

    async def claim(self, source: Source, idle_sec: float) -> tuple[QueueEntry | None, int]:
        """Claim one entry that was not settled within `idle_sec`.

        Return the entry, or None if there is none, and the number of pending entries that were found trimmed
        off the stream.
        """
        entry_id, deliveries, flat, trimmed = await self.bus.script(
            CLAIM, [source.key], [self.group, self.consumer, round(1000 * idle_sec), MAX_ENTRY_BYTES]
        )
        if not entry_id:
            return None, trimmed
        fields = dict(zip(flat[::2], flat[1::2], strict=False)) if flat else {}
        return QueueEntry(source, entry_id, fields, deliveries, is_complete=bool(flat)), trimmed

    async def settle(
        self, source: Source, store: NoteStore, records: Sequence[Record], *, window_sec: int, notes: int
    ) -> int:
        """Write the records of a stream's entries and acknowledge the entries.

        Return how many records are new. `window_sec` is the length of a digest's window; `notes` is about how
        many entries the stream of notes keeps.
        """
        same_bus = store.bus is self.bus
        args: list[str | bytes | float] = [self.group if same_bus else "", MAX_IDENTITIES, IDENTITIES_SEC]
        args += [notes, window_sec, WINDOW_FIELDS]
        for each in records:
            args += [each.entry, each.kind, each.subject, each.content]
        keys = [*store.keys, source.key] if same_bus else store.keys
        new = await store.bus.script(SETTLE, keys, args)
        if not same_bus:  # not one step on two servers; but a note is never written twice
            await self.bus.ask(
                self.bus.client.xack(source.key, self.group, *(each.entry for each in records))
            )
        return sum(new)

    async def dead_letter(self, entry: QueueEntry, dead: str, reason: str, now: float) -> bool:
        """Write an entry to the dead letters at key `dead`, and acknowledge it; `now` is in epoch seconds.

        Return False, with nothing written, if the entry is no longer pending because another consumer settled
        it.
        """
        fields = {
            "stream": entry.source.key,
            "entry": entry.id.decode(),
            "group": self.group,
            "reason": reason,
        }
        fields |= {"tries": str(entry.deliveries), "ts": f"{now:.3f}", "item": format_fields(entry.fields)}
        flat = orjson.dumps([text for pair in fields.items() for text in pair])
        args: list[str | bytes | float] = [self.group, entry.id, DEAD_LENGTH, flat]
        return bool(await self.bus.script(DEAD_LETTER, [entry.source.key, dead], args))

    async def close(self) -> None:
        """Leave the groups and give back pending entries, so that others may claim them at once.

        A BusError is ignored.
        """
        for source in self.sources:
            with contextlib.suppress(BusError):
                await self._leave(source, self.consumer)

    async def _leave(self, source: Source, consumer: str) -> Any:
        """Give back a consumer's pending entries, and delete it and other long-idle consumers.

        If `consumer` is empty, only delete consumers that are idle for IDLE_CONSUMER_SEC. Return how many
        were deleted.
        """
        args: list[str | bytes | float] = [self.group, consumer, round(1000 * IDLE_CONSUMER_SEC)]
        return await self.bus.script(LEAVE, [source.key], args, within_sec=1.0)


def parse_entries(reply: Any, sources: Iterable[Source]) -> Iterable[QueueEntry]:
    """Yield the entries in a reply to XREADGROUP; deleted ones have no fields."""
    by_key = {source.key.encode(): source for source in sources}
    for stream, entries in reply or []:
        for entry_id, fields in entries:
            yield QueueEntry(by_key[stream], entry_id, fields or {})


def format_fields(fields: Fields) -> str:
    """Return an entry's first 30 fields as a JSON object, with names cut to 200 bytes and values to 2000."""
    found = {
        name[:200].decode("utf-8", "replace"): value[:2000].decode("utf-8", "replace")
        for name, value in list(fields.items())[:30]
    }
    return orjson.dumps(found).decode()
