"""The `health:<svc>` keys: each holds a service's latest event, and expires soon after its healer is gone.

An ok event has the age of the newest beat at the time of writing; a miss is repeated as it was published.
Each key is written again after half of its life, and at least once a minute. What the bus does not take stays
due, and a process that takes over writes all keys at once. The turn of a key is one of the seconds of that
time. The services get them in the order in which they came up, a few the same one, so the keys of a fleet are
spread evenly over the seconds, and services that were made together are written together.
"""

import time
from collections.abc import Collection, Iterator
from typing import Final

import orjson

from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.detector import Detector, Stage, State, Verdict, WatchedService
from marketswarm.event import Kind
from marketswarm.keys import health_key
from marketswarm.monitor.encoder import MIN_HEALTH_SEC, compute_health_sec
from marketswarm.monitor.leadership import NOT_THE_LEADER, Fence
from marketswarm.monitor.roster_entry import RosterEntry
from marketswarm.time_slice import TimeSlice

BATCH_SIZE: Final = 500
"""Keys that one call of the script writes: a millisecond of the server's time."""
LIFE_SHARE: Final = 2
"""How often a key is written in its life. When a write fails, half a minute is left at least."""
LONGEST_PERIOD_SEC: Final = MIN_HEALTH_SEC - 10
"""The most seconds between two writes, less than the shortest life, so a reseed may shorten any."""
NEIGHBOURS: Final = 16
"""Services in a row that have the same turn: they are next to each other in memory."""

REFRESH_SCRIPT: Final = Script.beside("marketswarm.monitor", "refresh.lua")


class HealthKeys:
    """The health keys of the services of one detector."""

    def __init__(self, detector: Detector, *, kind: Kind, by: str) -> None:
        self._detector = detector
        # what `encode_event` would write; the names are the truth's, and need no escapes
        self._ok = (
            b'{"type":"%b","svc":"%%b","age_sec":%%.3f,"ts":%%b,"id":"%b.%%b.%%d","since":%%.3f,"by":%b}'
            % (kind.encode(), kind.encode(), orjson.dumps(by))
        )
        # by seconds between two writes, for each of them the services whose turn it is
        self._rings: dict[int, list[list[WatchedService]]] = {}
        self._planned = 0
        self._second = 0  # the last one whose turns were begun, once there are turns
        self._due: dict[WatchedService, None] = {}  # services whose keys are to be written now
        self.has_unwritten = False
        """Whether the last refresh failed, so that keys that were due are not written yet."""

    def note_published(self, verdict: Verdict, event: bytes) -> None:
        """Note that a verdict on a service was published with its health key."""
        service = self._detector.services.get(verdict.svc)
        if service is not None and verdict.state is not State.UNWATCHED:
            self._note(service, event if verdict.state is State.DOWN else verdict.ts)

    def restore(self, svc: str, entry: RosterEntry, *, replace: bool = False) -> None:
        """Take over a service whose verdict another process published, from its roster entry.

        With `replace`, the entry counts even if this process has published a verdict on the service before.
        """
        service = self._detector.services[svc]
        if replace or service.published is None:
            self._note(service, entry.event or entry.ts)
        self._due[service] = None

    def refresh_soon(self, svc: str) -> None:
        """Refresh a service's key soon: it may have expired while the service's channel was refused."""
        service = self._detector.services.get(svc)
        if service is not None and service.published is not None:
            self._due[service] = None

    def _note(self, service: WatchedService, published: bytes | float) -> None:
        service.published = published
        if not service.has_turns:
            self._plan_turns(service)

    def _plan_turns(self, service: WatchedService) -> None:
        """Put a service into the ring of its period, so that its health key is written once a turn."""
        service.has_turns = True
        period = min(compute_health_sec(service.rule.timeout_sec) // LIFE_SHARE, LONGEST_PERIOD_SEC)
        if not self._rings:
            self._second = int(time.monotonic())
        if period not in self._rings:
            self._rings[period] = [[] for _ in range(period)]
        self._rings[period][self._planned // NEIGHBOURS % period].append(service)
        self._planned += 1

    async def refresh(self, bus: Bus, lease: str, fence: Fence) -> bool:
        """Write the keys that are due to their bus; return False if another process leads there.

        Raise BusError if the bus fails; the keys that it has not taken stay due. Other tasks get a turn
        between the keys of two seconds, and between two writes.
        """
        time_slice = TimeSlice()
        for turn in self._take_turns(int(time.monotonic())):
            self._begin_turn(turn)
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
        self._due.clear()  # its table was as large as it ever had to be
        return True

    def _take_turns(self, now: int) -> Iterator[list[WatchedService]]:
        """Yield the services of each turn since the last call, each turn once, however long that was ago."""
        since, self._second = self._second, now
        for period, ring in list(self._rings.items()):
            for second in range(max(since + 1, now + 1 - period), now + 1):
                yield ring[second % period]

    def _begin_turn(self, turn: list[WatchedService]) -> None:
        """Have the keys of these services written; forget those that are not watched any more.

        Of a service that has another line in the truth since, the present one gets turns.
        """
        dropped = [service for service in turn if service.stage is Stage.DROPPED]
        if dropped:
            turn[:] = [service for service in turn if service.stage is not Stage.DROPPED]
        self._due |= dict.fromkeys(turn)
        for service in dropped:
            present = self._detector.services.get(service.svc)
            if present is not None and present.published is not None and not present.has_turns:
                self._plan_turns(present)
                self._due[present] = None

    async def _write(self, bus: Bus, lease: str, fence: Fence, services: Collection[WatchedService]) -> bool:
        """Write the keys of these services; return False if another process leads.

        Raise BusError if the bus fails.
        """
        keys = [lease]
        args: list[str | bytes | float] = [*fence]
        now, ts = time.monotonic(), b"%.3f" % time.time()
        for each in services:
            service, svc = each, each.svc
            if each.stage is Stage.DROPPED:
                if svc not in self._detector.services:
                    continue
                service = self._detector.services[svc]
            event = self._current_event(svc, service, now, ts)
            if event is not None:
                keys.append(health_key(svc))
                args += event, compute_health_sec(service.rule.timeout_sec)
        return len(keys) == 1 or bool(await bus.script(REFRESH_SCRIPT, keys, args) != NOT_THE_LEADER)

    def _current_event(self, svc: str, service: WatchedService, now: float, ts: bytes) -> bytes | None:
        """Return the event for a service's key: its miss as published, or an ok of now.

        Return None if the service's state is not known, its channel is refused, or its miss is not published
        yet.
        """
        published, last = service.published, service.last_beat
        if service.state is State.DOWN:
            return published if isinstance(published, bytes) else None
        if service.state is State.UNKNOWN or last is None or service.channel_refused_at is not None:
            return None
        ok_ms = round(published * 1000) if isinstance(published, float) else 0
        name, age_sec = svc.encode(), max(0.0, now - last.mono)
        return self._ok % (name, age_sec, ts, name, ok_ms, last.wall)
