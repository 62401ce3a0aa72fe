"""Write the records of entries to the stream of notes, and acknowledge the entries.

If the notes and the entries are on one bus, both is one step on the server. `records.py` makes the record of
an entry.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from marketswarm.bus import Bus
from marketswarm.bus.consumer import Consumer
from marketswarm.bus.scripts import Script
from marketswarm.bus.stream_length import StreamLength
from marketswarm.keys import note_windows_key, notes_seen_key
from services.vexy_ai.records import Record

MAX_IDENTITIES: Final = 100_000
IDENTITIES_SEC: Final = 7 * 86_400
WINDOW_FIELDS: Final = 5000
SETTLE: Final = Script.beside("services.vexy_ai", "settle.lua")


@dataclass(frozen=True, slots=True)
class NoteStore:
    """Name where notes are written: a bus and the key of a stream, with two keys beside it.

    They hold the known identities, and the windows without a digest.
    """

    bus: Bus
    key: str
    _length: StreamLength = field(default_factory=StreamLength, compare=False)

    @property
    def keys(self) -> list[str]:
        return [self.key, notes_seen_key(self.key), note_windows_key(self.key)]

    async def compute_length(self, notes: int) -> int:
        """Return to which length the stream of notes is trimmed, which keeps `notes` entries and more."""
        return await self._length.compute(self.bus, self.key, notes)

    async def settle(
        self, consumer: Consumer, stream: str, records: Sequence[Record], *, window_sec: int, notes: int
    ) -> int:
        """Write the records of a stream's entries and acknowledge the entries. Raises BusError.

        Return how many records are new. `window_sec` is the length of a digest's window; `notes` is about how
        many entries the stream of notes keeps.
        """
        same_bus = self.bus is consumer.bus
        args: list[str | bytes | float] = [consumer.group if same_bus else "", MAX_IDENTITIES, IDENTITIES_SEC]
        args += [await self.compute_length(notes), window_sec, WINDOW_FIELDS]
        for each in records:
            args += [each.entry, each.kind, each.subject, each.content]
        new = await self.bus.script(SETTLE, [*self.keys, stream] if same_bus else self.keys, args)
        if not same_bus:  # not one step on two servers; but a note is never written twice
            await consumer.acknowledge(stream, [each.entry for each in records])
        return sum(new)
