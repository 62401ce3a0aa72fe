"""The sentinel's own way out: what nobody told people of the healer and the buses, it tells them itself.

It follows the log of every bus, gives whoever is to tell people (the notifier) some seconds, looks for
`notifier:told:<id>`, and sends what is still untold over every channel that it was given, under the same id.
Not here: whose turn it is (`owed.py`), how long to go on trying (`way.py`), what is kept (`records.py`).
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

from marketswarm import log as logs
from marketswarm.agent import Agent
from marketswarm.bus import Bus, BusError
from marketswarm.channels import Channel
from marketswarm.event import Event, encode
from marketswarm.keys import canary_key, roster_key
from marketswarm.monitor.encoder import BUS_FIELD
from marketswarm.settings import SentinelSettings
from marketswarm.truth import HEALER, Truth
from sentinel.availability import BusAvailability
from sentinel.delivery_records import TOLD_SEC, DeliveryRecords, load_roster_entries, open_event
from sentinel.follow import SkippedEntries, follow
from sentinel.pending import PendingAlert, PendingAlerts
from sentinel.sender import ChannelSender

LOOK_EVERY_SEC: Final = 0.5
CATCH_UP_SEC: Final = 1.0
WRITE_EVERY_SEC: Final = 1.0

log = logs.get("direct")


class Fallback:
    """All of it, over `channels`, which it closes at its end. Call `set_truth` first, then `run`."""

    def __init__(self, me: Agent[SentinelSettings], channels: Sequence[Channel]) -> None:
        self._me = me
        self._grace_sec = me.settings.sentinel_direct_sec
        self._buses: list[Bus] = []
        self._bus_timeout_sec = 0.0
        self._fleet = ""
        self._owed = PendingAlerts(me.name, self._grace_sec)
        self._reach = BusAvailability(me.name, (), time.monotonic())
        self._records = DeliveryRecords(me.name, lambda: self._buses)
        self._ways = [
            ChannelSender(
                channel,
                wanted=self._wanted,
                accepted=self._accepted,
                over=self._over,
                fleet=lambda: self._fleet,
            )
            for channel in channels
        ]
        self.skipped = SkippedEntries()
        self._on_the_way: dict[str, int] = {}  # by id, how many ways have not finished with it
        self._unheard: set[str] = set()
        self._poked, self._changed = asyncio.Event(), asyncio.Event()

    def set_truth(self, truth: Truth) -> None:
        """Puts the buses of a truth in force. Raises BusError when a URL can't be had."""
        self._buses = [self._me.bus(name) for name in truth.bus_names()]
        self._bus_timeout_sec = truth.bus_timeout_sec()
        self._fleet = truth.fleet
        self._reach.change(truth.bus_names(), time.monotonic())
        self._changed.set()

    def note_event(self, event: Event, raw: bytes | None = None) -> None:
        """Takes note of an event, from the log of a bus or before it is on any."""
        self._owed.saw(event, raw or encode(event), time.monotonic())
        self._poked.set()

    async def run(self) -> None:
        """Watches over what is told until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for way in self._ways:
                    group.create_task(way.run(), name=f"way:{way.channel.name}")
                group.create_task(self._follow(), name="follow")
                group.create_task(self._catch_up(), name="catch_up")
                while True:
                    await self._decide()
                    self._me.set_degraded(self._trouble(), part="direct")
                    await self._rest()
        finally:
            for way in self._ways:
                await way.channel.aclose()

    # -- what is heard

    async def _follow(self) -> None:
        """Follows every bus there is, and others when the truth names others."""
        while True:
            self._changed.clear()
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(work(bus), name=bus.name)
                    for bus in self._buses
                    for work in (self._follow_one, self._try_writes)
                ]
                await self._changed.wait()
                for task in tasks:
                    task.cancel()

    async def _follow_one(self, bus: Bus) -> None:
        await follow(
            bus,
            heard=self.note_event,
            skipped=self.skipped.add,
            joined=self._joined,
            answered=self._answered,
            failed=self._failed,
        )

    async def _try_writes(self, bus: Bus) -> None:
        """Find out again and again whether a bus takes writes: a full one, or a replica, answers reads.

        The counter is that of our canaries, which is only ever raised.
        """
        while True:
            event: Event | None
            try:
                await bus.ask(
                    bus.client.execute_command("INCR", canary_key(self._me.name))  # type: ignore[no-untyped-call]  # the library's
                )
            except BusError as error:
                event = self._reach.failed(bus.name, error.reason, time.monotonic(), time.time())
            else:
                event = self._reach.answered(bus.name, time.monotonic(), time.time())
            self._came_back(event)
            await asyncio.sleep(WRITE_EVERY_SEC)

    async def _joined(self, bus: Bus) -> None:
        """Takes up what an earlier run, or a stretch without this bus, left open."""
        buses = [BUS_FIELD + each.name for each in self._buses]
        fields = {roster_key(self._me.name): [HEALER], roster_key(HEALER): buses}
        opened = await self._records.opened(bus)
        held = await load_roster_entries(bus, fields)
        now, wall = time.monotonic(), time.time()
        for key in self._owed.recall(opened):
            if opened[key].own:
                self._reach.recall(key.removeprefix(BUS_FIELD), now - max(0.0, wall - opened[key].ts))
        for key, entry in held.items():
            found, age_sec = open_event(entry), wall - entry.ts
            if found is None:
                self._owed.up_since(key, entry.ts, now)
            elif age_sec < TOLD_SEC:  # of what is older nobody knows any more whether it was told
                self._owed.saw(*found, now, waited_sec=max(0.0, age_sec))
        await self._records.write(bus, self._owed.opened)
        self._poked.set()

    def _answered(self, bus: str) -> None:
        self._unheard.discard(bus)

    def _failed(self, error: BusError) -> None:
        if error.bus not in self._unheard:
            self._unheard.add(error.bus)
            log.info("direct.unheard", bus=error.bus, reason=error.reason)

    def _came_back(self, ok: Event | None) -> None:
        if ok is not None:
            self._owed.say_ourselves(ok, time.monotonic())
            self._poked.set()

    # -- what is told

    async def _decide(self) -> None:
        now, wall = time.monotonic(), time.time()
        for event in self._reach.lost(self._bus_timeout_sec, self._grace_sec, now, wall):
            log.error("bus.unreached", bus=event.svc, reason=event.reason)
            self._owed.say_ourselves(event, now)
        due = self._owed.due(time.monotonic())
        told = await asyncio.gather(*(self._records.told_by_others(debt.event.id) for debt in due))
        for debt, by_others in zip(due, told, strict=True):
            if by_others:
                log.info("direct.told_by_others", id=debt.event.id)
                self._owed.told_by_others(debt)
            elif self._owed.take(debt):
                log.warning("direct.untold", id=debt.event.id)
                self._on_the_way[debt.event.id] = len(self._ways)
                for way in self._ways:
                    way.put(debt)

    async def _rest(self) -> None:
        wait_sec = self._owed.wait_sec(time.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_SEC if wait_sec is None else min(wait_sec, LOOK_EVERY_SEC)):
                await self._poked.wait()
        self._poked.clear()

    async def _wanted(self, debt: PendingAlert) -> bool:
        if debt not in self._owed:
            return False
        if await self._records.told_by_others(debt.event.id):
            log.info("direct.told_by_others", id=debt.event.id)
            self._owed.told_by_others(debt)
            return False
        return True

    async def _accepted(self, debt: PendingAlert, channel: str) -> None:
        self._owed.sent(debt)
        await self._records.accepted(debt.event.id, channel, self._owed.opened)

    async def _catch_up(self) -> None:
        """A record that some bus did not take must not be missed there: a later run would repeat itself."""
        while True:
            await asyncio.sleep(CATCH_UP_SEC)
            await self._records.catch_up(self._owed.opened)

    def _over(self, debt: PendingAlert) -> None:
        ident = debt.event.id
        self._on_the_way[ident] -= 1
        if not self._on_the_way[ident]:
            del self._on_the_way[ident]
            self._owed.done(debt)

    def _trouble(self) -> str | None:
        """When there is no way left, in words for a beat's `detail`."""
        troubles = [way.trouble for way in self._ways if way.trouble]
        return f"no way out: {', '.join(troubles)}" if len(troubles) == len(self._ways) else None
