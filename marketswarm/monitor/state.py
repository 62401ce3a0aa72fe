"""A vigil's memory at work: takes up what an earlier run knew, then saves what a later one must know.

Saves that a bus refused: each is counted, and what is not saved now is a trouble that is said.

A state that is not saved is lost with the process; a `health:` key that is not refreshed expires, and whoever
reads it concludes that nobody vouches for the service.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.listener import moment
from marketswarm.bus.stored_values import is_wrong_type
from marketswarm.detector import (
    Detector,
    LastBeat,
    RestartObserver,
    State,
    Verdict,
    adopt_found_bus,
    adopt_state,
    restore_lost_bus,
    restore_services,
)
from marketswarm.monitor.health import Health
from marketswarm.monitor.leadership import Fence, Leadership
from marketswarm.monitor.store import BUS_FIELD, WATCH_FIELD, Entry, StateStore, saved_services
from marketswarm.monitor.witness import read_last_beats
from marketswarm.time_slice import TimeSlice

SAVE_EVERY_SEC: Final = 1.0
SAVE_SOON_SEC: Final = 0.05
"""After the end of a silence: a run that is killed must not leave it to the next as if it went on."""
RETRY_SEC: Final = 0.5
Save = Callable[[str, Fence], Awaitable[None]]
COMPLAIN_EVERY: Final = 60
"""Attempts to read the memory between two log lines that say it can't be read."""

log = logs.get("vigil")


COMPLAIN_EVERY_SEC: Final = 30.0


class SaveFailures:
    """What can't be saved now, and how often a save failed since the process began.

    `counts` has the failed attempts by what was to be saved: `silences`, `notes`, `health`.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._now: dict[str, BusError] = {}
        self._said: dict[str, tuple[str, float]] = {}  # the last reason that was logged, and when

    def failed(self, what: str, error: BusError) -> None:
        """Note that a save failed; log a new reason at once, and a lasting one again every 30 s."""
        self.counts[what] += 1
        self._now[what] = error
        reason, at = self._said.get(what, ("", 0.0))
        now = time.monotonic()
        if error.reason != reason or now - at >= COMPLAIN_EVERY_SEC:
            self._said[what] = error.reason, now
            log.warning(
                "vigil.not_saved",
                what=what,
                bus=error.bus,
                reason=error.reason,
                detail=error.detail,
                total=self.counts[what],
            )

    def saved(self, what: str) -> None:
        """Note that a save succeeded; log the end of a trouble that was logged."""
        if self._now.pop(what, None) is not None:
            del self._said[what]
            log.info("vigil.saved_again", what=what)

    def trouble(self) -> str | None:
        """Return what is not saved, in words for a beat's `detail`; None when all is."""
        found = [f"{what} not saved on {error.bus} ({error.reason})" for what, error in self._now.items()]
        return ", ".join(found) or None


class StateKeeper:
    """What one listener remembers.

    Args:
        detector: the detector that is fed.
        health: the keys to take up again.
        listener: whose memory it is.
        bus: gives a bus that the vigil keeps by its name. Raises KeyError.
        publish: called with each verdict that follows from the memory.
        voice: whether this one may save.
        failures: told which saves the bus refuses.
    """

    def __init__(
        self,
        detector: Detector,
        restarts: RestartObserver,
        health: Health,
        *,
        listener: str,
        bus: Callable[[str], Bus],
        publish: Callable[[Verdict], None],
        leadership: Leadership,
        failures: SaveFailures,
    ) -> None:
        self._detector = detector
        self._restarts = restarts
        self._health = health
        self._listener = listener
        self._bus = bus
        self._publish = publish
        self._leadership = leadership
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
        while self._detector.is_restoring:
            try:
                self._recalled = self._leadership.fence(home)
                await self._recall(StateStore(self._bus(home), self._listener))
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
        log.info("vigil.recalled", services=len(self._detector.services))
        while True:
            fence = self._leadership.fence(home)
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
                return await StateStore(self._bus(home), self._listener).replace_wrong_types()
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
        unsaved, self._detector.unsaved_silences = self._detector.unsaved_silences, {}
        saved = False
        try:
            saved = await StateStore(self._bus(home), self._listener).save(
                fence, unsaved, self._detector, moment()
            )
            if not saved:
                self._leadership.deny_leadership(home)
        finally:
            if not saved:
                self._detector.unsaved_silences = unsaved | self._detector.unsaved_silences

    async def _save_notes(self, home: str, fence: Fence) -> None:
        notes = self._restarts.take_unsaved(moment().mono)
        saved = not notes
        try:
            saved = saved or await StateStore(self._bus(home), self._listener).save_beats(fence, notes)
        finally:
            for svc in notes if not saved else ():
                self._restarts.save_soon(svc)

    def save_soon(self) -> None:
        """Asks for a save before the second is over."""
        self._stirred.set()

    async def _recall(self, memory: StateStore) -> None:
        roster = await memory.load_roster()
        silences, clocks = await memory.load_silences()
        notes = await memory.load_saved_beats()
        testimonies: dict[str, LastBeat] = {}
        # a reseed may drop some of them meanwhile
        for bus, watched in [(self._bus(name), each) for name, each in self._detector.buses.items()]:
            timeouts = {r.watch.svc: r.watch.timeout_sec for r in watched.channels.values()}
            # a bus that is away has no witnesses; its services get their warm-up when it is back
            with contextlib.suppress(BusError):
                async for answer in read_last_beats(bus, timeouts):
                    testimonies |= answer.found
        buses = {svc: record.watch.bus for svc, record in self._detector.services.items()}
        known, time_slice = {}, TimeSlice()
        for svc, each in saved_services(roster, silences, clocks, buses, notes):
            await time_slice.pause()
            known[svc] = each
        for verdict in restore_services(self._detector, known, testimonies, moment()):
            if verdict is not None:
                self._publish(verdict)
            await time_slice.pause()
        self._take_up_buses(roster)
        self._take_up_refusals(roster)
        await self._recall_health(roster)
        self._detector.unsaved_silences |= {
            svc: None for svc in silences if svc not in self._detector.services
        }
        for svc in notes.keys() - self._detector.services.keys():
            self._restarts.save_soon(svc)

    async def take_over(self, home: str, fence: Fence, untold: Collection[str]) -> None:
        """Adopt the roster that another healer wrote, but for fields in the view `untold`. Raise BusError."""
        await self._begun.wait()
        if fence == self._recalled:
            return  # it led already when it read all this
        memory = StateStore(self._bus(home), self._listener)
        roster = await memory.load_roster()
        silences, _ = await memory.load_silences()
        buses = {svc: record.watch.bus for svc, record in self._detector.services.items()}
        time_slice = TimeSlice()
        for svc, told in saved_services(roster, {}, {}, buses):
            await time_slice.pause()
            # asked only now: something may have been concluded meanwhile
            if svc not in untold:
                adopt_state(self._detector, svc, told, moment())
        self._adopt_buses(home, roster, untold)
        await self._recall_health(roster, anew=True)
        # silences are readings of the clocks of who wrote them, and those are ours now
        self._detector.unsaved_silences |= dict.fromkeys(silences)
        self._detector.unsaved_silences |= {
            svc: record for svc, record in self._detector.services.items() if record.is_silence_saved
        }
        self._stirred.set()

    async def _recall_health(self, roster: Mapping[str, Entry], *, anew: bool = False) -> None:
        time_slice = TimeSlice()
        for svc, entry in roster.items():
            await time_slice.pause()
            if svc in self._detector.services:
                self._health.recall(svc, entry, anew=anew)

    async def take_over_buses(self, name: str, untold: Collection[str]) -> None:
        """As `take_over`, for what another bus than `home` knows: which buses were told lost.

        What it does not know of may have been told where it could: a bus that refuses took nothing.
        """
        roster = await StateStore(self._bus(name), self._listener).load_roster(f"{BUS_FIELD}*")
        self._take_up_buses({field: entry for field, entry in roster.items() if field not in untold})

    def _adopt_buses(self, home: str, roster: Mapping[str, Entry], untold: Collection[str]) -> None:
        told = {field: entry for field, entry in roster.items() if field not in untold}
        for name in self._detector.buses:
            entry = told.get(BUS_FIELD + name)
            # of its own loss a bus knows only what it took later, if ever; of what it never heard of, nothing
            if name != home and entry is not None and entry.verdict is State.UP:
                adopt_found_bus(self._detector, name)
        self._take_up_buses(told)

    async def restore_lost_buses(self, name: str) -> None:
        """Looks once on another bus than `home` for buses that were told lost: perhaps only it took that."""
        if name in self._asked:
            return
        with contextlib.suppress(BusError, KeyError):
            roster = await StateStore(self._bus(name), self._listener).load_roster(f"{BUS_FIELD}*")
            self._asked.add(name)
            self._take_up_buses(roster)

    def _take_up_refusals(self, roster: Mapping[str, Entry]) -> None:
        for field, entry in roster.items():
            if field.startswith(WATCH_FIELD) and entry.verdict is State.DOWN:
                since = entry.ts or moment().wall
                verdict = self._detector.restore_refused_channel(
                    field.removeprefix(WATCH_FIELD), since, moment()
                )
                if verdict is not None:
                    self._publish(verdict)

    def _take_up_buses(self, roster: Mapping[str, Entry]) -> None:
        for field, entry in roster.items():
            if field.startswith(BUS_FIELD) and entry.verdict is State.DOWN:
                name, deaf = field.removeprefix(BUS_FIELD), entry.reason() == "deaf"
                verdict = restore_lost_bus(self._detector, name, entry.since, moment(), as_deaf=deaf)
                if verdict is not None:
                    self._publish(verdict)
