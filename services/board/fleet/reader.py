"""Read the fleet once for all browsers: at an interval, and at once when an alert is published.

Each reading becomes a snapshot; what changed since the last one goes to all followers of the stream, and so
does each alert: a miss or a recovery changes the snapshot at once, and the next reading confirms it. A bus
that is away leaves the last snapshot standing, with its services unknown.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from marketswarm.agent import Agent
from marketswarm.agent.tasks import subscribe_inside
from marketswarm.bus import Bus, BusError
from marketswarm.event import Event, MalformedEvent, parse_event
from marketswarm.exit import Exit
from marketswarm.keys import ALERTS
from marketswarm.status.fleet_state import read_fleet_state
from marketswarm.status.notifications import OpenIncident, read_notifications
from marketswarm.truth import Truth
from marketswarm.web.event_stream import StreamHub
from services.board.fleet.alerts import make_alert_view
from services.board.fleet.beats import BeatLog
from services.board.fleet.snapshot import FleetSnapshot, SnapshotDelta, diff
from services.board.fleet.snapshot_builder import HistoryExtract, SnapshotInput, apply_event, build_snapshot
from services.board.settings import BoardEnvironment, BoardSettings

MANY_SERVICES: Final = 1000  # with more services than this, the interval grows in proportion
SHARE_OF_TIME: Final = 4  # reading takes at most one part of so many of the time, however often alerts come
MIN_PAUSE_SEC: Final = 0.05
TICK_SEC: Final = 2.0  # how often a sign of life is sent, with the time of the latest reading
KNOWN_IDS: Final = 2000
AT_ONCE: Final = 20  # after so many alerts since the last reading, only the next reading changes the snapshot
READ_SEC: Final = 15.0  # a reading that takes longer is given up: each of its requests has a shorter limit
STALE_SEC: Final = 10.0  # from this age on, the last reading is old: the board is not ready


class FleetReader:
    """Reads the fleet, and publishes what changed.

    `snapshot` is the latest one, None before the first; `encoded` is its JSON, made once; `problem` says
    which buses are away; `notified` are the outages that the notifier has, by its key for each; `beats` has
    the times of the last beats; `took_sec` is how long the last look took.
    Call `follow` with the truth, and again with each that replaces it. `write_rows` returns the HTML of
    the rows that turned, which followers get.
    """

    def __init__(
        self,
        me: Agent[BoardEnvironment],
        settings_now: Callable[[], BoardSettings],
        hub: StreamHub,
        history_now: Callable[[], Awaitable[HistoryExtract]],
        write_rows: Callable[[FleetSnapshot, SnapshotDelta], str],
    ) -> None:
        self.snapshot: FleetSnapshot | None = None
        self.problem: str | None = None
        self.notified: Mapping[str, OpenIncident] = {}
        self.beats = BeatLog()
        self.me, self.settings_now, self.hub, self._history_now = me, settings_now, hub, history_now
        self._write_rows, self._can_write_rows = write_rows, True
        self._read_at = float("-inf")
        self._begun_at = float("-inf")
        self.took_sec = 0.0
        self._finished = asyncio.Event()
        self._ticked_at = float("-inf")
        self._encoded: bytes | None = None
        self._new_events: deque[Event] = deque(maxlen=AT_ONCE)  # since the last reading began
        self._followed: dict[tuple[str, str], asyncio.Task[Any]] = {}  # by bus and channel
        self._known: OrderedDict[str, None] = OrderedDict()

    @property
    def encoded(self) -> bytes:
        if self._encoded is None:
            self._encoded = orjson.dumps(self.snapshot or FleetSnapshot(0.0))
        return self._encoded

    def age_sec(self, now: float) -> float:
        """Return the age of the latest reading in seconds; `now` is monotonic."""
        return now - self._read_at

    def interval_sec(self) -> float:
        count = len(self.snapshot.services) if self.snapshot is not None else 0
        return self.settings_now().settings.read_sec * max(1.0, count / MANY_SERVICES)

    async def read(self) -> None:
        """Look at all buses once, and publish what changed.

        Others write what is read, and an error of ours leaves the last snapshot, until it is too old.
        """
        try:
            async with self.me.waiting(READ_SEC):
                await self._read()
        except Exit:
            raise
        except TimeoutError:  # the buses are slow, or this process had no processor for so long
            self.problem = f"the fleet can't be read within {READ_SEC:.0f} s"
        except Exception as error:
            problem = f"the fleet can't be read: {type(error).__name__}"
            if self.problem != problem:
                self.me.log.exception("board.reading_failed")
            self.problem = problem

    async def _read(self) -> None:
        begun = time.monotonic()
        self._new_events.clear()
        history = await self._history_now()  # first: it may take long, and the buses' state should be new
        truth, revision = self.me.truth, self.me.revision
        (state, away), notifications = await asyncio.gather(
            read_fleet_state(truth, self.me.bus), read_notifications(self.buses())
        )
        reading = SnapshotInput(time.time(), truth, revision, state, away, notifications)
        before = self.snapshot or FleetSnapshot(0.0)
        # in a thread: it takes a tenth of a second for thousands, and meanwhile alerts are passed on
        found = await asyncio.to_thread(build_snapshot, reading, before, history)
        for event in self._new_events:  # this reading may be older than they are
            found = apply_event(found, event)
        self._take(found)
        self.notified = notifications.incidents
        self.beats.note(found.services)
        self.problem = "; ".join(f"{bus} {reason}" for bus, reason in away.items()) or None
        self._read_at = time.monotonic()
        self._begun_at, self.took_sec = begun, self._read_at - begun
        finished, self._finished = self._finished, asyncio.Event()
        finished.set()
        if self._read_at - self._ticked_at >= TICK_SEC:
            self._ticked_at = self._read_at
            # when the next one is due, so that a browser knows when it is late
            every_sec = max(TICK_SEC, self.interval_sec())
            self.hub.tell("tick", orjson.dumps({"at": found.at, "every_sec": every_sec}))

    async def read_soon(self, within_sec: float) -> None:
        """Have the fleet read at once; return after a whole reading, or after `within_sec` without one."""
        asked_at = time.monotonic()
        self.me.wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_sec):
                while self._begun_at < asked_at:
                    await self._finished.wait()

    async def pause(self) -> None:
        """Wait until the next reading is due: at the interval, or at once after an alert.

        Readings for alerts have pauses between them, so that many alerts share one reading.
        """
        if await self.me.rest(self.interval_sec()):
            pause_sec = max(MIN_PAUSE_SEC, (SHARE_OF_TIME - 1) * self.took_sec)
            await asyncio.sleep(min(1.0, max(0.0, pause_sec - self.age_sec(time.monotonic()))))

    def follow(self, truth: Truth) -> None:
        _, channel = truth.alert_target(self.me.settings.alert_channel or ALERTS)
        wanted = {(bus, channel) for bus in truth.bus_names()}
        for place in self._followed.keys() - wanted:
            self._followed.pop(place).cancel()
        for bus, _ in wanted - self._followed.keys():
            task = self.me.task(self._follow_alerts(bus, channel), name=f"{channel} of {bus}")
            self._followed[bus, channel] = task

    async def _follow_alerts(self, name: str, channel: str) -> None:
        """Publish each alert of a bus, and read the fleet at once, until cancelled."""
        try:
            bus = self.me.bus(name)
        except BusError as error:
            self.me.log.warning("board.no_bus", bus=name, reason=error.reason)
            return
        async with subscribe_inside(self.me.side_tasks, bus, channel, self._on_alert):
            await asyncio.Event().wait()

    def buses(self) -> list[Bus]:
        found = []
        for name in self.me.truth.bus_names():
            with contextlib.suppress(BusError):  # `read_fleet_state` names it
                found.append(self.me.bus(name))
        return found

    def _on_alert(self, payload: bytes | None) -> None:
        """Publish an alert once, from whichever bus it comes first; None is a new subscription."""
        self.me.wake()
        event = None if payload is None else parse_event(payload)
        if event is None or isinstance(event, MalformedEvent) or event.id in self._known:
            return
        self._known[event.id] = None
        if len(self._known) > KNOWN_IDS:
            self._known.popitem(last=False)
        self.hub.publish("alert", orjson.dumps(make_alert_view(event)))
        is_calm = len(self._new_events) < AT_ONCE
        self._new_events.append(event)
        if self.snapshot is not None and is_calm:
            self._take(apply_event(self.snapshot, event))

    def _take(self, found: FleetSnapshot) -> None:
        before, self.snapshot, self._encoded = self.snapshot, found, None
        changed = None if before is None or before is found else diff(before, found)
        if not changed:
            return
        self.hub.publish("delta", orjson.dumps(changed))
        try:
            rows = self._write_rows(found, changed)
        except Exception:  # an error of ours must not keep the fleet from being read
            if self._can_write_rows:
                self.me.log.exception("board.rows_failed")
            self._can_write_rows = False
            return
        self._can_write_rows = True
        if rows:
            self.hub.tell("rows", orjson.dumps(rows))
