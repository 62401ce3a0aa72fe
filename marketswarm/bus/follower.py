"""Follow a stream by a position: read what comes after it, and notice what was lost meanwhile.

A stream may be deleted and begun anew, or trimmed beyond the position, while its bus is away or its reader is
behind. The writer of an entry chooses its id, so it may be in the far future: all that is added once such a
stream was deleted has older ids.
"""

from typing import NamedTuple

from marketswarm.bus.bus import Bus
from marketswarm.bus.stream import (
    FIRST_ID,
    StreamEntry,
    entry_sort_key,
    read_entries_after,
    read_entries_between,
    read_newest_id,
)


class StreamLoss(NamedTuple):
    """Entries after the position `after` that may be lost. `oldest` is the first one that is left.

    It is None if all entries are older than `after`: the stream was begun anew, or its bus lost the newest.
    """

    after: bytes
    oldest: bytes | None


class StreamFollower:
    """Read a stream after `position`, which moves with each read. Every method may raise BusError."""

    def __init__(self, bus: Bus, stream: str, position: bytes = FIRST_ID) -> None:
        self.bus, self.stream, self.position = bus, stream, position
        self._is_checked = False  # nothing was lost when the stream was read last, and there were entries

    async def read(
        self, count: int, block_sec: float | None = None
    ) -> tuple[list[StreamEntry], StreamLoss | None]:
        """Return up to `count` entries, oldest first, and what was lost before or among them.

        If there are none yet, wait up to `block_sec` seconds for the first; None: don't wait. The stream is
        checked for a loss after a start, a failure and a read without entries, and whenever
        there are as many entries as were asked for: then the reader is behind, perhaps too far.
        """
        loss = None if self._is_checked else await self.resume()
        self._is_checked = False
        entries = await read_entries_after(
            self.bus, self.stream, self.position, count=count, block_sec=block_sec
        )
        if loss is None and len(entries) >= count:
            loss = await self._find_trimmed()
        if entries:
            self.position, self._is_checked = entries[-1].id, True
        return entries, loss

    async def resume(self) -> StreamLoss | None:
        """Return what was lost after the position. If the stream was begun anew, go to its beginning."""
        newest, position = await read_newest_id(self.bus, self.stream), self.position
        loss = None
        if entry_sort_key(newest) < entry_sort_key(position):
            self.position, loss = FIRST_ID, StreamLoss(position, None)
        elif newest != position:
            loss = await self._find_trimmed()
        self._is_checked = True
        return loss

    async def _find_trimmed(self) -> StreamLoss | None:
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
