"""A vigil's memory at work: takes up what an earlier run knew, then saves what a later one must know."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.listen import moment
from marketswarm.liveness import (
    Liveness,
    State,
    Testimony,
    Verdict,
    adopt,
    adopt_bus,
    recall,
    recall_bus,
    recall_refused,
)
from marketswarm.stored import is_wrong_type
from marketswarm.turns import Turns
from marketswarm.vigil.failures import SaveFailures
from marketswarm.vigil.health import Health
from marketswarm.vigil.remember import BUS_FIELD, WATCH_FIELD, Entry, Memory, remembered
from marketswarm.vigil.testify import read_last_beats
from marketswarm.vigil.voice import Fence, Voice

SAVE_EVERY_SEC: Final = 1.0
SAVE_SOON_SEC: Final = 0.05
"""After the end of a silence: a run that is killed must not leave it to the next as if it went on."""
RETRY_SEC: Final = 0.5
Save = Callable[[str, Fence], Awaitable[None]]
COMPLAIN_EVERY: Final = 60
"""Attempts to read the memory between two log lines that say it can't be read."""

log = logs.get("vigil")


class Recollection:
    """What one listener remembers.

    Args:
        life: what is remembered, and what remembers.
        health: the keys to take up again.
        listener: whose memory it is.
        bus: gives a bus that the vigil keeps by its name. Raises KeyError.
        conclude: called with each verdict that follows from the memory.
        voice: whether this one may save.
        failures: told which saves the bus refuses.
    """

    def __init__(
        self,
        life: Liveness,
        health: Health,
        *,
        listener: str,
        bus: Callable[[str], Bus],
        conclude: Callable[[Verdict], None],
        voice: Voice,
        failures: SaveFailures,
    ) -> None:
        self._life = life
        self._health = health
        self._listener = listener
        self._bus = bus
        self._conclude = conclude
        self._voice = voice
        self._failures = failures
        self._recalled: Fence | None = None  # what it led with when it recalled
        self._begun = asyncio.Event()
        self._asked: set[str] = set()
        self._stirred = asyncio.Event()
        self.trouble: str | None = None
        """Why nothing can be concluded yet, in words for a beat's `detail`."""

    async def run(self, home: str) -> None:
        """Recalls from the bus `home`, then saves to it until cancelled."""
        failures = 0
        while self._life.held:
            try:
                self._recalled = self._voice.fence(home)
                await self._recall(Memory(self._bus(home), self._listener))
            except BusError as error:
                if await self._replaced(home, error):
                    continue
                self.trouble = f"nothing is judged: memory on {error.bus} ({error.reason})"
                if failures % COMPLAIN_EVERY == 0:
                    log.warning("vigil.memory_away", bus=error.bus, reason=error.reason, detail=error.detail)
                failures += 1
                await asyncio.sleep(RETRY_SEC)
        self.trouble = None
        self._begun.set()
        log.info("vigil.recalled", services=len(self._life.records))
        while True:
            fence = self._voice.fence(home)
            if fence is not None:  # who stands by keeps all in mind: what is dirty stays so
                saves = {"silences": self._save_silences, "notes": self._save_notes}
                done = [await self._try_to_save(home, fence, *each) for each in saves.items()]
                if not all(done):
                    await asyncio.sleep(RETRY_SEC)
            await asyncio.sleep(SAVE_SOON_SEC)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAVE_EVERY_SEC - SAVE_SOON_SEC):
                    await self._stirred.wait()
            self._stirred.clear()

    async def _replaced(self, home: str, error: BusError) -> bool:
        """If what somebody put under our keys keeps us from them, remove it; True if that was done."""
        if is_wrong_type(error):
            with contextlib.suppress(BusError):
                return await Memory(self._bus(home), self._listener).replace_wrong_types()
        return False

    async def _try_to_save(self, home: str, fence: Fence, what: str, save: Save) -> bool:
        """Return whether the bus took it."""
        try:
            await save(home, fence)
        except BusError as error:
            self._failures.failed(what, error)
            await self._replaced(home, error)
            return False
        self._failures.saved(what)
        return True

    async def _save_silences(self, home: str, fence: Fence) -> None:
        unsaved, self._life.dirty = self._life.dirty, {}
        saved = False
        try:
            saved = await Memory(self._bus(home), self._listener).save(fence, unsaved, self._life, moment())
            if not saved:
                self._voice.turned_away(home)
        finally:
            if not saved:
                self._life.dirty = unsaved | self._life.dirty

    async def _save_notes(self, home: str, fence: Fence) -> None:
        notes = self._life.notes.take(moment().mono)
        saved = not notes
        try:
            saved = saved or await Memory(self._bus(home), self._listener).save_notes(fence, notes)
        finally:
            for svc in notes if not saved else ():
                self._life.notes.urge(svc)

    def save_soon(self) -> None:
        """Asks for a save before the second is over."""
        self._stirred.set()

    async def _recall(self, memory: Memory) -> None:
        roster = await memory.roster()
        silences, clocks = await memory.silences()
        notes = await memory.notes()
        testimonies: dict[str, Testimony] = {}
        # a reseed may drop some of them meanwhile
        for bus, watched in [(self._bus(name), each) for name, each in self._life.buses.items()]:
            timeouts = {r.watch.svc: r.watch.timeout_sec for r in watched.channels.values()}
            # a bus that is away has no witnesses; its services get their warm-up when it is back
            with contextlib.suppress(BusError):
                async for answer in read_last_beats(bus, timeouts):
                    testimonies |= answer.found
        buses = {svc: record.watch.bus for svc, record in self._life.records.items()}
        known, turns = {}, Turns()
        for svc, each in remembered(roster, silences, clocks, buses, notes):
            await turns.pause()
            known[svc] = each
        for verdict in recall(self._life, known, testimonies, moment()):
            if verdict is not None:
                self._conclude(verdict)
            await turns.pause()
        self._take_up_buses(roster)
        self._take_up_refusals(roster)
        await self._recall_health(roster)
        self._life.dirty |= {svc: None for svc in silences if svc not in self._life.records}
        for svc in notes.keys() - self._life.records.keys():
            self._life.notes.urge(svc)

    async def take_over(self, home: str, fence: Fence, untold: Collection[str]) -> None:
        """Adopt the roster that another healer wrote, but for fields in the view `untold`. Raise BusError."""
        await self._begun.wait()
        if fence == self._recalled:
            return  # it led already when it read all this
        memory = Memory(self._bus(home), self._listener)
        roster = await memory.roster()
        silences, _ = await memory.silences()
        buses = {svc: record.watch.bus for svc, record in self._life.records.items()}
        turns = Turns()
        for svc, told in remembered(roster, {}, {}, buses):
            await turns.pause()
            # asked only now: something may have been concluded meanwhile
            if svc not in untold:
                adopt(self._life, svc, told, moment())
        self._adopt_buses(home, roster, untold)
        await self._recall_health(roster, anew=True)
        # silences are readings of the clocks of who wrote them, and those are ours now
        self._life.dirty |= dict.fromkeys(silences)
        self._life.dirty |= {svc: record for svc, record in self._life.records.items() if record.marked}
        self._stirred.set()

    async def _recall_health(self, roster: Mapping[str, Entry], *, anew: bool = False) -> None:
        turns = Turns()
        for svc, entry in roster.items():
            await turns.pause()
            if svc in self._life.records:
                self._health.recall(svc, entry, anew=anew)

    async def take_over_buses(self, name: str, untold: Collection[str]) -> None:
        """As `take_over`, for what another bus than `home` knows: which buses were told lost.

        What it does not know of may have been told where it could: a bus that refuses took nothing.
        """
        roster = await Memory(self._bus(name), self._listener).roster(f"{BUS_FIELD}*")
        self._take_up_buses({field: entry for field, entry in roster.items() if field not in untold})

    def _adopt_buses(self, home: str, roster: Mapping[str, Entry], untold: Collection[str]) -> None:
        told = {field: entry for field, entry in roster.items() if field not in untold}
        for name in self._life.buses:
            entry = told.get(BUS_FIELD + name)
            # of its own loss a bus knows only what it took later, if ever; of what it never heard of, nothing
            if name != home and entry is not None and entry.verdict is State.UP:
                adopt_bus(self._life, name)
        self._take_up_buses(told)

    async def look_on(self, name: str) -> None:
        """Looks once on another bus than `home` for buses that were told lost: perhaps only it took that."""
        if name in self._asked:
            return
        with contextlib.suppress(BusError, KeyError):
            roster = await Memory(self._bus(name), self._listener).roster(f"{BUS_FIELD}*")
            self._asked.add(name)
            self._take_up_buses(roster)

    def _take_up_refusals(self, roster: Mapping[str, Entry]) -> None:
        for field, entry in roster.items():
            if field.startswith(WATCH_FIELD) and entry.verdict is State.DOWN:
                since = entry.ts or moment().wall
                verdict = recall_refused(self._life, field.removeprefix(WATCH_FIELD), since, moment())
                if verdict is not None:
                    self._conclude(verdict)

    def _take_up_buses(self, roster: Mapping[str, Entry]) -> None:
        for field, entry in roster.items():
            if field.startswith(BUS_FIELD) and entry.verdict is State.DOWN:
                name, deaf = field.removeprefix(BUS_FIELD), entry.reason() == "deaf"
                verdict = recall_bus(self._life, name, entry.since, moment(), deaf=deaf)
                if verdict is not None:
                    self._conclude(verdict)
