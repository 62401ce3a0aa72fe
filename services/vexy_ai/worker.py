"""The work on one bus: takes entries, works, puts down what came of it; nothing is lost, nothing done twice.

Each bus has a worker of its own, so that one that is away stops no work on another (`working.py`).
What a bus does not take stays in hand and is tried again before anything new is taken. What fails stays on
the group's list and comes back as another's would; what failed often enough, or killed as often, is buried.

The work on all buses at once: a worker for each that the truth names, and what they suffer from.

A worker whose bus is away tries again; the others work on meanwhile.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from marketswarm.agent import Agent
from marketswarm.bus import BusError
from services.vexy_ai.backlog import Backlog
from services.vexy_ai.metrics import Tally
from services.vexy_ai.notes import Lexicon
from services.vexy_ai.queue import ENTRY_BYTES, Entry, Queue, Shelf
from services.vexy_ai.records import Made, Unusable, make
from services.vexy_ai.settings import VexyEnvironment, VexySettings, WorkSettings
from services.vexy_ai.sources import Kind, Source, dead_of, notes_of, sources_of

BUS_SEC: Final = 10.0  # above what a step of the queue may take: a bus that is away is no hanging of ours
BLOCK_SEC: Final = 0.8  # how long the server holds a reading that finds nothing; a reseed waits for it
FULL_SEC: Final = 0.2
BATCH_BYTES: Final = 8 * 1024 * 1024
AT_ONCE: Final = 50  # entries that are put down in one step


class Worker:
    """The worker of one bus. Its methods may raise BusError, and go on where they were when called again."""

    def __init__(self, me: Agent[VexyEnvironment], bus: str, tally: Tally) -> None:
        self.bus = bus
        self.backlogs: dict[Source, Backlog] = {}
        self._me, self._tally = me, tally
        self._queue: Queue | None = None
        self._in_hand: list[tuple[Source, Queue, list[Made]]] = []
        self._lost: dict[Source, tuple[int, int]] = {}  # before our time, and since
        self._few: dict[Source, int] = {}  # as many as were of BATCH_BYTES, the last time
        self._claimed_at = float("-inf")
        self._lexicon: tuple[WorkSettings | None, Lexicon] = (None, Lexicon({}, {}))

    async def turn(self, wishes: WorkSettings) -> None:
        """Finish what is in hand, take over what was left lying, take what is new, and work on that."""
        queue = await self._follow(wishes)
        await self._hand_in(wishes)
        await self._look(queue)
        await self._rescue(queue, wishes)
        await self._work(queue, await self._take(queue, wishes), wishes)

    def reopen(self) -> None:
        """Something is wrong with a bus: what we know of the streams may hold no longer."""
        self._queue = None

    async def close(self) -> None:
        """Leave the groups."""
        if self._queue is not None:
            async with self._me.waiting(BUS_SEC):
                await self._queue.close()
        self.reopen()

    # -- inside

    async def _follow(self, wishes: WorkSettings) -> Queue:
        """Read what the truth in force says; streams that it drops are left."""
        named = sources_of(self._me.section.access_points.subscribe_to)
        sources = tuple(source for source in named if source.bus == self.bus)
        held, bus = self._queue, self._me.bus(self.bus)
        if held and (held.sources, held.group, held.bus) == (sources, wishes.group, bus):
            return held
        await self.close()
        queue = Queue(bus, sources, wishes.group, self._me.boot)
        async with self._me.waiting(BUS_SEC):
            await queue.open()
        self._queue = queue
        self._claimed_at = float("-inf")
        return queue

    async def _look(self, queue: Queue) -> None:
        found = {}
        for source in queue.sources:
            async with self._me.waiting(BUS_SEC):
                backlog = await queue.look(source)
            # what was lost before our time is not ours to tell again and again
            before, most = self._lost.get(source, (backlog.lost, 0))
            most = max(most, backlog.lost - before)
            self._lost[source] = before, most
            found[source] = replace(backlog, lost=most)
        self.backlogs = found

    async def _take(self, queue: Queue, wishes: WorkSettings) -> list[Entry]:
        room = {}
        for source, backlog in self.backlogs.items():
            few = min(wishes.batch, self._few.get(source, wishes.batch))
            room[source] = max(0, min(few, wishes.pending - backlog.pending))
        if not any(room.values()):
            await self._me.rest(FULL_SEC)
            return []
        async with self._me.waiting(BUS_SEC):
            taken = await queue.take(room, BLOCK_SEC)
        for source in queue.sources:
            sizes = [entry.size for entry in taken if entry.source == source]
            if sizes:  # entries that are large come few at a time
                self._few[source] = max(1, BATCH_BYTES * len(sizes) // max(1, sum(sizes)))
        return taken

    async def _rescue(self, queue: Queue, wishes: WorkSettings) -> None:
        """Take over what others, or we, took and did not settle in time; each by itself, at its own risk."""
        if time.monotonic() - self._claimed_at < wishes.claim_sec / 2:
            return
        self._claimed_at = time.monotonic()
        for source in queue.sources:
            for _ in range(wishes.pending):
                async with self._me.waiting(BUS_SEC):
                    entry, gone = await queue.take_over(source, wishes.claim_sec)
                self._tally.gone(source.key, gone)
                if entry is None:
                    break
                self._tally.taken_over(source.key)
                if not entry.whole:
                    await self._bury(queue, entry, f"larger than {ENTRY_BYTES} bytes")
                elif entry.taken > wishes.tries:
                    why = f"taken {entry.taken - 1} times and never settled: who had it ended, or hung"
                    await self._bury(queue, entry, why)
                else:
                    await self._work(queue, [entry], wishes)

    async def _work(self, queue: Queue, entries: Sequence[Entry], wishes: WorkSettings) -> None:
        for source in queue.sources:
            mine = [entry for entry in entries if entry.source == source]
            for at in range(0, len(mine), AT_ONCE):
                made = await self._made(queue, mine[at : at + AT_ONCE], wishes)
                self._in_hand += [(source, queue, made)] if made else []
                await self._hand_in(wishes)

    async def _made(self, queue: Queue, entries: Sequence[Entry], wishes: WorkSettings) -> list[Made]:
        """What became of each that something could be made of."""
        made, lexicon = [], self._lexicon_of(wishes)
        for entry in entries:
            try:
                made.append(make(entry.source, entry.id, entry.fields, lexicon, time.time()))
            except Unusable as reason:
                await self._bury(queue, entry, str(reason))
            except Exception as error:  # noqa: BLE001 - whatever an entry does to the libraries
                await self._failed(queue, entry, f"{type(error).__name__}: {error}"[:300], wishes)
            await asyncio.sleep(0)  # beats go out meanwhile
        return made

    async def _hand_in(self, wishes: WorkSettings) -> None:
        """Put down what is in hand."""
        notes = notes_of(self._me.section)
        shelf = Shelf(self._me.bus(notes.bus), notes.key)
        while self._in_hand:
            source, queue, made = self._in_hand[0]
            async with self._me.waiting(BUS_SEC):
                new = await queue.settle(
                    source, shelf, made, window_sec=wishes.digest_sec, notes=wishes.notes
                )
            del self._in_hand[0]
            self._tally.settled(source, made, new, time.time())
            # probes and bars come all the time
            say = self._me.log.info if source.kind is Kind.ITEMS else self._me.log.debug
            say("items.noted", stream=source.key, items=len(made), new=new)

    async def _failed(self, queue: Queue, entry: Entry, reason: str, wishes: WorkSettings) -> None:
        """It stays on the list, and comes back; or it was the last time."""
        self._tally.failed(entry.source.key)
        self._me.log.warning(
            "item.failed", stream=entry.source.key, entry=entry.id.decode(), tries=entry.taken, why=reason
        )
        if entry.taken >= wishes.tries:
            await self._bury(queue, entry, reason)

    async def _bury(self, queue: Queue, entry: Entry, reason: str) -> None:
        async with self._me.waiting(BUS_SEC):
            buried = await queue.bury(entry, dead_of(self._me.section), reason, time.time())
        if buried:
            self._tally.buried(entry.source.key)
            self._me.log.error("item.dead", stream=entry.source.key, entry=entry.id.decode(), why=reason)

    def _lexicon_of(self, wishes: WorkSettings) -> Lexicon:
        """The lexicon that these wishes come to; made anew when they change."""
        if self._lexicon[0] is not wishes:
            self._lexicon = wishes, Lexicon(wishes.symbols, wishes.topics)
        return self._lexicon[1]


AGAIN_SEC: Final = 1.0


class Working:
    """The workers of one process."""

    def __init__(self, me: Agent[VexyEnvironment], own: Callable[[], VexySettings], tally: Tally) -> None:
        self._me, self._own, self._tally = me, own, tally
        self._workers: dict[str, Worker] = {}
        self._failing: dict[str, BusError] = {}  # by the bus of the worker; the one that fails may be another

    def follow(self) -> None:
        """Start a worker on each bus that the truth in force names streams on, and that has none."""
        for bus in self._buses() - self._workers.keys():
            self._workers[bus] = worker = Worker(self._me, bus, self._tally)
            self._me.task(self._work(worker), name=f"work {bus}")

    @property
    def backlogs(self) -> Mapping[str, Backlog]:
        """What waits in each stream, as it was last seen."""
        several = [worker.backlogs for worker in self._workers.values()]
        return {source.key: backlog for one in several for source, backlog in one.items()}

    def trouble(self) -> str | None:
        """Which buses fail and how, in a few words; None when none does."""
        return "; ".join(dict.fromkeys(map(_said, self._failing.values()))) or None

    def _buses(self) -> set[str]:
        return {source.bus for source in sources_of(self._me.section.access_points.subscribe_to)}

    async def _work(self, worker: Worker) -> None:
        """Work until the truth names no stream on that bus any more."""
        try:
            while worker.bus in self._buses():
                try:
                    await worker.turn(self._own().settings)
                except BusError as error:
                    self._failed(worker, error)
                    worker.reopen()
                    await self._me.rest(AGAIN_SEC)
                else:
                    self._failing.pop(worker.bus, None)
        finally:
            try:
                await worker.close()
            finally:
                self._failing.pop(worker.bus, None)
                del self._workers[worker.bus]  # now another may begin, who is the same consumer

    def _failed(self, worker: Worker, error: BusError) -> None:
        before = self._failing.get(worker.bus)
        if before is None or _said(before) != _said(error):  # once, until it has worked again
            self._me.log.warning("items.unread", bus=error.bus, reason=error.reason)
        self._failing[worker.bus] = error


def _said(error: BusError) -> str:
    return f"{error.bus} {error.reason}"
