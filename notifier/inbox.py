"""What was brought from the buses and waits for the desk, and which of their entries are not settled yet.

An entry is known from when it is read until its acknowledgement is on its bus, so that it is not taken twice.
Not here: the reading (`reading.py`), and what follows from an event.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from marketswarm.event import Event
from marketswarm.operator import OperatorRequest

ROOM: Final = 5000
"""Readers wait while so many events do: a log of days is not to lie in memory. As many asks may wait, and
as many acknowledgements for a bus that does not take them (`store.py`)."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An event, its JSON, and the log's entry that held it; `entry` is None for one found by looking back.

    `again`: an earlier run had it already, and may have told it.
    """

    bus: str
    entry: bytes | None
    event: Event
    raw: bytes
    again: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """An ask, and the entry that it stood in; None for one that can't be read."""

    bus: str
    entry: bytes
    ask: OperatorRequest | None


class Intake:
    """Filled by the readers, emptied by the desk. `poke` wakes the desk for anything else, too.

    Args:
        malformed: counts by reason the entries that say nothing.
    """

    def __init__(self, malformed: Counter[str] | None = None) -> None:
        self.last: dict[str, bytes] = {}
        """By bus, the id of the last entry that was read, now or by an earlier run."""
        self.malformed: Counter[str] = Counter() if malformed is None else malformed
        self._heard: deque[Heard] = deque()
        self._asked: asyncio.Queue[Asked] = asyncio.Queue()
        self._spoiled: dict[str, list[bytes]] = {}
        self._known: defaultdict[str, set[bytes]] = defaultdict(set)
        self._known_asks: defaultdict[str, set[bytes]] = defaultdict(set)
        self._poked = asyncio.Event()
        self._taken = asyncio.Event()
        self._brought = self._taken_in = self._digested = 0

    # -- for readers

    def bring(self, heard: Iterable[Heard]) -> None:
        """Adds events; those of entries that are known already are left out."""
        for each in heard:
            if each.entry is not None:
                known = self._known[each.bus]
                if each.entry in known:
                    continue
                known.add(each.entry)
            self._heard.append(each)
            self._brought += 1
        self._poked.set()

    def ask(self, asked: Asked) -> None:
        """Adds an ask."""
        known = self._known_asks[asked.bus]  # entries of two streams may have one id
        if asked.entry not in known:
            known.add(asked.entry)
            self._asked.put_nowait(asked)

    def spoil(self, bus: str, entry: bytes, reason: str) -> None:
        """Adds an entry that says nothing: it is only to be acknowledged."""
        known = self._known[bus]
        if entry in known:
            return
        known.add(entry)
        self.malformed[reason] += 1
        self._spoiled.setdefault(bus, []).append(entry)
        self._poked.set()

    def knows(self, bus: str, entry: bytes, *, ask: bool = False) -> bool:
        """Whether an entry of the log, or of the asks, was brought and is not acknowledged yet."""
        return entry in (self._known_asks if ask else self._known)[bus]

    async def room(self) -> None:
        """Waits while too many entries of the log wait for the desk."""
        while len(self._heard) + sum(map(len, self._spoiled.values())) > ROOM:
            self._taken.clear()
            await self._taken.wait()

    @property
    def takes_asks(self) -> bool:
        """Whether asks are to be read: too many that wait must not keep the log from being read."""
        return self._asked.qsize() <= ROOM

    async def room_for_asks(self) -> None:
        """Wait while too many asks wait."""
        while not self.takes_asks:
            self._taken.clear()
            await self._taken.wait()

    async def digested(self) -> None:
        """Waits until all that was brought by now is in the state that is stored."""
        brought = self._brought
        while self._digested < brought:
            self._taken.clear()
            await self._taken.wait()

    # -- for the desk

    def poke(self) -> None:
        """Says that there is something to look at."""
        self._poked.set()

    async def wait(self) -> None:
        """Waits until there is something to look at."""
        await self._poked.wait()
        self._poked.clear()

    def __bool__(self) -> bool:
        return bool(self._heard or self._spoiled)

    def take(self, at_most: int) -> list[Heard]:
        """The oldest events."""
        found = [self._heard.popleft() for _ in range(min(at_most, len(self._heard)))]
        self._taken_in += len(found)
        self._taken.set()
        return found

    def spoiled(self) -> dict[str, list[bytes]]:
        """By bus, the entries that say nothing."""
        found, self._spoiled = self._spoiled, {}
        self._taken.set()
        return found

    async def next_ask(self) -> Asked:
        """Wait for the oldest ask and take it."""
        asked = await self._asked.get()
        self._taken.set()
        return asked

    def stored(self) -> None:
        """Says that what was taken so far is in the state that is stored."""
        self._digested = self._taken_in
        self._taken.set()

    def forget(self, bus: str, entries: Iterable[bytes], asks: Iterable[bytes] = ()) -> None:
        """Says that these entries of the log and of the asks are acknowledged on their bus."""
        self._known[bus].difference_update(entries)
        self._known_asks[bus].difference_update(asks)
