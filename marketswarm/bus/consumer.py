"""Read streams of one bus as one consumer of a group: read, claim, acknowledge, write dead letters.

An entry that was delivered and not acknowledged stays pending: its consumer finds it again after an error,
and another one claims it when its consumer has died. Nothing here decides what an entry is.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from marketswarm.bus.backlog import Backlog, read_backlog
from marketswarm.bus.bus import Bus
from marketswarm.bus.errors import BusError, ReplyTooLongError
from marketswarm.bus.scripts import Script
from marketswarm.bus.stream import FIRST_ID, read_entries_by_id
from marketswarm.pages import split_pages

REPLY_BYTES: Final = 64 * 1024 * 1024
"""The most bytes of the reply to one reading."""
DEAD_LETTERS: Final = 1000
"""About how many entries a stream of dead letters keeps."""
_IDS_AT_ONCE: Final = 1000
_IDLE_CONSUMER_SEC: Final = 3600.0
_LEAVE_SEC: Final = 1.0
_REASON_CHARACTERS: Final = 500
_LETTER_FIELDS: Final = 40
_NAME_BYTES: Final = 200
_VALUE_BYTES: Final = 2000
# redis-py drops the number of trimmed entries when only ids are requested
_CLAIM: Final = Script.beside("marketswarm.bus", "claim.lua")
_CLAIM_ONE: Final = Script.beside("marketswarm.bus", "claim_one.lua")
_DEAD_LETTER: Final = Script.beside("marketswarm.bus", "dead_letter.lua")
_LEAVE_GROUP: Final = Script.beside("marketswarm.bus", "leave_group.lua")


class DeliveredEntry(NamedTuple):
    """Hold an entry of a stream. `fields` is None if the entry is too large to be read again.

    `deliveries` counts its deliveries, this one included; entries that are not claimed alone have 1. It is a
    tuple, because a batch has thousands, and a frozen dataclass takes twice as long to make.
    """

    stream: str
    id: bytes
    fields: Mapping[bytes, bytes] | None
    deliveries: int = 1

    @property
    def size(self) -> int:
        fields = self.fields or {}
        return sum(map(len, fields)) + sum(map(len, fields.values()))


class Consumer:
    """Read streams of one bus. Every method but `close` may raise BusError.

    Args:
        reply_bytes: the most bytes of the reply to one reading; None: REPLY_BYTES.
        idle_sec: for how long another consumer with nothing pending must be idle to be deleted.
    """

    def __init__(
        self,
        bus: Bus,
        streams: Iterable[str],
        group: str,
        name: str,
        *,
        reply_bytes: int | None = None,
        idle_sec: float = _IDLE_CONSUMER_SEC,
    ) -> None:
        self.bus, self.streams, self.group, self.name = bus, tuple(streams), group, name
        self._reply_bytes, self.idle_sec = reply_bytes, idle_sec
        self._unseen = set(self.streams)  # may have entries that are pending for us and were never returned

    @property
    def has_unseen(self) -> bool:
        """Return True if entries may be pending for this consumer that only `read_own` finds."""
        return bool(self._unseen)

    async def open(self) -> None:
        """Create the missing groups, at the beginning of each stream."""
        for stream in self.streams:
            await self.create_group(stream)

    async def create_group(self, stream: str, start: bytes = FIRST_ID) -> None:
        """Create the group of a stream, after the id `start`, unless it is there."""
        try:
            await self.bus.ask(self.bus.client.xgroup_create(stream, self.group, start, mkstream=True))
        except BusError as error:
            if "BUSYGROUP" not in error.detail:
                raise

    async def read_new(
        self, counts: Mapping[str, int], block_sec: float, *, within_sec: float | None = None
    ) -> list[DeliveredEntry]:
        """Read new entries, and wait for the first one up to `block_sec`.

        Entries whose reply is too long are left out: they are pending, and can be read by `read_own` or
        claimed.

        Args:
            counts: the most entries of each stream; streams whose count is 0 or missing are not read.
            block_sec: for how long the server waits for an entry.
            within_sec: for how long the reply may take beyond that; None: the limit of the bus.
        """
        by_count: dict[int, list[str]] = {}
        for stream in self.streams:
            by_count.setdefault(counts.get(stream, 0), []).append(stream)
        by_count.pop(0, None)
        found: list[DeliveredEntry] = []
        for left, (count, streams) in zip(reversed(range(len(by_count))), by_count.items(), strict=True):
            wait_sec = 0.001 if left or found else block_sec
            found += await self._read(streams, count, wait_sec, within_sec or self.bus.within_sec)
        return found

    async def read_own(self, stream: str) -> tuple[list[DeliveredEntry], int]:
        """Return entries of a stream that are pending for this consumer, and how many are trimmed off.

        Those that are trimmed off are acknowledged. Call it until there are none, before `read_new`: it can't
        tell entries that were never returned from those that the caller has in hand.
        """
        if stream not in self._unseen:
            return [], 0
        pending = await self.bus.ask(
            self.bus.client.xpending_range(stream, self.group, "-", "+", _IDS_AT_ONCE, self.name)
        )
        if not pending:
            self._unseen.discard(stream)
        return await self._read_ids(stream, [each["message_id"] for each in pending])

    async def claim(self, stream: str, idle_sec: float) -> tuple[list[DeliveredEntry], int]:
        """Claim entries of a stream that were not acknowledged within `idle_sec`, oldest first.

        Return up to 1000 entries, and the number of pending entries that were found trimmed off the stream.
        """
        idents, trimmed, _ = await self.claim_ids(stream, idle_sec)
        entries, trimmed_since = await self._read_ids(stream, idents)
        return entries, trimmed + trimmed_since

    async def claim_ids(
        self, stream: str, idle_sec: float, start: bytes = FIRST_ID
    ) -> tuple[list[bytes], int, bytes]:
        """Do as `claim`, from the id `start` on, without reading the entries.

        Return their ids, the number of those trimmed off, and the id to continue from, `0-0` at the end. With
        an `idle_sec` of 0 what is pending for this consumer is returned, too: then nothing is unseen.
        """
        args: list[str | bytes | float] = [self.group, self.name, round(1000 * idle_sec), _IDS_AT_ONCE, start]
        idents, trimmed, start = await self.bus.script(_CLAIM, [stream], args)
        if not idle_sec and start == FIRST_ID:
            self._unseen.discard(stream)
        return idents, trimmed, start

    async def claim_one(
        self, stream: str, idle_sec: float, max_bytes: int
    ) -> tuple[DeliveredEntry | None, int]:
        """Claim one entry of a stream that was not acknowledged within `idle_sec`, and count this delivery.

        Return the entry, or None if there is none, and the number of pending entries that were found trimmed
        off the stream. An entry of more than `max_bytes` has no fields.
        """
        ident, deliveries, flat, trimmed = await self.bus.script(
            _CLAIM_ONE, [stream], [self.group, self.name, round(1000 * idle_sec), max_bytes]
        )
        if not ident:
            return None, trimmed
        fields = dict(zip(flat[::2], flat[1::2], strict=False)) if flat else None
        return DeliveredEntry(stream, ident, fields, deliveries), trimmed

    async def acknowledge(self, stream: str, idents: Sequence[bytes]) -> None:
        for batch in split_pages(idents, _IDS_AT_ONCE):
            await self.bus.ask(self.bus.client.xack(stream, self.group, *batch))

    async def dead_letter(
        self, entry: DeliveredEntry, dead: str, reason: str, now: float, details: Mapping[str, str]
    ) -> bool:
        """Write an entry to the dead letters, the key `dead`, and acknowledge it, in one step.

        Return False, with nothing written, if another consumer has acknowledged the entry. `details` are
        further fields of the dead letter; `now` is in epoch seconds.
        """
        letter = self.make_letter(entry, reason, now, details)
        flat = orjson.dumps([text for pair in letter.items() for text in pair])
        args: list[str | bytes | float] = [self.group, entry.id, DEAD_LETTERS, flat]
        return bool(await self.bus.script(_DEAD_LETTER, [entry.stream, dead], args))

    def make_letter(
        self, entry: DeliveredEntry, reason: str, now: float, details: Mapping[str, str]
    ) -> dict[str, str]:
        """Return the fields of an entry's dead letter."""
        return {
            "stream": entry.stream,
            "entry": entry.id.decode("ascii", "replace"),
            "group": self.group,
            "reason": reason[:_REASON_CHARACTERS],
            "ts": f"{now:.3f}",
            **details,
        }

    async def read_backlog(self, stream: str) -> Backlog:
        return await read_backlog(self.bus, stream, self.group)

    async def delete_idle_consumers(self) -> None:
        """Delete the other consumers that have nothing pending and were idle for `idle_sec`."""
        for stream in self.streams:
            await self._leave(stream, "", keep=self.name)

    async def close(self) -> None:
        """Leave the groups, and give back pending entries, so that others may claim them at once."""
        for stream in self.streams:
            with contextlib.suppress(BusError):
                await self._leave(stream, self.name, within_sec=_LEAVE_SEC)

    async def _read(
        self, streams: Sequence[str], count: int, block_sec: float, within_sec: float
    ) -> list[DeliveredEntry]:
        """Read up to `count` new entries of each of these streams; none if the reply would be too long."""
        reading = self.bus.client.xreadgroup(
            self.group,
            self.name,
            dict.fromkeys(streams, ">"),
            count=count,
            block=max(1, round(1000 * block_sec)),
        )
        try:
            reply: Any = await self.bus.ask(
                reading, block_sec + within_sec, max_bytes=self._reply_bytes or REPLY_BYTES
            )
        except ReplyTooLongError:
            self._unseen.update(streams)
            return []
        return [
            DeliveredEntry(stream.decode(), ident, fields or {})
            for stream, entries in reply or ()
            for ident, fields in entries
        ]

    async def _read_ids(self, stream: str, idents: Sequence[bytes]) -> tuple[list[DeliveredEntry], int]:
        """Return the entries with these ids; acknowledge and count those that are no longer on the stream."""
        if not idents:
            return [], 0
        found = await read_entries_by_id(self.bus, stream, idents)
        trimmed = set(idents) - {each.id for each in found}
        await self.acknowledge(stream, list(trimmed))
        return [DeliveredEntry(stream, each.id, each.fields) for each in found], len(trimmed)

    async def _leave(
        self, stream: str, name: str, *, keep: str = "", within_sec: float | None = None
    ) -> None:
        """Give back what the consumer `name` has pending; delete it and long-idle consumers but `keep`."""
        args: list[str | bytes | float] = [self.group, name, round(1000 * self.idle_sec), keep]
        await self.bus.script(_LEAVE_GROUP, [stream], args, within_sec)


def format_fields(fields: Mapping[bytes, bytes] | None) -> str:
    """Return an entry's first 40 fields as a JSON object, with names cut to 200 bytes and values to 2000."""
    found = {
        name[:_NAME_BYTES].decode("utf-8", "replace"): value[:_VALUE_BYTES].decode("utf-8", "replace")
        for name, value in list((fields or {}).items())[:_LETTER_FIELDS]
    }
    return orjson.dumps(found).decode()
