"""The `health:<svc>` keys: each holds a service's latest event, and expires soon after its healer is gone.

An ok event has the age of the newest beat at the time of writing; a miss is repeated as it was published.
Each key is written again after a third of its life, and at least once a minute. Its turn comes from a hash of
the service's name, so the keys of a fleet are spread evenly over the seconds, however many services came up
at once.
"""

import time
from collections import defaultdict
from collections.abc import Collection
from typing import Final

import orjson

from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.detector import Detector, State, Verdict, WatchedService
from marketswarm.event import Kind
from marketswarm.keys import health_key
from marketswarm.monitor.encoder import MIN_HEALTH_SEC, compute_health_sec
from marketswarm.monitor.leadership import NOT_THE_LEADER, Fence
from marketswarm.monitor.store import RosterEntry
from marketswarm.time_slice import TimeSlice

BATCH_SIZE: Final = 500
"""Keys that one call of the script writes: a millisecond of the server's time."""
LONGEST_PERIOD_SEC: Final = MIN_HEALTH_SEC - 10
"""The most seconds between two writes, less than the shortest life, so a reseed may shorten any."""

REFRESH_SCRIPT: Final = Script.beside("marketswarm.monitor", "refresh.lua")


class HealthKeys:
    """The health keys of the services of one detector.

    Args:
        detector: knows the services and their last beats.
        kind: the type of an ok event.
    """

    def __init__(self, detector: Detector, *, kind: Kind, by: str) -> None:
        self._detector = detector
        # what `encode_event` would write; the names are the truth's, and need no escapes
        self._ok = (
            b'{"type":"%b","svc":"%%b","age_sec":%%.3f,"ts":%%b,"id":"%b.%%b.%%d","since":%%.3f,"by":%b}'
            % (
                kind.encode(),
                kind.encode(),
                orjson.dumps(by),
            )
        )
        # by service, its last published verdict: the whole event of a miss, only the `ts` of an ok;
        # None for a service that is no longer watched, until its turn comes
        self._published: dict[str, bytes | float | None] = {}
        # by second of the monotonic clock, the services whose turn it is: each in `_published` is there once
        self._turns: defaultdict[int, list[str]] = defaultdict(list)
        self._due: dict[str, None] = {}  # services whose keys are to be written now
        self.has_unwritten = False
        """Whether the last refresh failed, so that keys that were due are not written yet."""

    def note_published(self, verdict: Verdict, event: bytes) -> None:
        """Note that a verdict on a service was published with its health key.

        A service that is no longer watched is forgotten.
        """
        svc = verdict.svc
        if svc in self._detector.services and verdict.state is not State.UNWATCHED:
            self._note(svc, event if verdict.state is State.DOWN else verdict.ts)
        elif svc in self._published:
            self._published[svc] = None

    def restore(self, svc: str, entry: RosterEntry, *, replace: bool = False) -> None:
        """Take over a service whose verdict another process published, from its roster entry.

        With `replace`, the entry counts even if this process has published a verdict on the service before.
        """
        if replace or self._published.get(svc) is None:
            self._note(svc, entry.event or entry.ts)
        self._due[svc] = None

    def refresh_soon(self, svc: str) -> None:
        """Refresh a service's key soon: it may have expired while the service's channel was refused."""
        if svc in self._published:
            self._due[svc] = None

    def _note(self, svc: str, published: bytes | float) -> None:
        if svc not in self._published:
            self._plan_turn(svc, self._detector.services[svc], int(time.monotonic()))
        self._published[svc] = published

    def _plan_turn(self, svc: str, service: WatchedService, second: int) -> None:
        """Plan the service's next turn after this second of the monotonic clock."""
        period = min(compute_health_sec(service.watch.timeout_sec) // 3, LONGEST_PERIOD_SEC)
        self._turns[second + 1 + (hash(svc) - second - 1) % period].append(svc)

    async def refresh(self, bus: Bus, lease: str, fence: Fence) -> bool:
        """Write the keys that are due to their bus; return False if another process leads there.

        Raise BusError if the bus fails; the keys that it has not taken stay due. Other tasks get a turn
        between the keys of two seconds, and between two writes.
        """
        time_slice = TimeSlice()
        for second in sorted(second for second in self._turns if second <= time.monotonic()):
            self._begin_turn(second)
            await time_slice.pause()
        while self._due:
            await time_slice.pause()
            services = [self._due.popitem()[0] for _ in range(min(BATCH_SIZE, len(self._due)))]
            written, self.has_unwritten = False, True
            try:
                written = await self._write(bus, lease, fence, services)
            finally:
                if not written:
                    self._due |= dict.fromkeys(services)
            if not written:
                return False
            self.has_unwritten = False
        return True

    def _begin_turn(self, second: int) -> None:
        """Have the keys of a second written, and plan their next turns; forget what is not watched."""
        now = int(time.monotonic())
        for svc in self._turns.pop(second):
            service = self._detector.services.get(svc)
            if service is None or self._published[svc] is None:
                del self._published[svc]
            else:
                self._due[svc] = None
                self._plan_turn(svc, service, now)

    async def _write(self, bus: Bus, lease: str, fence: Fence, services: Collection[str]) -> bool:
        """Write the keys of these services; return False if another process leads.

        Raise BusError if the bus fails.
        """
        keys = [lease]
        args: list[str | bytes | float] = [*fence]
        now, ts = time.monotonic(), b"%.3f" % time.time()
        for svc in services:
            service = self._detector.services.get(svc)
            event = None if service is None else self._current_event(svc, service, now, ts)
            if service is not None and event is not None:
                keys.append(health_key(svc))
                args += event, compute_health_sec(service.watch.timeout_sec)
        return len(keys) == 1 or bool(await bus.script(REFRESH_SCRIPT, keys, args) != NOT_THE_LEADER)

    def _current_event(self, svc: str, service: WatchedService, now: float, ts: bytes) -> bytes | None:
        """Return the event for a service's key: its miss as published, or an ok of now.

        Return None if the service's state is not known, its channel is refused, or its miss is not published
        yet.
        """
        published, last = self._published.get(svc), service.last_beat
        if service.state is State.DOWN:
            return published if isinstance(published, bytes) else None
        if service.state is State.UNKNOWN or last is None or service.channel_refused_at is not None:
            return None
        ok_ms = round(published * 1000) if isinstance(published, float) else 0
        name, age_sec = svc.encode(), max(0.0, now - last.mono)
        return self._ok % (name, age_sec, ts, name, ok_ms, last.wall)
