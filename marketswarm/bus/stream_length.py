"""Decide to which length the writers of a stream trim it: by its readers, and not by themselves alone.

A stream keeps `keep` entries, and beyond that what its slowest reader has not stored yet, up to
MAX_LENGTH_RATIO times `keep`: an absent reader must not fill the bus. Known readers are the consumer groups
of the stream, and those that store positions (`write_positions`). The bus is asked once in READ_EVERY_SEC, so
an entry costs no request more.
"""

import contextlib
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any, Final

from marketswarm.bus.bus import Bus
from marketswarm.bus.errors import BusError
from marketswarm.bus.stream import entry_sort_key, is_entry_id
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


class StreamLength:
    """Compute the length to which one writer trims one stream.

    Args:
        positions: the hash on the same bus in which readers without a group store their positions, or "".
        writer: the name of this writer, if there are several: the greatest `keep` of all of them counts,
            which they write to the hash `<stream>:keep`.
    """

    def __init__(
        self,
        positions: str = "",
        writer: str = "",
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._positions, self._writer, self._monotonic, self._wall = positions, writer, monotonic, wall
        self._counts, self._read_at, self._others = EntryCounts(), float("-inf"), 0
        self.unread: int | None = 0
        """The entries that the slowest reader has not stored, by the last answer; None if they are too many
        to be counted."""

    async def compute(self, bus: Bus, stream: str, keep: int) -> int:
        """Return the length; the longest one if the unread entries can't be counted.

        A bus that fails leaves it as it was: what is written next fails for the same reason.
        """
        now = self._monotonic()
        if now - self._read_at >= READ_EVERY_SEC:
            self._read_at = now
            with contextlib.suppress(BusError):  # also if there is no stream yet
                await self._read(bus, stream, keep)
        keep = max(keep, self._others)
        most = MAX_LENGTH_RATIO * keep
        # half of `keep` more, for what is added until the bus is asked again
        return most if self.unread is None else min(max(keep, self.unread + keep // 2), most)

    async def _read(self, bus: Bus, stream: str, keep: int) -> None:
        pipe, now = bus.pipeline(), self._wall()
        pipe.xinfo_stream(stream)
        pipe.xinfo_groups(stream)
        if self._positions:
            pipe.hgetall(self._positions)
        if self._writer:
            pipe.hgetall(keep_key(stream))
        replies = await bus.ask(pipe.execute(), READ_WITHIN_SEC)
        info, groups, *hashes = replies
        self._counts.add_sample(info["last-generated-id"], info["entries-added"], max(1, keep // SAMPLES))
        unread = [_count_group(group) for group in groups]
        if self._positions:
            position = find_slowest(hashes.pop(0), stream, now)
            unread += [] if position is None else [self._counts.count_after(position)]
        self.unread = None if None in unread else max(filter(None, unread), default=0)
        if self._writer:
            self._others = find_longest_keep(hashes.pop(0), now)
            await bus.ask(
                bus.client.hset(keep_key(stream), self._writer, f"{keep} {now:.0f}"), READ_WITHIN_SEC
            )


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
    lag, pending = group["lag"], group["pending"]
    return None if lag is None else int(lag) + int(pending)
