"""Record the history of the fleet from the alert log, from where the last board stopped.

Two boards may run. Both follow the log. The one that writes second finds another version; it leaves the
writing to the other one, and only looks now and then whether that one still writes. If not, it reads the
history again and continues.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

from marketswarm import log as logs
from marketswarm.agent import Agent
from marketswarm.bus import Bus, BusError
from marketswarm.bus.follower import StreamFollower
from marketswarm.bus.outage import Outage, retrying
from marketswarm.bus.stored_values import parse_epoch, parse_object, read_fields
from marketswarm.bus.stream import StreamEntry, entry_sort_key
from marketswarm.history.fleet_history import FleetHistory, UnsavedChanges
from marketswarm.history.healer_beat import read_healer_beat
from marketswarm.history.spans import KnownState
from marketswarm.history.store import (
    StoredHistory,
    begin_history,
    forget_unusable_history,
    read_history,
    read_position,
    write_history,
)
from marketswarm.keys import ALERT_LOG, roster_key
from marketswarm.pages import split_pages
from marketswarm.time_slice import TimeSlice
from marketswarm.truth import HEALER, SYSTEM, Truth
from services.board.fleet.alerts import parse_entry
from services.board.settings import BoardEnvironment

AT_ONCE: Final = 1000
BLOCK_SEC: Final = 1.0
LISTEN_SEC: Final = 5.0  # how often the healer's last beat is looked at, unless its timeout is short
GRACE_SEC: Final = 2.0
"""How much longer than its timeout the healer may seem silent: its beats are only looked at now and then."""
SAVE_SEC: Final = 20.0  # how often it is stored that the healer was there, while nothing else happens
STEP_BACK_SEC: Final = 10.0  # how long a board that was second does not write
END_SEC: Final = 0.5  # how long the last write may take
SETTLE_SEC: Final = 60.0  # after a failure of the bus, late events may come: no hour is finished for so long
NAMES_AT_ONCE: Final = 500
log = logs.get("history")


class HistoryRecorder:
    """Records the history of all services on `bus` (system-redis), and answers what it was.

    Call `follow` with the truth, and again with each that replaces it, before and while `run` runs. After
    another board was first, this one does not write for `step_back_sec`. Times are epoch seconds.

    It counts events recorded, malformed entries, failures of a bus, and conflicts: writes for which another
    board was first.
    """

    def __init__(
        self, bus: Bus, healer_bus: Bus | None = None, *, step_back_sec: float = STEP_BACK_SEC
    ) -> None:
        self._step_back_sec = step_back_sec
        self._bus, self._healer_bus = bus, healer_bus or bus
        self._stored: StoredHistory | None = None
        self._log = StreamFollower(bus, ALERT_LOG)
        self._truth: Truth | None = None
        self._timeout_sec = 30.0
        self._is_truth_new = False
        self._is_reading = True  # the history is to be read from the bus
        # the last write of another board that was seen, while one writes; and when that was (monotonic)
        self._other_version: bytes | None = None
        self._other_wrote_at = float("-inf")
        self._caught_up_at: float | None = None  # monotonic
        self._listened_at = self._saved_at = self._write_after = self._finish_after = float("-inf")
        self._outage = Outage(log, "history.waiting", "history.resumed")
        self.recorded = self.malformed = self.failures = self.conflicts = 0

    def behind_sec(self, now: float) -> float | None:
        """Return how long ago the log was recorded to its end; `now` is monotonic. None if it never was."""
        return None if self._caught_up_at is None else max(0.0, now - self._caught_up_at)

    @property
    def error(self) -> str | None:
        """Why the history is not recorded; None while it is."""
        return self._outage.problem

    @property
    def history(self) -> FleetHistory | None:
        """The history as it is known now; None until it was read for the first time."""
        return None if self._stored is None else self._stored.history

    def follow(self, truth: Truth) -> None:
        self._truth, self._is_truth_new = truth, True
        self._timeout_sec = truth.timeout_of(HEALER)

    async def run(self, block_sec: float = BLOCK_SEC) -> None:
        """Record until cancelled, then write once more. One read waits `block_sec` for new events."""
        try:
            async for attempt in retrying(self._outage):
                with attempt:
                    await self.step(block_sec)
                if attempt.failures:
                    self.failures += 1
                    self._is_reading = True
                    self._finish_after = time.monotonic() + SETTLE_SEC
        except asyncio.CancelledError:
            await self._write_last()
            raise

    async def step(self, block_sec: float | None = BLOCK_SEC) -> None:
        """Record the next page of the log, and all that follows from the time. Raises BusError.

        `block_sec` is how long to wait for a new event; None does not wait.
        """
        if self._is_reading:
            await self._read()
        stored = self._stored
        if stored is None:
            return
        if self._is_truth_new:
            await self._take_truth(stored.history)
        entries, loss = await self._log.read(AT_ONCE, block_sec)
        if loss is not None and loss.oldest is not None:
            self._is_reading = True  # if this is cancelled, the page is not recorded
            await self._mark_lost(stored.history, loss.after, loss.oldest)
            self._is_reading = False
        self._record(stored.history, entries)
        if len(entries) < AT_ONCE:
            await self._listen(stored.history)
            if time.monotonic() >= self._finish_after:
                await self._finish_hours(stored.history)
        await self._write(stored)
        if len(entries) < AT_ONCE:
            self._caught_up_at = time.monotonic()

    async def _read(self) -> None:
        """Read the history, or begin one. Raises BusError."""
        self._other_version = None
        found = await read_history(self._bus, int(time.time()))
        if found is None:
            await forget_unusable_history(self._bus)
            log.info("history.begun")
            found = begin_history(int(time.time()))
        self._log = StreamFollower(self._bus, ALERT_LOG, found.position)
        self._is_truth_new = True
        await self._take_truth(found.history)
        self._stored, self._is_reading, self._listened_at = found, False, float("-inf")

    async def _mark_lost(self, history: FleetHistory, after: bytes, oldest: bytes) -> None:
        """Record as unknown what happened in the entries that the log has lost. Raises BusError."""
        begin, end = (entry_sort_key(each)[0] // 1000 for each in (after, oldest))
        end = min(end, int(time.time()))  # who adds an entry chooses its id
        log.warning("history.log_lost", entries_before=oldest.decode())
        history.mark_unheard(min(begin, end), end)
        await self._adopt(history, list(history.services))

    async def _take_truth(self, history: FleetHistory) -> None:
        """Take over the services of the truth; of new ones, read the healer's verdict. Raises BusError."""
        truth = self._truth
        if truth is None:
            return
        bus_of = {watch.svc: watch.bus for watch in truth.watched()}
        if HEALER in truth.services:
            bus_of[HEALER] = truth.bus_of(HEALER)
        new = history.follow(bus_of, self._timeout_sec + GRACE_SEC, int(time.time()))
        await self._adopt(history, new)
        self._is_truth_new = False

    async def _adopt(self, history: FleetHistory, services: Sequence[str]) -> None:
        """Take over the healer's stored verdicts on some services. Raises BusError."""
        for some in split_pages(services, NAMES_AT_ONCE):
            (roster,) = await read_fields(self._bus, [roster_key(HEALER)], some)
            for svc in some:
                verdict = parse_verdict(roster.get(svc.encode(), b""))
                if verdict is not None:
                    history.adopt(svc, *verdict)
        if HEALER in services:
            history.adopt(HEALER, KnownState.UP, history.listening.until)

    def _record(self, history: FleetHistory, entries: Sequence[StreamEntry]) -> None:
        for entry in entries:
            event = parse_entry(entry)
            if event is None:
                self.malformed += 1
            else:
                history.apply_event(event)
                self.recorded += 1

    async def _listen(self, history: FleetHistory) -> None:
        """Look at the healer's last beat every few seconds. Raises BusError."""
        if time.monotonic() - self._listened_at < min(LISTEN_SEC, self._timeout_sec / 4):
            return
        self._listened_at = time.monotonic()
        found = await read_healer_beat(self._healer_bus, self._timeout_sec, time.time())
        if found is not None:
            history.hear_healer(*found)

    async def _finish_hours(self, history: FleetHistory) -> None:
        """Finish the hours that lie back far enough, in slices of time: other tasks run in between."""
        target = history.due_hour(int(time.time()))
        if target <= history.final:
            return
        time_slice = TimeSlice()
        for _ in history.finish_in_steps(target):
            await time_slice.pause()

    async def _write_last(self) -> None:
        """Write how long the healer was there, if the bus answers within END_SEC."""
        if self._stored is None or self._is_reading:
            return
        self._saved_at = float("-inf")
        with contextlib.suppress(BusError, TimeoutError):
            async with asyncio.timeout(END_SEC):
                self._listened_at = float("-inf")
                await self._listen(self._stored.history)
                await self._write(self._stored)

    async def _write(self, stored: StoredHistory) -> None:
        """Write what changed; that the healer is still there, every SAVE_SEC seconds. Raises BusError."""
        now, changes = time.monotonic(), stored.history.changes
        if now < self._write_after:
            return
        if self._other_version is not None:
            await self._watch_other(stored, now)
            return
        has_read = self._log.position != stored.position
        is_urgent = has_read or changes.services or changes.buses or changes.hours
        if not (is_urgent or (changes.progress and now - self._saved_at >= SAVE_SEC)):
            return
        self._saved_at = now
        if await write_history(self._bus, stored, self._log.position):
            return
        self.conflicts += 1
        version, _ = await read_position(self._bus)
        if version in (b"", stored.version):  # the keys were deleted, or written by another program
            self._is_reading = True
        else:
            self._other_version, self._other_wrote_at = version, now
        self._write_after = now + self._step_back_sec

    async def _watch_other(self, stored: StoredHistory, now: float) -> None:
        """Take over if the other board left an event unwritten, or was idle for long. Raises BusError."""
        version, position = await read_position(self._bus)
        is_late = entry_sort_key(position) < entry_sort_key(self._log.position)
        if version != self._other_version:
            self._other_version, self._other_wrote_at = version, now
        elif is_late or now - self._other_wrote_at >= SAVE_SEC + self._step_back_sec:
            self._is_reading, self._saved_at = True, float("-inf")
            return
        # the other one writes this; if it ends, all is read again
        stored.history.changes = UnsavedChanges()
        self._write_after = now + self._step_back_sec


def create_recorder(me: Agent[BoardEnvironment]) -> HistoryRecorder:
    """Return a recorder that writes to system-redis, reads the healer's bus, and follows each new truth."""
    healer_bus = me.bus(me.truth.bus_of(HEALER)) if HEALER in me.truth.services else None
    recorder = HistoryRecorder(me.bus(SYSTEM), healer_bus)

    me.on_reseed(recorder.follow)
    recorder.follow(me.truth)
    return recorder


def parse_verdict(raw: bytes) -> tuple[KnownState, float] | None:
    """Parse an entry of the healer's roster: up or down, and since when; None for any other."""
    found = parse_object(raw)
    if found.get("verdict") not in (KnownState.UP, KnownState.DOWN):
        return None
    state, times = KnownState(found["verdict"]), [found.get("ts")]
    if state is KnownState.DOWN:  # by its event, or by its last beat
        event = found.get("event")
        times[:0] = event.get("down_since") if isinstance(event, dict) else None, found.get("since")
    at = next((ts for ts in map(parse_epoch, times) if ts is not None), None)
    return None if at is None else (state, at)
