"""A vigil's memory at work: takes up what an earlier run knew, then saves what a later one must know."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.listen import moment
from marketswarm.liveness import Liveness, Testimony, Verdict, recall, recall_bus
from marketswarm.vigil.health import Health
from marketswarm.vigil.remember import BUS_FIELD, Entry, Memory, remembered
from marketswarm.vigil.testify import testify

SAVE_EVERY_SEC: Final = 1.0
SAVE_SOON_SEC: Final = 0.05
"""After the end of a silence: a run that is killed must not leave it to the next as if it went on."""
RETRY_SEC: Final = 0.5
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
    """

    def __init__(
        self,
        life: Liveness,
        health: Health,
        *,
        listener: str,
        bus: Callable[[str], Bus],
        conclude: Callable[[Verdict], None],
    ) -> None:
        self._life = life
        self._health = health
        self._listener = listener
        self._bus = bus
        self._conclude = conclude
        self._asked: set[str] = set()
        self._stirred = asyncio.Event()
        self.trouble: str | None = None
        """Why nothing can be concluded yet, in words for a beat's `detail`."""

    async def run(self, home: str) -> None:
        """Recalls from the bus `home`, then saves to it until cancelled."""
        failures = 0
        while self._life.held:
            try:
                await self._recall(Memory(self._bus(home), self._listener))
            except BusError as error:
                self.trouble = f"nothing is judged: memory on {error.bus} ({error.reason})"
                if failures % COMPLAIN_EVERY == 0:
                    log.warning("vigil.memory_away", bus=error.bus, reason=error.reason, detail=error.detail)
                failures += 1
                await asyncio.sleep(RETRY_SEC)
        self.trouble = None
        log.info("vigil.recalled", services=len(self._life.records))
        unsaved: dict[str, Any] = {}
        while True:
            unsaved |= self._life.dirty
            self._life.dirty = {}
            try:
                await Memory(self._bus(home), self._listener).save(unsaved, self._life, moment())
                unsaved = {}
            except BusError as error:
                log.debug("vigil.not_saved", bus=error.bus, reason=error.reason)
                await asyncio.sleep(RETRY_SEC)
            await asyncio.sleep(SAVE_SOON_SEC)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAVE_EVERY_SEC - SAVE_SOON_SEC):
                    await self._stirred.wait()
            self._stirred.clear()

    def save_soon(self) -> None:
        """Asks for a save before the second is over."""
        self._stirred.set()

    async def _recall(self, memory: Memory) -> None:
        roster = await memory.roster()
        silences, clocks = await memory.silences()
        testimonies: dict[str, Testimony] = {}
        for name, watched in list(self._life.buses.items()):
            timeouts = {r.watch.svc: r.watch.timeout_sec for r in watched.channels.values()}
            # a bus that is away has no witnesses; its services get their warm-up when it is back
            with contextlib.suppress(BusError):
                testimonies |= await testify(self._bus(name), timeouts)
        buses = {svc: record.watch.bus for svc, record in self._life.records.items()}
        known = remembered(roster, silences, clocks, buses)
        for verdict in recall(self._life, known, testimonies, moment()):
            self._conclude(verdict)
        self._take_up_buses(roster)
        for svc, entry in roster.items():
            if svc in self._life.records:
                self._health.recall(svc, entry)
        self._life.dirty |= {svc: None for svc in silences if svc not in self._life.records}

    async def look_on(self, name: str) -> None:
        """Looks once on another bus than `home` for buses that were told lost: perhaps only it took that."""
        if name in self._asked:
            return
        with contextlib.suppress(BusError, KeyError):
            roster = await Memory(self._bus(name), self._listener).roster(f"{BUS_FIELD}*")
            self._asked.add(name)
            self._take_up_buses(roster)

    def _take_up_buses(self, roster: Mapping[str, Entry]) -> None:
        for field, entry in roster.items():
            if field.startswith(BUS_FIELD) and entry["verdict"] == "down":
                since = entry.get("since")
                since = since if isinstance(since, float) else None
                verdict = recall_bus(self._life, field.removeprefix(BUS_FIELD), since, moment())
                if verdict is not None:
                    self._conclude(verdict)
