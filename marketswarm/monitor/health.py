"""Keeps `health:<svc>` alive: each service's latest object, current, and gone soon after its healer.

An ok tells the age of the newest beat at the moment of writing; a miss stays as it was told. Each key is
written anew at a third of its detector.
"""

import random
import time
from collections.abc import Sequence
from typing import Final

from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.detector import Detector, State, TimingWheel, Verdict, WatchedService
from marketswarm.event import Event, Kind, encode, identify
from marketswarm.keys import health_key
from marketswarm.monitor.encoder import health_sec
from marketswarm.monitor.leadership import NOT_THE_LEADER, Fence
from marketswarm.monitor.store import Entry

AT_ONCE: Final = 200
SOON_SEC: Final = 2.0

_REFRESH: Final = Script.beside("marketswarm.monitor", "refresh.lua")


class Health:
    """The health keys of one roster.

    Args:
        detector: the detector that is fed.
        kind: what an ok is called.
        by: the service that vouches.
    """

    def __init__(self, detector: Detector, *, kind: Kind, by: str) -> None:
        self._detector = detector
        self._kind = kind
        self._by = by
        # of each service the event that was told last: all of a miss, only the time of an ok
        self._told: dict[str, bytes | float] = {}
        self._at: dict[str, float] = {}  # when each key is next to be written, in monotonic seconds
        self.unwritten = False  # the last refresh failed, and what it was to write is still to be written
        self._wheel: TimingWheel[str] = TimingWheel(lambda svc: self._at.get(svc, float("inf")))

    def told(self, verdict: Verdict, event: bytes) -> None:
        """Takes note of what was told, and with it written, of a service."""
        record = self._detector.services.get(verdict.svc)
        if record is None or verdict.state is State.UNWATCHED:
            self._told.pop(verdict.svc, None)
            self._at.pop(verdict.svc, None)
            return
        self._told[verdict.svc] = event if verdict.state is State.DOWN else verdict.ts
        self._plan(verdict.svc, health_sec(record.watch.timeout_sec) / 3)

    def recall(self, svc: str, entry: Entry, *, anew: bool = False) -> None:
        """Takes up a service that another listener told of, from its entry in the roster.

        `anew`: whatever this one told of it before that.
        """
        if anew or svc not in self._told:
            self._told[svc] = entry.event or entry.ts
        self._plan(svc, SOON_SEC * random.random())

    def resume(self, svc: str) -> None:
        """Goes on with a service that could not be heard for a while: its key may have ended meanwhile."""
        if svc in self._told:
            self._plan(svc, SOON_SEC * random.random())

    def _plan(self, svc: str, in_sec: float) -> None:
        filed = svc in self._at
        # a little early, and not all at once
        self._at[svc] = time.monotonic() + in_sec * random.uniform(0.8, 1.0)
        if not filed:
            self._wheel.add(svc)

    async def refresh(self, bus: Bus, lease: str, fence: Fence) -> bool:
        """Write what is due, to the bus of the keys; return False if another one leads there.

        Raise BusError; what was not written is due again soon.
        """
        due = self._wheel.pop_due(time.monotonic())
        for start in range(0, len(due), AT_ONCE):
            written, self.unwritten = False, True
            try:
                written = await self._write(bus, lease, fence, due[start : start + AT_ONCE])
            finally:
                if not written:
                    for svc in due[start:]:
                        self._file(svc, SOON_SEC)
            if not written:
                return False
            self.unwritten = False
        return True

    async def _write(self, bus: Bus, lease: str, fence: Fence, services: Sequence[str]) -> bool:
        keys, lives = [], {}
        args: list[str | bytes | float] = [*fence]
        for svc in services:
            record = self._detector.services.get(svc)
            if record is None:
                self._at.pop(svc, None)
                continue
            lives[svc] = health_sec(record.watch.timeout_sec)
            found = self._object(svc, record)
            if found is not None:  # nothing is told yet of who is down, while the bus takes nothing
                keys.append(health_key(svc))
                args += [found, lives[svc]]
        if keys and await bus.script(_REFRESH, [lease, *keys], args) == NOT_THE_LEADER:
            return False
        for svc, life_sec in lives.items():
            self._file(svc, life_sec / 3)
        return True

    def _file(self, svc: str, in_sec: float) -> None:
        """Plan a service that was taken off the wheel, unless it was dropped meanwhile."""
        if svc in self._at:
            self._at[svc] = time.monotonic() + in_sec * random.uniform(0.8, 1.0)
            self._wheel.add(svc)

    def _object(self, svc: str, record: WatchedService) -> bytes | None:
        told = self._told.get(svc)
        if record.state is State.DOWN:
            return told if isinstance(told, bytes) else None
        if record.state is State.UNKNOWN or record.last_beat is None or record.channel_refused_at is not None:
            return None
        now, wall = time.monotonic(), time.time()
        age = max(0.0, now - record.last_beat.mono)
        ident = identify(self._kind, svc, told if isinstance(told, float) else 0.0)
        return encode(Event(self._kind, svc, wall, ident, self._by, age_sec=age, since=record.last_beat.wall))
