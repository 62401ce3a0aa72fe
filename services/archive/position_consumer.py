"""Follow the alert log by a position that archive stores, instead of a consumer group.

A user's rights can't name a group, so archive's password could take the notifier's entries from it, and
people would not be notified. So archive has no rights on groups there. It stores its position on the bus of
the log once what it has read is committed, and reads on from there after a restart, so an entry may be
written twice, which changes nothing. Several instances write the same rows; the first one moves the position.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus
from marketswarm.bus.backlog import Backlog, read_backlog
from marketswarm.bus.consumer import DEAD_LETTERS, Consumer, DeliveredEntry
from marketswarm.bus.follower import StreamFollower
from marketswarm.bus.stream import FIRST_ID, is_entry_id, read_newest_id
from marketswarm.bus.transaction import BusTransaction, commit
from marketswarm.keys import ARCHIVE_POSITIONS

PAGE: Final = 500

log = logs.get("archive")


@dataclass(slots=True)
class _Followed:
    """Hold how far a stream is read.

    `stored` is the position as the bus has it, empty for none. `in_hand` are the ids of entries after it that
    were read, in order; `settled` are those of them that are written, or are dead letters. `gaps` counts how
    often entries were trimmed off unread; how many each time is unknown.
    """

    follower: StreamFollower
    stored: bytes = b""
    in_hand: deque[bytes] = field(default_factory=deque)
    settled: set[bytes] = field(default_factory=set)
    gaps: int = 0


class PositionConsumer(Consumer):
    """Read streams of one bus by stored positions. Every method but `close` may raise BusError.

    `group` is a part of the position's name; under another one every stream is read from its start.
    """

    def __init__(self, bus: Bus, streams: Iterable[str], group: str, name: str) -> None:
        super().__init__(bus, streams, group, name)
        self._followed = {stream: _Followed(StreamFollower(bus, stream)) for stream in self.streams}

    @property
    def has_unseen(self) -> bool:
        return False  # entries are never pending for one consumer alone

    async def open(self) -> None:
        for stream in self.streams:
            await self._load(stream)

    async def read_new(
        self,
        counts: Mapping[str, int],
        block_sec: float,
        *,
        within_sec: float | None = None,  # noqa: ARG002 - a page is small, so the limit of the bus is enough
    ) -> list[DeliveredEntry]:
        """Read new entries, PAGE of a stream at most; wait for the first one of each up to `block_sec`."""
        found: list[DeliveredEntry] = []
        for stream in self.streams:
            if count := min(counts.get(stream, 0), PAGE):
                found += await self._read_stream(stream, count, block_sec)
        return found

    async def read_own(self, stream: str) -> tuple[list[DeliveredEntry], int]:  # noqa: ARG002
        """Return none, because what was not committed is read again from the stored position."""
        return [], 0

    async def claim(self, stream: str, idle_sec: float) -> tuple[list[DeliveredEntry], int]:  # noqa: ARG002
        """Return none, because every instance reads every entry."""
        return [], 0

    async def acknowledge(self, stream: str, idents: Sequence[bytes]) -> None:
        if idents:
            await self._settle(stream, idents)

    async def dead_letter(
        self, entry: DeliveredEntry, dead: str, reason: str, now: float, details: Mapping[str, str]
    ) -> bool:
        """Write an entry to the dead letters, and move the stored position behind it, in one step.

        Return False, with nothing written, if another instance has moved the position.
        """
        if entry.id not in self._followed[entry.stream].in_hand:
            return False
        letter = self.make_letter(entry, reason, now, details)
        return await self._settle(entry.stream, [entry.id], dead, letter)

    async def delete_idle_consumers(self) -> None:
        """Do nothing, because there are no consumers."""

    async def close(self) -> None:
        """Do nothing, because another instance reads from the stored position anyway."""

    async def read_backlog(self, stream: str) -> Backlog:
        """Return how a stream stands, with `lost` 0; `passed_over` counts the gaps, not their entries."""
        followed = self._followed[stream]
        if await read_newest_id(self.bus, stream) == FIRST_ID:
            return Backlog(is_caught_up=True, passed_over=followed.gaps)
        found = await read_backlog(self.bus, stream, self.group, followed.follower.position)
        return replace(found, passed_over=followed.gaps)

    async def _load(self, stream: str) -> None:
        followed = self._followed[stream]
        stored = await self.bus.ask(self.bus.client.hget(ARCHIVE_POSITIONS, self._field(stream))) or b""
        if stored and not is_entry_id(stored):
            log.warning("archive.position_unreadable", bus=self.bus.name, stream=stream)
        read = stored if is_entry_id(stored) else FIRST_ID
        follower = StreamFollower(self.bus, stream, read)
        if loss := await follower.resume():
            if loss.oldest is None:
                log.warning("archive.stream_recreated", bus=self.bus.name, stream=stream, after=read.decode())
            else:
                followed.gaps += 1
        followed.stored, followed.follower = stored, follower
        # an entry that is in hand now is read again
        followed.in_hand.clear()
        followed.settled.clear()

    async def _read_stream(self, stream: str, count: int, block_sec: float) -> list[DeliveredEntry]:
        """Read up to `count` new entries of a stream; none if the position was moved meanwhile."""
        followed = self._followed[stream]
        follower = followed.follower
        entries, loss = await follower.read(count, block_sec)
        if followed.follower is not follower:
            return []
        if loss is not None:
            if loss.oldest is None:
                await self._load(stream)
                return []
            followed.gaps += 1
        followed.in_hand += [each.id for each in entries]
        return [DeliveredEntry(stream, each.id, each.fields) for each in entries]

    async def _settle(
        self, stream: str, idents: Iterable[bytes], dead: str = "", letter: Mapping[str, str] | None = None
    ) -> bool:
        """Move the stored position behind entries, as far as none before them is in hand; write a letter.

        Return False if another instance has moved it: then read on from there.
        """
        followed = self._followed[stream]
        followed.settled.update(set(idents).intersection(followed.in_hand))
        position = followed.stored
        while followed.in_hand and followed.in_hand[0] in followed.settled:
            position = followed.in_hand.popleft()
            followed.settled.discard(position)
        if position == followed.stored and letter is None:
            return True
        move = BusTransaction()
        move.require(ARCHIVE_POSITIONS, self._field(stream), followed.stored)
        if letter is not None:
            move.add_entry(dead, letter, DEAD_LETTERS)
        move.write_hash(ARCHIVE_POSITIONS, {self._field(stream): position})
        if not await commit(self.bus, move):
            await self._load(stream)
            return False
        followed.stored = position
        return True

    def _field(self, stream: str) -> str:
        return f"{self.group} {stream}"
