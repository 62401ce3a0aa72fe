"""Read streams of one bus as one consumer of a group, and acknowledge what is committed.

An entry that was delivered and not acknowledged stays pending: its consumer finds it again after an error,
and another one claims it when its consumer has died. Nothing here decides what an entry is.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from marketswarm.bus import Bus, BusError
from marketswarm.bus.scripts import Script
from marketswarm.bus.stream import (
    ENTRY_BYTES,
    entry_sort_key,
    read_entries_between,
    read_entries_by_id,
)

REPLY_BYTES: Final = 64 * 1024 * 1024
"""The most bytes of one reading; entries of a larger one are read again a few at a time."""
BLOCK_MARGIN_SEC: Final = 2.0
DEAD_LETTERS: Final = 1000
_READ_SEC: Final = 10.0  # the server sends thousands of entries at once
_IDS_AT_ONCE: Final = 1000
_IDLE_CONSUMER_SEC: Final = 3600.0
_LETTER_FIELDS: Final = 40
_LETTER_BYTES: Final = 2000
_SWEEP: Final = Script.beside("services.archive", "sweep.lua")


@dataclass(frozen=True, slots=True)
class ReadEntry:
    """Hold an entry of a stream. One that is too large has no fields (None)."""

    stream: str
    id: bytes
    fields: Mapping[bytes, bytes] | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """Say how a stream stands for a group.

    Attributes:
        unread: entries that nobody has read yet; after a loss it may be too many, until all are read.
        pending: entries that were read and are not committed.
        oldest_sec: how long the oldest unread entry has waited.
        hold_sec: for how long the stream still holds what is not committed, at the pace of late; None while
            nothing was ever trimmed off it.
        is_caught_up: whether the newest entry is read.
        gone: entries that the group passed over since it was made, as the server counts them; None while that
            can't be known, with some entries on the stream read and some not.
        lost: entries that were trimmed off unread, by `count_lost`.
    """

    unread: int = 0
    pending: int = 0
    oldest_sec: float = 0.0
    hold_sec: float | None = None
    is_caught_up: bool = False
    gone: int | None = None
    lost: int = 0

    def count_lost(self, before: "Backlog") -> "Backlog":
        """Return this backlog with the entries that were lost up to it.

        Args:
            before: the one before it, with its count; `Backlog()` for the first one. A loss before that is
                counted if it is still to be seen: nothing of what followed it is read.
        """
        if self.gone is None:
            return replace(self, gone=before.gone, lost=before.lost)
        if before.gone is None:
            more = 0 if self.is_caught_up else self.gone
        else:
            more = max(0, self.gone - before.gone)  # some servers count later what they skipped as read
        return replace(self, lost=before.lost + more)


class Consumer:
    """Read streams of one bus. Every method but `close` may raise BusError."""

    def __init__(self, bus: Bus, streams: Iterable[str], group: str, name: str) -> None:
        self.bus, self.streams, self.group, self.name = bus, tuple(streams), group, name

    async def open(self) -> None:
        """Create the missing groups, at the beginning of each stream."""
        for stream in self.streams:
            try:
                await self.bus.ask(self.bus.client.xgroup_create(stream, self.group, id="0", mkstream=True))
            except BusError as error:
                if "BUSYGROUP" not in error.detail:
                    raise

    async def read_new(self, count: int, block_sec: float) -> list[ReadEntry]:
        """Read up to `count` new entries of each stream; wait for the first one up to `block_sec`.

        Raises:
            ReplyTooLongError: they are too long for one reply; `read_own` finds them.
            BusError: the bus failed; `read_own` finds entries whose reply was lost.
        """
        reading = self.bus.client.xreadgroup(
            self.group,
            self.name,
            dict.fromkeys(self.streams, ">"),
            count=count,
            block=max(1, round(1000 * block_sec)),
        )
        limit_sec = block_sec + BLOCK_MARGIN_SEC + _READ_SEC
        reply: Any = await self.bus.ask(reading, limit_sec, max_bytes=REPLY_BYTES)
        return [
            ReadEntry(stream, ident, fields if _is_small(fields) else None)
            for stream, entries in ((key.decode(), entries) for key, entries in reply or ())
            for ident, fields in entries
        ]

    async def read_own(self, stream: str) -> tuple[list[ReadEntry], int]:
        """Return entries of a stream that are pending for this consumer, and how many are trimmed off.

        Those that are trimmed off are acknowledged.
        """
        pending = await self.bus.ask(
            self.bus.client.xpending_range(stream, self.group, "-", "+", _IDS_AT_ONCE, self.name)
        )
        return await self._read_ids(stream, [each["message_id"] for each in pending])

    async def claim(self, stream: str, idle_sec: float) -> tuple[list[ReadEntry], int]:
        """Claim entries of a stream whose consumer did not commit them within `idle_sec`, oldest first.

        Return the entries, and how many were trimmed off the stream meanwhile.
        """
        reply = await self.bus.ask(
            self.bus.client.xautoclaim(
                stream,
                self.group,
                self.name,
                round(1000 * idle_sec),
                "0-0",
                count=_IDS_AT_ONCE,
                justid=True,
            )
        )
        return await self._read_ids(stream, list(reply))

    async def acknowledge(self, stream: str, idents: Sequence[bytes]) -> None:
        """Acknowledge entries: they are committed."""
        for at in range(0, len(idents), _IDS_AT_ONCE):
            batch = idents[at : at + _IDS_AT_ONCE]
            await self.bus.ask(self.bus.client.xack(stream, self.group, *batch))

    async def dead_letter(self, entry: ReadEntry, dead: str, reason: str, now: float) -> None:
        """Write an entry to the dead letters at key `dead`, and acknowledge it, in one step."""
        letter = {
            "stream": entry.stream,
            "entry": entry.id.decode("ascii", "replace"),
            "group": self.group,
            "reason": reason[:500],
            "ts": f"{now:.3f}",
            "fields": format_fields(entry.fields or {}),
        }
        pipe = self.bus.pipeline(transaction=True)
        pipe.xadd(dead, letter, maxlen=DEAD_LETTERS, approximate=True)  # type: ignore[arg-type]  # text is fine
        pipe.xack(entry.stream, self.group, entry.id)
        await self.bus.ask(pipe.execute())

    async def sweep(self) -> None:
        """Delete consumers of the group that have nothing pending and were idle for an hour."""
        for stream in self.streams:
            args: list[str | bytes | float] = [self.group, "", round(1000 * _IDLE_CONSUMER_SEC)]
            await self.bus.script(_SWEEP, [stream], args)

    async def read_backlog(self, stream: str, now: float) -> Backlog:
        """Return how a stream stands for the group; `now` is in epoch seconds. Its `lost` is 0."""
        # in one step: entries that come between two would look as if they were lost
        pipe = self.bus.pipeline(transaction=True)
        pipe.xinfo_stream(stream)
        pipe.xinfo_groups(stream)
        info, groups = await self.bus.ask(pipe.execute(), max_bytes=REPLY_BYTES)
        mine = next((each for each in groups if each["name"] == self.group.encode()), None)
        if mine is None:
            raise BusError(self.bus.name, "error", f"NOGROUP {stream} has no group {self.group}")
        length, position = int(info["length"]), bytes(mine["last-delivered-id"])
        first = bytes(info["first-entry"][0]) if info["first-entry"] else None
        is_caught_up = position == bytes(info["last-generated-id"])
        unread = 0 if is_caught_up else length
        oldest_sec = 0.0
        if unread and first is not None and entry_sort_key(position) >= entry_sort_key(first):
            unread = min(length, length if mine.get("lag") is None else int(mine["lag"]))
        if unread:
            oldest = await read_entries_between(self.bus, stream, f"({position.decode()}", "+", count=1)
            oldest_sec = max(0.0, now - _to_sec(oldest[0].id)) if oldest else 0.0
        if mine["pending"]:
            summary = await self.bus.ask(self.bus.client.xpending(stream, self.group))
            position = min(position, summary["min"] or position, key=_to_sec)
        hold_sec = None
        if first is not None and int(info.get("entries-added", length)) > length:
            hold_sec = max(0.0, _to_sec(position) - _to_sec(first))
        gone = count_gone(info, mine)
        return Backlog(unread, int(mine["pending"]), oldest_sec, hold_sec, is_caught_up, gone)

    async def close(self) -> None:
        """Leave the groups, if nothing is pending for this consumer. A BusError is ignored."""
        args: list[str | bytes | float] = [self.group, self.name, round(1000 * _IDLE_CONSUMER_SEC)]
        with contextlib.suppress(BusError):
            for stream in self.streams:
                await self.bus.script(_SWEEP, [stream], args, 1.0)

    async def _read_ids(self, stream: str, idents: Sequence[bytes]) -> tuple[list[ReadEntry], int]:
        """Return the entries with these ids; acknowledge and count those that are no longer on the stream."""
        if not idents:
            return [], 0
        found = await read_entries_by_id(self.bus, stream, idents)
        gone = set(idents) - {each.id for each in found}
        await self.acknowledge(stream, list(gone))
        return [ReadEntry(stream, each.id, each.fields) for each in found], len(gone)


def _is_small(fields: Mapping[bytes, bytes]) -> bool:
    """Return True if an entry is no larger than those that other readings return with their fields."""
    return sum(map(len, fields)) + sum(map(len, fields.values())) <= ENTRY_BYTES


def _to_sec(ident: bytes) -> float:
    """Return when an entry was added, in epoch seconds, by its id."""
    return int(ident.partition(b"-")[0]) / 1000


def count_gone(info: Mapping[str, Any], group: Mapping[str, Any]) -> int | None:
    """Return how many entries of a stream a group passed over: they went before it came to them.

    None while the server's counters don't say so: they do if nothing that the group has read is still there,
    and if it has read the newest entry.

    Args:
        info: the reply to XINFO STREAM.
        group: that of the group in the reply to XINFO GROUPS.
    """
    added, read = info.get("entries-added"), group.get("entries-read")
    if added is None or read is None:
        return None
    position = entry_sort_key(group["last-delivered-id"])
    if position >= entry_sort_key(info["last-generated-id"]):
        return max(0, int(added) - int(read))
    first = info["first-entry"]
    if first and position >= entry_sort_key(first[0]):
        return None
    return max(0, int(added) - int(info["length"]) - int(read))


def format_fields(fields: Mapping[bytes, bytes]) -> str:
    """Return an entry's first fields as a JSON object, each cut, for a person to read."""
    found = {
        name[:200].decode("utf-8", "replace"): value[:_LETTER_BYTES].decode("utf-8", "replace")
        for name, value in list(fields.items())[:_LETTER_FIELDS]
    }
    return orjson.dumps(found).decode()
