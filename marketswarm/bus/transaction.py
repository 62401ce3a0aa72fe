"""Write to several keys of one bus, all of it or nothing, if what was read there is still there.

    move = BusTransaction()
    move.require("archive:positions", "healer:alerts:log", before)  # empty for a missing field
    move.add_entry("archive:dead", letter, 1000)
    move.write_hash("archive:positions", {"healer:alerts:log": after})
    if not await commit(bus, move):
        ...  # another process has written: read again

One script compares and writes. A script of Redis is never rolled back, so one whose second write is refused
would leave the first one behind. Three answers to that are known: undo what was written, write last what
others go by, and look before the first write whether the server will take all of them. This one **looks
first**, because the other two need what we do not have. An undo needs rights that most users lack (to read
what it overwrites, to delete entries), and what a stream's length has trimmed off can't be put back. A state
that is written last leaves entries behind that are published again with the next attempt.

So, before the first write, the script looks at the type of every key, at the caller's right to each command
(`redis.acl_check_cmd`, of Redis 7), and, if it adds to more than one stream, at whether one of them was ended
by an entry with the last possible id. Entries are written first, since a single stream that was ended refuses
the first write then. What is left is refused before the first write or not at all: memory that is full, a
snapshot that failed, missing replicas, a server that is a replica itself. That is Redis' own rule for a
script.

Two refusals remain that can leave a part: that of a single stream whose last id has room for fewer entries
than are added (no clock makes such an id), and a missing right on a server before Redis 7.

The script gives its caller no rights: Redis holds each of its commands against those of its user, who could
send the same commands one by one. All that it needs besides the writes is HGET for a hash and TYPE for a
stream, and XINFO STREAM if there are several streams.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import orjson

from marketswarm.bus.bus import Bus
from marketswarm.bus.scripts import Script

TRANSACTION: Final = Script.beside("marketswarm.bus", "transaction.lua")

Value = str | bytes


@dataclass(frozen=True, slots=True)
class HashWrite:
    """A write of a hash. `expiry` is the command by which it expires, EXPIRE or EXPIREAT, and the seconds."""

    key: str
    fields: Mapping[str, Value]
    deleted: Collection[str]
    expiry: tuple[str, int] | None


@dataclass(slots=True)
class BusTransaction:
    """Collects what must be there, and what to write then; nothing happens before `commit`."""

    hashes: list[HashWrite] = field(default_factory=list)
    _guards: list[tuple[str, str, str, Value]] = field(default_factory=list)
    _entries: list[tuple[str, Mapping[str, str], int, bool]] = field(default_factory=list)

    def require(self, key: str, name: str, value: Value) -> None:
        """Write only if this field of a hash has this value; an empty value stands for a missing field."""
        self._guards.append((key, name, "IS", value))

    def require_epoch(self, key: str, name: str, epoch: int) -> None:
        """Write only if this field of a hash has no higher epoch than this one.

        An epoch is at least the time in milliseconds at which its lease was taken. One that is more than five
        minutes ahead both of the bus's clock and of `epoch` counts as written by a stranger, and keeps none
        out.
        """
        self._guards.append((key, name, "EPOCH", str(epoch)))

    def add_entry(
        self, stream: str, fields: Mapping[str, str], length: int, *, begin_anew: bool = False
    ) -> None:
        """Add an entry to a stream, of which about `length` entries are kept: older ones are deleted.

        Args:
            fields: at most 2000.
            begin_anew: delete the whole stream first if an entry with the last possible id has ended it.
        """
        self._entries.append((stream, fields, length, begin_anew))

    def write_hash(
        self,
        key: str,
        fields: Mapping[str, Value],
        deleted: Collection[str] = (),
        *,
        kept_sec: int | None = None,
        expires_at: int | None = None,
    ) -> None:
        """Set fields of a hash, and then delete others.

        Args:
            kept_sec: delete the whole hash after so many seconds.
            expires_at: delete it at this time instead, in epoch seconds.
        """
        expiry = None if expires_at is None else ("EXPIREAT", expires_at)
        self.hashes.append(
            HashWrite(key, fields, deleted, expiry if kept_sec is None else ("EXPIRE", kept_sec))
        )

    def list_keys(self) -> Iterator[str]:
        """Yield the key of each guard, entry and write, in their order."""
        yield from (guard[0] for guard in self._guards)
        yield from (entry[0] for entry in self._entries)
        yield from (write.key for write in self.hashes)

    def list_args(self, numbers: Mapping[str, int]) -> Iterator[Value | float]:
        """Yield the arguments of `transaction.lua` for this transaction; `numbers` are those of its keys."""
        yield len(self._guards)
        for key, name, kind, value in self._guards:
            yield from (numbers[key], name, kind, value)
        entries = [
            [numbers[stream], length, int(begin_anew), *chain.from_iterable(fields.items())]
            for stream, fields, length, begin_anew in self._entries
        ]
        yield orjson.dumps(entries) if entries else b""
        yield len(self.hashes)
        for write in self.hashes:
            yield from (numbers[write.key], len(write.fields))
            yield from chain.from_iterable(write.fields.items())
            yield len(write.deleted)
            yield from write.deleted
            yield from write.expiry or ("", 0)


async def commit(bus: Bus, transaction: BusTransaction, within_sec: float | None = None) -> bool:
    """Write a transaction; return False, with nothing written, if a required value is another one by now.

    `within_sec` is the time limit in seconds; None: that of the bus. Raises BusError: if the server refused
    it, nothing was written; after a time-out, that is unknown.
    """
    (is_done,) = await commit_each(bus, [transaction], within_sec)
    return is_done


async def commit_each(
    bus: Bus, transactions: Sequence[BusTransaction], within_sec: float | None = None
) -> list[bool]:
    """Write transactions in their order, in one request; return for each one what `commit` does.

    Raises BusError if the server refused one of them: nothing of that one and of those after it was written.
    """
    keys = dict.fromkeys(chain.from_iterable(each.list_keys() for each in transactions))
    numbers = {key: number for number, key in enumerate(keys, 1)}
    args = list[Any](chain.from_iterable(each.list_args(numbers) for each in transactions))
    return [bool(done) for done in await bus.script(TRANSACTION, list(keys), args, within_sec)]
