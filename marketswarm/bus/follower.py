"""Follow a stream by a position: read what comes after it, and notice what was lost meanwhile.

A stream may be deleted and created again, or trimmed beyond the position, while its bus is away or its reader
is behind. The writer of an entry chooses its id, so it may be in the far future: all that is added once such
a stream was deleted has older ids.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from marketswarm.bus.bus import Bus
from marketswarm.bus.stream import (
    FIRST_ID,
    StreamEntry,
    entry_sort_key,
    read_entries_between,
    read_newest_id,
    read_streams_after,
)

AWAY_SEC: Final = 1.0
"""A reader that was away for so long may have lost entries without knowing it."""


class StreamLoss(NamedTuple):
    """Entries after the position `after` that may be lost. `oldest` is the first one that is left.

    It is None if all entries are older than `after`: the stream was recreated, or its bus lost the newest.
    """

    after: bytes
    oldest: bytes | None


StreamPage = tuple[list[StreamEntry], StreamLoss | None]
"""The entries of one read, oldest first, and what was lost before or among them."""


class StreamFollower:
    """Read a stream after `position`, which moves with each read. Every method may raise BusError.

    Args:
        position: the id of the last entry that was read.
        check_sec: the least time from one check to the next while the stream has no new entries.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        position: bytes = FIRST_ID,
        *,
        check_sec: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bus, self.stream, self.position = bus, stream, position
        self._check_sec, self._monotonic = check_sec, monotonic
        self._checked_at = self._due_at = -math.inf
        self._unreported: StreamLoss | None = None  # found by a check whose read then failed

    async def read(self, count: int, block_sec: float | None = None) -> StreamPage:
        """Return up to `count` entries, oldest first, and what was lost before or among them.

        If there are none yet, wait up to `block_sec` seconds for the first; None: don't wait. The stream is
        checked for a loss after a start, a failure, a read without entries and AWAY_SEC without a read, and
        whenever there are as many entries as were asked for: then the reader is behind, perhaps too far.
        """
        (page,) = await read_streams([self], count, block_sec)
        return page

    async def resume(self) -> StreamLoss | None:
        """Return what was lost after the position. If the stream was created again, go to its beginning."""
        newest, position = await read_newest_id(self.bus, self.stream), self.position
        loss = None
        if entry_sort_key(newest) < entry_sort_key(position):
            self.position, loss = FIRST_ID, StreamLoss(position, None)
        elif newest != position:
            loss = await self.find_trimmed()
        self._checked_at = self._monotonic()
        self._due_at = self._checked_at + AWAY_SEC
        return loss

    async def check(self) -> StreamLoss | None:
        """Return what was lost after the position, None also if it is too early to ask."""
        if self._monotonic() >= self._due_at:
            self._unreported = await self.resume() or self._unreported
        self._due_at = -math.inf  # until the read is done
        return self._unreported

    def move_behind(self, entries: Sequence[StreamEntry]) -> None:
        """Move the position behind the entries of a read, and decide when the stream is to be checked."""
        self._unreported = None
        if entries:
            self.position = entries[-1].id
            self._due_at = self._monotonic() + AWAY_SEC
        else:
            self._due_at = self._checked_at + self._check_sec

    async def find_trimmed(self) -> StreamLoss | None:
        """Return what was trimmed off after the position; None for nothing, or if that is the beginning.

        A stream that was trimmed exactly up to the position counts too: the bus can't say whether an entry
        came between the position and the first one that is left.
        """
        if self.position == FIRST_ID:
            return None
        oldest = await read_entries_between(self.bus, self.stream, "-", "+", count=1)
        if not oldest or entry_sort_key(oldest[0].id) <= entry_sort_key(self.position):
            return None
        return StreamLoss(self.position, oldest[0].id)


async def read_streams(
    followers: Sequence[StreamFollower], count: int, block_sec: float | None = None
) -> list[StreamPage]:
    """Read several streams of one bus by one request, each as `StreamFollower.read` does; return their pages.

    No position moves if it raises BusError.
    """
    losses = [await each.check() for each in followers]
    positions = {each.stream: each.position for each in followers}
    found = await read_streams_after(followers[0].bus, positions, count=count, block_sec=block_sec)
    pages: list[StreamPage] = []
    for follower, loss in zip(followers, losses, strict=True):
        entries = found.get(follower.stream, [])
        is_behind = len(entries) >= count
        pages.append((entries, await follower.find_trimmed() if loss is None and is_behind else loss))
    for follower, (entries, _) in zip(followers, pages, strict=True):
        follower.move_behind(entries)
    return pages
