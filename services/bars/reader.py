"""Read bars, quotes and actions from their streams, from the first entry that one of the symbols lacks."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from marketswarm.agent import Agent
from marketswarm.bus import Bus
from marketswarm.bus.follower import StreamFollower, read_streams
from marketswarm.bus.stream import FIRST_ID, StreamEntry, StreamTypes, read_newest_id
from marketswarm.bus.stream_loss import note_loss
from marketswarm.keys import BARS_LOST
from services.bars.metrics import BarsMetrics
from services.bars.outputs import Arrival
from services.bars.store import BUS_SEC
from services.market.records import RecordKind

BLOCK_SEC: Final = 0.25
CHECK_SEC: Final = 1.0
"""How often it is asked whether a stream without new entries was created again."""
KINDS: Final = (RecordKind.BARS, RecordKind.QUOTES, RecordKind.ACTIONS)
"""The streams that are read, in the order of the positions."""


class ArrivalReader:
    """Read the streams by positions. A key that is not a stream is left out until it is one again.

    The positions are not stored here: each symbol's state on the bus has its own.
    """

    def __init__(self, me: Agent[Any], metrics: BarsMetrics) -> None:
        self._me, self._metrics = me, metrics
        self._followers: list[StreamFollower] = []
        self.types = StreamTypes()
        self._left_out = set[str]()  # the streams that the last read left out
        self.has_backlog = False
        """True if the last read brought as many entries as are read at once."""

    @property
    def streams(self) -> list[str]:
        """The keys of the streams, in the order of KINDS."""
        return [each.stream for each in self._followers]

    @property
    def positions(self) -> list[bytes]:
        """The id of the last entry of each stream that was read, in the order of KINDS."""
        return [each.position for each in self._followers]

    def open(self, bus: Bus, streams: Iterable[str]) -> None:
        """Read these streams of a bus from now on; a stream that was read before is read on."""
        known = {each.stream: each.position for each in self._followers}
        self._follow(bus, [(stream, known.get(stream, FIRST_ID)) for stream in streams])

    async def rewind(self, positions: Iterable[bytes]) -> None:
        """Read on after these positions, one for each stream. Raises BusError."""
        self._follow(self._followers[0].bus, zip(self.streams, positions, strict=True))
        async with self._me.waiting(BUS_SEC):
            for each in await self._find_usable():
                await self._report_beginning(each)

    async def read_newest(self) -> dict[str, bytes]:
        """Return the id of the newest entry of each stream, without keys that are not streams."""
        async with self._me.waiting(BUS_SEC):
            usable = await self._find_usable()
            return {each.stream: await read_newest_id(each.bus, each.stream) for each in usable}

    async def read(self, count: int) -> list[Arrival] | None:
        """Return the next entries, after waiting up to BLOCK_SEC for the first. Raises BusError.

        Return None if a stream was deleted and created again, or is a stream again. Positions in the states
        may be ahead of it, so the states have to be read again.
        """
        async with self._me.waiting(BUS_SEC):
            usable = await self._find_usable()
            before, self._left_out = self._left_out, set(self.streams) - {each.stream for each in usable}
            if before - self._left_out:
                return None
            pages = await read_streams(usable, count, BLOCK_SEC) if usable else []
        if not usable:
            await self._me.rest(BLOCK_SEC)
        self.has_backlog = any(len(entries) >= count for entries, _ in pages)
        for follower, (_, loss) in zip(usable, pages, strict=True):
            if loss is not None:
                if loss.oldest is None:
                    return None
                # the entry that was read last is gone itself, and maybe some that came right after it
                self._metrics.trimmed_total += 1
                after, upto = loss.after.decode(), loss.oldest.decode()
                self._me.log.error("bars.trimmed", stream=follower.stream, after=after, upto=upto)
                async with self._me.waiting(BUS_SEC):
                    await note_loss(follower.bus, BARS_LOST, follower.stream, loss.after, loss.oldest)
        return [
            arrival
            for follower, (entries, _) in zip(usable, pages, strict=True)
            for arrival in self._make_arrivals(follower.stream, entries)
        ]

    def _follow(self, bus: Bus, positions: Iterable[tuple[str, bytes]]) -> None:
        self._followers = [
            StreamFollower(bus, stream, position, check_sec=CHECK_SEC) for stream, position in positions
        ]

    async def _find_usable(self) -> list[StreamFollower]:
        usable = await self.types.find_streams(self._followers[0].bus, self.streams)
        return [each for each in self._followers if each.stream in usable]

    async def _report_beginning(self, follower: StreamFollower) -> None:
        """Log it if a stream that is to be read from its beginning has lost some of it. Raises BusError.

        A symbol begins with what the stream has, and the bus can't say whether the rest had entries of it.
        """
        bus, stream = follower.bus, follower.stream
        if follower.position == FIRST_ID and await read_newest_id(bus, stream) != FIRST_ID:
            info = await bus.ask(bus.client.xinfo_stream(stream))
            if (entries := info["entries-added"] - info["length"]) > 0:
                self._me.log.warning("bars.beginning_trimmed", stream=stream, entries=entries)

    def _make_arrivals(self, stream: str, entries: Sequence[StreamEntry]) -> list[Arrival]:
        kind = KINDS[self.streams.index(stream)]
        arrivals = []
        for entry in entries:
            if entry.fields is None:
                self._metrics.oversized_total += 1
                self._me.log.warning("bars.entry_too_large", stream=stream, entry=entry.id.decode())
            else:
                arrivals.append(Arrival(kind, entry.id, entry.fields))
        return arrivals
