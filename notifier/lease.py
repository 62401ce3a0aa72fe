"""One notifier tells people at a time: `notifier:lease`, on every bus, with a life of its own.

Who leads is decided on the first bus that can be reached; the others follow it. What a notifier writes is
fenced by the lease (`commit.lua`), so one that slept through its end can change nothing. While no bus can be
reached, who led goes on: people are told all the same.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.scripts import Script

KEY: Final = "notifier:lease"
RENEWALS: Final = 3
"""How often a lease is renewed in its life."""
LOOKS: Final = 12
"""How often who stands by looks at it in its life."""
LEAST_WITHIN_SEC: Final = 0.5
GIVE_BACK_WITHIN_SEC: Final = 0.5

_TURN: Final = Script.beside("notifier", "lease.lua")

log = logs.get("lease")


class Way(StrEnum):
    """What to do about a lease: it is only decided on one bus whose it is."""

    TAKE = "take"  # if it is free
    SEIZE = "seize"  # whoever holds it
    GIVE = "give"  # if it is ours
    LOOK = "look"


class View:
    """What one notifier knows of the leases. Pure; `now` is monotonic, in seconds.

    Args:
        boot: who it is.
        buses: their names, in the order in which they decide.
        lease_sec: the life of a lease.
        now: when it begins.
    """

    def __init__(self, boot: str, buses: tuple[str, ...], lease_sec: float, now: float) -> None:
        self.boot = boot
        self.leads = False
        self._lease_sec = lease_sec
        self._holders: dict[str, str] = dict.fromkeys(buses, "")
        self._answered_at: dict[str, float] = dict.fromkeys(buses, now)
        self._known: set[str] = set()

    @property
    def other(self) -> str:
        """Who else leads, as far as anybody knows."""
        return next((one for one in self._holders.values() if one not in ("", self.boot)), "")

    def decides(self, now: float) -> str | None:
        """The bus that decides: the first that is not known to be away."""
        return next((bus for bus in self._holders if not self._is_away(bus, now)), None)

    def way(self, bus: str, now: float) -> Way:
        """What to do on a bus."""
        decides = self.decides(now)
        if decides is None or bus == decides or self._is_before(bus, decides):
            return Way.TAKE
        if decides not in self._known:
            return Way.LOOK
        return Way.SEIZE if self._holders[decides] == self.boot else Way.GIVE

    def answered(self, bus: str, holder: str, now: float) -> None:
        """A bus said who holds its lease."""
        self._holders[bus], self._answered_at[bus] = holder, now
        self._known.add(bus)
        decides = self.decides(now)
        if decides is not None and decides in self._known:
            self.leads = self._holders[decides] == self.boot

    def turned_away(self, bus: str, now: float) -> None:
        """A bus refused what we wrote: another one holds the lease there."""
        if bus == self.decides(now):
            self._holders[bus], self.leads = "?", False

    def _is_away(self, bus: str, now: float) -> bool:
        return now - self._answered_at[bus] > self._lease_sec

    def _is_before(self, bus: str, other: str) -> bool:
        order = list(self._holders)
        return order.index(bus) < order.index(other)


class Lease:
    """Keeps the lease: `run` until cancelled, in the end `give_back`."""

    def __init__(self, boot: str, buses: Mapping[str, Bus], lease_sec: float) -> None:
        self.view = View(boot, tuple(buses), lease_sec, time.monotonic())
        self._changed = asyncio.Event()
        self._known = False
        self._buses = dict(buses)
        self._lease_sec = lease_sec
        self._due = {name: asyncio.Event() for name in buses}

    @property
    def leads(self) -> bool:
        """Whether it is for us to tell people."""
        return self.view.leads

    async def run(self) -> None:
        """Keeps it until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name in self._buses:
                group.create_task(self._keep(name), name=f"lease:{name}")

    async def gained(self) -> None:
        """Waits until we lead."""
        await self._until(leads=True)

    async def lost(self) -> None:
        """Waits until we do not."""
        await self._until(leads=False)

    async def give_back(self) -> None:
        """Lets another one lead at once; on a bus that does not answer the lease runs out."""
        self.view.leads = False
        await asyncio.gather(*(self._give(bus) for bus in self._buses.values()))

    def turned_away(self, bus: str) -> None:
        """See `View`."""
        self.view.turned_away(bus, time.monotonic())
        self._tell()
        self._due[bus].set()

    async def _until(self, *, leads: bool) -> None:
        while self.leads is not leads:
            self._changed.clear()
            await self._changed.wait()

    async def _give(self, bus: Bus) -> None:
        with contextlib.suppress(BusError):
            await self._ask(bus, Way.GIVE, GIVE_BACK_WITHIN_SEC)

    async def _keep(self, name: str) -> None:
        bus, due = self._buses[name], self._due[name]
        while True:
            way = self.view.way(name, time.monotonic())
            try:
                holder = await self._ask(bus, way, max(LEAST_WITHIN_SEC, self._lease_sec / 2))
            except BusError:
                pass  # its readers say so
            else:
                self.view.answered(name, holder, time.monotonic())
                self._tell()
            pause_sec = self._lease_sec / (RENEWALS if self.leads else LOOKS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_sec):
                    await due.wait()
            due.clear()

    async def _ask(self, bus: Bus, way: Way, within_sec: float) -> str:
        args: list[str | bytes | float] = [self.view.boot, max(1, round(1000 * self._lease_sec)), way]
        holder: bytes = await bus.script(_TURN, [KEY], args, within_sec)
        return holder.decode("utf-8", "replace")

    def _tell(self) -> None:
        if self.leads is self._known:
            return
        self._known = self.leads
        if self.leads:
            log.info("lease.held")
        else:
            log.warning("lease.lost", leader=self.view.other)
        self._changed.set()
        for due in self._due.values():
            due.set()
