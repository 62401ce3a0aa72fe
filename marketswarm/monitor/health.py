"""The `health:<svc>` keys: each holds a service's latest event, and expires soon after its healer is gone.

An ok event has the age of the newest beat at the time of writing; a miss is repeated as it was published.
Each key is written again after a third of its life.
"""

import random
import time
from collections.abc import Sequence
from typing import Final

from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.detector import Detector, State, TimingWheel, Verdict, WatchedService
from marketswarm.event import Event, Kind, encode_event, make_event_id
from marketswarm.keys import health_key
from marketswarm.monitor.encoder import compute_health_sec
from marketswarm.monitor.leadership import NOT_THE_LEADER, Fence
from marketswarm.monitor.store import RosterEntry
from marketswarm.time_slice import TimeSlice

BATCH_SIZE: Final = 200
SOON_SEC: Final = 2.0

REFRESH_SCRIPT: Final = Script.beside("marketswarm.monitor", "refresh.lua")


class HealthKeys:
    """The health keys of the services of one detector.

    Args:
        detector: knows the services and their last beats.
        kind: the type of an ok event.
    """

    def __init__(self, detector: Detector, *, kind: Kind, by: str) -> None:
        self._detector = detector
        self._kind = kind
        self._by = by
        # by service, its last published verdict: the whole event of a miss, only the `ts` of an ok
        self._published: dict[str, bytes | float] = {}
        self._due_at: dict[str, float] = {}  # when each key is to be written next, in monotonic seconds
        self.has_unwritten = False
        """Whether the last refresh failed, so that keys that were due are not written yet."""
        self._wheel: TimingWheel[str] = TimingWheel(lambda svc: self._due_at.get(svc, float("inf")))

    def note_published(self, verdict: Verdict, event: bytes) -> None:
        """Note that a verdict on a service was published with its health key, and plan the next refresh.

        A service that is no longer watched is forgotten.
        """
        service = self._detector.services.get(verdict.svc)
        if service is None or verdict.state is State.UNWATCHED:
            self._published.pop(verdict.svc, None)
            self._due_at.pop(verdict.svc, None)
            return
        self._published[verdict.svc] = event if verdict.state is State.DOWN else verdict.ts
        self._plan(verdict.svc, compute_health_sec(service.watch.timeout_sec) / 3)

    def restore(self, svc: str, entry: RosterEntry, *, replace: bool = False) -> None:
        """Take over a service whose verdict another process published, from its roster entry.

        With `replace`, the entry counts even if this process has published a verdict on the service before.
        """
        if replace or svc not in self._published:
            self._published[svc] = entry.event or entry.ts
        self._plan(svc, SOON_SEC * random.random())

    def refresh_soon(self, svc: str) -> None:
        """Refresh a service's key soon: it may have expired while the service's channel was refused."""
        if svc in self._published:
            self._plan(svc, SOON_SEC * random.random())

    def _plan(self, svc: str, in_sec: float) -> None:
        """Plan the refresh of a service's key in 80 to 100 % of `in_sec` seconds."""
        is_planned = svc in self._due_at
        # a random part earlier, so that not all keys are due at once
        self._due_at[svc] = time.monotonic() + in_sec * random.uniform(0.8, 1.0)
        if not is_planned:
            self._wheel.add(svc)

    async def refresh(self, bus: Bus, lease: str, fence: Fence) -> bool:
        """Write the keys that are due to their bus; return False if another process leads there.

        Raise BusError if the bus fails: the keys of that write are due again within 2 s, the others at once.
        Other tasks get a turn after 200 looks at the wheel.
        """
        now, time_slice = time.monotonic(), TimeSlice()
        while self._wheel.next_due() <= now:
            await time_slice.pause()
            due = self._wheel.pop_due(now, BATCH_SIZE)
            written, self.has_unwritten = False, True
            try:
                written = await self._write(bus, lease, fence, due)
            finally:
                if not written:
                    for svc in due:
                        self._plan_again(svc, SOON_SEC)
            if not written:
                return False
            self.has_unwritten = False
        return True

    async def _write(self, bus: Bus, lease: str, fence: Fence, services: Sequence[str]) -> bool:
        """Write the keys of these services and plan their next refresh.

        Return False if another process leads.

        Raise BusError if the bus fails.
        """
        keys, lives = [], {}
        args: list[str | bytes | float] = [*fence]
        for svc in services:
            service = self._detector.services.get(svc)
            if service is None:
                self._due_at.pop(svc, None)
                continue
            lives[svc] = compute_health_sec(service.watch.timeout_sec)
            event = self._current_event(svc, service)
            if event is not None:  # a miss that the bus has not taken yet has no event here
                keys.append(health_key(svc))
                args += [event, lives[svc]]
        if keys and await bus.script(REFRESH_SCRIPT, [lease, *keys], args) == NOT_THE_LEADER:
            return False
        for svc, life_sec in lives.items():
            self._plan_again(svc, life_sec / 3)
        return True

    def _plan_again(self, svc: str, in_sec: float) -> None:
        """Plan the next refresh of a service that is off the wheel, unless it was dropped meanwhile."""
        if svc in self._due_at:
            self._due_at[svc] = time.monotonic() + in_sec * random.uniform(0.8, 1.0)
            self._wheel.add(svc)

    def _current_event(self, svc: str, service: WatchedService) -> bytes | None:
        """Return the event for a service's key: its miss as published, or an ok of now.

        Return None if the service's state is not known, its channel is refused, or its miss is not published
        yet.
        """
        published, last = self._published.get(svc), service.last_beat
        if service.state is State.DOWN:
            return published if isinstance(published, bytes) else None
        if service.state is State.UNKNOWN or last is None or service.channel_refused_at is not None:
            return None
        age_sec = max(0.0, time.monotonic() - last.mono)
        event_id = make_event_id(self._kind, svc, published if isinstance(published, float) else 0.0)
        ok = Event(self._kind, svc, time.time(), event_id, self._by, age_sec=age_sec, since=last.wall)
        return encode_event(ok)
