"""Decide to which length the writers of a stream trim it: by its readers, and not by themselves alone.

A stream keeps `keep` entries, and beyond that what its slowest reader has not stored yet, up to
MAX_LENGTH_RATIO times `keep`: an absent reader must not fill the bus. Known readers are the consumer groups
of the stream, and those that store positions in a hash on the same bus (`PositionHash`). The bus is asked
once in READ_EVERY_SEC, so an entry costs no request more.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from marketswarm import log as logs
from marketswarm.bus.bus import Bus
from marketswarm.bus.errors import BusError
from marketswarm.bus.outage import Outage
from marketswarm.bus.stream import entry_sort_key, is_entry_id
from marketswarm.keys import ARCHIVE_POSITIONS, BARS_POSITIONS, HEALER_RELAYED
from marketswarm.text import parse_digits

READ_EVERY_SEC: Final = 1.0
READ_WITHIN_SEC: Final = 0.5
MAX_LENGTH_RATIO: Final = 2
"""For readers that are behind, a stream may be this many times as long."""
SAMPLES: Final = 400
"""The most samples of how long a stream was, from which the entries after a position are counted."""
POSITION_LIFE_SEC: Final = 120.0
"""How much older than the newest position of a reader those of its other instances may be: others have taken
over the work of an instance that wrote none for so long."""
MAX_KEEP: Final = 10_000_000
"""The most entries that another writer may have a stream keep."""
WRITER_LIFE_SEC: Final = 86_400.0
"""For how long the `keep` of another writer counts that has not written it again."""
POSITIONS_BYTES: Final = 1024 * 1024
"""The largest answer that is read of positions, and of a stream with its first and its last entry."""
_NO_STREAM: Final = "no such key"
"""What a server says of a stream that does not exist."""

log = logs.get("stream")


class EntryCounts:
    """Count the entries of a stream after a position, by samples of how many were added: the bus can't."""

    def __init__(self) -> None:
        self._ids: list[tuple[int, int]] = []
        self._added: list[int] = []

    def add_sample(self, newest: bytes, added: int, step: int) -> None:
        """Note the newest id, and how many entries were ever added; keep a sample for each `step` of them."""
        ident = entry_sort_key(newest)
        if self._ids and (ident < self._ids[-1] or added < self._added[-1]):
            self._ids, self._added = [], []  # the stream was created again
        if len(self._ids) > 1 and added - self._added[-2] < step:
            self._ids[-1], self._added[-1] = ident, added
        elif not self._ids or added > self._added[-1]:
            self._ids.append(ident)
            self._added.append(added)
        del self._ids[:-SAMPLES], self._added[:-SAMPLES]

    def count_after(self, position: bytes) -> int | None:
        """Return about how many entries follow a position, never fewer; None if it is before all samples."""
        place = bisect_right(self._ids, entry_sort_key(position))
        return self._added[-1] - self._added[place - 1] if place else None


class PositionHash(NamedTuple):
    """Name a hash in which readers without a group store up to where they have stored streams of their bus.

    `find` returns the oldest position in a stream that counts, from the whole hash, the key of the stream
    and the time (epoch seconds); None if no reader has stored one.
    """

    key: str
    find: Callable[[Mapping[bytes, bytes], str, float], bytes | None]


class StreamLength:
    """Compute the length to which one writer trims one stream.

    Args:
        positions: where readers without a group store their positions.
        writer: the name of this writer, if there are several: the greatest `keep` of all of them counts,
            which they write to the hash `<stream>:keep`.
        groups: the consumer groups that count; None for all of them.

    Attributes:
        unread_of: by reader (the name of its group, or the key of the hash of positions), the entries that it
            has not stored, by the last answer; None if they can't be counted.
    """

    def __init__(
        self,
        positions: PositionHash | None = None,
        writer: str = "",
        *,
        groups: Collection[str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._positions, self._writer, self._groups = positions, writer, groups
        self._monotonic, self._wall = monotonic, wall
        self._counts, self._read_at, self._others = EntryCounts(), float("-inf"), 0
        self._stream = ""
        self._outage = Outage(
            log, "stream.readers_unread", "stream.readers_read", stream=lambda: self._stream
        )
        self.unread_of: dict[str, int | None] = {}

    @property
    def unread(self) -> int | None:
        """The entries that the slowest reader has not stored; None if those of a reader can't be counted."""
        counts = self.unread_of.values()
        return None if None in counts else max(filter(None, counts), default=0)

    async def compute(self, bus: Bus, stream: str, keep: int) -> int:
        """Return the length; the longest one if the unread entries can't be counted.

        A bus that does not answer leaves it as it was. A refusal is logged once: without the right to ask for
        the readers, the stream is trimmed by its length alone.
        """
        now = self._monotonic()
        if now - self._read_at >= READ_EVERY_SEC:
            self._read_at, self._stream = now, stream
            await self._read(bus, stream, keep)
        keep = max(keep, self._others)
        most = MAX_LENGTH_RATIO * keep
        # half of `keep` more, for what is added until the bus is asked again
        return most if (unread := self.unread) is None else min(max(keep, unread + keep // 2), most)

    async def _read(self, bus: Bus, stream: str, keep: int) -> None:
        """Ask for the readers of a stream, and write for how long we keep it if it has several writers."""
        try:
            await self._read_groups(bus, stream)
            if self._positions is not None:
                await self._read_positions(bus, stream, keep, self._positions)
            if self._writer:
                await self._exchange_keeps(bus, stream, keep)
        except BusError as error:
            if _NO_STREAM in error.detail:
                self.unread_of.clear()
            elif error.reason in ("auth", "error"):  # for any other reason, the next write fails as well
                self._outage.record(error)
        else:
            self._outage.end()

    async def _read_groups(self, bus: Bus, stream: str) -> None:
        groups = await bus.ask(bus.client.xinfo_groups(stream), READ_WITHIN_SEC)
        positions = self._positions.key if self._positions else ""
        kept = {name: count for name, count in self.unread_of.items() if name == positions}
        found = {group["name"].decode("utf-8", "replace"): _count_group(group) for group in groups}
        counted = {
            name: count for name, count in found.items() if self._groups is None or name in self._groups
        }
        self.unread_of = counted | kept

    async def _read_positions(self, bus: Bus, stream: str, keep: int, positions: PositionHash) -> None:
        pipe = bus.pipeline()
        pipe.xinfo_stream(stream)
        pipe.hgetall(positions.key)
        info, stored = await bus.ask(pipe.execute(), READ_WITHIN_SEC, max_bytes=POSITIONS_BYTES)
        self._counts.add_sample(info["last-generated-id"], info["entries-added"], max(1, keep // SAMPLES))
        position = positions.find(stored, stream, self._wall())
        self.unread_of.pop(positions.key, None)
        if position is not None:
            self.unread_of[positions.key] = self._counts.count_after(position)

    async def _exchange_keeps(self, bus: Bus, stream: str, keep: int) -> None:
        now = self._wall()
        pipe = bus.pipeline()
        pipe.hgetall(keep_key(stream))
        pipe.hset(keep_key(stream), self._writer, f"{keep} {now:.0f}")
        stored, _ = await bus.ask(pipe.execute(), READ_WITHIN_SEC)
        self._others = find_longest_keep(stored, now)


def keep_key(stream: str) -> str:
    """Return the key of how many entries each writer of a stream keeps, of a stream with several."""
    return f"{stream}:keep"


def find_slowest(stored: Mapping[bytes, bytes], stream: str, now: float) -> bytes | None:
    """Return the oldest position in a stream that counts; None if no reader has stored one.

    A field is `<stream> <instance>`, its value an id and when it was written (epoch seconds). What is written
    ahead of `now` is no position of ours.
    """
    found = [
        (entry_sort_key(ident), ident, int(written))
        for name, value in stored.items()
        for ident, _, written in [value.partition(b" ")]
        if name.rpartition(b" ")[0] == stream.encode() and is_entry_id(ident) and _is_past(written, now)
    ]
    newest = max((written for _, _, written in found), default=0)
    living = [each for each in found if each[2] >= newest - POSITION_LIFE_SEC]
    return min(living)[1] if living else None


def find_slowest_group(stored: Mapping[bytes, bytes], stream: str, _now: float) -> bytes | None:
    """Return the oldest position in a stream; None if no reader has stored one.

    A field is `<group> <stream>`, its value an id. A group that was given up holds the stream at its longest
    until its field is deleted, as a consumer group does.
    """
    suffix = f" {stream}".encode()
    found = [ident for name, ident in stored.items() if name.endswith(suffix) and is_entry_id(ident)]
    return min(found, key=entry_sort_key, default=None)


def find_copied(stored: Mapping[bytes, bytes], stream: str, _now: float) -> bytes | None:
    """Return the position of the one reader of a stream, in the field `<stream>`; None without one."""
    ident = stored.get(stream.encode(), b"")
    return ident if is_entry_id(ident) else None


BARS_READERS: Final = PositionHash(BARS_POSITIONS, find_slowest)
ARCHIVE_READERS: Final = PositionHash(ARCHIVE_POSITIONS, find_slowest_group)
RELAY_READERS: Final = PositionHash(HEALER_RELAYED, find_copied)


def find_longest_keep(stored: Mapping[bytes, bytes], now: float) -> int:
    """Return the greatest `keep` that a living writer stored; 0 if none did. `now` is in epoch seconds."""
    longest = 0
    for value in stored.values():
        keep, _, written = value.partition(b" ")
        if _is_past(written, now) and now - int(written) < WRITER_LIFE_SEC:
            longest = max(longest, min(parse_digits(keep) or 0, MAX_KEEP))
    return longest


def _is_past(written: bytes, now: float) -> bool:
    """Return True for a time in epoch seconds that is not ahead of `now` by more than clocks differ."""
    at = parse_digits(written)
    return at is not None and at <= now + POSITION_LIFE_SEC


async def write_positions(
    bus: Bus, key: str, instance: str, positions: Mapping[str, bytes], now: float
) -> None:
    """Store up to where this instance of a reader has stored what it read, by stream. Raises BusError.

    Positions of instances that wrote none for POSITION_LIFE_SEC before `now` (epoch seconds) are deleted.
    """
    values: dict[Any, Any] = {
        f"{stream} {instance}": b"%s %d" % (position, now) for stream, position in positions.items()
    }
    pipe = bus.pipeline()
    pipe.hset(key, mapping=values)
    pipe.hgetall(key)
    _, stored = await bus.ask(pipe.execute())
    old = [
        name
        for name, value in stored.items()
        if (parse_digits(value.rpartition(b" ")[2]) or 0) < now - POSITION_LIFE_SEC
    ]
    if old:
        await bus.ask(bus.client.hdel(key, *old))


def _count_group(group: Mapping[str, Any]) -> int | None:
    """Return how many entries a group has not acknowledged; None if the server does not know."""
    lag, pending = group.get("lag"), group.get("pending")
    return lag + pending if isinstance(lag, int) and isinstance(pending, int) else None
