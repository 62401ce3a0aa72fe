"""Leads or stands by: the loops that keep the leases of all buses. What an answer means is `lease.py`.

Who leads is decided on one bus, `home`. The leader carries its epoch to the other buses, where a greater one
always counts; only for who can't reach home does another bus decide for itself. So a healer that is cut
off from home does not go on speaking elsewhere beside its successor.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from healer.lease import Lease
from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import is_wrong_type, replace_wrong_types, report_unusable
from marketswarm.keys import HEALER_LEASE
from marketswarm.monitor import Fence

GIVE_BACK_WITHIN_SEC: Final = 0.5
LEAST_PAUSE_SEC: Final = 0.02
LEAST_WITHIN_SEC: Final = 0.5

LEASE_SCRIPT: Final = Script.beside("healer", "lease.lua")

log = logs.get("lease")


class Watcher(Protocol):
    """The vigil, as far as its voice needs it."""

    @property
    def evaluations(self) -> int:
        """How often it looked at its clocks."""

    def unheard_buses(self) -> list[str]:
        """What it can't hear now."""

    def leader_changed(self, name: str) -> None:
        """Told when the voice on a bus came or went."""


class LeaderElection:
    """A `Leadership`; see there. Call `attend` and `man` first, then `run`, in the end `give_back`.

    Args:
        boot: the healer's own instance.
        home: the bus on which it is decided.
        lease_sec: the life of a lease.
        set_detail: is called with the detail of the beats: this healer leads, or which one does.
        set_degraded: is called with why this healer can't know that, or None.
    """

    def __init__(
        self,
        boot: str,
        *,
        home: str,
        lease_sec: float,
        set_detail: Callable[[str | None], None],
        set_degraded: Callable[[str | None], None],
    ) -> None:
        self._boot = boot
        self._home = home
        self._lease_sec = lease_sec
        self._set_detail = set_detail
        self._set_degraded = set_degraded
        self._watcher: Watcher
        self._leases: dict[str, Lease] = {}
        self._buses: dict[str, Bus] = {}
        self._turns: dict[str, asyncio.Task[None]] = {}
        self._due: dict[str, asyncio.Event] = {}
        self._group: asyncio.TaskGroup | None = None
        self._looks: dict[str, int] = {}
        self._known: dict[str, int] = {}  # the epochs that were made known
        self._refusal: str | None = None  # why home gives no lease, while it gives none
        self._logged: set[str] = (
            set()
        )  # the reasons of that time; a server that is going may give two in turn

    # -- what the vigil asks

    def fence(self, bus: str) -> Fence | None:
        """See `Leadership`."""
        lease = self._leases.get(bus)
        return lease.fence if lease is not None else None

    def deny_leadership(self, bus: str) -> None:
        """See `Leadership`."""
        lease = self._leases.get(bus)
        if lease is not None and lease.epoch:
            lease.lost()
            self._due[bus].set()

    def leader_seen_at(self, bus: str) -> float:
        """See `Leadership`."""
        lease = self._leases.get(bus)
        return lease.alive_at if lease is not None else float("-inf")

    def leader_heard_bus_at(self, bus: str) -> float:
        """See `Leadership`."""
        lease = self._leases.get(bus)
        # names may have commas in them, so this may find one too many, and then proves nothing
        return lease.alive_at if lease is not None and bus not in lease.alive_deaf else float("-inf")

    # -- its life

    def attend(self, watcher: Watcher) -> None:
        """Says whose voice it is."""
        self._watcher = watcher

    def man(self, buses: Mapping[str, Bus]) -> None:
        """Keeps a lease on each of these from now on, and on no others."""
        for name in self._buses.keys() - buses.keys():
            self._drop(name)
        for name, bus in buses.items():
            if self._buses.get(name) is bus:
                continue
            self._drop(name)
            self._buses[name], self._leases[name] = bus, Lease(self._boot, self._lease_sec)
            self._due[name] = asyncio.Event()
            self._start(name)

    def _drop(self, name: str) -> None:
        if name in self._turns:
            self._turns.pop(name).cancel()
        self._buses.pop(name, None)
        self._leases.pop(name, None)

    def _start(self, name: str) -> None:
        if self._group is not None:
            self._turns[name] = self._group.create_task(self._keep(name), name=f"lease:{name}")

    async def run(self) -> None:
        """Keeps the leases until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for name in self._buses:
                self._start(name)
            await asyncio.Event().wait()

    async def give_back(self) -> None:
        """Lets another one lead at once; on a bus that does not answer the lease will run out."""
        async with asyncio.TaskGroup() as group:
            for name, lease in self._leases.items():
                if lease.epoch:
                    group.create_task(self._give(self._buses[name], lease))

    async def _give(self, bus: Bus, lease: Lease) -> None:
        with contextlib.suppress(BusError):
            await self._turn(bus, lease, give=True, within_sec=GIVE_BACK_WITHIN_SEC)

    # -- one bus

    async def _keep(self, name: str) -> None:
        lease, due = self._leases[name], self._due[name]
        while True:
            try:
                await self._next_turn(name, lease)
            except BusError as error:
                self._refused(name, error)
                await self._replace_wrong_type(name, error)
            self._look_who_leads(name, lease)
            if name == self._home:
                self._set_detail(_describe(lease))
                self._set_degraded(f"no lease on {name} ({self._refusal})" if self._refusal else None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(LEAST_PAUSE_SEC, lease.next_in(time.monotonic()))):
                    await due.wait()
            due.clear()

    async def _replace_wrong_type(self, name: str, error: BusError) -> None:
        """If what somebody put under the lease's key keeps everybody from holding it, remove it."""
        if is_wrong_type(error):
            with contextlib.suppress(BusError):
                await replace_wrong_types(self._buses[name], {HEALER_LEASE: "hash"})

    async def _next_turn(self, name: str, lease: Lease) -> None:
        if lease.epoch and self._looks.get(name) == self._watcher.evaluations:
            return  # who does not judge must not keep others from it
        self._looks[name] = self._watcher.evaluations
        if name == self._home:
            await self._turn(self._buses[name], lease, may_take=True)
            self._refusal = None
            self._logged.clear()
            return
        home, now = self._leases[self._home], time.monotonic()
        if home.epoch and not home.is_away(now):
            await self._turn(self._buses[name], lease, carried=home.epoch)
        elif home.is_away(now):
            await self._turn(self._buses[name], lease, may_take=True)
        else:
            await self._turn(self._buses[name], lease, give=bool(lease.epoch) and home.has_other(now))

    async def _turn(
        self,
        bus: Bus,
        lease: Lease,
        *,
        carried: int = 0,
        may_take: bool = False,
        give: bool = False,
        within_sec: float | None = None,
    ) -> None:
        now = time.monotonic()
        stale = lease.stale(now) if may_take else ""
        reply = await bus.script(
            LEASE_SCRIPT,
            [HEALER_LEASE],
            [
                self._boot,
                lease.epoch,
                self._least(bus.name),
                carried,
                int(may_take),
                stale,
                ",".join(self._watcher.unheard_buses()),
                self._lease_sec,
                int(give),
            ],
            within_sec or max(LEAST_WITHIN_SEC, self._lease_sec / 2),
        )
        if not lease.answered(reply, now):
            report_unusable(bus.name, HEALER_LEASE)

    def _least(self, name: str) -> int:
        """The epoch that a lease must have at least, so that what it is carried to believes it."""
        others = [
            held.epoch + (held.boot != self._boot)
            for other, lease in self._leases.items()
            if other != name and name == self._home and (held := lease.seen) is not None
        ]
        return max([1, *others])

    # -- what changed

    def _look_who_leads(self, name: str, lease: Lease) -> None:
        if lease.epoch == self._known.get(name, 0):
            return
        self._known[name] = lease.epoch
        if lease.epoch:
            log.info("lease.held", bus=name, epoch=lease.epoch)
        else:
            log.info("lease.lost", bus=name, leader=lease.seen.boot if lease.seen else "")
        self._watcher.leader_changed(name)
        if name == self._home:
            for other, due in self._due.items():
                if other != name:
                    due.set()

    def _refused(self, name: str, error: BusError) -> None:
        if name != self._home:
            return
        self._refusal = error.reason
        if error.reason not in self._logged:
            self._logged.add(error.reason)
            log.warning("lease.refused", bus=name, reason=error.reason)


def _describe(lease: Lease) -> str:
    if lease.epoch:
        return f"leads, epoch {lease.epoch}"
    other = lease.seen.boot if lease.seen is not None else ""
    return f"stands by, {other} leads" if other else "stands by"
