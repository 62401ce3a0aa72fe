"""The worker's side of the streams of one bus: take entries, take over those of the dead, settle, bury.

What becomes of an entry is one step on the server where that can be: a note and its acknowledgement when both
are on one bus, a burial and its acknowledgement always. Not here: what is made of an entry (`making.py`).
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from marketswarm.bus import Bus, BusError, TooLongError
from marketswarm.bus.scripts import Script
from services.vexy_ai.backlog import Backlog
from services.vexy_ai.notes import Fields
from services.vexy_ai.records import Made
from services.vexy_ai.sources import Source

MARGIN_SEC: Final = 2.0
REMEMBERED: Final = 100_000
REMEMBERED_SEC: Final = 7 * 86_400
WINDOW_FIELDS: Final = 5000
DEAD_LENGTH: Final = 1000
ENTRY_BYTES: Final = 32 * 1024 * 1024
IDLE_CONSUMER_SEC: Final = 3600.0
SETTLE: Final = Script.beside("services.vexy_ai", "settle.lua")
CLAIM: Final = Script.beside("services.vexy_ai", "claim.lua")
BURY: Final = Script.beside("services.vexy_ai", "bury.lua")
LOOK: Final = Script.beside("services.vexy_ai", "look.lua")
LEAVE: Final = Script.beside("services.vexy_ai", "leave.lua")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream; `taken` is how often it was, this time included.

    One that was too large to be looked at is not `whole`, and has no fields.
    """

    source: Source
    id: bytes
    fields: Fields
    taken: int = 1
    whole: bool = True

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(len(name) + len(value) for name, value in self.fields.items())


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where notes are put: a bus and a key; beside them the memory, and the windows without a digest."""

    bus: Bus
    key: str

    @property
    def keys(self) -> list[str]:
        """The notes, the memory, the windows."""
        return [self.key, f"{self.key}:seen", f"{self.key}:windows"]


class Queue:
    """One consumer of one group on some streams of one bus. Every method may raise BusError."""

    def __init__(self, bus: Bus, sources: Sequence[Source], group: str, consumer: str) -> None:
        self.bus, self.sources, self.group, self.consumer = bus, tuple(sources), group, consumer

    async def open(self) -> None:
        """Make the groups, from each stream's beginning, unless they are there."""
        for source in self.sources:
            try:
                await self.bus.ask(
                    self.bus.client.xgroup_create(source.key, self.group, id="0", mkstream=True)
                )
            except BusError as error:
                if "BUSYGROUP" not in error.detail:
                    raise
            await self._leave(source, "")

    async def look(self, source: Source) -> Backlog:
        """How far the group has come with a stream."""
        now_ms, pending, unread, oldest, lost = await self.bus.script(LOOK, [source.key], [self.group])
        oldest_ms = int(oldest.partition(b"-")[0]) if oldest else now_ms
        return Backlog(pending, unread, max(0, now_ms - oldest_ms) / 1000, lost)

    async def take(self, count: Mapping[Source, int], block_sec: float) -> list[Entry]:
        """New entries, at most so many of each stream, waiting a moment; streams with 0 stay unread."""
        by_count: dict[int, list[Source]] = {}
        for source in self.sources:
            by_count.setdefault(count.get(source, 0), []).append(source)
        by_count.pop(0, None)
        found: list[Entry] = []
        for left, (most, sources) in zip(reversed(range(len(by_count))), by_count.items(), strict=True):
            found += await self._read(sources, most, 0.001 if left or found else block_sec)
        return found

    async def _read(self, sources: Sequence[Source], most: int, block_sec: float) -> list[Entry]:
        reading = self.bus.client.xreadgroup(
            self.group,
            self.consumer,
            {source.key: ">" for source in sources},
            count=most,
            block=max(1, round(1000 * block_sec)),
        )
        try:
            reply = await self.bus.ask(reading, block_sec + MARGIN_SEC, longest=2 * ENTRY_BYTES)
        except TooLongError:
            return []  # they are on the list of this consumer now, and are taken over one by one, sizes first
        return list(entries_of(reply, sources))

    async def take_over(self, source: Source, idle_sec: float) -> tuple[Entry | None, int]:
        """An entry that was taken and not settled within `idle_sec`; and how many of such are trimmed off."""
        entry, taken, flat, gone = await self.bus.script(
            CLAIM, [source.key], [self.group, self.consumer, round(1000 * idle_sec), ENTRY_BYTES]
        )
        if not entry:
            return None, gone
        fields = dict(zip(flat[::2], flat[1::2], strict=False)) if flat else {}
        return Entry(source, entry, fields, taken, whole=bool(flat)), gone

    async def settle(
        self, source: Source, shelf: Shelf, made: Sequence[Made], *, window_sec: int, notes: int
    ) -> int:
        """Put down what was made of entries of a stream and take them off the list; how many are new.

        `window_sec` is the length of a digest's window, `notes` that of the notes.
        """
        here = shelf.bus is self.bus
        args: list[str | bytes | float] = [self.group if here else "", REMEMBERED, REMEMBERED_SEC]
        args += [notes, window_sec, WINDOW_FIELDS]
        for each in made:
            args += [each.entry, each.what, each.whose, each.rest]
        keys = [*shelf.keys, source.key] if here else shelf.keys
        new = await shelf.bus.script(SETTLE, keys, args)
        if not here:  # two servers can't be one step; a note that is there is not written twice
            await self.bus.ask(self.bus.client.xack(source.key, self.group, *(each.entry for each in made)))
        return sum(new)

    async def bury(self, entry: Entry, dead: str, reason: str, now: float) -> bool:
        """Put an entry among the dead, for people to look at; whether nobody else had settled it."""
        said = {"stream": entry.source.key, "entry": entry.id.decode(), "group": self.group, "reason": reason}
        said |= {"tries": str(entry.taken), "ts": f"{now:.3f}", "item": shown(entry.fields)}
        flat = orjson.dumps([text for pair in said.items() for text in pair])
        args: list[str | bytes | float] = [self.group, entry.id, DEAD_LENGTH, flat]
        return bool(await self.bus.script(BURY, [entry.source.key, dead], args))

    async def close(self) -> None:
        """Leave the groups; what is pending is given back, for others to take over at once."""
        for source in self.sources:
            with contextlib.suppress(BusError):
                await self._leave(source, self.consumer)

    async def _leave(self, source: Source, consumer: str) -> Any:
        args: list[str | bytes | float] = [self.group, consumer, round(1000 * IDLE_CONSUMER_SEC)]
        return await self.bus.script(LEAVE, [source.key], args, within_sec=1.0)


def entries_of(reply: Any, sources: Iterable[Source]) -> Iterable[Entry]:
    """The entries in a reply to XREADGROUP (streams with entries), deleted ones as empty items."""
    by_key = {source.key.encode(): source for source in sources}
    for stream, entries in reply or []:
        for entry_id, fields in entries:
            yield Entry(by_key[stream], entry_id, fields or {})


def shown(fields: Fields) -> str:
    """An entry's fields as JSON, cut to what people can look at and put back."""
    found = {
        name[:200].decode("utf-8", "replace"): value[:2000].decode("utf-8", "replace")
        for name, value in list(fields.items())[:30]
    }
    return orjson.dumps(found).decode()
